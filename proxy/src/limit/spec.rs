//! A `[limit.NAME]`, checked.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use rate_limit::{Policy, Quota};

/// A `[limit.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: Arc<str>,
    /// Who shares a quota: requests that are alike in all of these.
    pub key: Vec<KeyPart>,
    /// How many requests in which time; `None`: only how many at once.
    pub rate: Option<Rate>,
    /// What a request costs, unless the route says otherwise.
    pub cost: u64,
    /// Which requests are charged.
    pub charge: Charge,
    /// Requests under way for one key.
    pub in_flight: Option<usize>,
    /// WebSockets that are open for one key.
    pub websockets: Option<usize>,
    /// Messages that a client may send on one WebSocket.
    pub messages: Option<Quota>,
    /// Who comes too much may wait so long, in a queue of this length.
    pub queue: Option<Queue>,
    /// Where all proxies count together; `None`: each counts alone.
    pub shared: Option<Shared>,
    /// How many proxies there are at least, for when nobody can be asked.
    pub proxies: u64,
    /// Only count what would be refused.
    pub shadow: bool,
    /// Who is never limited.
    pub allow: Vec<IpNet>,
    /// Who is always refused.
    pub deny: Vec<IpNet>,
    /// What clients are told.
    pub fields: Fields,
    /// Keys that are remembered.
    pub keys: usize,
}

/// How many requests in which time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The quotas.
    pub policy: Policy,
    /// What each is called in answers.
    pub names: Vec<Arc<str>>,
}

/// What requests must have in common to share a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address; of IPv6 the first 64 bits.
    ClientIp,
    /// The session; without one, the address.
    Session,
    /// Whom the session belongs to; without one, the address.
    User,
    /// A field of the request; without it, the address.
    Header(HeaderName),
    /// A cookie; without it, the address.
    Cookie(Arc<str>),
    /// The route.
    Route,
    /// What a plugin says; without, the address.
    Plugin,
}

/// Which requests are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// All.
    All,
    /// Those for which the origin is asked.
    Miss,
}

/// Where who comes too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Requests of one key that may wait.
    pub length: usize,
    /// How long.
    pub time: Duration,
}

/// Where all proxies count together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Which Redis.
    pub redis: Arc<str>,
    /// What its keys there begin with.
    pub prefix: Arc<str>,
    /// The longest that a request waits for it.
    pub budget: Duration,
    /// What is done without it.
    pub when_down: WhenDown,
}

/// What is done while Redis does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum WhenDown {
    /// Each proxy lets its share through.
    Share,
    /// Each proxy lets the whole quota through.
    Full,
    /// Everything passes.
    Open,
    /// Nothing passes.
    Closed,
}

/// What clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// `RateLimit` and `RateLimit-Policy`.
    Draft,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Legacy,
    /// Both.
    Both,
    /// Nothing but `Retry-After`.
    Off,
}

/// A route's use of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLimit {
    /// Which.
    pub name: Arc<str>,
    /// What a request of this route costs.
    pub cost: u64,
}
