use std::time::Duration;

/// What the cache does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// Looks it up, and stores what the origin answers.
    Lookup,
    /// Neither looks up nor stores.
    Bypass,
    /// Asks the origin in any case, and stores what it answers.
    Refresh,
}

/// Which query the origin sees on a lookup or fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardQuery {
    /// As the route has it.
    AsRouted,
    /// This one, without its `?`; with `None` there is none.
    Exactly(Option<String>),
}

/// Which cookies the origin sees on a lookup or fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardCookies {
    /// As the route has it.
    AsRouted,
    /// Those of these names.
    Only(Vec<String>),
}

/// What the request hook says: whether the cache is used, and which requests are the same.
///
/// Scheme, authority, method class, route, plugin, and path and query as they are forwarded are in every key. What the plugin says is added to
/// that: it never meets what others store, and a purge of a URL finds all of its keys and variants. To make requests with different queries the same,
/// forward the same query.
///
/// **What a key ignores must not reach the origin.** An origin that answers differently for something that the key leaves out would let one visitor
/// decide what all others see: withhold it with [`forward_query`](Self::forward_query) and [`forward_cookies`](Self::forward_cookies).
///
/// ```
/// use weir_plugin::RequestDecision;
///
/// let same_for_all = RequestDecision::lookup().forward_cookies(["lang"]).variant("de");
/// let personal = RequestDecision::bypass();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct RequestDecision {
    /// What the cache does.
    pub mode: CacheMode,
    /// What makes two requests the same, beside their URL.
    pub key: Option<String>,
    /// What tells responses of one key apart.
    pub variants: Vec<String>,
    /// The query that the origin sees.
    pub query: ForwardQuery,
    /// The cookies that the origin sees.
    pub cookies: ForwardCookies,
    /// What the response and invalidate hooks of the same request are handed.
    pub carry: Option<String>,
    /// How long the same request has this decision; `None` is until the next reload.
    pub remember_for: Option<Duration>,
}

impl RequestDecision {
    /// Looks it up, and stores what the origin answers.
    pub fn lookup() -> Self {
        Self::with(CacheMode::Lookup)
    }

    /// Passes the cache: neither looks up nor stores. All of the request reaches the origin.
    pub fn bypass() -> Self {
        Self::with(CacheMode::Bypass)
    }

    /// Asks the origin in any case, and stores what it answers.
    pub fn refresh() -> Self {
        Self::with(CacheMode::Refresh)
    }

    fn with(mode: CacheMode) -> Self {
        Self {
            mode,
            key: None,
            variants: Vec::new(),
            query: ForwardQuery::AsRouted,
            cookies: ForwardCookies::AsRouted,
            carry: None,
            remember_for: None,
        }
    }

    /// Adds this to what makes two requests the same. At most 4 KiB; [`digest::sha256_hex`](crate::digest::sha256_hex) makes it short.
    ///
    /// ```
    /// # use weir_plugin::RequestDecision;
    /// let tenant_pages = RequestDecision::lookup().key("tenant=7");
    /// assert_eq!(tenant_pages.key.as_deref(), Some("tenant=7"));
    /// ```
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds something that tells responses of one key apart. A purge of the key removes them all. The order counts.
    ///
    /// ```
    /// # use weir_plugin::RequestDecision;
    /// let decision = RequestDecision::lookup().variant("tier=gold").variant("lang=de");
    /// assert_eq!(decision.variants, ["tier=gold", "lang=de"]);
    /// ```
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variants.push(variant.into());
        self
    }

    /// Lets the origin see this query only (without its `?`; `None`: none at all). It is part of the key in this form.
    ///
    /// ```
    /// # use weir_plugin::RequestDecision;
    /// let one_for_all_queries = RequestDecision::lookup().forward_query(None);
    /// ```
    pub fn forward_query<'q>(mut self, query: impl Into<Option<&'q str>>) -> Self {
        self.query = ForwardQuery::Exactly(query.into().map(str::to_owned));
        self
    }

    /// Lets the origin see the cookies of these names only.
    ///
    /// ```
    /// # use weir_plugin::{ForwardCookies, RequestDecision};
    /// let nothing: [&str; 0] = [];
    /// let decision = RequestDecision::lookup().forward_cookies(nothing);
    /// assert_eq!(decision.cookies, ForwardCookies::Only(vec![]));
    /// ```
    pub fn forward_cookies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.cookies = ForwardCookies::Only(names.into_iter().map(Into::into).collect());
        self
    }

    /// Hands a text to the response and invalidate hooks of the same request. They may run in another instance of the plugin: nothing else links them.
    pub fn carry(mut self, text: impl Into<String>) -> Self {
        self.carry = Some(text.into());
        self
    }

    /// Bounds how long the host remembers this decision of a [pure](crate::Manifest::pure) plugin: for one that hangs on something that ends.
    ///
    /// ```
    /// # use {std::time::Duration, weir_plugin::RequestDecision};
    /// let decision = RequestDecision::lookup().variant("user=42").remember_for(Duration::from_secs(60));
    /// ```
    pub fn remember_for(mut self, time: Duration) -> Self {
        self.remember_for = Some(time);
        self
    }
}

