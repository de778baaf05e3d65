//! Which stored variant answers this request? (RFC 9111 §4.1)
//!
//! A stored response that says `Vary` remembers what its request said in the nominated fields, in a normal form. A look-up brings
//! the presented request's fields into the same form on the fly and compares; it allocates nothing. For `Accept-Encoding` and
//! `Accept-Language` the stored response itself shows what the origin really varied on: its `Content-Encoding` and
//! `Content-Language` are matched with what the presented request prefers.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::cookies::Passing;
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
/// What cannot be matched with what a request presents: `*`, and the fields into which a proxy writes each client's address.
const UNMATCHABLE: [&str; 3] = ["*", "forwarded", "x-forwarded-for"];

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
                    Ok(name) if rule.names.contains(&name) => {}
                    Ok(name) if !UNMATCHABLE.contains(&name.as_str()) && rule.names.len() < NOMINATED_MAX => {
                        rule.names.push(name);
                    }
                    _ => rule.star = true,
                }
            }
        }
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
    cookie: Cookie<'a>,
}

/// What of the cookies is forwarded.
#[derive(Clone, Copy, Debug)]
enum Cookie<'a> {
    AsReceived,
    /// This text.
    Text(&'a [u8]),
    /// Some of them, looked for where somebody asks for them.
    Passing(Passing<'a>),
}

impl<'a> Fields<'a> {
    /// The fields of a request that is forwarded as it is.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Fields<'a> {
        Fields { headers, cookie: Cookie::AsReceived }
    }

    /// The same with this value of `Cookie`, of which the undeclared ones have been removed; empty: no `Cookie` at all.
    #[must_use]
    pub fn with_cookie(self, forwarded: &'a [u8]) -> Fields<'a> {
        Fields { cookie: Cookie::Text(forwarded), ..self }
    }

    /// The same with those of its cookies that pass.
    #[must_use]
    pub fn with_passing(self, passing: Passing<'a>) -> Fields<'a> {
        Fields { cookie: Cookie::Passing(passing), ..self }
    }

    /// Whether any cookie is forwarded.
    #[must_use]
    pub fn has_cookie(self) -> bool {
        self.lines(&header::COOKIE).next().is_some()
    }

    /// The lines of a field. Cookies that pass are a line each: to be one field they are joined as lines are.
    fn lines(self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let cookie = if *name == header::COOKIE { self.cookie } else { Cookie::AsReceived };
        let (received, text, passing) = match cookie {
            Cookie::AsReceived => (Some(self.headers.get_all(name)), None, None),
            Cookie::Text(text) => (None, Some(text).filter(|text| !text.is_empty()), None),
            Cookie::Passing(passing) => (None, None, Some(passing.of(self.headers))),
        };
        let received = received.into_iter().flatten().map(HeaderValue::as_bytes);
        received.chain(text).chain(passing.into_iter().flatten().map(|pair| pair.text))
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
    value: Option<Box<[u8]>>,
    /// The field as it was spelled, where that is not the normal form: most requests spell it the same way again.
    spelled: Option<Box<[u8]>>,
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
    /// Whether it was chosen by who asked: made for one person, whatever its validator says.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.name, header::COOKIE | header::AUTHORIZATION))
    }

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
            spelled: spelling(name, request),
            served: Served::of(name, request.headers, response),
        });
        Variant {
            star: rule.star,
            fields: fields.collect(),
            date: freshness::date(response).unwrap_or(received),
        }
    }

    /// The fields that it varies on.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|field| &field.name)
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
            + self
                .fields
                .iter()
                .flat_map(|field| [&field.value, &field.spelled])
                .flatten()
                .map(|value| value.len())
                .sum::<usize>()
    }
}

/// One field of a [`Variant`] in a form that can be written down: its name, its normal form (`None`: the request had none), and how it was
/// spelled where that is something else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "an encoding of `Variant`, whose methods say what each means")]
pub struct FieldAtRest {
    pub name: HeaderName,
    pub value: Option<Box<[u8]>>,
    pub spelled: Option<Box<[u8]>>,
}

impl Variant {
    /// In a form that can be written down: whether it answers nobody (`Vary: *`), and its fields.
    #[must_use]
    pub fn at_rest(&self) -> (bool, Vec<FieldAtRest>) {
        let at_rest = |field: &Nominated| FieldAtRest {
            name: field.name.clone(),
            value: field.value.clone(),
            spelled: field.spelled.clone(),
        };
        (self.star, self.fields.iter().map(at_rest).collect())
    }

