//! What a plugin may read of a request, and how the declared part of it is gathered: into one buffer, each part by its presence, its
//! length and its bytes, so that two requests have the same bytes only where all that was declared is the same.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_semantics::Now;
use cache_semantics::cookies::{self, Pair};
use cache_semantics::glob::Globs;
use cache_semantics::json::Json;
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// A request, borrowed from whoever serves it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Its method.
    pub method: &'r str,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// Host and port, normal.
    pub authority: &'r str,
    /// The path.
    pub path: &'r str,
    /// The query, without `?`.
    pub query: Option<&'r str>,
    /// The operator's name of the route.
    pub route: &'r str,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The name it asked for in TLS.
    pub tls_sni: Option<&'r str>,
    /// Attributes of its session.
    pub session: &'r [Attribute<'r>],
    /// Its content, where it was buffered.
    pub content: Option<&'r Content>,
    /// What all hooks of it may still take together; `None`: nobody counts.
    pub allowance: Option<&'r Allowance>,
    /// When.
    pub now: Now,
}

/// An attribute of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'r> {
    /// Its name.
    pub name: &'r str,
    /// A text as it is, everything else as RFC 9651 writes it: what a plugin reads.
    pub value: &'r str,
    /// Whether it is a text. A plugin is not told, for it hardly ever matters; a key is, for an origin that is told of the attribute may answer
    /// otherwise to `1` than to `"1"`.
    pub is_text: bool,
}

/// What the hooks of one request may take together, beside the deadline of each call. The default is nothing.
#[derive(Debug, Default)]
pub struct Allowance(AtomicU64);

impl Allowance {
    /// So much.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self(AtomicU64::new(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Takes this from it.
    pub fn spend(&self, time: Duration) {
        let spent = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The hooks of a request come one after the other.
        let left = self.0.load(Ordering::Relaxed).saturating_sub(spent);
        self.0.store(left, Ordering::Relaxed);
    }
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct Response<'r> {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// How long its content is, where that is known.
    pub content_length: Option<u64>,
}

/// Content of a request that was received whole.
#[derive(Debug, Clone)]
pub struct Content {
    digest: String,
    json: Option<Json>,
}

impl Content {
    /// Reads it. `as_json`: whether anybody will ask for parts of it.
    #[must_use]
    pub fn new(bytes: &[u8], as_json: bool) -> Self {
        let digest = HEXLOWER.encode(&Sha256::digest(bytes));
        let json = if as_json { Json::parse(bytes).ok() } else { None };
        Self { digest, json }
    }

    /// Whether it is JSON that has one meaning: no name twice in an object.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// Its SHA-256, in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Something that a plugin reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// Host and port.
    Authority,
    /// The path.
    Path,
    /// The whole query.
    Query,
    /// The operator's name of the route.
    Route,
    /// A field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// Which cookies there are.
    CookieNames(NameFilter),
    /// A parameter.
    QueryParam(String),
    /// An attribute of the session.
    Session(String),
    /// The client's address.
    ClientIp,
    /// The name it asked for in TLS.
    TlsSni,
    /// Part of its content.
    BodyJson(String),
    /// The digest of its content.
    BodyDigest,
}

/// Which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFilter {
    /// One of these; empty: any.
    pub only: Globs,
    /// None of these.
    pub except: Globs,
}

impl NameFilter {
    /// Isomorphic names: what is no ASCII is matched byte by byte as it is shown.
    fn takes(&self, name: &[u8]) -> bool {
        let shown = if name.is_ascii() {
            Cow::Borrowed(name)
        } else {
            Cow::Owned(isomorphic(name).into_owned().into_bytes())
        };
        (self.only.is_empty() || self.only.any_matches(&shown)) && !self.except.any_matches(&shown)
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Scheme => f.write_str("scheme"),
            Self::Authority => f.write_str("authority"),
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::CookieNames(_) => f.write_str("cookie-names"),
            Self::QueryParam(name) => write!(f, "query:{name}"),
            Self::Session(name) => write!(f, "session:{name}"),
            Self::ClientIp => f.write_str("client-ip"),
            Self::TlsSni => f.write_str("tls-sni"),
            Self::BodyJson(pointer) => write!(f, "body-json:{pointer}"),
            Self::BodyDigest => f.write_str("body-digest"),
        }
    }
}

