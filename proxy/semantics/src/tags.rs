//! Surrogate tags: names that group responses for a purge.
//!
//! Read from `Surrogate-Key` and `xkey` (separated by spaces), `Cache-Tag` (by commas) and `Cache-Groups` (RFC 9875, structured
//! strings); made from the route by templates such as `post:{id}`.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

/// Fields that carry tags. They are for us and for caches behind us; whether clients see them is the route's to say.
pub const TAG_FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("cache-groups"),
];
/// Groups that an unsafe request's response makes stale (RFC 9875 §3).
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The tag by which a group of one origin is known: those of others may have the same name (RFC 9875 §2).
#[must_use]
pub fn group_tag(scheme: &str, authority: &str, group: &str) -> String {
    format!("{scheme}://{authority} {group}")
}

/// How many tags a response may have, and how long each may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagLimits {
    /// Further tags are dropped; [`Tags::dropped`] counts them. RFC 9875 §2 asks for at least 32.
    pub count: usize,
    /// Longer tags are dropped.
    pub bytes: usize,
}

impl Default for TagLimits {
    fn default() -> TagLimits {
        TagLimits { count: 128, bytes: 256 }
    }
}

/// The tags of a response, each once, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The tags.
    pub names: Vec<Box<str>>,
    /// How many were dropped because of a limit, or because they are not text: a purge by them would not find this response.
    pub dropped: usize,
}

impl Tags {
    /// Reads the tags of a response.
    #[must_use]
    pub fn of_response(headers: &HeaderMap, limits: TagLimits) -> Tags {
        let mut tags = Tags::default();
        tags.add_response(headers, limits);
        tags
    }

    /// Adds the tags of a response to those of its route.
    pub fn add_response(&mut self, headers: &HeaderMap, limits: TagLimits) {
        for name in TAG_FIELDS {
            let commas = name == TAG_FIELDS[2];
            if name == TAG_FIELDS[3] {
                self.add_structured(headers, &name, limits);
                continue;
            }
            for line in headers.get_all(name) {
                let separator = |byte: &u8| if commas { *byte == b',' } else { matches!(byte, b' ' | b'\t') };
                for tag in line.as_bytes().split(separator) {
                    self.add(std::str::from_utf8(tag.trim_ascii()).ok(), limits);
                }
            }
        }
    }

    /// The groups of a response (RFC 9875 §2), which are those of its origin alone.
    #[must_use]
    pub fn groups_of(headers: &HeaderMap, limits: TagLimits) -> Tags {
        let mut tags = Tags::default();
        tags.add_structured(headers, &TAG_FIELDS[3], limits);
        tags
    }

    /// The groups that a response to an unsafe request makes stale (RFC 9875 §3). A field that is not a list of strings is ignored.
    #[must_use]
    pub fn invalidated_by(headers: &HeaderMap, limits: TagLimits) -> Tags {
        let mut tags = Tags::default();
        tags.add_structured(headers, &CACHE_GROUP_INVALIDATION, limits);
        tags
    }

    /// Adds a tag unless it is there already or a limit forbids it; empty ones are no tags.
    pub fn add(&mut self, tag: Option<&str>, limits: TagLimits) {
        match tag {
            Some("") => {}
            Some(tag) if self.names.iter().any(|present| **present == *tag) => {}
            Some(tag) if tag.len() <= limits.bytes && self.names.len() < limits.count => {
                self.names.push(tag.into());
            }
            _ => self.dropped += 1,
        }
    }

    fn add_structured(&mut self, headers: &HeaderMap, name: &HeaderName, limits: TagLimits) {
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
        if lines.is_empty() {
            return;
        }
        let Ok(list) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else {
            return;
        };
        for entry in &list {
            if let ListEntry::Item(item) = entry
                && let BareItem::String(tag) = &item.bare_item
            {
                self.add(Some(tag.as_str()), limits);
            }
        }
    }
}

/// A tag with parameters of the route in it, such as `post:{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate {
    source: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Parameter(Box<str>),
}

/// The text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace is opened and not closed, or closed and not opened.
    #[error("unbalanced brace at byte {0}")]
    Unbalanced(usize),
    /// Between the braces stands something other than a name.
    #[error("`{{…}}` at byte {0} does not hold a name of letters, digits, `_` and `-`")]
    BadName(usize),
    /// There is nothing in it.
    #[error("a tag cannot be empty")]
    Empty,
}

impl TagTemplate {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(&**name),
            Piece::Text(_) => None,
        })
    }

    /// The tag with the values of its parameters. `None`: a parameter has no value, so there is no such tag.
    pub fn render<'v>(&self, mut value: impl FnMut(&str) -> Option<&'v str>) -> Option<String> {
        let mut tag = String::with_capacity(self.source.len() + 16);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => tag.push_str(text),
                Piece::Parameter(name) => tag.push_str(value(name)?),
            }
        }
        Some(tag)
    }
}

