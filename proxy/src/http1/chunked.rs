//! The chunked transfer coding (RFC 9112 §7.1), read strictly: line ends are CRLF, sizes are plain hexadecimal digits, extensions are dropped and bounded.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, HeadFault};

/// All chunk extensions of a message may take so many bytes, and a size line no more than that.
const EXTENSION_BYTES_MAX: usize = 16 << 10;
/// RFC 9112 §7.1: a recipient "MUST anticipate potentially large hexadecimal numerals"; these are 64 bits.
const DIGITS_MAX: usize = 16;

/// What is wrong with chunked content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// A chunk's size is not one to sixteen hexadecimal digits.
    #[error("a chunk's size is not one to sixteen hexadecimal digits")]
    Size,
    /// A line does not end in CRLF.
    #[error("a line of the chunked coding does not end in CRLF")]
    LineEnd,
    /// A chunk is longer than its size says.
    #[error("a chunk does not end where its size says")]
    Length,
    /// The extensions of all chunks are too long.
    #[error("chunk extensions are too long")]
    Extensions,
    /// The trailer section is none, or too large.
    #[error("the trailer section is not one")]
    Trailers,
}

impl From<HeadFault> for ChunkFault {
    fn from(_: HeadFault) -> Self {
        Self::Trailers
    }
}

/// A piece of content, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing more can be said before more has come.
    More,
    /// Data, never empty.
    Data(Bytes),
    /// It has ended; what follows belongs to the next message. Trailer fields, where there are any, come with it.
    End(Option<HeaderMap>),
}

/// Reads chunked content.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes_max: usize,
    fields_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

impl Decoder {
    /// A decoder at the first chunk. A trailer section may have so many bytes and so many fields.
    pub const fn new(trailer_bytes_max: usize, fields_max: usize) -> Self {
        Self { state: State::Size, extension_bytes: 0, trailer_bytes_max, fields_max }
    }

    /// Takes the next piece off the beginning of `received`.
    pub fn next(&mut self, received: &mut BytesMut) -> Result<Piece, ChunkFault> {
        loop {
            match self.state {
                State::Size => match self.size(received)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if received.is_empty() {
                        return Ok(Piece::More);
                    }
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Piece::Data(received.split_to(taken).freeze()));
                }
                State::DataEnd => match received[..] {
                    [b'\r', b'\n', ..] => {
                        received.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(ChunkFault::Length),
                },
                State::Trailers => return self.trailers(received),
                State::Ended => return Ok(Piece::End(None)),
            }
        }
    }

    /// Whether the last chunk and the trailer section have been read.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// A size line, if it is there whole.
    fn size(&mut self, received: &mut BytesMut) -> Result<Option<u64>, ChunkFault> {
        let Some(feed) = memchr::memchr(b'\n', received) else {
            // What is there must be the beginning of one, of which a carriage return may be the end.
            let digits = received.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let rest = &received[digits..];
            let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
            if digits <= DIGITS_MAX && self.extension_bytes + rest.len() > EXTENSION_BYTES_MAX {
                return Err(ChunkFault::Extensions);
            }
            let fits = digits <= DIGITS_MAX
                && received.get(digits).is_none_or(|byte| digits > 0 && is_after_size(*byte));
            return if fits { Ok(None) } else { Err(ChunkFault::Size) };
        };
        let line = received[..feed].strip_suffix(b"\r").ok_or(ChunkFault::LineEnd)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || digits > DIGITS_MAX {
            return Err(ChunkFault::Size);
        }
        let size = line[..digits].iter().fold(0_u64, |size, byte| size << 4 | u64::from(hex_value(*byte)));
        // RFC 9112 §7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name ...). Spaces behind a size are seen in the wild.
        let rest = &line[digits..];
        match rest.trim_ascii_start().first() {
            None | Some(b';') => {}
            Some(_) => return Err(ChunkFault::Size),
        }
        if rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(ChunkFault::LineEnd);
        }
        self.extension_bytes += rest.len();
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkFault::Extensions);
        }
        received.advance(feed + 1);
        Ok(Some(size))
    }

    fn trailers(&mut self, received: &mut BytesMut) -> Result<Piece, ChunkFault> {
        match received[..] {
            [b'\r', b'\n', ..] => {
                received.advance(2);
                self.state = State::Ended;
                return Ok(Piece::End(None));
            }
            [b'\n', ..] => return Err(ChunkFault::LineEnd),
            _ => {}
        }
        let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else {
            // Of the four bytes that end it, three may be there already.
            return if received.len() > self.trailer_bytes_max.saturating_add(3) {
                Err(ChunkFault::Trailers)
            } else {
                Ok(Piece::More)
            };
        };
        if end > self.trailer_bytes_max {
            return Err(ChunkFault::Trailers);
        }
        let section = received.split_to(end + 4).freeze();
        let fields = head::parse_trailers(&section, self.fields_max)?;
        self.state = State::Ended;
        Ok(Piece::End(Some(fields)))
    }
}