impl Input {
    /// Whether it needs the content of requests.
    #[must_use]
    pub fn is_content(&self) -> bool {
        matches!(self, Self::BodyJson(_) | Self::BodyDigest)
    }
}

/// The parameters of a query, as they stand.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str, &str)> {
    let parts = query.into_iter().flat_map(|query| query.split('&')).filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (part, name, value)
    })
}

/// What it read of one request; memory that is used again.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Of each input a mark and, where it is there, its length and its bytes.
    bytes: Vec<u8>,
    /// For each attribute of the session whether it is something else than a text.
    kinds: Vec<u8>,
    text: String,
}

/// Marks of parts.
const NONE: u8 = 0;
const TEXT: u8 = 1;
const ITEM: u8 = 2;

/// So many cookies lie on the stack.
const COOKIES: usize = 16;

/// The bytes of the length of a part.
const LENGTH: usize = size_of::<u64>();

/// The cookies of a request, read when the first input asks for one.
struct Jar<'r> {
    headers: &'r HeaderMap,
    pairs: SmallVec<[Pair<'r>; COOKIES]>,
    is_read: bool,
}

impl<'r> Jar<'r> {
    fn pairs(&mut self) -> &[Pair<'r>] {
        if !std::mem::replace(&mut self.is_read, true) {
            self.pairs.extend(cookies::pairs(self.headers));
        }
        &self.pairs
    }
}

impl Gathered {
    /// Reads the declared parts of a request.
    pub fn read(&mut self, inputs: &[Input], request: &Request<'_>) {
        self.bytes.clear();
        self.kinds.clear();
        let mut jar = Jar { headers: request.headers, pairs: SmallVec::new(), is_read: false };
        for input in inputs {
            self.input(input, request, &mut jar);
        }
    }

