//! How an application that holds no session code speaks of sessions: in fields of RFC 9651.
//!
//! ```text
//! to the origin    Session-Info: v=420, id=:SHA-256:, new=?0, sub="user:42", auth=@1763650000
//!                  Session-Data: theme="dark", n=3
//! from the origin  Session-Set: theme="dark", draft=:…:;ttl=600
//!                  Session-Unset: a, b
//!                  Session-Control: rotate, sub="user:42", destroy, logout-everywhere, if-v=420, on-conflict=reject
//! ```
//!
//! Values are items of RFC 9651 and stay as they were written. What does not parse, or exceeds a bound, is refused as a whole: half of a change would be worse than none.

use sfv::{BareItem, Dictionary, Item, ItemSerializer, KeyRef, List, ListEntry, Parser};

use crate::{Attribute, Session, Version};

/// Attributes of a session.
pub const ATTRIBUTES_MAX: usize = 64;
/// Letters of an attribute's name.
pub const NAME_MAX: usize = 64;
/// Bytes of an attribute's value, as it is written.
pub const VALUE_MAX: usize = 4 << 10;
/// Bytes of all names and values.
pub const TOTAL_MAX: usize = 16 << 10;
/// Attributes, and marks of those that were removed within the last hour.
pub const MARKS_MAX: usize = 1_024;
/// Bytes of `Session-Data`; attributes beyond are left out, and `more` in `Session-Info` says so.
pub const DATA_MAX: usize = 8 << 10;
/// Bytes of whom a session belongs to.
const USER_MAX: usize = 256;

/// What an application wants done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Attributes to set: name, value as it is written, and after how many seconds it ends.
    pub set: Vec<(String, Vec<u8>, Option<u64>)>,
    /// Attributes to remove.
    pub unset: Vec<String>,
    /// Whom the session belongs to from here on. An empty one: nobody.
    pub user: Option<String>,
    /// Give it a new name.
    pub rotate: bool,
    /// End it.
    pub destroy: bool,
    /// End all sessions of whom it belongs to.
    pub logout_everywhere: bool,
    /// Only if it has this version still.
    pub if_version: Option<Version>,
    /// And if it has not, refuse the answer; otherwise the change is merged with what others wrote.
    pub reject: bool,
}

/// Why a wish is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// A field that is not what it should be.
    #[error("`{0}` is not what RFC 9651 calls a {1}")]
    Malformed(&'static str, &'static str),
    /// A member that means nothing, or has a value of another kind.
    #[error("`{0}` means nothing in `{1}`, or has a value of the wrong kind")]
    Unknown(String, &'static str),
    /// Too much.
    #[error(
        "a session holds {ATTRIBUTES_MAX} attributes of {VALUE_MAX} bytes each, {TOTAL_MAX} bytes in all"
    )]
    TooLarge,
}

const SET: &str = "Session-Set";
const UNSET: &str = "Session-Unset";
const CONTROL: &str = "Session-Control";

impl Wish {
    /// Reads what an origin says. Each field's lines are joined by commas.
    pub fn parse(
        set: Option<&[u8]>,
        unset: Option<&[u8]>,
        control: Option<&[u8]>,
    ) -> Result<Self, WishError> {
        let mut wish = Self::default();
        if let Some(field) = set {
            let members: Dictionary =
                Parser::new(field).parse().map_err(|_| WishError::Malformed(SET, "Dictionary"))?;
            for (name, entry) in &members {
                let unknown = || WishError::Unknown(name.as_str().to_owned(), SET);
                let ListEntry::Item(item) = entry else { return Err(unknown()) };
                let mut ttl = None;
                for (parameter, value) in &item.params {
                    match (parameter.as_str(), value) {
                        ("ttl", BareItem::Integer(seconds)) => {
                            let seconds = u64::try_from(i64::from(*seconds)).map_err(|_| unknown())?;
                            ttl = Some(seconds);
                        }
                        _ => return Err(unknown()),
                    }
                }
                let value = ItemSerializer::new().bare_item(&item.bare_item).finish().into_bytes();
                wish.set.push((name.as_str().to_owned(), value, ttl));
            }
        }
        if let Some(field) = unset {
            let members: List =
                Parser::new(field).parse().map_err(|_| WishError::Malformed(UNSET, "List"))?;
            for entry in &members {
                let name = match entry {
                    ListEntry::Item(Item { bare_item: BareItem::Token(name), .. }) => name.as_str(),
                    _ => return Err(WishError::Malformed(UNSET, "List of Tokens")),
                };
                let name = KeyRef::from_str(name).map_err(|_| WishError::Unknown(name.to_owned(), UNSET))?;
                wish.unset.push(name.as_str().to_owned());
            }
        }
        if let Some(field) = control {
            wish.control(field)?;
        }
        let size = |(name, value, _): &(String, Vec<u8>, Option<u64>)| name.len() + value.len();
        let fits = wish.set.iter().all(|(name, value, _)| name.len() <= NAME_MAX && value.len() <= VALUE_MAX)
            && wish.set.len() <= ATTRIBUTES_MAX
            && wish.unset.len() <= ATTRIBUTES_MAX
            && wish.set.iter().map(size).sum::<usize>() <= TOTAL_MAX
            && wish.user.as_ref().is_none_or(|user| user.len() <= USER_MAX);
        if fits { Ok(wish) } else { Err(WishError::TooLarge) }
    }

