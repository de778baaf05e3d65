//! What is said to a Redis and what it answers, as bytes (RESP 2): for the lanes of workers, which do without the client library.
//!
//! Pure. Answers are untrusted: every number is checked against a limit before anything is kept for it, and what is not understood is
//! [`RedisError::Unexpected`], which ends the link.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::client::Reply;
use super::error::RedisError;

/// The longest answer that is read. The largest value that is written is far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest line: a number, a word, an error.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Elements of an array.
const ELEMENTS_MAX: usize = 1 << 20;
/// Arrays in arrays.
const DEPTH_MAX: u32 = 8;

/// Appends a command.
pub fn command<'p>(
    out: &mut Vec<u8>,
    parts: impl IntoIterator<Item = &'p [u8], IntoIter: ExactSizeIterator>,
) {
    let parts = parts.into_iter();
    number(out, b'*', parts.len());
    for part in parts {
        number(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn number(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What is there of an answer.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// All of it: what it says, or the error that the server answered.
    Whole(Result<Reply, RedisError>),
    /// At least so many bytes are missing.
    More(usize),
}

/// Takes one answer off the front of what was received. An error: these are no answers.
pub fn take(received: &mut BytesMut) -> Result<Taken, RedisError> {
    let length = match measure(received, 0)? {
        Measured::Whole(length) => length,
        Measured::More(more) => return Ok(Taken::More(more)),
    };
    let answer = received.split_to(length).freeze();
    let mut at = 0;
    Ok(Taken::Whole(build(&answer, &mut at)))
}

enum Measured {
    Whole(usize),
    More(usize),
}

/// How long the answer at the front is.
fn measure(bytes: &[u8], depth: u32) -> Result<Measured, RedisError> {
    if depth > DEPTH_MAX {
        return Err(RedisError::Unexpected);
    }
    let Some(line) = line_of(bytes)? else { return Ok(Measured::More(1)) };
    let head = line.len() + 2;
    match bytes[0] {
        b'+' | b'-' => Ok(Measured::Whole(head)),
        b':' => {
            let text = std::str::from_utf8(&line[1..]).map_err(|_| RedisError::Unexpected)?;
            text.parse::<i64>().map_err(|_| RedisError::Unexpected)?;
            Ok(Measured::Whole(head))
        }
        b'$' => {
            let Some(length) = count(&line[1..], ANSWER_BYTES_MAX)? else { return Ok(Measured::Whole(head)) };
            let whole = head + length + 2;
            if bytes.len() < whole {
                return Ok(Measured::More(whole - bytes.len()));
            }
            if &bytes[whole - 2..whole] == b"\r\n" {
                Ok(Measured::Whole(whole))
            } else {
                Err(RedisError::Unexpected)
            }
        }
        b'*' => {
            let Some(elements) = count(&line[1..], ELEMENTS_MAX)? else { return Ok(Measured::Whole(head)) };
            let mut whole = head;
            for _ in 0..elements {
                match measure(&bytes[whole..], depth + 1)? {
                    Measured::Whole(length) => whole += length,
                    more @ Measured::More(_) => return Ok(more),
                }
                if whole > ANSWER_BYTES_MAX {
                    return Err(RedisError::Unexpected);
                }
            }
            Ok(Measured::Whole(whole))
        }
        _ => Err(RedisError::Unexpected),
    }
}

/// The first line without its end. `None`: it has not ended yet.
fn line_of(bytes: &[u8]) -> Result<Option<&[u8]>, RedisError> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr(b'\r', within) {
        Some(0) => Err(RedisError::Unexpected),
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some(&bytes[..end])),
            Some(_) => Err(RedisError::Unexpected),
            None => Ok(None),
        },
        None if bytes.len() >= LINE_BYTES_MAX => Err(RedisError::Unexpected),
        // No answer begins like this, however it goes on.
        None if bytes.first().is_some_and(|kind| !b"+-:$*".contains(kind)) => Err(RedisError::Unexpected),
        None => Ok(None),
    }
}

/// A length. `None`: there is nothing.
fn count(digits: &[u8], max: usize) -> Result<Option<usize>, RedisError> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RedisError::Unexpected);
    }
    let number = digits.iter().fold(0_usize, |number, digit| number * 10 + usize::from(digit - b'0'));
    if number > max { Err(RedisError::Unexpected) } else { Ok(Some(number)) }
}