    fn input<'r>(&mut self, input: &Input, request: &Request<'r>, jar: &mut Jar<'r>) {
        match input {
            Input::Method => self.part(Some(request.method.as_bytes())),
            Input::Scheme => self.part(Some(request.scheme.as_bytes())),
            Input::Authority => self.part(Some(request.authority.as_bytes())),
            Input::Path => self.part(Some(request.path.as_bytes())),
            Input::Query => self.part(request.query.map(str::as_bytes)),
            Input::Route => self.part(Some(request.route.as_bytes())),
            Input::Header(name) => self.joined(b", ", request.headers.get_all(name).iter()),
            Input::Cookie(wanted) => {
                let found = jar.pairs().iter().find(|pair| pair.name == wanted.as_bytes());
                self.part(found.map(|pair| pair.value));
            }
            Input::CookieNames(filter) => {
                let all = jar.pairs().iter().map(|pair| pair.name);
                let mut names = SmallVec::<[&[u8]; COOKIES]>::new();
                names.extend(all.filter(|name| !name.is_empty() && filter.takes(name)));
                names.sort_unstable();
                names.dedup();
                self.joined(b" ", names);
            }
            Input::QueryParam(wanted) => {
                let mut found = parameters(request.query).filter(|(_, name, _)| name == wanted);
                let value = found.next().map(|(_, _, value)| value.as_bytes());
                self.part(value);
            }
            Input::Session(wanted) => {
                let found = request.session.iter().find(|attribute| attribute.name == wanted);
                let mark = self.bytes.len();
                self.part(found.map(|attribute| attribute.value.as_bytes()));
                let is_item = found.is_some_and(|attribute| !attribute.is_text);
                if is_item {
                    self.bytes[mark] = ITEM;
                }
                self.kinds.push(u8::from(is_item));
            }
            Input::ClientIp => {
                let mut text = std::mem::take(&mut self.text);
                text.clear();
                let address = request.client_ip.map(|address| write!(text, "{address}"));
                self.part(address.map(|_| text.as_bytes()));
                self.text = text;
            }
            Input::TlsSni => self.part(request.tls_sni.map(str::as_bytes)),
            Input::BodyJson(pointer) => {
                let json = request.content.and_then(|content| content.json.as_ref());
                let found = json.and_then(|json| json.at(pointer));
                let text = found.map(Json::canonical);
                self.part(text.as_deref().map(str::as_bytes));
            }
            Input::BodyDigest => {
                let digest = request.content.map(|content| content.digest.as_bytes());
                self.part(digest);
            }
        }
    }

    /// Appends a part.
    fn part(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.bytes.push(NONE);
            return;
        };
        self.bytes.reserve(1 + LENGTH + value.len());
        self.bytes.push(TEXT);
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// Appends a part of several; without any there is none.
    fn joined<V: AsRef<[u8]>>(&mut self, separator: &[u8], values: impl IntoIterator<Item = V>) {
        let mark = self.bytes.len();
        self.part(None);
        let mut start = None;
        for value in values {
            match start {
                Some(_) => self.bytes.extend_from_slice(separator),
                None => {
                    self.bytes.truncate(mark);
                    self.part(Some(b""));
                    start = Some(self.bytes.len());
                }
            }
            self.bytes.extend_from_slice(value.as_ref());
        }
        if let Some(start) = start {
            let length = (self.bytes.len() - start) as u64;
            self.bytes[start - LENGTH..start].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// The parts of the inputs, in their order.
    fn parts(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (&mark, behind) = rest.split_first()?;
            rest = behind;
            if mark == NONE {
                return Some(None);
            }
            let (length, behind) = rest.split_first_chunk::<LENGTH>()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (part, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(Some(part))
        })
    }

    /// All of it: equal only for requests in which all that was declared is equal.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What of the attributes of the session a plugin cannot tell by reading them: which of them are no texts. `None`: all are.
    #[must_use]
    pub fn kinds(&self) -> Option<&[u8]> {
        self.kinds.contains(&1).then_some(&self.kinds)
    }

    /// Hands over the values of the inputs.
    pub fn with_values<T>(&self, inputs: &[Input], hand_over: impl FnOnce(&[Option<&str>]) -> T) -> T {
        // Nearly all that comes is ASCII, and few things are read: then nothing is made of it.
        let mut texts = [None; FEW];
        if let Some(texts) = texts.get_mut(..inputs.len())
            && self.plain(texts)
        {
            return hand_over(texts);
        }
        let values: Vec<_> = self.values(inputs).collect();
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        hand_over(&values)
    }

    /// The values of the inputs as they are, if all are ASCII.
    fn plain<'g>(&'g self, texts: &mut [Option<&'g str>]) -> bool {
        self.parts().zip(texts).all(|(part, place)| {
            *place = part.and_then(ascii);
            place.is_some() == part.is_some()
        })
    }

    /// The values of the inputs.
    fn values<'g>(&'g self, inputs: &'g [Input]) -> impl Iterator<Item = Option<Cow<'g, str>>> {
        self.parts().zip(inputs).map(|(part, input)| {
            let bytes = part?;
            // JSON is text already; all else is bytes from the wire.
            Some(match input {
                Input::BodyJson(_) => String::from_utf8_lossy(bytes),
                _ => isomorphic(bytes),
            })
        })
    }
}

/// So many inputs are handed over without an allocation, if they are ASCII.
const FEW: usize = 16;

/// Byte N becomes U+00NN.
#[must_use]
pub fn isomorphic(bytes: &[u8]) -> Cow<'_, str> {
    // Nearly all of it is ASCII.
    ascii(bytes)
        .map_or_else(|| Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()), Cow::Borrowed)
}

/// As text, if it is ASCII.
fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())
}