impl FromStr for TagTemplate {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<TagTemplate, TemplateError> {
        if source.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut pieces = Vec::new();
        let mut rest = source;
        while !rest.is_empty() {
            let at = source.len() - rest.len();
            let Some(brace) = rest.find(['{', '}']) else {
                pieces.push(Piece::Text(rest.into()));
                break;
            };
            if brace > 0 {
                pieces.push(Piece::Text(rest[..brace].into()));
            }
            let opened = rest[brace..].strip_prefix('{').ok_or(TemplateError::Unbalanced(at + brace))?;
            let end = opened.find('}').ok_or(TemplateError::Unbalanced(at + brace))?;
            let name = &opened[..end];
            let is_name = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            if !is_name {
                return Err(TemplateError::BadName(at + brace));
            }
            pieces.push(Piece::Parameter(name.into()));
            rest = &opened[end + 1..];
        }
        Ok(TagTemplate { source: source.into(), pieces })
    }
}

impl fmt::Display for TagTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn names(tags: &Tags) -> Vec<&str> {
        tags.names.iter().map(|name| &**name).collect()
    }

    #[test]
    fn tags_of_a_response() {
        #[rustfmt::skip]
        let cases: [(&str, &str, &[&str]); 9] = [
            // what                                   response                                                       tags
            ("none",                                  "",                                                            &[]),
            ("Surrogate-Key, by spaces",              "surrogate-key: a  b,c\td ",                                   &["a", "b,c", "d"]),
            ("xkey, by spaces",                       "xkey: a b | xkey: c",                                         &["a", "b", "c"]),
            ("Cache-Tag, by commas",                  "cache-tag: a b, c ,,d",                                       &["a b", "c", "d"]),
            ("Cache-Groups, structured",              "cache-groups: \"a b\", \"c\";x=1 | cache-groups: \"d\"",      &["a b", "c", "d"]),
            ("what is no string there is passed over", "cache-groups: \"a\", b, (\"c\"), 4",                         &["a"]),
            ("what does not parse is ignored",        "cache-groups: \"a\", \"",                                     &[]),
            ("each once over all",                    "surrogate-key: a b | cache-tag: b,c | cache-groups: \"a\"",   &["a", "b", "c"]),
            ("case counts",                           "surrogate-key: a A",                                          &["a", "A"]),
        ];
        for (what, response, expected) in cases {
            let tags = Tags::of_response(&headers(response), TagLimits::default());
            assert_eq!((names(&tags), tags.dropped), (expected.to_vec(), 0), "{what}");
        }
    }

    #[test]
    fn limits_are_kept_and_told() {
        let limits = TagLimits { count: 2, bytes: 3 };
        let tags = Tags::of_response(&headers("surrogate-key: a long b a c"), limits);
        assert_eq!((names(&tags), tags.dropped), (vec!["a", "b"], 2));
        let mut response = HeaderMap::new();
        response.insert("cache-tag", http::HeaderValue::from_bytes(b"a, \xff").unwrap());
        let tags = Tags::of_response(&response, TagLimits::default());
        assert_eq!((names(&tags), tags.dropped), (vec!["a"], 1));
    }

    #[test]
    fn rfc_9875_section_3_invalidation() {
        let tags = Tags::invalidated_by(
            &headers("cache-group-invalidation: \"a\", \"b\" | cache-groups: \"c\""),
            TagLimits::default(),
        );
        assert_eq!(names(&tags), ["a", "b"]);
    }

    #[test]
    fn templates() {
        let render = |source: &str| {
            let template: TagTemplate = source.parse().unwrap();
            assert_eq!(template.to_string(), source);
            template.render(|name| match name {
                "id" => Some("7"),
                "kind-of_it" => Some("x"),
                _ => None,
            })
        };
        assert_eq!(render("posts").as_deref(), Some("posts"));
        assert_eq!(render("post:{id}").as_deref(), Some("post:7"));
        assert_eq!(render("{id}{kind-of_it}.").as_deref(), Some("7x."));
        assert_eq!(render("post:{other}"), None);
        let template: TagTemplate = "{a}:{b}".parse().unwrap();
        assert_eq!(template.parameters().collect::<Vec<_>>(), ["a", "b"]);
        for (source, message) in [
            ("", "a tag cannot be empty"),
            ("post:{id", "unbalanced brace at byte 5"),
            ("post:id}", "unbalanced brace at byte 7"),
            ("post:{}", "`{…}` at byte 5 does not hold a name of letters, digits, `_` and `-`"),
            ("{id}{a b}", "`{…}` at byte 4 does not hold a name of letters, digits, `_` and `-`"),
        ] {
            assert_eq!(source.parse::<TagTemplate>().unwrap_err().to_string(), message, "{source}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_keeps_its_limits(line in proptest::collection::vec(any::<u8>(), 0..100), count in 0_usize..4) {
            if let Ok(value) = http::HeaderValue::from_bytes(&line) {
                let response: HeaderMap = TAG_FIELDS.into_iter().map(|name| (name, value.clone())).collect();
                let tags = Tags::of_response(&response, TagLimits { count, bytes: 5 });
                prop_assert!(tags.names.len() <= count && tags.names.iter().all(|name| name.len() <= 5));
            }
        }

        #[test]
        fn templates_never_panic(source in "[a-z{}:]{0,12}") {
            if let Ok(template) = source.parse::<TagTemplate>() {
                prop_assert!(template.render(|_| Some("v")).is_some());
            }
        }
    }
}