/// What a measured answer says. Its bytes share the received ones.
fn build(answer: &Bytes, at: &mut usize) -> Result<Reply, RedisError> {
    let start = *at;
    let end = start + memchr(b'\r', &answer[start..]).ok_or(RedisError::Unexpected)?;
    *at = end + 2;
    let line = start + 1..end;
    match answer[start] {
        b'+' => Ok(Reply::Bytes(answer.slice(line))),
        b'-' => {
            let text = String::from_utf8_lossy(&answer[line]);
            let (code, detail) = text.split_once(' ').unwrap_or((&text, ""));
            Err(RedisError::said(code, detail))
        }
        b':' => {
            let text = std::str::from_utf8(&answer[line]).map_err(|_| RedisError::Unexpected)?;
            text.parse().map(Reply::Int).map_err(|_| RedisError::Unexpected)
        }
        b'$' => {
            let Some(length) = count(&answer[line], ANSWER_BYTES_MAX)? else { return Ok(Reply::Nil) };
            let bytes = answer.slice(*at..*at + length);
            *at += length + 2;
            Ok(Reply::Bytes(bytes))
        }
        _ => {
            let Some(elements) = count(&answer[line], ELEMENTS_MAX)? else { return Ok(Reply::Nil) };
            // Each has three bytes at least, so there are as many as are announced.
            let mut list = Vec::with_capacity(elements);
            let mut failed = None;
            for _ in 0..elements {
                match build(answer, at) {
                    Ok(reply) => list.push(reply),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.map_or(Ok(Reply::List(list)), Err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(text: &str) -> Result<Taken, RedisError> {
        take(&mut BytesMut::from(text))
    }

    fn bytes(text: &'static str) -> Reply {
        Reply::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_command_is_an_array_of_its_parts() {
        let mut out = Vec::new();
        command(&mut out, [&b"GET"[..], b"a\r\nb", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }

    #[test]
    fn answers_are_understood() {
        #[rustfmt::skip]
        let cases = [
            ("+OK\r\n",                               Ok(bytes("OK"))),
            ("+\r\n",                                 Ok(bytes(""))),
            (":-7\r\n",                               Ok(Reply::Int(-7))),
            ("$-1\r\n",                               Ok(Reply::Nil)),
            ("*-1\r\n",                               Ok(Reply::Nil)),
            ("$0\r\n\r\n",                            Ok(bytes(""))),
            ("$4\r\na\r\nb\r\n",                      Ok(bytes("a\r\nb"))),
            ("*0\r\n",                                Ok(Reply::List(vec![]))),
            ("*2\r\n$1\r\na\r\n*1\r\n:1\r\n",         Ok(Reply::List(vec![bytes("a"), Reply::List(vec![Reply::Int(1)])]))),
            ("-LOADING wait\r\n",                     Err(RedisError::NotReady { code: "LOADING".into() })),
            ("*2\r\n-OOM no\r\n:1\r\n",               Err(RedisError::NoWrites { code: "OOM".into() })),
        ];
        for (text, expected) in cases {
            assert_eq!(taken(text), Ok(Taken::Whole(expected)), "{text:?}");
            for cut in 0..text.len() {
                assert!(matches!(taken(&text[..cut]), Ok(Taken::More(1..))), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_before_anything_is_kept_for_it() {
        let deep = "*1\r\n".repeat(20) + ":1\r\n";
        let cases = [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "$-2\r\n",
            "$1x\r\n",
            "$99999999999\r\n",
            "$100000000\r\n",
            "*2000000\r\n",
            "$1\r\nab\r\n",
            ":x\r\n",
            ":\r\n",
            "$\r\n",
            "%1\r\n+a\r\n+b\r\n",
            ">1\r\n+a\r\n",
            "+a\rb\r\n",
            &deep,
        ];
        for text in cases {
            assert_eq!(taken(text), Err(RedisError::Unexpected), "{text:?}");
        }
    }

    #[test]
    fn several_are_taken_one_after_the_other() {
        let mut received = BytesMut::from("+a\r\n$1\r\nb\r\n:1\r\n$5\r\nhal");
        for expected in [bytes("a"), bytes("b"), Reply::Int(1)] {
            assert_eq!(take(&mut received), Ok(Taken::Whole(Ok(expected))));
        }
        assert_eq!(take(&mut received), Ok(Taken::More(4)));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_invented(received in prop::collection::vec(prop::sample::select(&b"+-:$*0123456789\r\nab"[..]), 0..60)) {
            let mut left = BytesMut::from(&received[..]);
            while let Ok(Taken::Whole(_)) = take(&mut left) {}
            prop_assert!(left.len() <= received.len());
        }
    }
}
