use std::rc::Rc;

/// Something of a request that a plugin reads.
///
/// What is not declared in the [`Manifest`] is not there for the plugin: the host extracts the declared values once, and remembers
/// decisions by exactly these. The fewer and the coarser they are, the more often a decision is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `GET`, `POST`, ….
    Method,
    /// `http` or `https`.
    Scheme,
    /// Host and port.
    Authority,
    /// The path.
    Path,
    /// The whole query.
    Query,
    /// The operator's name of the route.
    Route,
    /// A field by its name in lower case. Repeated lines are joined with `, `.
    Header(String),
    /// A cookie by its name: the first of that name.
    Cookie(String),
    /// The names, never the values, of the cookies that pass the filter: sorted, each once, separated by spaces.
    CookieNames(NameFilter),
    /// A parameter of the query by its name: its first value, percent-encoded as it came.
    QueryParam(String),
    /// An attribute of the session that Weir keeps.
    Session(String),
    /// The client's address.
    ClientIp,
    /// The name that the client asked for in TLS.
    TlsSni,
    /// Canonical JSON (sorted keys, no spaces) of the request's content at this JSON Pointer; `""` is all of it.
    BodyJson(String),
    /// SHA-256 of the request's content, in hexadecimal digits.
    BodyDigest,
}

/// Which names: those that match one of `only` (all, where it is empty) and none of `except`. `*` stands for any text.
///
/// ```
/// use weir_plugin::NameFilter;
///
/// let filter = NameFilter::all().except(["_ga*", "csrftoken"]);
/// assert!(filter.lets_through("sessionid"));
/// assert!(!filter.lets_through("_ga_1X2Y3Z"));
/// let filter = NameFilter::only(["wordpress_logged_in_*"]);
/// assert!(filter.lets_through("wordpress_logged_in_5f4d"));
/// assert!(!filter.lets_through("theme"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct NameFilter(Rc<Names>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    /// The names that are let through; all of them, where this is empty.
    only: Vec<String>,
    /// The names that are not.
    except: Vec<String>,
}

impl PartialEq for NameFilter {
    /// Each request compares the filter that the plugin keeps with the declared one, which is a clone of it: nothing has to be read then.
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for NameFilter {}

impl NameFilter {
    /// Every name.
    pub fn all() -> Self {
        Self::default()
    }

    /// The names that match one of these patterns.
    pub fn only<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Self {
        Self(Rc::new(Names { only: patterns.into_iter().map(Into::into).collect(), except: Vec::new() }))
    }

    /// None of the names that match one of these patterns.
    #[must_use]
    pub fn except<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        Rc::make_mut(&mut self.0).except.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// The patterns one of which a name has to match; none: it need not.
    pub fn patterns(&self) -> &[String] {
        &self.0.only
    }

    /// The patterns none of which a name may match.
    pub fn exceptions(&self) -> &[String] {
        &self.0.except
    }

    /// Whether a name passes.
    pub fn lets_through(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| crate::glob::matches(pattern, name));
        (self.0.only.is_empty() || any(&self.0.only)) && !any(&self.0.except)
    }
}

/// What a plugin reads, and what may be remembered of what it says.
///
/// ```
/// use weir_plugin::Manifest;
///
/// let manifest = Manifest::new().header("Accept-Language").cookie("ab").response_header("Set-Cookie").pure();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) inputs: Vec<Input>,
    pub(crate) response_headers: Vec<String>,
    pub(crate) pure: bool,
    pub(crate) buckets: Vec<String>,
}

impl Manifest {
    /// A plugin that reads nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the method: [`Request::method`](crate::Request::method).
    #[must_use]
    pub fn method(self) -> Self {
        self.input(Input::Method)
    }

    /// Reads the scheme: [`Request::scheme`](crate::Request::scheme).
    #[must_use]
    pub fn scheme(self) -> Self {
        self.input(Input::Scheme)
    }

    /// Reads host and port: [`Request::authority`](crate::Request::authority).
    #[must_use]
    pub fn authority(self) -> Self {
        self.input(Input::Authority)
    }

