//! The cookies of a request: those that the route declares go into the key and to the origin, the others are not forwarded on a fill.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

/// The cookies that a route declares: those that its responses may depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieRule {
    declared: Vec<Box<str>>,
    declares_any: bool,
}

impl CookieRule {
    /// A route that declares these cookies by name; case counts (RFC 6265 §5.4 compares names exactly).
    pub fn declaring<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> CookieRule {
        let declared: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        CookieRule { declares_any: !declared.is_empty(), declared }
    }

    /// Whether it declares any, so that the others are removed from what a fill forwards.
    #[must_use]
    pub fn declares_any(&self) -> bool {
        self.declares_any
    }

    /// The declared names, in the order in which they enter the key.
    pub fn declared(&self) -> impl Iterator<Item = &str> {
        self.declared.iter().map(|name| &**name)
    }

    fn declares(&self, name: &[u8]) -> bool {
        self.declared.iter().any(|declared| declared.as_bytes() == name)
    }

    /// The values of the declared cookies of a request, for the key: for each declared name, in the order of declaration, every cookie of that name.
    pub fn visit_declared(&self, request: &HeaderMap, mut visit: impl FnMut(&str, &[u8])) {
        for name in &self.declared {
            for pair in pairs(request).filter(|pair| pair.name == name.as_bytes()) {
                visit(name, pair.text);
            }
        }
    }
}

/// Which cookies of a request are forwarded: those that all of these rules declare. Without any rule all are.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// What plugins let pass.
    pub rules: &'a [Arc<CookieRule>],
    /// What the route declares; `None`: it does not say.
    pub route: Option<&'a CookieRule>,
}

impl<'a> Passing<'a> {
    /// These of a request's cookies, as they stand and in their order.
    pub fn of(self, request: &'a HeaderMap) -> impl Iterator<Item = Pair<'a>> {
        pairs(request).filter(move |pair| {
            self.rules.iter().all(|rule| rule.declares(pair.name))
                && self.route.is_none_or(|rule| rule.declares(pair.name))
        })
    }

    /// Puts the value of the `Cookie` field to forward into `forwarded`; empty: there is none.
    pub fn write(self, request: &'a HeaderMap, forwarded: &mut Vec<u8>) {
        forwarded.clear();
        for pair in self.of(request) {
            if !forwarded.is_empty() {
                forwarded.extend_from_slice(b"; ");
            }
            forwarded.extend_from_slice(pair.text);
        }
    }
}

/// A cookie as a request carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'r> {
    /// All of it, without the spaces around it.
    pub text: &'r [u8],
    /// What stands before the first `=`.
    pub name: &'r [u8],
    /// What stands behind it.
    pub value: &'r [u8],
}

/// The `name=value` pairs of all `Cookie` lines (RFC 6265 §4.2.1). A pair without `=` is a cookie without a name or without a value, whichever the
/// origin takes it for; it counts as one of that name.
pub fn pairs(request: &HeaderMap) -> impl Iterator<Item = Pair<'_>> {
    Pairs { lines: request.get_all(header::COOKIE).into_iter(), rest: &[] }
}

/// The values of all cookies that stand as `name=value` with exactly this name, in their order.
pub fn values<'r>(request: &'r HeaderMap, name: &'r str) -> impl Iterator<Item = &'r [u8]> {
    pairs(request).filter_map(|pair| pair.text.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

struct Pairs<'r> {
    lines: header::ValueIter<'r, HeaderValue>,
    rest: &'r [u8],
}

impl<'r> Iterator for Pairs<'r> {
    type Item = Pair<'r>;

    fn next(&mut self) -> Option<Pair<'r>> {
        loop {
            while self.rest.is_empty() {
                self.rest = self.lines.next()?.as_bytes();
            }
            let (one, rest) = split(self.rest, b';');
            self.rest = rest;
            let text = one.trim_ascii();
            if !text.is_empty() {
                let (name, value) = split(text, b'=');
                return Some(Pair { text, name: name.trim_ascii_end(), value });
            }
        }
    }
}

/// What stands before the first such byte, and what behind it.
fn split(bytes: &[u8], at: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(at, bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn forwarded(rules: &[&[&str]], route: Option<&[&str]>, request: &str) -> String {
        let declaring = |names: &[&str]| CookieRule::declaring(names.iter().copied());
        let rules: Vec<_> = rules.iter().map(|names| Arc::new(declaring(names))).collect();
        let route = route.map(declaring);
        let mut out = b"left over".to_vec();
        Passing { rules: &rules, route: route.as_ref() }.write(&headers(request), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn section_7_3_declared_and_other_cookies() {
        let declared: Option<&[&str]> = Some(&["tenant", "lang"]);
        let nothing: Option<&[&str]> = Some(&[]);
        #[rustfmt::skip]
        let cases = [
            // what                                 route     request                                              forwarded
            ("no cookies",                          declared, "",                                                  ""),
            ("an empty field",                      declared, "cookie: ; ",                                        ""),
            ("declared ones stay as they are",      declared, "cookie: lang=de; tenant=\"a b\"",                   "lang=de; tenant=\"a b\""),
            ("others are left out",                 declared, "cookie: id=7; tenant=1; csrf=x",                    "tenant=1"),
            ("all of them are others",              declared, "cookie: id=7",                                      ""),
            ("over lines",                          declared, "cookie: id=7 | cookie: tenant=1 | cookie: lang=de", "tenant=1; lang=de"),
            ("the same name twice",                 declared, "cookie: tenant=1; tenant=2",                        "tenant=1; tenant=2"),
            ("case counts",                         declared, "cookie: Tenant=1",                                  ""),
            ("a name within a name",                declared, "cookie: xtenant=1; tenantx=2",                      ""),
            ("without a value",                     declared, "cookie: tenant",                                    "tenant"),
            ("without a space",                     declared, "cookie: tenant=1;lang=de",                          "tenant=1; lang=de"),
            ("no name",                             declared, "cookie: =tenant",                                   ""),
            ("a route that lets none pass",         nothing,  "cookie: id=7",                                      ""),
            ("a route that does not say",           None,     "cookie: id=7;tenant=1",                             "id=7; tenant=1"),
        ];
        for (what, route, request, expected) in cases {
            assert_eq!(forwarded(&[], route, request), expected, "{what}");
        }
    }

    #[test]
    fn what_passes_is_what_all_let_pass() {
        let request = "cookie: a=1; b=2; c=3; d=4";
        assert_eq!(forwarded(&[&["a", "b", "c"]], None, request), "a=1; b=2; c=3");
        assert_eq!(forwarded(&[&["a", "b", "c"], &["c", "b"]], None, request), "b=2; c=3");
        assert_eq!(forwarded(&[&["a", "b", "c"], &["c", "b"]], Some(&["b", "d"]), request), "b=2");
        assert_eq!(forwarded(&[&["a"], &["b"]], None, request), "");
    }

    proptest! {
        #[test]
        fn only_declared_cookies_are_forwarded(value in "[a-c=; ]{0,30}") {
            let once = forwarded(&[], Some(&["a", "b"]), &format!("cookie: {value}"));
            prop_assert_eq!(&once, &forwarded(&[], Some(&["a", "b"]), &format!("cookie: {once}")));
            let names = |text: &str| pairs(&headers(&format!("cookie: {text}"))).map(|pair| pair.name.to_vec()).collect::<Vec<_>>();
            let declared = |name: &Vec<u8>| name == b"a" || name == b"b";
            prop_assert_eq!(names(&once), names(&value).into_iter().filter(declared).collect::<Vec<_>>());
        }
    }
}
