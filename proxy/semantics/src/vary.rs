//! Which stored variant answers this request? (RFC 9111 §4.1)
//!
//! A stored response that says `Vary` remembers what its request said in the nominated fields, in a normal form. A look-up brings
//! the presented request's fields into the same form on the fly and compares; it allocates nothing. For `Accept-Encoding` and
//! `Accept-Language` the stored response itself shows what the origin really varied on: its `Content-Encoding` and
//! `Content-Language` are matched with what the presented request prefers.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::freshness;
use crate::negotiate::{AcceptEncoding, AcceptLanguage, Coding};
use crate::policy::{Override, Policy};

/// What a response varies on: the fields that all its `Vary` lines nominate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaryRule {
    star: bool,
    /// In order of first appearance, each once.
    names: Vec<HeaderName>,
}

/// More nominated fields than this count as `*`: no later request would match anyway.
const NOMINATED_MAX: usize = 32;

impl VaryRule {
    /// Reads `Vary` over all its lines. What is not a field name counts as `*`: it cannot be matched.
    #[must_use]
    pub fn of_response(headers: &HeaderMap) -> VaryRule {
        let mut rule = VaryRule::default();
        for line in headers.get_all(header::VARY) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let member = member.trim_ascii();
                if member.is_empty() {
                    continue;
                }
                match HeaderName::from_bytes(member) {
                    // RFC 9110 §12.5.5: `*` signals that other aspects of the request might have played a role.
                    Ok(name) if name.as_str() != "*" => {
                        if !rule.names.contains(&name) {
                            rule.names.push(name);
                        }
                    }
                    _ => rule.star = true,
                }
            }
        }
        rule.star |= rule.names.len() > NOMINATED_MAX;
        rule
    }

    /// What a response varies on under a policy: nothing where the operator overrides `Vary`.
    #[must_use]
    pub fn under(policy: &Policy, headers: &HeaderMap) -> VaryRule {
        if policy.overrides.ignores(Override::Vary) {
            return VaryRule::default();
        }
        VaryRule::of_response(headers)
    }

    /// The response matches no later request.
    #[must_use]
    pub fn is_star(&self) -> bool {
        self.star
    }

    /// The response does not vary on request fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.star && self.names.is_empty()
    }

    /// Whether it varies on `name`.
    #[must_use]
    pub fn nominates(&self, name: &HeaderName) -> bool {
        self.names.contains(name)
    }

    /// The nominated fields.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }
}

/// The header fields of a request as they would be forwarded to the origin: what `Vary` nominates is what the origin saw.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    headers: &'a HeaderMap,
    cookie: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// The fields of a request that is forwarded as it is.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Fields<'a> {
        Fields { headers, cookie: None }
    }

    /// The same with this value of `Cookie`, of which the undeclared ones have been removed; empty: no `Cookie` at all.
    #[must_use]
    pub fn with_cookie(self, forwarded: &'a [u8]) -> Fields<'a> {
        Fields { cookie: Some(forwarded), ..self }
    }

    fn lines(self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let replaced = self.cookie.filter(|_| *name == header::COOKIE);
        let received = replaced.is_none().then(|| self.headers.get_all(name));
        replaced
            .filter(|cookie| !cookie.is_empty())
            .into_iter()
            .chain(received.into_iter().flatten().map(HeaderValue::as_bytes))
    }
}

/// One stored response among those of a URI, as far as selecting goes: what it varies on and what its request said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    star: bool,
    fields: Box<[Nominated]>,
    /// When the origin generated it: of several that match, the most recent is chosen.
    date: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Nominated {
    name: HeaderName,
    /// The field of the stored response's request in normal form; `None`: it was absent.
    value: Option<Bytes>,
    served: Served,
}

/// What the stored response shows of how the origin chose.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Served {
    /// The field's meaning is not known here; it must be the same.
    Opaque,
    /// `Accept-Encoding` as the request had it, and the coding the origin chose. `None`: several, or one not known here.
    Coding { accepted: AcceptEncoding, chosen: Option<Coding> },
    /// `Accept-Language`, and the language tag the origin chose, in lower case. `None`: it did not say, or named several.
    Language { chosen: Option<Box<str>> },
}

