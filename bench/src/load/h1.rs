//! The client's side of HTTP/1.1: just enough to find where an answer ends and whether it is the right one.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::Target;

const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Reads once. `None`: nothing there; `Some(0)`: the peer closed or reset.
pub(super) fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// One request and its answer.
#[derive(Default)]
pub(super) struct Exchange {
    index: usize,
    since: Option<Instant>,
    phase: Phase,
    /// A head that came in parts.
    head: Vec<u8>,
    received: u64,
    first_byte: Option<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Head,
    Length(u64),
    /// Chunked: the size line read so far.
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    /// The trailer section, and how many bytes its current line has.
    Trailer(u32),
    UntilClose,
}

impl Exchange {
    /// A request is small and its connection idle, so the kernel takes it whole.
    pub(super) fn send(
        &mut self,
        stream: &mut TcpStream,
        target: &Target,
        index: usize,
        since: Instant,
    ) -> io::Result<()> {
        self.index = index;
        self.since = Some(since);
        self.phase = Phase::Head;
        self.received = 0;
        self.head.clear();
        match stream.write(&target.http1) {
            Ok(written) if written == target.http1.len() => Ok(()),
            Ok(_) => Err(io::Error::other("the kernel took a part of a request")),
            // The peer closed an idle connection; the reader will find that out.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Whether an answer is outstanding.
    pub(super) fn is_open(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.first_byte
    }

    /// Takes bytes of the answer. Gives the time the request was sent (or due) when they end it.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        target: Option<&Target>,
    ) -> Result<Option<Instant>, String> {
        let (Some(target), true) = (target, self.is_open()) else {
            return Err("bytes that nobody asked for".to_owned());
        };
        loop {
            match self.phase {
                Phase::Head => {
                    let Some(rest) = self.take_head(bytes, target)? else { return Ok(None) };
                    bytes = rest;
                }
                Phase::Length(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.take_body(&bytes[..taken], target)?;
                    bytes = &bytes[taken..];
                    if left == taken as u64 {
                        return if bytes.is_empty() {
                            self.end(target)
                        } else {
                            Err("bytes after the answer".into())
                        };
                    }
                    self.phase = Phase::Length(left - taken as u64);
                    return Ok(None);
                }
                Phase::UntilClose => return Err("an answer without a length".to_owned()),
                Phase::ChunkData(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.take_body(&bytes[..taken], target)?;
                    bytes = &bytes[taken..];
                    let left = left - taken as u64;
                    self.phase = if left == 0 { Phase::ChunkEnd } else { Phase::ChunkData(left) };
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                }
                _ => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(None) };
                    bytes = rest;
                    if self.take_chunk_byte(*byte)? {
                        return self.end(target);
                    }
                }
            }
        }
    }

    /// What follows the head, once it is complete.
    fn take_head<'b>(&mut self, bytes: &'b [u8], target: &Target) -> Result<Option<&'b [u8]>, String> {
        if self.head.is_empty()
            && let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n")
        {
            self.phase = parse_head(&bytes[..end + 2], target)?;
            return Ok(Some(&bytes[end + 4..]));
        }
        let known = self.head.len();
        self.head.extend_from_slice(bytes);
        if let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") {
            self.phase = parse_head(&self.head[..end + 2], target)?;
            return Ok(Some(&bytes[end + 4 - known..]));
        }
        if self.head.len() > HEAD_BYTES_MAX { Err("a head without an end".to_owned()) } else { Ok(None) }
    }

    fn take_body(&mut self, bytes: &[u8], target: &Target) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.received == 0 {
            self.first_byte = Some(Instant::now());
        }
        check_label(self.received, bytes, target)?;
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Whether the byte was the last one of the answer.
    fn take_chunk_byte(&mut self, byte: u8) -> Result<bool, String> {
        self.phase = match (self.phase, byte) {
            (Phase::ChunkSize(size), b'\n') if size > 0 => Phase::ChunkData(size),
            (Phase::ChunkSize(_), b'\n') => Phase::Trailer(0),
            (Phase::ChunkExtension(size), b'\n') if size > 0 => Phase::ChunkData(size),
            (Phase::ChunkExtension(_), b'\n') => Phase::Trailer(0),
            (Phase::ChunkSize(size), b';' | b'\r') => Phase::ChunkExtension(size),
            (Phase::ChunkSize(size), _) => {
                let digit = char::from(byte).to_digit(16).ok_or("a chunk size that is no number")?;
                Phase::ChunkSize(size * 16 + u64::from(digit))
            }
            (Phase::ChunkEnd, b'\n') => Phase::ChunkSize(0),
            (Phase::Trailer(0), b'\n') => return Ok(true),
            (Phase::Trailer(_), b'\n') => Phase::Trailer(0),
            (Phase::Trailer(length), byte) if byte != b'\r' => Phase::Trailer(length + 1),
            (phase, _) => phase,
        };
        Ok(false)
    }

    fn end(&mut self, target: &Target) -> Result<Option<Instant>, String> {
        if self.received != target.size {
            return Err(format!("{} bytes of body where {} were asked for", self.received, target.size));
        }
        Ok(self.since.take())
    }
}

