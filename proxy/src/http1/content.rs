//! How long a message is (RFC 9112 §6.3), and its content taken off the bytes that come in.

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Version};

pub use super::chunked::Piece;
use super::chunked::{ChunkFault, Decoder};
use super::head::Seen;
use crate::gate::{self, Rejection, ResponseFault};

/// How the content of a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection ends. Responses only.
    UntilClose,
}

impl Framing {
    const fn of_length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }

    /// The length, where it is known before the end.
    pub const fn length(self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Length(length) => Some(length),
            Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// The framing of a request. What leaves any doubt is refused: nothing behind such a head is a message.
pub fn of_request(version: Version, fields: &HeaderMap, seen: &Seen) -> Result<Framing, Rejection> {
    if seen.transfer_encoding {
        gate::check_transfer_encoding(version, fields)?;
        // RFC 9112 §6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding".
        return if seen.lengths.lines() > 0 { Err(Rejection::TwoLengths) } else { Ok(Framing::Chunked) };
    }
    if seen.lengths.lines() == 0 {
        return Ok(Framing::None);
    }
    seen.lengths.one().map(Framing::of_length).ok_or(Rejection::ContentLength)
}

/// The framing of a response to a request whose method is HEAD, or is not.
pub fn of_response(
    head: bool,
    status: StatusCode,
    version: Version,
    fields: &HeaderMap,
    seen: &Seen,
) -> Result<Framing, ResponseFault> {
    if head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(Framing::None);
    }
    if seen.transfer_encoding {
        if seen.lengths.lines() > 0 {
            return Err(ResponseFault::TwoLengths);
        }
        let mut lines = fields.get_all(header::TRANSFER_ENCODING).iter();
        let chunked = lines.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
            && lines.next().is_none();
        return if chunked && version == Version::HTTP_11 {
            Ok(Framing::Chunked)
        } else {
            Err(ResponseFault::TransferEncoding)
        };
    }
    if seen.lengths.lines() > 0 {
        return seen.lengths.one().map(Framing::of_length).ok_or(ResponseFault::ContentLength);
    }
    Ok(Framing::UntilClose)
}

