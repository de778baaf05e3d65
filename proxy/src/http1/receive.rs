//! Bytes off a socket.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// What is read at once while a head is awaited.
const HEAD_BYTES: usize = 16 << 10;
/// What is read at once of content.
const CONTENT_BYTES: usize = 64 << 10;

/// Reads what is there, by way of a buffer that all connections of a thread share: one that waits holds no memory for it. `Ok(0)`: the end.
pub(crate) fn poll_some<R: AsyncRead + Unpin>(
    received: &mut BytesMut,
    io: &mut R,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    thread_local! {
        static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; HEAD_BYTES].into());
    }
    SPACE.with_borrow_mut(|space| {
        let mut space = ReadBuf::new(space);
        ready!(Pin::new(io).poll_read(context, &mut space))?;
        received.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    })
}

/// Reads content: much at once, and not copied again. `Ok(0)`: the end.
pub(crate) fn poll_content<R: AsyncRead + Unpin>(
    received: &mut BytesMut,
    io: &mut R,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if received.capacity() - received.len() < HEAD_BYTES {
        received.reserve(CONTENT_BYTES);
    }
    pin!(io.read_buf(received)).poll(context)
}