/// A key that the host makes by itself, without a call for each request: as fast as a key without any plugin.
///
/// Scheme, authority, method class, path, route and plugin are always in it. The origin sees what the plan keeps, as it is in the key.
///
/// ```
/// use weir_plugin::KeyPlan;
///
/// let plan = KeyPlan::new().drop_params(["utm_*"]).sort_params().header("accept-language").cookies(["currency"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct KeyPlan {
    /// The path in lower case.
    pub lower_path: bool,
    /// Only these parameters of the query; `None` keeps all.
    pub keep: Option<Vec<String>>,
    /// Not these.
    pub drop: Vec<String>,
    /// Parameters in the order of their names.
    pub sort: bool,
    /// Fields in the key.
    pub headers: Vec<String>,
    /// The cookies that are in the key and forwarded; `None` leaves cookies to the route.
    pub cookies: Option<Vec<String>>,
    /// Attributes of the session in the key.
    pub session: Vec<String>,
}

impl KeyPlan {
    /// Path and whole query.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the path in lower case, for origins that do not care.
    pub fn lower_path(mut self) -> Self {
        self.lower_path = true;
        self
    }

    /// Keeps only these parameters of the query. `*` stands for any text.
    pub fn keep_params<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.keep.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Drops these parameters of the query, even where they are to be kept. `*` stands for any text.
    pub fn drop_params<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.drop.extend(names.into_iter().map(Into::into));
        self
    }

    /// Puts parameters into the order of their names; those of one name stay in theirs.
    pub fn sort_params(mut self) -> Self {
        self.sort = true;
        self
    }

    /// Puts a field into the key.
    pub fn header(mut self, name: &str) -> Self {
        self.headers.push(name.to_ascii_lowercase());
        self
    }

    /// Puts these cookies into the key, and lets the origin see only them.
    pub fn cookies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.cookies.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Puts an attribute of the session into the key.
    pub fn session(mut self, name: &str) -> Self {
        self.session.push(name.to_owned());
        self
    }
}

/// How a response is stored. What it does not say is as RFC 9111 reads the origin's fields.
///
/// A lifetime given here never makes shared what the origin calls `private`, `no-store` or answers with `Set-Cookie`: only the operator can, in those words.
///
/// ```
/// use std::time::Duration;
/// use weir_plugin::StorePolicy;
///
/// let policy = StorePolicy::new().ttl(Duration::from_secs(600)).tag("posts").tag("post:7");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct StorePolicy {
    /// How long it is fresh.
    pub ttl: Option<Duration>,
    /// How long after that it is served while it is fetched anew.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after that it is served when the origin fails.
    pub stale_if_error: Option<Duration>,
    /// Surrogate tags.
    pub tags: Vec<String>,
    /// Request fields added to `Vary`.
    pub vary: Vec<String>,
    /// Response fields dropped before storing.
    pub strip_headers: Vec<String>,
}

impl StorePolicy {
    /// As RFC 9111 says.
    pub fn new() -> Self {
        Self::default()
    }

