//! Keys that are made without a call: what a plugin's plan keeps of a request, as key and as what is forwarded.

use std::iter;
use std::sync::Arc;

use cache_semantics::cookies::{self, CookieRule};
use cache_semantics::glob::Globs;
use cache_semantics::query::QueryRule;
use http::HeaderName;

use crate::NAMES_MAX;
use crate::grants::{Grant, Grants};
use crate::request::{Input, Request, parameters};

/// The cookies to forward.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ForwardCookies {
    /// As the route has it.
    #[default]
    AsRouted,
    /// None.
    None,
    /// These.
    Only {
        /// Which.
        rule: Arc<CookieRule>,
        /// The plugin has looked at each of them, so that what of them matters is in the key.
        all_read: bool,
    },
}

/// A plan as a plugin says it: nothing of it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaidPlan {
    /// The path in lower case.
    pub lower_path: bool,
    /// Only these parameters; `None` keeps all. In both lists, `*` stands for any text.
    pub keep: Option<Vec<String>>,
    /// Not these, even where `keep` names them.
    pub drop: Vec<String>,
    /// Parameters in the order of their names.
    pub sort: bool,
    /// Fields in the key.
    pub headers: Vec<String>,
    /// Only these cookies are forwarded, and they are in the key; `None` leaves cookies to the route.
    pub cookies: Option<Vec<String>>,
    /// Attributes of the session in the key.
    pub session: Vec<String>,
}

/// A plan cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A list is too long.
    #[error("a list of its plan has more than {NAMES_MAX} names")]
    TooLong,
    /// A field cannot have this name.
    #[error("{0:?} is no name of a field")]
    Field(String),
    /// A cookie cannot have this name.
    #[error("{0:?} is no name of a cookie")]
    Cookie(String),
}

/// What names of cookies are: a token (RFC 9110 §5.6.2), and what applications use beside.
#[must_use]
pub fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && !b"=;,\"".contains(&byte))
}

/// A plan: what of a request belongs to the key, beside scheme, authority, method class, route and plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlan {
    /// The path is forwarded and keyed in lower case.
    pub lower_path: bool,
    /// Only parameters with these names; `None`: all.
    pub keep: Option<Globs>,
    /// What is removed, and whether what is left is sorted.
    pub query: QueryRule,
    /// Fields that are part of the key.
    pub headers: Vec<HeaderName>,
    /// Cookies that are part of the key, and the only ones that are forwarded.
    pub cookies: ForwardCookies,
    /// Attributes of the session that are part of the key.
    pub session: Vec<String>,
}

/// What a plan makes of a request; memory that is used again.
#[derive(Debug, Default)]
pub struct Planned {
    /// What the plan adds to the key; empty: nothing.
    pub part: Vec<u8>,
    /// Whether the query is another than the one that came.
    pub changed: bool,
    query: Option<String>,
    kept: String,
    scratch: String,
}

impl Planned {
    /// The query to forward and to key, where it is another than the one that came.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
}

impl KeyPlan {
    /// Checks what a plugin has said.
    pub fn check(said: SaidPlan) -> Result<Self, PlanError> {
        let lists = [&said.drop, &said.headers, &said.session];
        let optional = [&said.keep, &said.cookies];
        let longest = lists.into_iter().chain(optional.into_iter().flatten()).map(Vec::len).max();
        if longest.is_some_and(|longest| longest > NAMES_MAX) {
            return Err(PlanError::TooLong);
        }
        if let Some(bad) = said.cookies.iter().flatten().find(|name| !is_cookie_name(name)) {
            return Err(PlanError::Cookie(bad.chars().take(64).collect()));
        }
        let globs = |names: Vec<String>| names.iter().map(String::as_str).collect::<Globs>();
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| PlanError::Field(name.chars().take(64).collect()))
        };
        Ok(Self {
            lower_path: said.lower_path,
            keep: said.keep.map(globs),
            query: QueryRule { ignore: globs(said.drop), sort: said.sort },
            headers: said.headers.iter().map(header).collect::<Result<_, _>>()?,
            cookies: match said.cookies {
                None => ForwardCookies::AsRouted,
                Some(names) if names.is_empty() => ForwardCookies::None,
                Some(names) => {
                    ForwardCookies::Only { rule: CookieRule::declaring(names).into(), all_read: true }
                }
            },
            session: said.session,
        })
    }

    /// What it reads and the operator does not grant.
    #[must_use]
    pub fn missing(&self, grants: &Grants) -> Vec<Grant> {
        let headers = self.headers.iter().cloned().map(Input::Header);
        let declared = match &self.cookies {
            ForwardCookies::Only { rule, .. } => rule.declared().map(str::to_owned).collect(),
            ForwardCookies::AsRouted | ForwardCookies::None => Vec::new(),
        };
        let cookies = declared.into_iter().map(Input::Cookie);
        let session = self.session.iter().cloned().map(Input::Session);
        headers.chain(cookies).chain(session).filter_map(|input| grants.missing(&input)).collect()
    }

    /// Applies it. Allocates nothing once `out` has grown, unless parameters have to be sorted.
    pub fn apply(&self, request: &Request<'_>, out: &mut Planned) {
        out.part.clear();
        let part = &mut out.part;
        for name in &self.headers {
            let lines = request.headers.get_all(name).iter();
            push_all(part, lines.map(http::HeaderValue::as_bytes));
        }
        if let ForwardCookies::Only { rule, .. } = &self.cookies {
            for declared in rule.declared() {
                let named = cookies::pairs(request.headers).filter(|pair| pair.name == declared.as_bytes());
                push_all(part, named.map(|pair| pair.value));
            }
        }
        for wanted in &self.session {
            let found = request.session.iter().filter(|attribute| attribute.name == wanted);
            // An empty value behind it says that it is no text.
            let is_item = |is_text: bool| (!is_text).then_some(&b""[..]);
            push_all(
                part,
                found.flat_map(|one| iter::once(one.value.as_bytes()).chain(is_item(one.is_text))),
            );
        }
        self.filter(request.query, out);
    }

    fn filter(&self, query: Option<&str>, out: &mut Planned) {
        out.changed = false;
        out.kept.clear();
        let kept = match (&self.keep, query) {
            (Some(keep), Some(query)) => {
                for (part, name, _) in parameters(Some(query)) {
                    if keep.any_matches(name) || decoded(name).is_some_and(|name| keep.any_matches(&*name)) {
                        if !out.kept.is_empty() {
                            out.kept.push('&');
                        }
                        out.kept.push_str(part);
                    }
                }
                (!out.kept.is_empty()).then_some(out.kept.as_str())
            }
            _ => query,
        };
        let filtered = self.query.filter(kept, &mut out.scratch);
        if filtered == query {
            return;
        }
        out.changed = true;
        match filtered {
            Some(filtered) => {
                let text = out.query.get_or_insert_default();
                text.clear();
                text.push_str(filtered);
            }
            None => out.query = None,
        }
    }
}

