//! HTTP/1.1 as it comes in: heads, framing and content. However the bytes are cut, the same message is read, and what follows it is left alone.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use weir::http1::content::{self, Framing, Piece, Reader};
use weir::http1::head::{self, HeadSearch};

const BYTES_MAX: usize = 1 << 10;
const FIELDS_MAX: usize = 16;

/// A message: its framing, its data and trailers, and the bytes behind it. `None`: it is refused, or has not come whole.
type Message = Option<(Framing, Vec<u8>, Option<HeaderMap>, Vec<u8>)>;

fn read(wire: &[u8], piece: usize, response: bool) -> Message {
    let (mut received, mut search, mut come) = (BytesMut::new(), HeadSearch::default(), 0);
    let mut more = |received: &mut BytesMut| {
        let next = (come + piece).min(wire.len());
        received.extend_from_slice(&wire[come..next]);
        let grown = next > come;
        come = next;
        grown
    };
    let end = loop {
        let probe = |bytes: &[u8]| {
            if response {
                head::probe_response(bytes, FIELDS_MAX)
            } else {
                head::probe_request(bytes, FIELDS_MAX)
            }
        };
        if let Some(end) = search.end(&received, BYTES_MAX, probe).ok()? {
            break end;
        }
        if !more(&mut received) {
            return None;
        }
    };
    let bytes: Bytes = received.split_to(end).freeze();
    let mut fields = HeaderMap::new();
    let framing = if response {
        let (line, seen) = head::parse_response(&bytes, FIELDS_MAX, &mut fields).ok()?;
        content::of_response(false, line.status, line.version, &fields, &seen).ok()?
    } else {
        let (line, seen) = head::parse_request(&bytes, FIELDS_MAX, &mut fields).ok()?;
        assert!(!line.target.to_string().contains('#'));
        content::of_request(line.version, &fields, &seen).ok()?
    };
    assert!(fields.len() <= FIELDS_MAX);
    if framing == Framing::Chunked {
        assert!(!fields.contains_key("content-length"), "one length");
    }
    let mut reader = Reader::new(framing, BYTES_MAX, FIELDS_MAX);
    let mut data = Vec::new();
    loop {
        match reader.next(&mut received).ok()? {
            Piece::Data(more) => data.extend_from_slice(&more),
            Piece::More if more(&mut received) => {}
            Piece::More if reader.may_end_here() => return Some((framing, data, None, Vec::new())),
            Piece::More => return None,
            Piece::End(trailers) => {
                while more(&mut received) {}
                if let Framing::Length(length) = framing {
                    assert_eq!(data.len() as u64, length);
                }
                return Some((framing, data, trailers, received.to_vec()));
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [cut, wire @ ..] = data else { return };
    let piece = usize::from(cut >> 1) + 1;
    let response = cut & 1 == 1;
    assert_eq!(read(wire, wire.len().max(1), response), read(wire, piece, response));
});