    /// Read back; `response` are the stored response's fields, which tell what the origin chose.
    #[must_use]
    pub fn revive(star: bool, fields: Vec<FieldAtRest>, date: SystemTime, response: &HeaderMap) -> Variant {
        let revived = fields.into_iter().map(|FieldAtRest { name, value, spelled }| {
            let mut request = HeaderMap::new();
            let line = spelled.as_deref().or(value.as_deref());
            if let Some(line) = line.and_then(|line| http::HeaderValue::from_bytes(line).ok()) {
                request.insert(name.clone(), line);
            }
            let served = Served::of(&name, &request, response);
            Nominated { name, value, spelled, served }
        });
        Variant { star, fields: revived.collect(), date }
    }
}

/// The stored response to use for a request with these header fields: of those that match, what the request likes best, then the most recent (§4.1).
///
/// Returns its position among `variants`; `None` is a `vary-miss`, or a miss if there are none.
#[must_use]
pub fn select<'a>(variants: impl IntoIterator<Item = &'a Variant>, request: Fields<'_>) -> Option<usize> {
    let mut best: Option<(usize, &Variant)> = None;
    for (at, variant) in variants.into_iter().enumerate() {
        if !variant.matches(request) {
            continue;
        }
        // What the request likes how well is asked only where there is a choice.
        let is_better = best.is_none_or(|(_, best)| {
            let rank = |variant: &Variant| (variant.preference(request.headers), variant.date);
            rank(variant) >= rank(best)
        });
        if is_better {
            best = Some((at, variant));
        }
    }
    best.map(|(at, _)| at)
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
        if self.is_spelled_the_same(request) || is_in_normal_form(&self.name, request, self.value.as_deref())
        {
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

    fn is_spelled_the_same(&self, request: Fields<'_>) -> bool {
        let Some(spelled) = &self.spelled else {
            return false;
        };
        let mut lines = request.lines(&self.name);
        lines.next().is_some_and(|line| *line == **spelled) && lines.next().is_none()
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
fn normal_form(name: &HeaderName, request: Fields<'_>) -> Option<Box<[u8]>> {
    request.lines(name).next()?;
    let mut form = Vec::new();
    visit_normal_form(name, request, |byte| {
        form.push(byte);
        true
    });
    Some(form.into())
}

/// The field of a request as it is spelled, where that is one line and not the normal form.
fn spelling(name: &HeaderName, request: Fields<'_>) -> Option<Box<[u8]>> {
    let mut lines = request.lines(name);
    match (lines.next(), lines.next()) {
        (Some(line), None) if Some(line) != normal_form(name, request).as_deref() => Some(line.into()),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cookies::CookieRule;
    use crate::testing::{at, headers};

    fn variant(request: &str, response: &str) -> Variant {
        let response = headers(response);
        Variant::capture(&VaryRule::of_response(&response), Fields::of(&headers(request)), &response, at(0))
    }

    fn matches(stored_for: &str, response: &str, presented: &str) -> bool {
        variant(stored_for, response).matches(Fields::of(&headers(presented)))
    }

    #[test]
    fn section_12_5_5_reading_vary() {
        #[rustfmt::skip]
        let cases = [
            // what                        response                          star   names
            ("absent",                     "",                               false, vec![]),
            ("one",                        "vary: Foo",                      false, vec!["foo"]),
            ("several, each once",         "vary: Foo, bar,FOO",             false, vec!["foo", "bar"]),
            ("over lines",                 "vary: foo | vary: bar",          false, vec!["foo", "bar"]),
            ("empty members",              "vary: , foo ,,",                 false, vec!["foo"]),
            ("star",                       "vary: *",                        true,  vec![]),
            ("star, star",                 "vary: *, *",                     true,  vec![]),
            ("star over lines",            "vary: | vary: *",                true,  vec![]),
            ("star after a name",          "vary: foo, *",                   true,  vec!["foo"]),
            ("star before a name",         "vary: *, foo",                   true,  vec!["foo"]),
            ("what is no name cannot match", "vary: foo bar",                true,  vec![]),
            ("every client's address differs", "vary: foo, X-Forwarded-For", true,  vec!["foo"]),
        ];
        for (what, response, star, names) in cases {
            let rule = VaryRule::of_response(&headers(response));
            let found: Vec<&str> = rule.names().iter().map(HeaderName::as_str).collect();
            assert_eq!((rule.is_star(), found), (star, names), "{what}");
        }
        let many: Vec<String> = (0..33).map(|at| format!("f{at}")).collect();
        assert!(VaryRule::of_response(&headers(&format!("vary: {}", many.join(",")))).is_star());
        let ignored = Policy { overrides: [Override::Vary].into_iter().collect(), ..Policy::default() };
        assert!(VaryRule::under(&ignored, &headers("vary: *")).is_empty());
    }

    #[test]
    fn section_4_1_matching() {
        #[rustfmt::skip]
        let cases = [
            // what                                          Vary              stored for                      presented                        match
            ("no Vary matches everything",                   "",               "foo: 1",                       "foo: 2",                        true),
            ("the same value",                               "foo",            "foo: 1",                       "foo: 1",                        true),
            ("another value",                                "foo",            "foo: 1",                       "foo: 2",                        false),
            ("absent from what was stored",                  "foo",            "",                             "foo: 1",                        false),
            ("absent from what is presented",                "foo",            "foo: 1",                       "",                              false),
            ("empty is not absent",                          "foo",            "foo: ",                        "",                              false),
            ("absent from both",                             "foo",            "",                             "",                              true),
            ("other fields do not count",                    "foo",            "foo: 1 | other: 2",            "foo: 1 | other: 3",             true),
            ("all nominated ones do",                        "foo, bar, baz",  "foo: 1 | bar: abc | baz: 789", "foo: 1 | bar: abc | baz: 789",  true),
            ("one differs",                                  "foo, bar, baz",  "foo: 1 | bar: abc | baz: 789", "foo: 2 | bar: abc | baz: 789",  false),
            ("a prefix is not the same",                     "foo, bar",       "foo: 1 | bar: abc4",           "foo: 1 | bar: abc",             false),
            ("values do not move between fields",            "foo, bar",       "foo: 1 | bar: 2",              "foo: 2 | bar: 1",               false),
            ("absent from both among others",                "foo, bar, baz",  "foo: 1 | baz: 789",            "foo: 1 | baz: 789",             true),
            ("lines are combined",                           "foo",            "foo: 1, 2",                    "foo: 1 | foo: 2",               true),
            ("in order",                                     "foo",            "foo: 1, 2",                    "foo: 2 | foo: 1",               false),
            ("whitespace around commas",                     "foo",            "foo: 1,2",                     "foo:  1 ,  2 ",                 true),
            ("whitespace elsewhere counts",                  "foo",            "foo: a b",                     "foo: a  b",                     false),
            ("whitespace in a quoted string counts",         "foo",            "foo: \"a, b\"",                "foo: \"a,b\"",                  false),
            ("an escaped quote does not end it",             "foo",            "foo: \"a\\\", b\"",            "foo: \"a\\\",b\"",              false),
            ("case counts where nothing is known",           "foo",            "foo: a",                       "foo: A",                        false),
            ("a comma in User-Agent is just a character",    "user-agent",     "user-agent: a, b",             "user-agent: a,b",               false),
            ("cookies over lines are one field",             "cookie",         "cookie: a=1; b=2",             "cookie: a=1 | cookie: b=2",     true),
            ("a comma in a cookie does not split it",        "cookie",         "cookie: a=1,b=2",              "cookie: a=1 | cookie: b=2",     false),
            ("lines of what is no list are not combined",    "authorization",  "authorization: a,b",           "authorization: a | authorization: b", false),
            ("star matches nothing",                         "*",              "foo: 1",                       "foo: 1",                        false),
        ];
        for (what, vary, stored_for, presented, expected) in cases {
            assert_eq!(matches(stored_for, &format!("vary: {vary}"), presented), expected, "{what}");
        }
    }

    #[test]
    fn section_12_5_4_languages() {
        #[rustfmt::skip]
        let cases = [
            // what                                              response beside Vary        stored for           presented                         match
            ("order is no preference",                           "",                         "en, de",            "de, en",                         true),
            ("case does not count",                              "",                         "en, de",            "eN, De",                         true),
            ("whitespace neither",                               "",                         "en, de",            " en ,   de",                     true),
            ("the same weights, spelled otherwise",              "",                         "en;q=0.5,de",       "de;q=1.000 , en; q=0.50",        true),
            ("other weights",                                    "",                         "en;q=0.5,de",       "en;q=0.6,de",                    false),
            ("another language",                                 "",                         "en",                "de",                             false),
            ("the stored language is liked best",                "content-language: de",     "en, de",            "fr;q=0.5, de;q=1.0",             true),
            ("in any case",                                      "content-language: DE",     "en, de",            "fr;q=0.5, De",                   true),
            ("a range matches its sublanguages",                 "content-language: de-AT",  "de-at",             "de, en;q=0.9",                   true),
            ("but not the other way round",                      "content-language: de",     "de",                "de-AT, en;q=0.9",                false),
            ("nor half a subtag",                                "content-language: deu",    "deu",               "de",                             false),
            ("liked as much as another, the origin may choose",  "content-language: de",     "de",                "de, en",                         false),
            ("liked less than another",                          "content-language: de",     "de",                "de;q=0.5, en",                   false),
            ("not liked at all",                                 "content-language: de",     "de",                "de;q=0",                         false),
            ("any language is no preference",                    "content-language: de",     "de",                "*",                              false),
            ("several stored languages say nothing",             "content-language: de, en", "de",                "de, fr;q=0.1",                   false),
        ];
        for (what, language, stored_for, presented, expected) in cases {
            let found = matches(
                &format!("accept-language: {stored_for}"),
                &format!("vary: accept-language | {language}"),
                &format!("accept-language: {presented}"),
            );
            assert_eq!(found, expected, "{what}");
        }
        assert!(!matches("accept-language: de", "vary: accept-language | content-language: de", ""));
    }

    #[test]
    fn section_12_5_3_codings() {
        #[rustfmt::skip]
        let cases = [
            // what                                                  coding      stored for              presented                     match
            ("the same, spelled otherwise",                          "gzip",     "gzip, br",             "GZIP,br",                    true),
            ("the coding is acceptable, nothing is liked better",    "gzip",     "gzip",                 "gzip, deflate, br, zstd",    true),
            ("in another order",                                     "br",       "gzip, br",             "br, gzip",                   true),
            ("something is liked better",                            "gzip",     "gzip",                 "gzip;q=0.5, br",             false),
            ("but the origin had that choice before",                "gzip",     "gzip;q=0.5, br",       "gzip;q=0.4, br",             true),
            ("the coding is not acceptable",                         "gzip",     "gzip, br",             "br",                         false),
            ("refused by weight",                                    "gzip",     "gzip",                 "gzip;q=0, br",               false),
            ("plain for who could have had any: it never encodes",   "",         "gzip, deflate, br",    "gzip",                       true),
            ("plain for who took nothing says nothing",              "",         "identity",             "gzip",                       false),
            ("plain for who asks for no coding",                     "",         "gzip",                 "identity",                   true),
            ("encoded for who asks for no coding",                   "gzip",     "gzip",                 "identity",                   false),
            ("plain is refused",                                     "",         "gzip",                 "gzip, identity;q=0",         false),
            ("a coding not known here must be asked for the same",   "exi",      "exi",                  "exi, gzip",                  false),
            ("two codings at once too",                              "gzip, br", "gzip, br",             "gzip, br, zstd",             false),
            ("a client that takes what the other did not",           "",         "gzip",                 "br",                         false),
        ];
        for (what, coding, stored_for, presented, expected) in cases {
            let coding =
                if coding.is_empty() { String::new() } else { format!(" | content-encoding: {coding}") };
            let found = matches(
                &format!("accept-encoding: {stored_for}"),
                &format!("vary: accept-encoding{coding}"),
                &format!("accept-encoding: {presented}"),
            );
            assert_eq!(found, expected, "{what}");
        }
        let plain_for_all = matches("accept-encoding: gzip, br", "vary: accept-encoding", "");
        assert!(plain_for_all, "a client that says nothing gets what has no coding");
        let encoded = "vary: accept-encoding | content-encoding: gzip";
        assert!(!matches("accept-encoding: gzip", encoded, ""), "and nothing else");
    }

    #[test]
    fn undeclared_cookies_that_are_not_forwarded_do_not_count() {
        let response = headers("vary: cookie");
        let rule = VaryRule::of_response(&response);
        let (first, second) = (headers("cookie: tenant=1; id=7"), headers("cookie: id=8; tenant=1"));
        let stored = Variant::capture(&rule, Fields::of(&first).with_cookie(b"tenant=1"), &response, at(0));
        assert!(stored.matches(Fields::of(&second).with_cookie(b"tenant=1")));
        assert!(!stored.matches(Fields::of(&second).with_cookie(b"tenant=2")));
        assert!(!stored.matches(Fields::of(&second).with_cookie(b"")));
        let without = Variant::capture(&rule, Fields::of(&first).with_cookie(b""), &response, at(0));
        assert!(without.matches(Fields::of(&headers(""))));
        assert!(!without.matches(Fields::of(&second)));
        // Those that pass count as if they had been written out.
        let declared = |names: &[&'static str]| CookieRule::declaring(names.iter().copied());
        let (tenant, both, other) = (declared(&["tenant"]), declared(&["id", "tenant"]), declared(&["x"]));
        let passing = |route| Fields::of(&second).with_passing(Passing { rules: &[], route: Some(route) });
        assert!(stored.matches(passing(&tenant)) && !stored.matches(passing(&both)));
        assert!(passing(&tenant).has_cookie() && !passing(&other).has_cookie());
        let stored =
            Variant::capture(&rule, Fields::of(&first).with_cookie(b"id=8; tenant=1"), &response, at(0));
        assert!(stored.matches(passing(&both)) && !stored.matches(passing(&tenant)));
        assert!(without.matches(passing(&other)));
    }

    #[test]
    fn section_4_1_of_several_the_best_then_the_most_recent() {
        let vary = "vary: accept-encoding | date: @+0";
        let variants = [
            variant("accept-encoding: br", &format!("{vary} | content-encoding: br")),
            variant("accept-encoding: gzip", &format!("{vary} | content-encoding: gzip")),
            variant("accept-encoding: identity", vary),
        ];
        let choose = |request: &str| select(&variants, Fields::of(&headers(request)));
        assert_eq!(choose("accept-encoding: gzip;q=0.9, br;q=0.8"), Some(1));
        assert_eq!(choose("accept-encoding: gzip;q=0.8, br;q=0.9"), Some(0));
        assert_eq!(choose(""), Some(2));
        assert_eq!(choose("accept-encoding: zstd"), None);
        let by_date = [
            variant("foo: 1", "vary: foo | date: @-10"),
            variant("bar: 1", "date: @+5"),
            variant("foo: 1", "vary: foo | date: @+0"),
        ];
        assert_eq!(select(&by_date, Fields::of(&headers("foo: 1"))), Some(1));
        assert_eq!(select(&by_date[..1], Fields::of(&headers("foo: 2"))), None);
        assert_eq!(select(&[], Fields::of(&headers("foo: 2"))), None);
        assert!(by_date[0].is_replaced_by(&by_date[2]));
        assert!(!by_date[0].is_replaced_by(&by_date[1]));
        assert!(by_date[1].is_universal());
    }

    proptest! {
        #[test]
        fn a_request_matches_what_was_stored_for_it(
            value in proptest::collection::vec("[ -~]{0,20}", 0..3),
            name in prop_oneof![Just("foo"), Just("accept-language"), Just("accept-encoding"), Just("cookie"), Just("accept")],
        ) {
            let mut request = HeaderMap::new();
            for line in &value {
                request.append(HeaderName::from_static(name), HeaderValue::from_str(line).unwrap());
            }
            let response = headers(&format!("vary: {name}"));
            let stored = Variant::capture(&VaryRule::of_response(&response), Fields::of(&request), &response, at(0));
            prop_assert!(stored.matches(Fields::of(&request)));
            prop_assert_eq!(select([&stored], Fields::of(&request)), Some(0));
        }

        #[test]
        fn opaque_values_match_only_what_is_the_same_but_for_space(a in "[a-c, ]{0,8}", b in "[a-c, ]{0,8}") {
            let squeeze = |text: &str| {
                text.split(',').map(|member| member.trim().to_owned()).collect::<Vec<_>>().join(",")
            };
            let stored = variant(&format!("foo: {a}"), "vary: foo");
            let found = stored.matches(Fields::of(&headers(&format!("foo: {b}"))));
            prop_assert_eq!(found, squeeze(&a) == squeeze(&b));
        }
    }

    #[test]
    fn a_variant_is_read_back_as_it_was_written_down() {
        let lines = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            headers
        };
        let response = lines(&[
            ("vary", "accept-encoding, accept-language, x-a, x-b"),
            ("content-encoding", "gzip"),
            ("content-language", "DE"),
        ]);
        #[rustfmt::skip]
        let requests = [
            lines(&[]),
            lines(&[("accept-encoding", "gzip, br;q=0.5"), ("accept-language", "de, en;q=0.3"), ("x-a", "1")]),
            lines(&[("accept-encoding", "gzip"), ("accept-encoding", "BR"), ("x-a", " 1"), ("x-a", "2 ,  3"), ("x-b", "")]),
        ];
        let date = SystemTime::UNIX_EPOCH;
        let rule = VaryRule::of_response(&response);
        for request in &requests {
            let variant = Variant::capture(&rule, Fields::of(request), &response, date);
            let (star, fields) = variant.at_rest();
            let revived = Variant::revive(star, fields, variant.date(), &response);
            assert_eq!(revived, variant, "{request:?}");
        }
    }
}