/// How many there are, and each by its length.
fn push_all<'v>(out: &mut Vec<u8>, values: impl Iterator<Item = &'v [u8]>) {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    let mut count = 0_u64;
    for value in values {
        count += 1;
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value);
    }
    out[at..at + 8].copy_from_slice(&count.to_le_bytes());
}

/// A name as an origin reads it, where that differs from how it stands.
fn decoded(name: &str) -> Option<String> {
    if !name.contains(['%', '+']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let byte = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::request::Attribute;
    use crate::request::tests::request;

    fn plan(keep: Option<&[&str]>, drop: &[&str], sort: bool) -> KeyPlan {
        let globs = |names: &[&str]| names.iter().copied().collect::<Globs>();
        KeyPlan {
            lower_path: false,
            keep: keep.map(globs),
            query: QueryRule { ignore: globs(drop), sort },
            headers: vec![HeaderName::from_static("accept")],
            cookies: ForwardCookies::Only { rule: CookieRule::declaring(["ab"]).into(), all_read: true },
            session: vec!["tier".to_owned()],
        }
    }

    #[test]
    fn what_a_plan_drops_is_neither_keyed_nor_forwarded() {
        let headers = HeaderMap::new();
        #[rustfmt::skip]
        let cases = [
            // keep                   drop                sort   query                        forwarded
            (None,                    &["utm_*"][..],     false, Some("b=1&utm_source=x&a"),  Some("b=1&a")),
            (None,                    &["utm_*"],         false, Some("utm%5fsource=x"),      None),
            (None,                    &[],                true,  Some("b=1&a=2&b=0"),         Some("a=2&b=1&b=0")),
            (Some(&["id", "p*"][..]), &["page"],          true,  Some("page=1&id=2&x=3&pp=1"),Some("id=2&pp=1")),
            (Some(&["id"]),           &[],                false, Some("i%64=5&x=1"),          Some("i%64=5")),
            (Some(&[]),               &[],                false, Some("a=1"),                 None),
            (None,                    &[],                false, None,                        None),
            (None,                    &["x"],             false, Some("a=1"),                 Some("a=1")),
        ];
        for (keep, drop, sort, query, expected) in cases {
            let mut planned = Planned::default();
            plan(keep, drop, sort).apply(&request("/", query, &headers), &mut planned);
            let forwarded = if planned.changed { planned.query() } else { query };
            assert_eq!(forwarded, expected, "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn two_requests_share_a_key_only_where_all_that_the_plan_names_is_alike(
            one in (proptest::collection::vec("[ab]{0,2}", 0..3), "[ab=; ]{0,8}", proptest::option::of(("[ab]{0,2}", any::<bool>()))),
            other in (proptest::collection::vec("[ab]{0,2}", 0..3), "[ab=; ]{0,8}", proptest::option::of(("[ab]{0,2}", any::<bool>()))),
        ) {
            let plan = plan(None, &[], false);
            let part = |(accept, cookie, tier): &(Vec<String>, String, Option<(String, bool)>)| {
                let mut headers = HeaderMap::new();
                for value in accept {
                    headers.append("accept", value.parse().unwrap());
                }
                headers.append("cookie", cookie.parse().unwrap());
                let values: Vec<Vec<u8>> =
                    cookies::pairs(&headers).filter(|pair| pair.name == b"ab").map(|pair| pair.value.to_vec()).collect();
                let attribute = tier.as_ref().map(|(value, is_text)| Attribute { name: "tier", value, is_text: *is_text });
                let session: Vec<Attribute<'_>> = attribute.into_iter().collect();
                let mut planned = Planned::default();
                plan.apply(&Request { session: &session, ..request("/", None, &headers) }, &mut planned);
                (planned.part, (accept.clone(), values, tier.clone()))
            };
            let ((a, declared_a), (b, declared_b)) = (part(&one), part(&other));
            prop_assert_eq!(a == b, declared_a == declared_b);
        }
    }
}