/// Compares what of the label lies in `bytes`, which come after the first `received` bytes of a body.
pub(super) fn check_label(received: u64, bytes: &[u8], target: &Target) -> Result<(), String> {
    let label =
        usize::try_from(received).ok().and_then(|received| target.label.get(received..)).unwrap_or_default();
    let length = bytes.len().min(label.len());
    if bytes[..length] == label[..length] {
        Ok(())
    } else {
        Err(format!("another body: {}", String::from_utf8_lossy(&bytes[..length])))
    }
}

/// Where the body is, by the framing fields.
fn parse_head(head: &[u8], target: &Target) -> Result<Phase, String> {
    if head.get(9..12) != Some(b"200".as_slice()) {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(format!("`{}`", String::from_utf8_lossy(line)));
    }
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end - 1];
        start = end + 1;
        // Only two names matter, so their first letters are looked at before anything else.
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(value) = value_of(line, b"content-length") {
                    let length = str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                    let length = length.ok_or("a length that is no number")?;
                    return if length == target.size {
                        Ok(Phase::Length(length))
                    } else {
                        Err(format!("a length of {length} where {} were asked for", target.size))
                    };
                }
            }
            Some(b't') if value_of(line, b"transfer-encoding").is_some() => return Ok(Phase::ChunkSize(0)),
            _ => {}
        }
    }
    Ok(Phase::UntilClose)
}

fn value_of<'b>(line: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    (found.eq_ignore_ascii_case(name)).then_some(rest)?.strip_prefix(b":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Resource, Storing};

    fn answer_in_pieces(answer: &[u8], piece: usize) -> Result<bool, String> {
        let target = Target::new(&Resource { storing: Storing::Store, size: 20, delay_ms: 0, id: 7 });
        let mut exchange = Exchange { since: Some(Instant::now()), ..Exchange::default() };
        let mut done = false;
        for bytes in answer.chunks(piece) {
            done |= exchange.take(bytes, Some(&target))?.is_some();
        }
        Ok(done)
    }

    #[test]
    fn an_answer_is_understood_however_it_is_cut() {
        #[rustfmt::skip]
        let cases: [(&str, &[u8], Result<bool, ()>); 8] = [
            ("with a length",       b"HTTP/1.1 200 OK\r\ncontent-Length: 20\r\n\r\n0000000000000007abcd", Ok(true)),
            ("not yet whole",       b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0000000000000007abc", Ok(false)),
            ("chunked",             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0000000000000007\r\n4;x=y\r\nabcd\r\n0\r\nA: b\r\n\r\n", Ok(true)),
            ("chunked, not ended",  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n0000000000000007abcd\r\n0\r\n", Ok(false)),
            ("another length",      b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n", Err(())),
            ("another body",        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0000000000000008abcd", Err(())),
            ("another status",      b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 20\r\n\r\n", Err(())),
            ("too much",            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0000000000000007abcdX", Err(())),
        ];
        for (what, answer, expected) in cases {
            for piece in [1, 3, answer.len()] {
                assert_eq!(
                    answer_in_pieces(answer, piece).map_err(|_| ()),
                    expected,
                    "{what}, pieces of {piece}"
                );
            }
        }
    }
}