impl Variant {
    /// What is to be remembered of a response and of the request that it answers: `request` as it was forwarded to the origin.
    #[must_use]
    pub fn capture(
        rule: &VaryRule,
        request: Fields<'_>,
        response: &HeaderMap,
        received: SystemTime,
    ) -> Variant {
        let fields = rule.names.iter().map(|name| Nominated {
            name: name.clone(),
            value: normal_form(name, request),
            served: Served::of(name, request.headers, response),
        });
        Variant {
            star: rule.star,
            fields: fields.collect(),
            date: freshness::date(response).unwrap_or(received),
        }
    }

    /// It answers every request for its key.
    #[must_use]
    pub fn is_universal(&self) -> bool {
        !self.star && self.fields.is_empty()
    }

    /// Whether it answers a request with these header fields (§4.1).
    #[must_use]
    pub fn matches(&self, request: Fields<'_>) -> bool {
        // §4.1: a stored response with a Vary value containing a member "*" always fails to match.
        !self.star && self.fields.iter().all(|field| field.matches(request))
    }

    /// When the origin generated it.
    #[must_use]
    pub fn date(&self) -> SystemTime {
        self.date
    }

    /// Whether `other` takes this one's place: it varies on the same fields and its request said the same there, so that no request
    /// could match the one and not the other.
    #[must_use]
    pub fn is_replaced_by(&self, other: &Variant) -> bool {
        self.star == other.star
            && self.fields.len() == other.fields.len()
            && self.fields.iter().all(|mine| {
                other.fields.iter().any(|theirs| mine.name == theirs.name && mine.value == theirs.value)
            })
    }

    /// How well the request likes what this variant is, to choose among several that match. Larger is better.
    fn preference(&self, request: &HeaderMap) -> u32 {
        self.fields.iter().map(|field| field.preference(request)).sum()
    }

    /// Bytes held beside the struct itself, for accounting.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.fields)
            + self.fields.iter().filter_map(|field| field.value.as_ref()).map(Bytes::len).sum::<usize>()
    }
}

/// The stored response to use for a request with these header fields: of those that match, what the request likes best, then the most recent (§4.1).
///
/// Returns its position among `variants`; `None` is a `vary-miss`, or a miss if there are none.
#[must_use]
pub fn select<'a>(variants: impl IntoIterator<Item = &'a Variant>, request: Fields<'_>) -> Option<usize> {
    let mut best: Option<(u32, SystemTime, usize)> = None;
    for (at, variant) in variants.into_iter().enumerate() {
        if !variant.matches(request) {
            continue;
        }
        let candidate = (variant.preference(request.headers), variant.date, at);
        if best.is_none_or(|best| candidate >= best) {
            best = Some(candidate);
        }
    }
    best.map(|(_, _, at)| at)
}

impl Served {
    fn of(name: &HeaderName, request: &HeaderMap, response: &HeaderMap) -> Served {
        if name == header::ACCEPT_ENCODING {
            let chosen = Coding::of_response(response);
            return Served::Coding { accepted: AcceptEncoding::of(request), chosen };
        }
        if name == header::ACCEPT_LANGUAGE {
            let mut lines = response.get_all(header::CONTENT_LANGUAGE).iter();
            let chosen = match (lines.next().and_then(|line| line.to_str().ok()), lines.next()) {
                (Some(tag), None) if !tag.contains(',') && !tag.trim().is_empty() => {
                    Some(tag.trim().to_ascii_lowercase().into())
                }
                _ => None,
            };
            return Served::Language { chosen };
        }
        Served::Opaque
    }
}