/// The bytes that text stands for; `None` where it stands for none.
#[must_use]
pub fn from_isomorphic(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let bytes: Result<Vec<u8>, _> = text.chars().map(|char| u8::try_from(u32::from(char))).collect();
    bytes.ok().map(Cow::Owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use http::header;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn now() -> Now {
        Now { wall: std::time::UNIX_EPOCH, mono: std::time::Instant::now() }
    }

    pub(crate) fn request<'r>(path: &'r str, query: Option<&'r str>, headers: &'r HeaderMap) -> Request<'r> {
        Request {
            method: "GET",
            scheme: "http",
            authority: "a.test",
            path,
            query,
            route: "r",
            headers,
            client_ip: None,
            tls_sni: None,
            session: &[],
            content: None,
            allowance: None,
            now: now(),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn value_of(input: Input, request: &Request<'_>) -> Option<String> {
        let inputs = [input];
        let mut gathered = Gathered::default();
        gathered.read(&inputs, request);
        gathered.values(&inputs).next().unwrap().map(Cow::into_owned)
    }

    #[test]
    fn inputs_are_read_as_the_interface_says() {
        let headers = headers(&[
            ("accept", "a"),
            ("accept", "b"),
            ("cookie", "x=1; y=\"2\"; x=3"),
            ("cookie", "flag; _ga=9"),
        ]);
        let content = Content::new(br#"{"b": [1, {"c": null}], "a": "\u00e9"}"#, true);
        let mut given = request("/p", Some("q=%41&r&q=2&s="), &headers);
        given.client_ip = Some([10, 0, 0, 1].into());
        given.session = &[
            Attribute { name: "tier", value: "gold", is_text: true },
            Attribute { name: "number", value: "1", is_text: false },
        ];
        given.content = Some(&content);
        let header = |name| Input::Header(HeaderName::from_static(name));
        let glob = |text: &str| Globs::from_iter([text]);
        let none = Globs::default;
        let names = |only, except| Input::CookieNames(NameFilter { only, except });
        let param = |name: &str| Input::QueryParam(name.to_owned());
        let json = |pointer: &str| Input::BodyJson(pointer.to_owned());
        #[rustfmt::skip]
        let cases = [
            (Input::Method,                          Some("GET")),
            (Input::Scheme,                          Some("http")),
            (Input::Authority,                       Some("a.test")),
            (Input::Path,                            Some("/p")),
            (Input::Query,                           Some("q=%41&r&q=2&s=")),
            (Input::Route,                           Some("r")),
            (header("accept"),                       Some("a, b")),
            (header("te"),                           None),
            (Input::Cookie("x".into()),              Some("1")),
            (Input::Cookie("y".into()),              Some("\"2\"")),
            (Input::Cookie("flag".into()),           Some("")),
            (Input::Cookie("z".into()),              None),
            (names(none(), none()),                  Some("_ga flag x y")),
            (names(none(), glob("_*")),              Some("flag x y")),
            (names(glob("_*"), none()),              Some("_ga")),
            (names(glob("session*"), none()),        None),
            (param("q"),                             Some("%41")),
            (param("r"),                             Some("")),
            (param("s"),                             Some("")),
            (param("t"),                             None),
            (Input::Session("tier".into()),          Some("gold")),
            (Input::Session("number".into()),        Some("1")),
            (Input::Session("user".into()),          None),
            (Input::ClientIp,                        Some("10.0.0.1")),
            (Input::TlsSni,                          None),
            (json("/b/1"),                           Some("{\"c\":null}")),
            (json("/a"),                             Some("\"é\"")),
            (json("/none"),                          None),
        ];
        for (input, expected) in cases {
            assert_eq!(value_of(input.clone(), &given).as_deref(), expected, "{input:?}");
        }
    }

    #[test]
    fn bytes_from_the_wire_stay_apart() {
        let one: HeaderMap =
            [(header::ACCEPT, http::HeaderValue::from_bytes(b"\xe9").unwrap())].into_iter().collect();
        let other: HeaderMap =
            [(header::ACCEPT, http::HeaderValue::from_bytes("é".as_bytes()).unwrap())].into_iter().collect();
        let value =
            |headers: &HeaderMap| value_of(Input::Header(header::ACCEPT), &request("/", None, headers));
        assert_eq!(value(&one).as_deref(), Some("é"));
        assert_eq!(value(&other).as_deref(), Some("Ã©"));
        assert_eq!(from_isomorphic("é").as_deref(), Some(&b"\xe9"[..]));
        assert_eq!(from_isomorphic("€"), None);
    }

    /// What a plugin declared in the property tests: everything that a request has.
    pub(crate) fn reads_all() -> Vec<Input> {
        vec![
            Input::Path,
            Input::Query,
            Input::Route,
            Input::Header(header::ACCEPT),
            Input::Header(header::COOKIE),
            Input::Cookie("a".to_owned()),
            Input::QueryParam("q".to_owned()),
            Input::ClientIp,
            Input::Session("tier".to_owned()),
            Input::Session("user".to_owned()),
        ]
    }

    /// The last are attributes of the session: names, values, and whether they are texts.
    type Parts = (
        String,
        Option<String>,
        Vec<Vec<u8>>,
        Vec<String>,
        Option<u8>,
        String,
        BTreeMap<&'static str, (String, bool)>,
    );

    pub(crate) fn parts() -> impl Strategy<Value = Parts> {
        (
            "/[a-c]{0,3}",
            proptest::option::of("[a-c=&q]{0,6}"),
            proptest::collection::vec(proptest::collection::vec(0x80_u8..0x84, 0..3), 0..3),
            proptest::collection::vec("[ab=; ]{0,6}", 0..3),
            proptest::option::of(0_u8..3),
            "[rs]",
            proptest::collection::btree_map(
                proptest::sample::select(vec!["tier", "user"]),
                ("[01]{0,1}", any::<bool>()),
                0..3,
            ),
        )
    }

    pub(crate) fn map_of(parts: &Parts) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in &parts.2 {
            headers.append(header::ACCEPT, http::HeaderValue::from_bytes(value).unwrap());
        }
        for value in &parts.3 {
            headers.append(header::COOKIE, value.parse().unwrap());
        }
        headers
    }

    pub(crate) fn session_of(parts: &Parts) -> Vec<Attribute<'_>> {
        let attributes = parts.6.iter();
        attributes.map(|(name, (value, is_text))| Attribute { name, value, is_text: *is_text }).collect()
    }

    pub(crate) fn request_of<'r>(
        parts: &'r Parts,
        headers: &'r HeaderMap,
        session: &'r [Attribute<'r>],
    ) -> Request<'r> {
        let mut given = request(&parts.0, parts.1.as_deref(), headers);
        given.client_ip = parts.4.map(|last| IpAddr::from([10, 0, 0, last]));
        given.route = &parts.5;
        given.session = session;
        given
    }

    /// Parts of a request; then the attributes of its session, each with whether it is a text.
    type Told = (Vec<Option<Vec<u8>>>, Vec<Option<(String, bool)>>);

    /// What was declared, told apart in the plainest way there is.
    fn declared(request: &Request<'_>) -> Told {
        let joined = |name: HeaderName| {
            let lines: Vec<&[u8]> =
                request.headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
            (!lines.is_empty()).then(|| lines.join(&b", "[..]))
        };
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let cookie =
            cookies::pairs(request.headers).find(|pair| pair.name == b"a").map(|pair| pair.value.to_vec());
        let parameter =
            parameters(request.query).find(|(_, name, _)| *name == "q").map(|(_, _, value)| value.into());
        let ip = request.client_ip.map(|ip| ip.to_string().into_bytes());
        let attribute = |name| {
            let found = request.session.iter().find(|attribute| attribute.name == name)?;
            Some((found.value.to_owned(), found.is_text))
        };
        let of_request = vec![
            text(request.path),
            request.query.and_then(text),
            text(request.route),
            joined(header::ACCEPT),
            joined(header::COOKIE),
            cookie,
            parameter,
            ip,
        ];
        (of_request, vec![attribute("tier"), attribute("user")])
    }

    proptest! {
        #[test]
        fn two_requests_are_gathered_alike_only_where_all_that_was_declared_is_alike(one in parts(), other in parts()) {
            let (first, second) = (map_of(&one), map_of(&other));
            let (session, another) = (session_of(&one), session_of(&other));
            let (one, other) = (request_of(&one, &first, &session), request_of(&other, &second, &another));
            let reads = reads_all();
            let (mut a, mut b) = (Gathered::default(), Gathered::default());
            a.read(&reads, &one);
            b.read(&reads, &other);
            prop_assert_eq!(a.bytes() == b.bytes(), declared(&one) == declared(&other));
            // What the plugin itself cannot tell apart are the kinds, and what it says is kept under them.
            let kinds = |request: &Request<'_>| {
                let kind = |(_, is_text): (String, bool)| !is_text;
                let kinds: Vec<bool> = declared(request).1.into_iter().map(|found| found.is_some_and(kind)).collect();
                kinds.contains(&true).then_some(kinds)
            };
            let gathered_kinds = |gathered: &Gathered| {
                gathered.kinds().map(|kinds| kinds.iter().map(|kind| *kind == 1).collect::<Vec<_>>())
            };
            prop_assert_eq!(gathered_kinds(&a), kinds(&one));
            let values = |gathered: &Gathered| gathered.values(&reads).map(|value| value.map(Cow::into_owned)).collect::<Vec<_>>();
            prop_assert!(a.bytes() != b.bytes() || values(&a) == values(&b));
            let handed_over = a.with_values(&reads, |all| all.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>());
            prop_assert_eq!(handed_over, values(&a));
        }
    }
}