/// What may follow a size that is not yet ended.
const fn is_after_size(byte: u8) -> bool {
    matches!(byte, b';' | b' ' | b'\t' | b'\r')
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Writes the size line of a chunk.
pub fn write_size(out: &mut Vec<u8>, size: usize) {
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut left = size;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailer section.
pub fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        head::write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data, the trailers and what is left over.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Feeds the bytes in pieces.
    fn decode(bytes: &[u8], piece: usize) -> Result<Option<Decoded>, ChunkFault> {
        let mut decoder = Decoder::new(1_000, 10);
        let (mut received, mut data) = (BytesMut::new(), Vec::new());
        for (at, come) in bytes.chunks(piece).enumerate() {
            received.extend_from_slice(come);
            loop {
                match decoder.next(&mut received)? {
                    Piece::More => break,
                    Piece::Data(more) => {
                        assert!(!more.is_empty());
                        data.extend_from_slice(&more);
                    }
                    Piece::End(trailers) => {
                        let rest = bytes.chunks(piece).skip(at + 1).flatten().copied();
                        return Ok(Some((data, trailers, received.iter().copied().chain(rest).collect())));
                    }
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_are_joined_and_extensions_dropped() {
        let bytes =
            b"5\r\nhello\r\n1;a=\"b\\\"c\";d\r\n \r\n00a \t;x\r\nworld,gone\r\n0\r\nX-Sum: 7\r\n\r\nGET";
        for piece in 1..=bytes.len() {
            let (data, trailers, rest) = decode(bytes, piece).unwrap().unwrap();
            assert_eq!(data, b"hello world,gone", "by {piece}");
            assert_eq!(trailers.unwrap()["x-sum"], "7");
            assert_eq!(rest, b"GET");
        }
        assert_eq!(decode(b"ffffffffffffffff\r\nx", 3).unwrap(), None, "64 bits are a size");
    }

    #[test]
    fn what_is_not_exact_is_a_fault_at_once_and_however_it_is_cut() {
        #[rustfmt::skip]
        let cases: [(&[u8], ChunkFault); 19] = [
            (b"0x5\r\nhello\r\n0\r\n\r\n",    ChunkFault::Size),
            (b"+5\r\nhello\r\n0\r\n\r\n",     ChunkFault::Size),
            (b"\r\nhello\r\n0\r\n\r\n",       ChunkFault::Size),
            (b"5\0\r\nhello\r\n",             ChunkFault::Size),
            (b"g",                            ChunkFault::Size),
            (b"10000000000000005\r\nx",       ChunkFault::Size),
            (b"5 5\r\nhello\r\n",             ChunkFault::Size),
            (b"5\nhello\r\n0\r\n\r\n",        ChunkFault::LineEnd),
            (b"5;a\nb\r\nhello\r\n",          ChunkFault::LineEnd),
            (b"5;a\rb\r\nhello\r\n",          ChunkFault::LineEnd),
            (b"5;\x01\r\nhello\r\n",          ChunkFault::LineEnd),
            (b"5\r\r\nhello\r\n",             ChunkFault::LineEnd),
            (b"5\r\nhelloX\r\n",              ChunkFault::Length),
            (b"5\r\nhello0\r\n",              ChunkFault::Length),
            (b"5\r\nhello\rX",                ChunkFault::Length),
            (b"5\r\nhello\n0\r\n",            ChunkFault::Length),
            (b"0\n\r\n",                      ChunkFault::LineEnd),
            (b"0\r\n\n",                      ChunkFault::LineEnd),
            (b"0\r\nX : y\r\n\r\n",           ChunkFault::Trailers),
        ];
        for (bytes, fault) in cases {
            for piece in 1..=bytes.len() {
                assert!(decode(bytes, piece).is_err(), "{:?} by {piece}", bytes.escape_ascii());
            }
            assert_eq!(decode(bytes, bytes.len()), Err(fault), "{:?}", bytes.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let one = format!("5;{}\r\nhello\r\n", "x".repeat(EXTENSION_BYTES_MAX));
        assert_eq!(decode(one.as_bytes(), 1_000), Err(ChunkFault::Extensions));
        let many = "1;xxxxxxxxxxxxxxx\r\ny\r\n".repeat(EXTENSION_BYTES_MAX / 16 + 1);
        assert_eq!(decode(many.as_bytes(), 1_000), Err(ChunkFault::Extensions));
        let trailers = format!("0\r\nx: {}\r\n\r\n", "y".repeat(2_000));
        for piece in [1, 100, 10_000] {
            assert_eq!(decode(trailers.as_bytes(), piece), Err(ChunkFault::Trailers));
        }
        // The longest that is taken is the same, however the bytes are cut.
        for (length, fits) in [(EXTENSION_BYTES_MAX, true), (EXTENSION_BYTES_MAX + 1, false)] {
            let chunk = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(length - 1));
            for piece in [1, 7, 100_000] {
                assert_eq!(decode(chunk.as_bytes(), piece).is_ok(), fits, "{length} by {piece}");
            }
        }
        for (length, fits) in [(1_000, true), (1_001, false)] {
            let section = format!("0\r\nx: {}\r\n\r\n", "y".repeat(length - "x: ".len()));
            for piece in [1, 7, 10_000] {
                assert_eq!(decode(section.as_bytes(), piece).is_ok(), fits, "{length} by {piece}");
            }
        }
        let fields = format!("0\r\n{}\r\n", "x: y\r\n".repeat(11));
        assert_eq!(decode(fields.as_bytes(), 100), Err(ChunkFault::Trailers));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            piece in 1_usize..700,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_size(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            write_end(&mut wire, None);
            wire.extend_from_slice(b"rest");
            let (data, trailers, rest) = decode(&wire, piece).unwrap().unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(trailers, None);
            prop_assert_eq!(rest, b"rest".to_vec());
        }

        #[test]
        fn nothing_panics_and_the_cut_does_not_matter(bytes in "[0-9a-f;\r\n x]{0,60}", piece in 1_usize..10) {
            let whole = decode(bytes.as_bytes(), bytes.len().max(1));
            let cut = decode(bytes.as_bytes(), piece);
            match (whole, cut) {
                (Ok(whole), Ok(cut)) => prop_assert_eq!(whole, cut),
                (whole, cut) => prop_assert_eq!(whole.is_err(), cut.is_err()),
            }
        }
    }
}