impl Nominated {
    fn matches(&self, request: Fields<'_>) -> bool {
        if is_in_normal_form(&self.name, request, self.value.as_deref()) {
            return true;
        }
        match &self.served {
            Served::Opaque => false,
            // §4.1: what the origin varies on is known from what it served. The stored coding may be used if the client takes it, and
            // - it likes nothing better, so that the origin could not have chosen better for it; or
            // - everything it takes was on offer when the origin chose this one.
            Served::Coding { accepted, chosen: Some(chosen) } => {
                let presented = AcceptEncoding::of(request.headers);
                presented.accepts(*chosen)
                    && ((*chosen != Coding::Identity && presented.is_best(*chosen))
                        || presented.is_within(accepted))
            }
            Served::Language { chosen: Some(chosen) } => {
                AcceptLanguage::of(request.headers).prefers_alone(chosen)
            }
            Served::Coding { chosen: None, .. } | Served::Language { chosen: None } => false,
        }
    }

    fn preference(&self, request: &HeaderMap) -> u32 {
        match &self.served {
            Served::Coding { chosen: Some(chosen), .. } => {
                u32::from(AcceptEncoding::of(request).quality(*chosen))
            }
            Served::Language { chosen: Some(chosen) } => {
                u32::from(AcceptLanguage::of(request).quality(chosen))
            }
            _ => 0,
        }
    }
}

/// The normal form of a field of a request, to be kept. `None`: the field is absent.
fn normal_form(name: &HeaderName, request: Fields<'_>) -> Option<Bytes> {
    request.lines(name).next()?;
    let mut form = Vec::new();
    visit_normal_form(name, request, |byte| {
        form.push(byte);
        true
    });
    Some(form.into())
}

/// Whether the field of a request has the normal form `stored`.
fn is_in_normal_form(name: &HeaderName, request: Fields<'_>, stored: Option<&[u8]>) -> bool {
    let mut lines = request.lines(name);
    let (Some(first), Some(stored)) = (lines.next(), stored) else {
        // §4.1: absent from the one, it must be absent from the other.
        return request.lines(name).next().is_none() && stored.is_none();
    };
    // Most often the field is spelled as it was.
    if first == stored && lines.next().is_none() && name != header::ACCEPT_LANGUAGE {
        return true;
    }
    let mut rest = stored.iter();
    visit_normal_form(name, request, |byte| rest.next() == Some(&byte)) && rest.next().is_none()
}

/// Hands the normal form of a field to `visit`, byte by byte, until it says `false`. Returns whether it never did.
///
/// The normal form combines lines, and drops whitespace around commas outside of quoted strings; where case is known not to matter
/// it is lower case; `Accept-Language` is sorted, for neither order nor line breaks carry meaning there (§4.1).
fn visit_normal_form(name: &HeaderName, request: Fields<'_>, mut visit: impl FnMut(u8) -> bool) -> bool {
    if name == header::ACCEPT_LANGUAGE {
        return AcceptLanguage::of(request.headers).visit_sorted(visit);
    }
    let lower_case = name == header::ACCEPT_ENCODING || name == header::ACCEPT_CHARSET;
    // Fields that are not lists: a comma in them is just a character.
    let list = !NOT_LISTS.contains(name);
    for (at, line) in request.lines(name).enumerate() {
        // RFC 9113 §8.2.3: cookies split over lines are one field, joined by a semicolon. What is no list is not combined at all.
        let joint: &[u8] = match list {
            true => b",",
            false if name == header::COOKIE => b"; ",
            false => b"\n",
        };
        if at > 0 && !joint.iter().all(|byte| visit(*byte)) {
            return false;
        }
        let line = line.trim_ascii();
        let mut quoted = false;
        let mut escaped = false;
        for (at, byte) in line.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b' ' | b'\t' if list && !quoted && is_beside_comma(line, at) => continue,
                _ => {}
            }
            let byte = if lower_case { byte.to_ascii_lowercase() } else { *byte };
            if !visit(byte) {
                return false;
            }
        }
    }
    true
}

/// Whether the whitespace at `at` touches a comma, perhaps over more whitespace.
fn is_beside_comma(line: &[u8], at: usize) -> bool {
    let before = line[..at].trim_ascii_end().last();
    let after = line[at..].trim_ascii_start().first();
    before == Some(&b',') || after == Some(&b',')
}

const NOT_LISTS: [HeaderName; 6] = [
    header::USER_AGENT,
    header::COOKIE,
    header::AUTHORIZATION,
    header::REFERER,
    header::ORIGIN,
    header::HOST,
];