    fn control(&mut self, field: &[u8]) -> Result<(), WishError> {
        let members: Dictionary =
            Parser::new(field).parse().map_err(|_| WishError::Malformed(CONTROL, "Dictionary"))?;
        for (name, entry) in &members {
            let unknown = || WishError::Unknown(name.as_str().to_owned(), CONTROL);
            let ListEntry::Item(Item { bare_item: value, .. }) = entry else { return Err(unknown()) };
            match (name.as_str(), value) {
                ("rotate", BareItem::Boolean(yes)) => self.rotate = *yes,
                ("destroy", BareItem::Boolean(yes)) => self.destroy = *yes,
                ("logout-everywhere", BareItem::Boolean(yes)) => self.logout_everywhere = *yes,
                ("sub", BareItem::String(user)) => self.user = Some(user.as_str().to_owned()),
                ("if-v", BareItem::Integer(version)) => {
                    self.if_version = Some(u64::try_from(i64::from(*version)).map_err(|_| unknown())?);
                }
                ("on-conflict", BareItem::Token(word)) => {
                    self.reject = match word.as_str() {
                        "merge" => false,
                        "reject" => true,
                        _ => return Err(unknown()),
                    };
                }
                _ => return Err(unknown()),
            }
        }
        Ok(())
    }

    /// Whether nothing is wished.
    pub fn is_empty(&self) -> bool {
        *self == Self { if_version: self.if_version, reject: self.reject, ..Self::default() }
    }

    /// The change that it makes of a session; its versions are `version`.
    pub fn change(&self, session: &Session, version: Version, now_ms: u64) -> Session {
        let mut change = session.change(now_ms);
        for (name, value, ttl) in &self.set {
            let ends_ms = ttl.map_or(0, |seconds| now_ms.saturating_add(seconds.saturating_mul(1_000)));
            let attribute = Attribute { version, ends_ms, value: Some(value.clone()) };
            change.attributes.insert(name.clone(), attribute);
        }
        for name in &self.unset {
            change.attributes.insert(name.clone(), Attribute { version, ends_ms: 0, value: None });
        }
        if let Some(user) = &self.user {
            change.subject = Some((version, user.clone()));
        }
        change
    }
}

/// Whether an attribute can have this name.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX && KeyRef::from_str(name).is_ok()
}

/// A value for who does not read RFC 9651.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    /// A text, as it is.
    Text(String),
    /// Anything else, as it is written. It may read like a text, and is another value than that.
    Item(String),
}

/// Makes a value plain. `None`: it is no item.
pub fn plain(value: &[u8]) -> Option<Plain> {
    let item: Item = Parser::new(value).parse().ok()?;
    Some(match item.bare_item {
        BareItem::String(text) if item.params.is_empty() => Plain::Text(text.as_str().to_owned()),
        _ => Plain::Item(std::str::from_utf8(value).ok()?.to_owned()),
    })
}

/// Whether a session is within its bounds.
pub fn fits(session: &Session, now_ms: u64) -> bool {
    let (count, bytes) = session
        .live(now_ms)
        .fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
    // What was removed is remembered for a while, and must not pile up either.
    count <= ATTRIBUTES_MAX && bytes <= TOTAL_MAX && session.attributes.len() <= MARKS_MAX
}

