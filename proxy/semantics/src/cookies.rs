//! The cookies of a request: those that the route declares go into the key and to the origin, the others are not forwarded on a fill.

use http::{HeaderMap, header};

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

    /// Splits the cookies of a request. `forwarded` receives the value of the `Cookie` field to forward on a fill: the declared cookies as they stand, in
    /// their order; empty: none. Without `Cookie` this is one failed look-up.
    ///
    /// A route that declares nothing forwards all cookies as they are (`forwarded` stays empty and is not to be used), and all of them are undeclared.
    pub fn filter(&self, request: &HeaderMap, forwarded: &mut Vec<u8>) -> Cookies {
        forwarded.clear();
        let mut found = Cookies::default();
        for pair in pairs(request) {
            found.any = true;
            if !self.declares_any {
                found.undeclared = true;
                return found;
            }
            if !self.declares(name_of(pair)) {
                found.removed = true;
                continue;
            }
            if !forwarded.is_empty() {
                forwarded.extend_from_slice(b"; ");
            }
            forwarded.extend_from_slice(pair);
        }
        found
    }

    /// The `Cookie` value that is left of a request's cookies when only those pass that all of the rules declare; empty: none does.
    pub fn common<'r>(
        rules: impl Iterator<Item = &'r CookieRule> + Clone,
        request: &HeaderMap,
        forwarded: &mut Vec<u8>,
    ) {
        forwarded.clear();
        for pair in pairs(request) {
            if rules.clone().all(|rule| rule.declares(name_of(pair))) {
                if !forwarded.is_empty() {
                    forwarded.extend_from_slice(b"; ");
                }
                forwarded.extend_from_slice(pair);
            }
        }
    }

    fn declares(&self, name: &[u8]) -> bool {
        self.declared.iter().any(|declared| declared.as_bytes() == name)
    }

    /// The values of the declared cookies of a request, for the key: for each declared name, in the order of declaration, every cookie of that name.
    pub fn visit_declared(&self, request: &HeaderMap, mut visit: impl FnMut(&str, &[u8])) {
        for name in &self.declared {
            for pair in pairs(request).filter(|pair| name_of(pair) == name.as_bytes()) {
                visit(name, pair);
            }
        }
    }
}

/// What [`CookieRule::filter`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// The request carries cookies.
    pub any: bool,
    /// The origin sees cookies that the route does not declare, so that its answer may be personal: for
    /// [`crate::storable::RequestFacts::of`]. Only where the route declares none; else they are removed.
    pub undeclared: bool,
    /// Some cookies are left out of what is forwarded.
    pub removed: bool,
}

/// The `name=value` pairs of all `Cookie` lines, without the spaces around them (RFC 6265 §4.2.1). A pair without `=` is a cookie without a name or
/// without a value, whichever the origin takes it for; it counts as one of that name.
fn pairs(request: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    request
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

fn name_of(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    pair[..end].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    #[test]
    fn section_7_3_declared_and_other_cookies() {
        let declared = CookieRule::declaring(["tenant", "lang"]);
        let nothing = CookieRule::default();
        #[rustfmt::skip]
        let cases = [
            // what                                 rule        request                                              forwarded                 any    undeclared  removed
            ("no cookies",                          &declared,  "",                                                  "",                       false, false,      false),
            ("an empty field",                      &declared,  "cookie: ; ",                                        "",                       false, false,      false),
            ("declared ones stay as they are",      &declared,  "cookie: lang=de; tenant=\"a b\"",                   "lang=de; tenant=\"a b\"", true, false,      false),
            ("others are left out",                 &declared,  "cookie: id=7; tenant=1; csrf=x",                    "tenant=1",               true,  false,      true),
            ("all of them are others",              &declared,  "cookie: id=7",                                      "",                       true,  false,      true),
            ("over lines",                          &declared,  "cookie: id=7 | cookie: tenant=1 | cookie: lang=de", "tenant=1; lang=de",      true,  false,      true),
            ("the same name twice",                 &declared,  "cookie: tenant=1; tenant=2",                        "tenant=1; tenant=2",     true,  false,      false),
            ("case counts",                         &declared,  "cookie: Tenant=1",                                  "",                       true,  false,      true),
            ("a name within a name",                &declared,  "cookie: xtenant=1; tenantx=2",                      "",                       true,  false,      true),
            ("without a value",                     &declared,  "cookie: tenant",                                    "tenant",                 true,  false,      false),
            ("without a space",                     &declared,  "cookie: tenant=1;lang=de",                          "tenant=1; lang=de",      true,  false,      false),
            ("no name",                             &declared,  "cookie: =tenant",                                   "",                       true,  false,      true),
            ("a route that declares none",          &nothing,   "cookie: id=7",                                      "",                       true,  true,       false),
            ("and no cookies",                      &nothing,   "",                                                  "",                       false, false,      false),
        ];
        for (what, rule, request, forwarded, any, undeclared, removed) in cases {
            let mut out = b"left over".to_vec();
            let found = rule.filter(&headers(request), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), forwarded, "{what}");
            assert_eq!(found, Cookies { any, undeclared, removed }, "{what}");
        }
    }

    proptest! {
        #[test]
        fn only_declared_cookies_are_forwarded(value in "[a-c=; ]{0,30}") {
            let rule = CookieRule::declaring(["a", "b"]);
            let mut out = Vec::new();
            let found = rule.filter(&headers(&format!("cookie: {value}")), &mut out);
            let forwarded = String::from_utf8(out).unwrap();
            let again = headers(&format!("cookie: {forwarded}"));
            let mut twice = Vec::new();
            let second = rule.filter(&again, &mut twice);
            prop_assert_eq!(forwarded.as_bytes(), &twice[..]);
            prop_assert!(!second.removed && !found.undeclared);
        }
    }
}
