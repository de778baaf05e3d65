//! The query of a request: parameters that a route ignores, their order, and `No-Vary-Search`
//! (draft-ietf-httpbis-no-vary-search).
//!
//! What is left out of the key is left out of what is forwarded: [`QueryRule::filter`] gives the one text that serves as both.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry};

use crate::cache_control::parse_dictionary;
use crate::glob::Globs;

/// What a route says about queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRule {
    /// Parameters with these names are removed.
    pub ignore: Globs,
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
        if self.ignore.any_matches(name) {
            return true;
        }
        let decoded = form_decode(name.as_bytes());
        match &decoded {
            Cow::Borrowed(_) => false,
            Cow::Owned(decoded) => std::str::from_utf8(decoded).is_ok() && self.ignore.any_matches(decoded),
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

/// More parameters than this are not told apart; then every difference matters.
const NAMES_MAX: usize = 128;

fn names(entry: &ListEntry) -> Option<Vec<Box<[u8]>>> {
    let ListEntry::InnerList(list) = entry else {
        return None;
    };
    if list.items.len() > NAMES_MAX {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn rule(ignore: &[&str], sort: bool) -> QueryRule {
        QueryRule { ignore: ignore.iter().copied().collect(), sort }
    }

    #[test]
    fn what_is_forwarded_and_keyed() {
        let none = rule(&[], false);
        let utm = rule(&["utm_*", "gclid"], false);
        let both = rule(&["utm_*"], true);
        #[rustfmt::skip]
        let cases = [
            // what                                      rule    query                                 forwarded
            ("nothing to do",                            &none,  Some("b=2&a=1"),                      Some("b=2&a=1")),
            ("no query",                                 &utm,   None,                                 None),
            ("an empty query stays",                     &utm,   Some(""),                             Some("")),
            ("an ignored parameter",                     &utm,   Some("a=1&utm_source=x&b=2"),         Some("a=1&b=2")),
            ("without a value",                          &utm,   Some("a=1&gclid"),                    Some("a=1")),
            ("a name that begins alike",                 &utm,   Some("gclid2=1"),                     Some("gclid2=1")),
            ("all of them",                              &utm,   Some("utm_a=1&gclid=2"),              None),
            ("written otherwise",                        &utm,   Some("utm%5Fsource=x&%67clid=1&a"),   Some("a")),
            ("the rest stays as it is written",          &utm,   Some("a=%41+b&&utm_a=1&=&;"),         Some("a=%41+b&&=&;")),
            ("a semicolon does not separate",            &utm,   Some("a=1;utm_a=1"),                  Some("a=1;utm_a=1")),
            ("sorted by name",                           &both,  Some("b=2&a=1"),                      Some("a=1&b=2")),
            ("the same name keeps its order",            &both,  Some("b=2&a=9&b=1&a=1"),              Some("a=9&a=1&b=2&b=1")),
            ("sorted already",                           &both,  Some("a=1&b=2"),                      Some("a=1&b=2")),
            ("removed and sorted",                       &both,  Some("b=2&utm_x=1&a=1"),              Some("a=1&b=2")),
        ];
        for (what, rule, query, expected) in cases {
            let mut scratch = String::from("left over");
            assert_eq!(rule.filter(query, &mut scratch), expected, "{what}");
        }
    }

    #[test]
    fn no_vary_search_reading() {
        let of = |value: &str| NoVarySearch::of(&headers(&format!("no-vary-search: {value}")));
        for default in [
            "",
            "key-order=?0",
            "params=?0",
            "params=()",
            "key-order=1",
            "params=1",
            "params=\"a\"",
            "params=(a)",
            "except=(\"a\")",
            "params=?0, except=(\"a\")",
            "params=(\"a\"), except=(\"b\")",
            "params, except=\"a\"",
            "params, unknown",
            "params,,",
        ] {
            assert!(of(default).is_default(), "{default}");
        }
        for other in ["key-order", "params", "params=(\"a\")", "params, except=()", "params, except=(\"a\")"]
        {
            assert!(!of(other).is_default(), "{other}");
        }
        assert!(NoVarySearch::of(&headers("")).is_default());
        let names = |count| (0..count).map(|at| format!("\"p{at}\" ")).collect::<String>();
        assert!(!of(&format!("params=({})", names(128))).is_default());
        assert!(of(&format!("params=({})", names(129))).is_default());
    }

    #[test]
    fn no_vary_search_equivalence() {
        #[rustfmt::skip]
        let cases = [
            // what                                     field                          a                    b                     equivalent
            ("nothing said, the same",                  "",                            Some("a=1"),         Some("a=1"),          true),
            ("nothing said, written otherwise",         "",                            Some("a=1"),         Some("a=%31"),        false),
            ("nothing said, empty and none",            "",                            Some(""),            None,                 false),
            ("order",                                   "key-order",                   Some("a=1&b=2"),     Some("b=2&a=1"),      true),
            ("order of the same name counts",           "key-order",                   Some("a=1&a=2"),     Some("a=2&a=1"),      false),
            ("another value",                           "key-order",                   Some("a=1&b=2"),     Some("b=2&a=3"),      false),
            ("no parameter counts",                     "params",                      Some("a=1"),         None,                 true),
            ("a parameter that does not count",         "params=(\"a\")",              Some("a=1&b=2"),     Some("b=2"),          true),
            ("another does",                            "params=(\"a\")",              Some("b=2"),         Some("b=3"),          false),
            ("order does",                              "params=(\"a\")",              Some("b=2&c=3"),     Some("c=3&b=2"),      false),
            ("both",                                    "key-order, params=(\"a\")",   Some("a=1&b=2&c=3"), Some("c=3&b=2"),      true),
            ("only one counts",                         "params, except=(\"id\")",     Some("id=1&x=2"),    Some("y=3&id=1"),     true),
            ("and it differs",                          "params, except=(\"id\")",     Some("id=1"),        Some("id=2"),         false),
            ("names are decoded",                       "params=(\"a b\")",            Some("a+b=1"),       Some("a%20b=2"),      true),
            ("in the field too",                        "params=(\"a%20b\")",          Some("a+b=1"),       None,                 true),
            ("values are decoded",                      "key-order",                   Some("a=%41"),       Some("a=A"),          true),
            ("name and value do not run together",      "key-order",                   Some("ab=c"),        Some("a=bc"),         false),
            ("nor do pairs",                            "key-order",                   Some("a=1&b=2"),     Some("a=1%26b=2"),    false),
            ("no value is an empty one",                "key-order",                   Some("a"),           Some("a="),           true),
        ];
        for (what, field, a, b, expected) in cases {
            let rule = NoVarySearch::of(&headers(&format!("no-vary-search: {field}")));
            assert_eq!(rule.is_equivalent(a, b), expected, "{what}");
            assert_eq!(rule.is_equivalent(b, a), expected, "{what}, the other way round");
        }
    }

    proptest! {
        #[test]
        fn filtering_twice_changes_nothing_more(query in "[a-c%&=_0-9]{0,24}", sort in any::<bool>()) {
            let rule = rule(&["a*", "b"], sort);
            let (mut first, mut second) = (String::new(), String::new());
            let once = rule.filter(Some(&query), &mut first).map(str::to_owned);
            let twice = rule.filter(once.as_deref(), &mut second).map(str::to_owned);
            prop_assert_eq!(&once, &twice);
            prop_assert!(!once.unwrap_or_default().split('&').any(|parameter| rule.ignores(parameter)));
        }

        #[test]
        fn what_is_the_same_in_canonical_form_is_equivalent(
            a in "[ab=&%2+]{0,16}", b in "[ab=&%2+]{0,16}",
            field in prop_oneof![Just(""), Just("key-order"), Just("params"), Just("params=(\"a\")"), Just("params, except=(\"a\")")],
        ) {
            let rule = NoVarySearch::of(&headers(&format!("no-vary-search: {field}")));
            let (mut mine, mut theirs) = (Vec::new(), Vec::new());
            rule.canonical(Some(&a), &mut mine);
            rule.canonical(Some(&b), &mut theirs);
            prop_assert_eq!(mine == theirs, rule.is_equivalent(Some(&a), Some(&b)));
        }
    }
}
