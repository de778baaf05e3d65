//! The client's side of HTTP/2 (RFC 9113): requests whose field blocks were made up front, frames read one by one.
//!
//! Fields of a response are not decoded, for that would cost more than a server's hit. Its block begins with an
//! indexed `:status: 200` (RFC 7541, index 8), perhaps after table size updates, or the answer counts as wrong.

use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::Target;
use super::h1::check_label;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// What a stream and the connection may send before they hear from us again.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// The field block of a GET: static names, literal values that enter no table.
pub(super) fn request_block(path: &str, authority: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(0x04, path), (0x01, authority)] {
        block.push(name);
        block.push(
            u8::try_from(value.len())
                .ok()
                .filter(|length| *length < 127)
                .expect("paths of the bench are short"),
        );
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// One connection and its open streams.
pub(super) struct Session {
    streams: Vec<Stream>,
    streams_max: usize,
    next_id: u32,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// Bytes of data since the connection's window was last raised.
    unacknowledged: u32,
    /// When those requests were sent that have been answered since the caller last took them out.
    pub(super) answered: Vec<Instant>,
}

struct Stream {
    id: u32,
    index: usize,
    since: Instant,
    has_head: bool,
    received: u64,
}

impl Session {
    pub(super) fn new(streams: usize) -> Self {
        let mut unsent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        // ENABLE_PUSH 0, INITIAL_WINDOW_SIZE.
        for (name, value) in [(2_u16, 0_u32), (4, STREAM_WINDOW)] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        push_frame(&mut unsent, SETTINGS, 0, 0, &settings);
        push_frame(&mut unsent, WINDOW_UPDATE, 0, 0, &CONNECTION_WINDOW.to_be_bytes());
        Self {
            streams: Vec::with_capacity(streams),
            streams_max: streams,
            next_id: 1,
            unread: Vec::new(),
            unsent,
            unacknowledged: 0,
            answered: Vec::new(),
        }
    }

    pub(super) fn vacancies(&self) -> usize {
        self.streams_max - self.streams.len()
    }

    pub(super) fn open_stream(&mut self, target: &Target, index: usize, since: Instant) {
        push_frame(&mut self.unsent, HEADERS, END_HEADERS | END_STREAM, self.next_id, &target.http2);
        self.streams.push(Stream { id: self.next_id, index, since, has_head: false, received: 0 });
        self.next_id += 2;
    }

    /// Sends what is to be sent; what the kernel does not take waits for the next call.
    pub(super) fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(written) => {
                    self.unsent.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The reader will find the end of the connection.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.unsent.clear();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes bytes from the server and answers what the protocol wants answered.
    pub(super) fn take(&mut self, bytes: &[u8], targets: &[Target]) -> Result<(), String> {
        if self.unread.is_empty() {
            let rest = self.take_frames(bytes, targets)?;
            self.unread.extend_from_slice(rest);
        } else {
            let mut unread = std::mem::take(&mut self.unread);
            unread.extend_from_slice(bytes);
            let rest = self.take_frames(&unread, targets)?.len();
            unread.drain(..unread.len() - rest);
            self.unread = unread;
        }
        Ok(())
    }

    /// What remains is the beginning of a frame.
    fn take_frames<'b>(&mut self, mut bytes: &'b [u8], targets: &[Target]) -> Result<&'b [u8], String> {
        while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, rest)) = rest.split_at_checked(length) else { break };
            let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.take_frame(head[3], head[4], id, payload, targets)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        targets: &[Target],
    ) -> Result<(), String> {
        match kind {
            DATA => {
                self.unacknowledged += u32::try_from(payload.len()).expect("frames are below 16 MiB");
                if self.unacknowledged > CONNECTION_WINDOW / 2 {
                    push_frame(&mut self.unsent, WINDOW_UPDATE, 0, 0, &self.unacknowledged.to_be_bytes());
                    self.unacknowledged = 0;
                }
                let data = unpadded(payload, flags)?;
                let place = self.place(id)?;
                let stream = &mut self.streams[place];
                check_label(stream.received, data, &targets[stream.index])?;
                stream.received += data.len() as u64;
                self.end_if(flags, place, targets)
            }
            HEADERS => {
                let mut block = unpadded(payload, flags)?;
                if flags & PRIORITY != 0 {
                    block = block.get(5..).ok_or("a HEADERS frame that is too short")?;
                }
                let place = self.place(id)?;
                let stream = &mut self.streams[place];
                if !stream.has_head && !says_200(block) {
                    return Err(format!("a status other than 200: {block:02x?}"));
                }
                stream.has_head = true;
                self.end_if(flags, place, targets)
            }
            SETTINGS if flags & ACK == 0 => {
                push_frame(&mut self.unsent, SETTINGS, ACK, 0, &[]);
                Ok(())
            }
            PING if flags & ACK == 0 => {
                push_frame(&mut self.unsent, PING, ACK, 0, payload);
                Ok(())
            }
            RST_STREAM => Err("a stream was reset".to_owned()),
            GOAWAY => {
                Err(format!("GOAWAY: {}", String::from_utf8_lossy(payload.get(8..).unwrap_or_default())))
            }
            _ => Ok(()),
        }
    }

    fn place(&self, id: u32) -> Result<usize, String> {
        self.streams
            .iter()
            .position(|stream| stream.id == id)
            .ok_or_else(|| "a stream that nobody opened".to_owned())
    }

    fn end_if(&mut self, flags: u8, place: usize, targets: &[Target]) -> Result<(), String> {
        if flags & END_STREAM == 0 {
            return Ok(());
        }
        let stream = self.streams.swap_remove(place);
        let size = targets[stream.index].size;
        if stream.received != size {
            return Err(format!("{} bytes of body where {size} were asked for", stream.received));
        }
        self.answered.push(stream.since);
        Ok(())
    }
}