/// Whether the connection persists after this message (RFC 9112 §9.3).
pub fn persists(version: Version, fields: &HeaderMap, seen: &Seen) -> bool {
    if !seen.connection {
        return version == Version::HTTP_11;
    }
    let says =
        |token: &[u8]| fields.get_all(header::CONNECTION).iter().any(|line| gate::has_token(line, token));
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

/// Whether the client waits for `100 Continue` before it sends its content (RFC 9110 §10.1.1).
pub fn expects_continue(version: Version, fields: &HeaderMap, seen: &Seen) -> bool {
    let met = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    seen.expect && version == Version::HTTP_11 && fields.get(header::EXPECT).is_some_and(met)
}

/// Reads the content of one message.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ended,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Reader {
    /// A reader for content of this framing; limits of a trailer section beside it.
    pub const fn new(framing: Framing, trailer_bytes_max: usize, fields_max: usize) -> Self {
        let kind = match framing {
            Framing::None => Kind::Ended,
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Decoder::new(trailer_bytes_max, fields_max)),
            Framing::UntilClose => Kind::UntilClose,
        };
        Self { kind }
    }

    /// Takes the next piece off the beginning of `received`.
    pub fn next(&mut self, received: &mut BytesMut) -> Result<Piece, ChunkFault> {
        match &mut self.kind {
            Kind::Ended => Ok(Piece::End(None)),
            Kind::Length(_) | Kind::UntilClose if received.is_empty() => Ok(Piece::More),
            Kind::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.kind = Kind::Ended;
                }
                Ok(Piece::Data(received.split_to(taken).freeze()))
            }
            Kind::UntilClose => Ok(Piece::Data(received.split().freeze())),
            Kind::Chunked(decoder) => {
                let piece = decoder.next(received)?;
                if decoder.is_ended() {
                    self.kind = Kind::Ended;
                }
                Ok(piece)
            }
        }
    }

    /// The connection has ended. Whether that is the end of the content, too.
    pub const fn may_end_here(&self) -> bool {
        matches!(self.kind, Kind::Ended | Kind::UntilClose)
    }

    /// Whether all of it has been read.
    pub const fn is_ended(&self) -> bool {
        matches!(self.kind, Kind::Ended)
    }

    /// The bytes that are still to come, where that is known.
    pub const fn left(&self) -> Option<u64> {
        match self.kind {
            Kind::Ended => Some(0),
            Kind::Length(left) => Some(left),
            Kind::Chunked(_) | Kind::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::gate::Lengths;

    fn fields(lines: &[(&'static str, &'static str)]) -> (HeaderMap, Seen) {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut lengths = Lengths::default();
        map.get_all("content-length").iter().for_each(|value| lengths.add(value.as_bytes()));
        let seen = Seen {
            connection: map.contains_key("connection"),
            lengths,
            transfer_encoding: map.contains_key("transfer-encoding"),
            expect: map.contains_key("expect"),
            te: map.contains_key("te"),
            upgrade: map.contains_key("upgrade"),
        };
        (map, seen)
    }

    const TE: &str = "transfer-encoding";
    const CL: &str = "content-length";

    #[test]
    fn a_request_has_one_length_or_is_refused() {
        use Version as V;
        #[rustfmt::skip]
        let cases = [
            (V::HTTP_11, vec![],                                   Ok(Framing::None)),
            (V::HTTP_11, vec![(CL, "0")],                          Ok(Framing::None)),
            (V::HTTP_11, vec![(CL, "5")],                          Ok(Framing::Length(5))),
            (V::HTTP_10, vec![(CL, "5"), (CL, "5")],               Ok(Framing::Length(5))),
            (V::HTTP_11, vec![(CL, "5"), (CL, "6")],               Err(Rejection::ContentLength)),
            (V::HTTP_11, vec![(CL, "5, 5")],                       Err(Rejection::ContentLength)),
            (V::HTTP_11, vec![(CL, "18446744073709551616")],       Err(Rejection::ContentLength)),
            (V::HTTP_11, vec![(TE, "Chunked")],                    Ok(Framing::Chunked)),
            (V::HTTP_11, vec![(TE, "chunked"), (CL, "5")],         Err(Rejection::TwoLengths)),
            (V::HTTP_11, vec![(TE, "chunked"), (TE, "chunked")],   Err(Rejection::TransferEncoding)),
            (V::HTTP_11, vec![(TE, "gzip, chunked")],              Err(Rejection::TransferCoding)),
            (V::HTTP_11, vec![(TE, "identity")],                   Err(Rejection::TransferEncoding)),
            (V::HTTP_10, vec![(TE, "chunked")],                    Err(Rejection::TransferEncodingVersion)),
        ];
        for (version, lines, expected) in cases {
            let (fields, seen) = fields(&lines);
            assert_eq!(of_request(version, &fields, &seen), expected, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn a_response_has_one_length_or_is_no_answer() {
        use StatusCode as S;
        #[rustfmt::skip]
        let cases = [
            (false, S::OK,            vec![],                         Ok(Framing::UntilClose)),
            (false, S::OK,            vec![(CL, "5")],                Ok(Framing::Length(5))),
            (true,  S::OK,            vec![(CL, "5")],                Ok(Framing::None)),
            (false, S::NO_CONTENT,    vec![(CL, "5")],                Ok(Framing::None)),
            (false, S::NOT_MODIFIED,  vec![(TE, "chunked")],          Ok(Framing::None)),
            (false, S::EARLY_HINTS,   vec![],                         Ok(Framing::None)),
            (false, S::OK,            vec![(TE, "chunked")],          Ok(Framing::Chunked)),
            (false, S::OK,            vec![(TE, "x, chunked")],       Err(ResponseFault::TransferEncoding)),
            (false, S::OK,            vec![(TE, "chunked"), (CL, "1")], Err(ResponseFault::TwoLengths)),
            (false, S::OK,            vec![(CL, "+1")],               Err(ResponseFault::ContentLength)),
        ];
        for (head, status, lines, expected) in cases {
            let (fields, seen) = fields(&lines);
            let framing = of_response(head, status, Version::HTTP_11, &fields, &seen);
            assert_eq!(framing, expected, "{head} {status} {lines:?}");
        }
        let (chunked, seen) = fields(&[(TE, "chunked")]);
        let old = of_response(false, S::OK, Version::HTTP_10, &chunked, &seen);
        assert_eq!(old, Err(ResponseFault::TransferEncoding));
    }

    #[test]
    fn a_connection_persists_as_rfc_9112_section_9_3_says() {
        use Version as V;
        #[rustfmt::skip]
        let cases = [
            (V::HTTP_11, vec![],                                                    true),
            (V::HTTP_11, vec![("connection", "TE, Close")],                         false),
            (V::HTTP_11, vec![("connection", "keep-alive"), ("connection", "close")], false),
            (V::HTTP_10, vec![],                                                    false),
            (V::HTTP_10, vec![("connection", "Keep-Alive")],                        true),
            (V::HTTP_10, vec![("connection", "keep-alive, close")],                 false),
        ];
        for (version, lines, expected) in cases {
            let (fields, seen) = fields(&lines);
            assert_eq!(persists(version, &fields, &seen), expected, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn a_reader_takes_its_own_content_and_no_more() {
        let mut received = BytesMut::from(&b"hello world"[..]);
        let mut reader = Reader::new(Framing::Length(5), 100, 10);
        assert_eq!(reader.next(&mut received), Ok(Piece::Data("hello".into())));
        assert_eq!(reader.next(&mut received), Ok(Piece::End(None)));
        assert_eq!(&received[..], b" world");

        let mut reader = Reader::new(Framing::Length(20), 100, 10);
        assert_eq!(reader.next(&mut received), Ok(Piece::Data(" world".into())));
        assert_eq!(reader.next(&mut received), Ok(Piece::More));
        assert_eq!((reader.left(), reader.may_end_here()), (Some(14), false), "the end here would be a cut");

        let mut reader = Reader::new(Framing::UntilClose, 100, 10);
        received.extend_from_slice(b"all");
        assert_eq!(reader.next(&mut received), Ok(Piece::Data("all".into())));
        assert!(reader.may_end_here() && !reader.is_ended());
    }
}