    /// It is fresh for so long.
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// So long after that it is served while it is fetched anew.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.stale_while_revalidate = Some(time);
        self
    }

    /// So long after that it is served when the origin fails.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.stale_if_error = Some(time);
        self
    }

    /// Adds a surrogate tag: a purge of the tag reaches the response.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds a request field to `Vary`: another value of it is another response.
    pub fn vary(mut self, field: &str) -> Self {
        self.vary.push(field.to_ascii_lowercase());
        self
    }

    /// Drops a response field before storing.
    pub fn strip_header(mut self, field: &str) -> Self {
        self.strip_headers.push(field.to_ascii_lowercase());
        self
    }
}

/// Whether a response is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StoreDecision {
    /// As RFC 9111 reads the origin's fields.
    #[default]
    Default,
    /// So.
    Store(StorePolicy),
    /// Not.
    NoStore,
    /// Not, and for so long nobody waits for another's fill of this key.
    HitForPass(Duration),
}

/// What the response hook says: whether and how it is stored.
///
/// ```
/// use std::time::Duration;
/// use weir_plugin::{ResponseDecision, StorePolicy};
///
/// let as_the_origin_says = ResponseDecision::default();
/// let ten_minutes = ResponseDecision::store(StorePolicy::new().ttl(Duration::from_secs(600)));
/// let never = ResponseDecision::no_store();
/// let not_worth_waiting_for = ResponseDecision::hit_for_pass(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct ResponseDecision {
    /// Whether it is stored.
    pub store: StoreDecision,
}

impl ResponseDecision {
    /// Stores it so.
    pub fn store(policy: StorePolicy) -> Self {
        Self { store: StoreDecision::Store(policy) }
    }

    /// Does not store it.
    pub fn no_store() -> Self {
        Self { store: StoreDecision::NoStore }
    }

    /// Does not store it, and for so long nobody waits for another's fill of this key: for what is never stored.
    pub fn hit_for_pass(time: Duration) -> Self {
        Self { store: StoreDecision::HitForPass(time) }
    }
}

/// What is purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeTarget {
    /// All with this surrogate tag.
    Tag(String),
    /// All with a tag that matches: `*` is any text.
    TagGlob(String),
    /// The responses of one path and query.
    Key(String),
    /// All whose path begins so.
    PathPrefix(String),
    /// All of the request's route.
    Route,
}

/// One purge: hard, unless it is made [`soft`](Self::soft).
///
/// ```
/// use weir_plugin::Purge;
///
/// let what_a_new_post_changes = [Purge::tags("home_page_data_*"), Purge::key("/news").soft()];
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Purge {
    /// What.
    pub target: PurgeTarget,
    /// Whether it is only made stale.
    pub soft: bool,
}

impl Purge {
    /// All with this surrogate tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self { target: PurgeTarget::Tag(tag.into()), soft: false }
    }

    /// All with a tag that matches: `*` is any text.
    pub fn tags(glob: impl Into<String>) -> Self {
        Self { target: PurgeTarget::TagGlob(glob.into()), soft: false }
    }

    /// The responses of one path and query, such as `/posts/42?page=2`.
    pub fn key(path: impl Into<String>) -> Self {
        Self { target: PurgeTarget::Key(path.into()), soft: false }
    }

    /// All whose path begins so.
    pub fn path_prefix(path: impl Into<String>) -> Self {
        Self { target: PurgeTarget::PathPrefix(path.into()), soft: false }
    }

    /// All of the request's route.
    pub fn route() -> Self {
        Self { target: PurgeTarget::Route, soft: false }
    }

    /// Only makes it stale: it may be served while it is validated, where the origin's directives allow that.
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }
}

/// What a request costs: so much of a bucket, for a key.
///
/// ```
/// use weir_plugin::Charge;
///
/// let charge = Charge::new("chat", "key 1").cost(5);
/// assert_eq!((charge.bucket.as_str(), charge.cost), ("chat", 5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Charge {
    /// The bucket, which the [`Manifest`](crate::Manifest) names.
    pub bucket: String,
    /// Whose share of it.
    pub key: String,
    /// How much; 1 unless it says otherwise.
    pub cost: u32,
}

impl Charge {
    /// One of this bucket, for this key.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), cost: 1 }
    }

    /// So many.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }
}
