//! Content as a key: JSON (RFC 8259) in one canonical spelling, and parts of it by JSON Pointer (RFC 6901).
//!
//! Two texts have the same canonical form only where they mean the same to every reader: names are sorted, spaces and escapes are gone,
//! but numbers stay as they were written, because readers differ in how much of one they keep (`1`, `1.0` and `10e-1` are three).
//! A text in which readers could see different things (a name twice in one object, a lone surrogate, anything after the end) is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Objects and arrays within one another.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`, `true`, `false`, or a number as it was written.
    Plain(Box<str>),
    /// Text, decoded.
    Text(Box<str>),
    /// An array.
    Array(Vec<Json>),
    /// An object, by name.
    Object(BTreeMap<Box<str>, Json>),
}

/// It is no JSON, or not JSON that means one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no JSON with one meaning at byte {at}")]
pub struct JsonError {
    /// Where.
    pub at: usize,
}

impl Json {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// It is not valid, nested more than 64 levels deep, or has a name twice in one object.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError { at: error.valid_up_to() })?;
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.wrong()) }
    }

    /// The value at a JSON Pointer; `""` is the whole.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |value, token| match value {
            Self::Object(members) if !token.contains('~') => members.get(token),
            // RFC 6901 §4: first ~1, then ~0.
            Self::Object(members) => members.get(token.replace("~1", "/").replace("~0", "~").as_str()),
            Self::Array(items) => {
                let is_index = token == "0" || !token.starts_with('0');
                let digits = token.bytes().all(|byte| byte.is_ascii_digit());
                items.get(token.parse::<usize>().ok().filter(|_| is_index && digits)?)
            }
            Self::Plain(_) | Self::Text(_) => None,
        })
    }

    /// Names sorted by their bytes, no spaces, nothing escaped that need not be.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => write_text(out, text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self) -> JsonError {
        JsonError { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.takes(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.wrong());
        }
        self.space();
        match self.peek().ok_or_else(|| self.wrong())? {
            b'"' => self.string().map(|text| Json::Text(text.into())),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                for word in ["null", "true", "false"] {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(Json::Plain(word.into()));
                    }
                }
                Err(self.wrong())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.space();
        if self.takes(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.takes(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.expect(b'{')?;
        let mut members = BTreeMap::new();
        self.space();
        if self.takes(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            let begins = self.at;
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            if members.insert(name.into(), value).is_some() {
                return Err(JsonError { at: begins });
            }
            self.space();
            if self.takes(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(b',')?;
        }
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Result<Json, JsonError> {
        let begins = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Ok(Json::Plain(self.text[begins..self.at].into()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let begins = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == begins { Err(self.wrong()) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            let plain = plain.ok_or_else(|| self.wrong())?;
            out.push_str(&rest[..plain]);
            self.at += plain;
            if self.takes(b'"') {
                return Ok(out);
            }
            self.expect(b'\\')?;
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.wrong())?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    let second = self.unit()?;
                    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                    0x1_0000 + ((first - 0xd800) << 10) + low.ok_or_else(|| self.wrong())?
                } else {
                    first
                };
                char::from_u32(code).ok_or_else(|| self.wrong())?
            }
            _ => return Err(self.wrong()),
        })
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.wrong())?;
        let value = digits
            .iter()
            .try_fold(0, |value, digit| char::from(*digit).to_digit(16).map(|digit| value << 4 | digit));
        self.at += 4;
        value.ok_or_else(|| self.wrong())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_mean_the_same_are_spelled_the_same() {
        #[rustfmt::skip]
        let cases = [
            // text                                   canonical
            (r#" {"b" : 1 , "a":[ ] } "#,             Some(r#"{"a":[],"b":1}"#)),
            (r#""\u0041\/\n\ud83d\ude00""#,           Some("\"A/\\u000a😀\"")),
            ("[1, 1.0, 10e-1, -0, 12345678901234567890123]", Some("[1,1.0,10e-1,-0,12345678901234567890123]")),
            ("null",                                  Some("null")),
            // Readers differ in which of the two they take.
            (r#"{"a":1,"a":2}"#,                      None),
            (r#"{"a":1,"\u0061":2}"#,                 None),
            (r#""\ud83d""#,                           None),
            (r#""\ude00""#,                           None),
            ("[1,]",                                  None),
            ("01",                                    None),
            ("1.",                                    None),
            ("+1",                                    None),
            ("1 2",                                   None),
            ("nul",                                   None),
            ("\"\n\"",                                None),
            ("",                                      None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Json::parse(text.as_bytes()).ok().map(|json| json.canonical()).as_deref(),
                expected,
                "{text}"
            );
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse(deep(64).as_bytes()).is_ok());
        assert!(Json::parse(deep(100_000).as_bytes()).is_err());
    }

    #[test]
    fn rfc_6901_section_5_pointers() {
        let json = Json::parse(br#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, " ": 7}"#).unwrap();
        let at = |pointer| json.at(pointer).map(Json::canonical);
        assert_eq!(at("").as_deref(), Some(r#"{"":0," ":7,"a/b":1,"foo":["bar","baz"],"m~n":8}"#));
        #[rustfmt::skip]
        let cases = [
            ("/foo/0", Some("\"bar\"")), ("/foo/00", None), ("/foo/-", None), ("/foo/+1", None), ("/foo/2", None),
            ("/", Some("0")), ("/a~1b", Some("1")), ("/m~0n", Some("8")), ("/ ", Some("7")), ("foo", None), ("/foo/0/x", None),
        ];
        for (pointer, expected) in cases {
            assert_eq!(at(pointer).as_deref(), expected, "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn what_is_canonical_stays_as_it_is(text in "[\\[\\]{}\":,0-9.eE\\-a-c\\\\u ntrfls]{0,40}") {
            if let Ok(json) = Json::parse(text.as_bytes()) {
                let canonical = json.canonical();
                let again = Json::parse(canonical.as_bytes());
                prop_assert_eq!(again.as_ref(), Ok(&json));
            }
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Json::parse(&bytes);
        }
    }
}
