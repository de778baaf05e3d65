//! The query of a request: parameters that a route ignores, their order, and `No-Vary-Search`
//! (draft-ietf-httpbis-no-vary-search).
//!
//! What is left out of the key is left out of what is forwarded: [`QueryRule::filter`] gives the one text that serves as both.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry};

use crate::cache_control::parse_dictionary;
use crate::glob::Glob;

/// What a route says about queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRule {
    /// Parameters with these names are removed.
    pub ignore: Vec<Glob>,
    /// Parameters are sorted by name; those of the same name keep their order.
    pub sort: bool,
}

impl QueryRule {
    /// The query to forward and to put into the key. `scratch` is used where it differs from what was received; else nothing is copied.
    ///
    /// Removal is by the name as it stands and by its decoded form: `utm%5fsource` is `utm_source` to the origin, so it is removed too.
    /// A query of which nothing is left is removed whole.
    pub fn filter<'a>(&self, query: Option<&'a str>, scratch: &'a mut String) -> Option<&'a str> {
        let query = query?;
        let ignored = |parameter: &str| self.ignores(parameter);
        let sorted = || !self.sort || query.split('&').map(name_of).is_sorted();
        let removes = !self.ignore.is_empty() && query.split('&').any(ignored);
        if !removes && sorted() {
            return Some(query);
        }
        scratch.clear();
        let kept = query.split('&').filter(|parameter| !removes || !ignored(parameter));
        if self.sort {
            let mut kept: Vec<&str> = kept.collect();
            kept.sort_by(|a, b| name_of(a).cmp(name_of(b)));
            push_joined(scratch, kept);
        } else {
            push_joined(scratch, kept);
        }
        (!scratch.is_empty()).then_some(scratch.as_str())
    }

    fn ignores(&self, parameter: &str) -> bool {
        let name = name_of(parameter);
        if self.ignore.iter().any(|glob| glob.matches(name)) {
            return true;
        }
        let decoded = form_decode(name.as_bytes());
        match &decoded {
            Cow::Borrowed(_) => false,
            Cow::Owned(decoded) => std::str::from_utf8(decoded)
                .is_ok_and(|decoded| self.ignore.iter().any(|glob| glob.matches(decoded))),
        }
    }
}

fn name_of(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

fn push_joined<'a>(out: &mut String, parameters: impl IntoIterator<Item = &'a str>) {
    let mut first = true;
    for parameter in parameters {
        if !std::mem::take(&mut first) {
            out.push('&');
        }
        out.push_str(parameter);
    }
}

/// The name of the field.
pub const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// Which differences between queries do not matter to a response.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NoVarySearch {
    ignore_order: bool,
    params: Params,
}

/// Which parameters matter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Params {
    /// All but these.
    AllExcept(Vec<Box<[u8]>>),
    /// None but these.
    Only(Vec<Box<[u8]>>),
}

impl Default for Params {
    fn default() -> Params {
        Params::AllExcept(Vec::new())
    }
}

impl NoVarySearch {
    /// Reads the field of a response. Absent, not a dictionary, with other keys than `key-order`, `params`, `except`, or with values of other types: every
    /// difference matters.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> NoVarySearch {
        NoVarySearch::parse(headers).unwrap_or_default()
    }

    fn parse(headers: &HeaderMap) -> Option<NoVarySearch> {
        if !headers.contains_key(NO_VARY_SEARCH) {
            return None;
        }
        let mut ignore_order = false;
        let mut params: Option<Params> = None;
        let mut except: Option<Vec<Box<[u8]>>> = None;
        for (key, entry) in &parse_dictionary(headers, &NO_VARY_SEARCH)? {
            match (key.as_str(), entry) {
                ("key-order", ListEntry::Item(item)) => ignore_order = item.bare_item.as_boolean()?,
                ("params", ListEntry::Item(item)) => {
                    params = Some(match item.bare_item.as_boolean()? {
                        true => Params::Only(Vec::new()),
                        false => Params::default(),
                    });
                }
                ("params", entry) => params = Some(Params::AllExcept(names(entry)?)),
                ("except", entry) => except = Some(names(entry)?),
                _ => return None,
            }
        }
        let params = match (params, except) {
            (Some(Params::Only(_)), Some(except)) => Params::Only(except),
            // `except` has a meaning only beside `params`.
            (_, Some(_)) => return None,
            (params, None) => params.unwrap_or_default(),
        };
        Some(NoVarySearch { ignore_order, params })
    }

    /// Every difference between queries matters.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == NoVarySearch::default()
    }

    /// Whether two queries ask for the same as far as this response goes.
    #[must_use]
    pub fn is_equivalent(&self, a: Option<&str>, b: Option<&str>) -> bool {
        if a == b {
            return true;
        }
        if self.is_default() {
            return false;
        }
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        self.canonical(a, &mut mine);
        self.canonical(b, &mut theirs);
        mine == theirs
    }

    /// A form of `query` that is the same for all that are equivalent, appended to `out`; for a key beside the primary one. Length-prefixed, so that no two
    /// that are not equivalent have the same.
    pub fn canonical(&self, query: Option<&str>, out: &mut Vec<u8>) {
        if self.is_default() {
            if let Some(query) = query {
                out.push(1);
                out.extend_from_slice(query.as_bytes());
            }
            return;
        }
        let mut pairs: Vec<[Cow<'_, [u8]>; 2]> = query
            .unwrap_or_default()
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                [form_decode(name.as_bytes()), form_decode(value.as_bytes())]
            })
            .filter(|[name, _]| match &self.params {
                Params::AllExcept(names) => !names.iter().any(|ignored| **ignored == **name),
                Params::Only(names) => names.iter().any(|kept| **kept == **name),
            })
            .collect();
        if self.ignore_order {
            pairs.sort_by(|[a, _], [b, _]| a.cmp(b));
        }
        for text in pairs.iter().flatten() {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text);
        }
    }
}

fn names(entry: &ListEntry) -> Option<Vec<Box<[u8]>>> {
    let ListEntry::InnerList(list) = entry else {
        return None;
    };
    list.items
        .iter()
        .map(|item| match &item.bare_item {
            BareItem::String(name) => Some(form_decode(name.as_str().as_bytes()).into()),
            _ => None,
        })
        .collect()
}

/// Decodes a name or value of a form: `+` is a space, `%xx` a byte.
fn form_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}