    /// Reads the path: [`Request::path`](crate::Request::path). What is said of one path is remembered for that path only.
    #[must_use]
    pub fn path(self) -> Self {
        self.input(Input::Path)
    }

    /// Reads the whole query: [`Request::query`](crate::Request::query). Anything that a client adds to a query makes another request of
    /// it then; single parameters are better remembered.
    #[must_use]
    pub fn query(self) -> Self {
        self.input(Input::Query)
    }

    /// Reads the route's name: [`Request::route`](crate::Request::route).
    #[must_use]
    pub fn route(self) -> Self {
        self.input(Input::Route)
    }

    /// Reads a field: [`Request::header`](crate::Request::header).
    #[must_use]
    pub fn header(self, name: &str) -> Self {
        self.input(Input::Header(name.to_ascii_lowercase()))
    }

    /// Reads a cookie: [`Request::cookie`](crate::Request::cookie).
    #[must_use]
    pub fn cookie(self, name: &str) -> Self {
        self.input(Input::Cookie(name.to_owned()))
    }

    /// Reads which cookies there are: [`Request::cookie_names`](crate::Request::cookie_names). Much better remembered than their values.
    #[must_use]
    pub fn cookie_names(self, filter: NameFilter) -> Self {
        self.input(Input::CookieNames(filter))
    }

    /// Reads a parameter of the query: [`Request::query_param`](crate::Request::query_param).
    #[must_use]
    pub fn query_param(self, name: &str) -> Self {
        self.input(Input::QueryParam(name.to_owned()))
    }

    /// Reads an attribute of the session: [`Request::session`](crate::Request::session).
    #[must_use]
    pub fn session(self, name: &str) -> Self {
        self.input(Input::Session(name.to_owned()))
    }

    /// Reads the client's address: [`Request::client_ip`](crate::Request::client_ip).
    #[must_use]
    pub fn client_ip(self) -> Self {
        self.input(Input::ClientIp)
    }

    /// Reads the name in TLS: [`Request::tls_sni`](crate::Request::tls_sni).
    #[must_use]
    pub fn tls_sni(self) -> Self {
        self.input(Input::TlsSni)
    }

    /// Reads a part of the request's content, which is JSON: [`Request::body_json`](crate::Request::body_json). The host keeps
    /// the content of a request until it is whole only because of this.
    #[must_use]
    pub fn body_json(self, pointer: &str) -> Self {
        self.input(Input::BodyJson(pointer.to_owned()))
    }

    /// Reads the digest of the request's content: [`Request::body_digest`](crate::Request::body_digest).
    #[must_use]
    pub fn body_digest(self) -> Self {
        self.input(Input::BodyDigest)
    }

    /// Reads this; what is declared twice is read once.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        if !self.inputs.contains(&input) {
            self.inputs.push(input);
        }
        self
    }

    /// Reads a field of the origin's response: [`Response::header`](crate::Response::header).
    #[must_use]
    pub fn response_header(mut self, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if !self.response_headers.contains(&name) {
            self.response_headers.push(name);
        }
        self
    }

    /// Promises that the request and rate hooks say the same where all that is declared is the same, until the next reload (or for
    /// [`RequestDecision::remember_for`](crate::RequestDecision::remember_for)): the host then remembers what they said, which takes a small part of the
    /// time of a call. It asks again now and then, and counts broken promises. A hook that reads the clock or chance cannot promise it.
    #[must_use]
    pub fn pure(mut self) -> Self {
        self.pure = true;
        self
    }

    /// Names a bucket that the rate hook charges. The operator says how much it holds.
    #[must_use]
    pub fn bucket(mut self, name: &str) -> Self {
        if !self.buckets.iter().any(|bucket| bucket == name) {
            self.buckets.push(name.to_owned());
        }
        self
    }

    /// What is read of a request, in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    #[doc(hidden)]
    pub fn shared(&self) -> Declared {
        Declared {
            inputs: self.inputs.as_slice().into(),
            response_headers: self.response_headers.as_slice().into(),
        }
    }
}

/// What a plugin declared, shared by its requests.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Declared {
    pub(crate) inputs: Rc<[Input]>,
    pub(crate) response_headers: Rc<[String]>,
}
