use std::rc::Rc;

use crate::manifest::{Declared, Input, NameFilter};

/// A request, as far as the plugin declared that it reads it.
///
/// Text from the wire stands for bytes: U+0000 to U+00FF, one for each. Two different requests never look the same; [`text::utf8`](crate::text::utf8)
/// makes readable text of it.
///
/// ```
/// use weir_plugin::{Manifest, testing};
///
/// let manifest = Manifest::new().path().header("accept-language").cookie("ab");
/// let request = testing::get("http://shop.example/list").header("Accept-Language", "de").seen_by(&manifest);
/// assert_eq!(request.path(), "/list");
/// assert_eq!(request.header("accept-language"), Some("de"));
/// assert_eq!(request.cookie("ab"), None);
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) values: Vec<Option<String>>,
    pub(crate) declared: Rc<[Input]>,
}

impl Request {
    /// `GET`, `POST`, …
    ///
    /// # Panics
    /// Like all that follow: if the [`Manifest`](crate::Manifest) does not declare it. That is a mistake of the plugin, and the first test finds it.
    #[track_caller]
    pub fn method(&self) -> &str {
        self.always(&Input::Method, "method")
    }

    /// `http` or `https`, as the client used it.
    #[track_caller]
    pub fn scheme(&self) -> &str {
        self.always(&Input::Scheme, "scheme")
    }

    /// Host and port in lower case, without a default port.
    #[track_caller]
    pub fn authority(&self) -> &str {
        self.always(&Input::Authority, "authority")
    }

    /// The path as the origin sees it, percent-encoded as it came.
    #[track_caller]
    pub fn path(&self) -> &str {
        self.always(&Input::Path, "path")
    }

    /// The query without its `?`; `None` where there is none.
    #[track_caller]
    pub fn query(&self) -> Option<&str> {
        self.find(|input| *input == Input::Query, "query", "")
    }

    /// The operator's name of the route.
    #[track_caller]
    pub fn route(&self) -> &str {
        self.always(&Input::Route, "route")
    }

    /// A field, its lines joined with `, `.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.find(
            |input| matches!(input, Input::Header(declared) if declared.eq_ignore_ascii_case(name)),
            "header",
            name,
        )
    }

    /// A cookie.
    #[track_caller]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.find(|input| matches!(input, Input::Cookie(declared) if declared == name), "cookie", name)
    }

    /// The names of the cookies that pass the filter: sorted, each once.
    #[track_caller]
    pub fn cookie_names(&self, filter: &NameFilter) -> impl Iterator<Item = &str> {
        let names = self.find(
            |input| matches!(input, Input::CookieNames(declared) if declared == filter),
            "cookie_names",
            "…",
        );
        // A cookie without a name is one too: an empty text is one empty name.
        names.into_iter().flat_map(|names| names.split(' '))
    }

    /// The first value of a parameter of the query, percent-encoded as it came.
    #[track_caller]
    pub fn query_param(&self, name: &str) -> Option<&str> {
        self.find(
            |input| matches!(input, Input::QueryParam(declared) if declared == name),
            "query_param",
            name,
        )
    }

    /// An attribute of the session.
    #[track_caller]
    pub fn session(&self, name: &str) -> Option<&str> {
        self.find(|input| matches!(input, Input::Session(declared) if declared == name), "session", name)
    }

    /// The client's address, behind the proxies that the operator trusts.
    #[track_caller]
    pub fn client_ip(&self) -> Option<&str> {
        self.find(|input| *input == Input::ClientIp, "client_ip", "")
    }

    /// The name that the client asked for in TLS.
    #[track_caller]
    pub fn tls_sni(&self) -> Option<&str> {
        self.find(|input| *input == Input::TlsSni, "tls_sni", "")
    }

    /// Canonical JSON of the content at a JSON Pointer; `None` where the content is no JSON or has nothing there.
    #[track_caller]
    pub fn body_json(&self, pointer: &str) -> Option<&str> {
        self.find(
            |input| matches!(input, Input::BodyJson(declared) if declared == pointer),
            "body_json",
            pointer,
        )
    }

    /// SHA-256 of the content, in hexadecimal digits.
    #[track_caller]
    pub fn body_digest(&self) -> Option<&str> {
        self.find(|input| *input == Input::BodyDigest, "body_digest", "")
    }

    /// All that was declared, with its values: for plugins whose configuration says what they read.
    ///
    /// ```
    /// use weir_plugin::{Input, Manifest, testing};
    ///
    /// let manifest = Manifest::new().header("accept").client_ip();
    /// let request = testing::get("/").client("203.0.113.7").seen_by(&manifest);
    /// let all: Vec<_> = request.inputs().collect();
    /// assert_eq!(all, [(&Input::Header("accept".into()), None), (&Input::ClientIp, Some("203.0.113.7"))]);
    /// ```
    pub fn inputs(&self) -> impl Iterator<Item = (&Input, Option<&str>)> {
        self.declared.iter().zip(self.values.iter().map(Option::as_deref))
    }

    /// The value of what was declared so.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn value(&self, input: &Input) -> Option<&str> {
        self.find(|declared| declared == input, "input", "…")
    }

    /// What each request has.
    #[track_caller]
    fn always(&self, input: &Input, builder: &str) -> &str {
        self.find(|declared| declared == input, builder, "").unwrap_or_default()
    }

    #[track_caller]
    fn find(&self, is_it: impl Fn(&Input) -> bool, builder: &str, name: &str) -> Option<&str> {
        match self.declared.iter().position(is_it) {
            Some(position) => self.values.get(position)?.as_deref(),
            None => undeclared(builder, name),
        }
    }
}

/// The head of an origin's response, as far as the plugin declared that it reads it.
///
/// ```
/// use weir_plugin::{Manifest, testing};
///
/// let manifest = Manifest::new().response_header("set-cookie");
/// let response = testing::response(200).header("Set-Cookie", "a=1").seen_by(&manifest);
/// assert!(response.is_success());
/// assert_eq!(response.header("set-cookie"), Some("a=1"));
/// ```
#[derive(Debug, Clone)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) content_length: Option<u64>,
    pub(crate) values: Vec<Option<String>>,
    pub(crate) declared: Rc<[String]>,
}

impl Response {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether its status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How many bytes follow, where the origin said so.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// A field, its lines joined with `, `.
    ///
    /// # Panics
    /// If the [`Manifest`](crate::Manifest) does not declare it.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.declared.iter().position(|declared| declared.eq_ignore_ascii_case(name)) {
            Some(position) => self.values.get(position)?.as_deref(),
            None => undeclared("response_header", name),
        }
    }
}

#[track_caller]
fn undeclared(builder: &str, name: &str) -> ! {
    let name = if name.is_empty() { String::new() } else { format!("{name:?}") };
    panic!("the manifest does not declare `.{builder}({name})`, so it cannot be read")
}

impl Declared {
    #[doc(hidden)]
    pub fn request(&self, values: Vec<Option<String>>) -> Request {
        Request { values, declared: Rc::clone(&self.inputs) }
    }

    #[doc(hidden)]
    pub fn response(
        &self,
        status: u16,
        values: Vec<Option<String>>,
        content_length: Option<u64>,
    ) -> Response {
        Response { status, content_length, values, declared: Rc::clone(&self.response_headers) }
    }
}