/// `Session-Info` and `Session-Data` of a session; `id` is its handle in base64.
pub fn tell(session: &Session, id: &str, is_new: bool, now_ms: u64) -> (String, Option<String>) {
    let mut data = String::new();
    let mut more = false;
    for (name, value) in session.live(now_ms) {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        let between = if data.is_empty() { "" } else { ", " };
        if data.len() + between.len() + name.len() + 1 + value.len() > DATA_MAX {
            more = true;
            continue;
        }
        data.push_str(between);
        data.push_str(name);
        // RFC 9651 §3.2: true is written without a value.
        if value != "?1" {
            data.push('=');
            data.push_str(value);
        }
    }
    let mut info = format!("v={}, id=:{id}:, new=?{}", session.version(), u8::from(is_new));
    if let (Some(user), Some(since)) = (session.user(), session.authenticated_ms()) {
        info.push_str(", sub=\"");
        for character in user.chars() {
            if matches!(character, '"' | '\\') {
                info.push('\\');
            }
            info.push(character);
        }
        info.push_str(&format!("\", auth=@{}", since / 1_000));
    }
    if more {
        info.push_str(", more");
    }
    (info, (!data.is_empty()).then_some(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_application_says() {
        let set = b"theme=\"dark\", n=3, flag, draft=:aGk=:;ttl=600, at=@1763650000, f=1.5".as_slice();
        let control = b"rotate, sub=\"user:42\", if-v=7, on-conflict=reject".as_slice();
        let wish = Wish::parse(Some(set), Some(b"a, b"), Some(control)).unwrap();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let set: Vec<_> =
            wish.set.iter().map(|(name, value, ttl)| (name.as_str(), text(value), *ttl)).collect();
        let expected = [
            ("theme", "\"dark\"".to_owned(), None),
            ("n", "3".to_owned(), None),
            ("flag", "?1".to_owned(), None),
            ("draft", ":aGk=:".to_owned(), Some(600)),
            ("at", "@1763650000".to_owned(), None),
            ("f", "1.5".to_owned(), None),
        ];
        assert_eq!(set, expected);
        assert_eq!(
            (&wish.unset[..], wish.user.as_deref()),
            (&["a".to_owned(), "b".to_owned()][..], Some("user:42"))
        );
        assert!(wish.rotate && wish.reject && wish.if_version == Some(7) && !wish.destroy);
    }

    #[test]
    fn a_text_is_told_apart_from_what_reads_like_one() {
        let text = |text: &str| Some(Plain::Text(text.to_owned()));
        let item = |text: &str| Some(Plain::Item(text.to_owned()));
        #[rustfmt::skip]
        let cases = [
            ("\"1\"",       text("1")),
            ("1",           item("1")),
            ("\"?1\"",      text("?1")),
            ("?1",          item("?1")),
            ("\"gold\"",    text("gold")),
            ("gold",        item("gold")),
            ("\"\\\"\"",     text("\"")),
            ("\"1\";a",     item("\"1\";a")),
            ("(1",          None),
        ];
        for (value, expected) in cases {
            assert_eq!(plain(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        #[rustfmt::skip]
        let cases: [[Option<&[u8]>; 3]; 10] = [
            [Some(b"a=("), None, None],
            [Some(b"a=(1 2)"), None, None],
            [Some(b"a=1;ttl=-1"), None, None],
            [Some(b"a=1;until=1"), None, None],
            [Some(b"A=1"), None, None],
            [None, Some(b"\"a\""), None],
            [None, Some(b"Upper"), None],
            [None, None, Some(b"rotate=1")],
            [None, None, Some(b"on-conflict=maybe")],
            [None, None, Some(b"destory")],
        ];
        for [set, unset, control] in cases {
            assert!(Wish::parse(set, unset, control).is_err(), "{set:?} {unset:?} {control:?}");
        }
        let long = format!("a=\"{}\"", "x".repeat(VALUE_MAX));
        assert_eq!(Wish::parse(Some(long.as_bytes()), None, None), Err(WishError::TooLarge));
        let many: Vec<String> = (0..65).map(|n| format!("a{n}=1")).collect();
        assert_eq!(Wish::parse(Some(many.join(",").as_bytes()), None, None), Err(WishError::TooLarge));
    }

    #[test]
    fn what_an_application_is_told() {
        let set = b"theme=\"dark\", flag, short=1;ttl=5".as_slice();
        let wish = Wish::parse(Some(set), None, Some(b"sub=\"a \\\"b\\\"\"")).unwrap();
        let now = 1_763_650_000_500;
        let mut session = Session { created_ms: now, ends_ms: now + 1, seen_ms: now, ..Session::default() };
        session.merge(&wish.change(&session, now << 8, now));
        let (info, data) = tell(&session, "aWQ=", true, now);
        let version = now << 8;
        assert_eq!(info, format!("v={version}, id=:aWQ=:, new=?1, sub=\"a \\\"b\\\"\", auth=@1763650000"));
        assert_eq!(data.as_deref(), Some("flag, short=1, theme=\"dark\""));
        assert_eq!(tell(&session, "aWQ=", false, now + 5_000).1.as_deref(), Some("flag, theme=\"dark\""));
        // What is told is what RFC 9651 reads.
        assert!(Parser::new(&info).parse::<Dictionary>().is_ok());
        assert!(Parser::new(&data.unwrap()).parse::<Dictionary>().is_ok());
    }
}