fn says_200(block: &[u8]) -> bool {
    // RFC 7541 section 6.3: a table size update is 001xxxxx, continued where all five bits are set.
    let mut rest = block;
    while let Some((first, tail)) = rest.split_first() {
        if first & 0xe0 != 0x20 {
            return *first == 0x88;
        }
        rest = tail;
        if first & 0x1f == 0x1f {
            let continued = rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
            rest = rest.get(continued + 1..).unwrap_or_default();
        }
    }
    false
}

fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], String> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or("a padded frame without padding")?;
    rest.len()
        .checked_sub(usize::from(*padding))
        .and_then(|end| rest.get(..end))
        .ok_or_else(|| "too much padding".to_owned())
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames of the bench are small").to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Resource, Storing};

    #[test]
    fn streams_end_whatever_way_their_frames_are_cut() {
        let targets = [Target::new(&Resource { storing: Storing::Store, size: 20, delay_ms: 0, id: 7 })];
        let mut answer = Vec::new();
        push_frame(&mut answer, SETTINGS, 0, 0, &[]);
        push_frame(&mut answer, HEADERS, END_HEADERS, 1, &[0x3f, 0xe1, 0x1f, 0x88]);
        push_frame(&mut answer, HEADERS, END_HEADERS, 3, &[0x88]);
        push_frame(&mut answer, DATA, 0, 3, b"0000000000000007");
        push_frame(&mut answer, DATA, END_STREAM | PADDED, 1, b"\x020000000000000007abcd..");
        push_frame(&mut answer, DATA, END_STREAM, 3, b"abcd");
        for piece in [1, 7, answer.len()] {
            let mut session = Session::new(2);
            for _ in 0..2 {
                session.open_stream(&targets[0], 0, Instant::now());
            }
            for bytes in answer.chunks(piece) {
                session.take(bytes, &targets).expect("the answer is right");
            }
            assert_eq!((session.answered.len(), session.vacancies()), (2, 2), "pieces of {piece}");
        }
    }

    #[test]
    fn only_an_indexed_200_counts_as_one() {
        for (block, expected) in [
            (&[0x88][..], true),
            (&[0x20, 0x88], true),
            (&[0x3f, 0xff, 0x01, 0x88], true),
            (&[0x8d], false),
            (&[], false),
        ] {
            assert_eq!(says_200(block), expected, "{block:02x?}");
        }
    }
}
