//! The questions the bench asks, and how each is put to one server once.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::content::{AUTHORITY, Resource, Storing};
use crate::counting::Counting;
use crate::load::{self, Border, Outcome, Plan, Schedule, Target, Transport, WhenIdle};
use crate::metric::{Metric, Sample};
use crate::origin::Origin;
use crate::process::{SERVER_CORE, Usage, busy};
use crate::server::{Behind, Budget, Kind, Server, Setup, nginx_lua};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    #[value(name = "hit-1k")]
    #[serde(rename = "hit-1k")]
    Hit1k,
    #[value(name = "hit-64k")]
    #[serde(rename = "hit-64k")]
    Hit64k,
    #[value(name = "urls-10k")]
    #[serde(rename = "urls-10k")]
    Urls10k,
    Pass,
    Connect,
    Http2,
    Cold,
    ColdUncacheable,
    Memory,
    Large,
    #[value(name = "redis-1k")]
    #[serde(rename = "redis-1k")]
    Redis1k,
    #[value(name = "redis-1k-alone")]
    #[serde(rename = "redis-1k-alone")]
    Redis1kAlone,
    #[value(name = "redis-64k")]
    #[serde(rename = "redis-64k")]
    Redis64k,
    #[value(name = "redis-64k-alone")]
    #[serde(rename = "redis-64k-alone")]
    Redis64kAlone,
    #[value(name = "disk-1k")]
    #[serde(rename = "disk-1k")]
    Disk1k,
    PurgeGlob,
    SessionNone,
    SessionRedis,
    SessionDisk,
    SessionWriteRedis,
    SessionWriteDisk,
    PluginNone,
    PluginPlan,
    PluginRemembered,
    PluginCalled,
    LimitOff,
    LimitLocal,
    LimitLeased,
    LimitRedis,
}

/// The one response that is asked for under each limit: `configs.rs` has a route for each.
pub(crate) const UNDER_LIMIT: [(Scenario, u64); 3] = [
    (Scenario::LimitLocal, 9_000_001),
    (Scenario::LimitLeased, 9_000_002),
    (Scenario::LimitRedis, 9_000_003),
];

/// Everything that is the same for all scenarios of a run.
pub(crate) struct Bench<'a> {
    pub(crate) origin: &'a RefCell<Origin>,
    pub(crate) setup: Setup<'a>,
    pub(crate) window: Duration,
    pub(crate) smoke: bool,
    /// The load generator is to sleep when it has nothing to do.
    pub(crate) sleep: bool,
}

impl Bench<'_> {
    fn when_idle(&self) -> WhenIdle {
        match (self.sleep, self.setup.pin && !self.smoke) {
            (true, _) => WhenIdle::Sleep,
            // It has its core to itself.
            (false, true) => WhenIdle::Spin,
            (false, false) => WhenIdle::Yield,
        }
    }
}

impl Scenario {
    pub(crate) const ALL: [Self; 29] = [
        Self::Hit1k,
        Self::Hit64k,
        Self::Urls10k,
        Self::Pass,
        Self::Connect,
        Self::Http2,
        Self::Cold,
        Self::ColdUncacheable,
        Self::Memory,
        Self::Large,
        Self::Redis1k,
        Self::Redis1kAlone,
        Self::Redis64k,
        Self::Redis64kAlone,
        Self::Disk1k,
        Self::PurgeGlob,
        Self::SessionNone,
        Self::SessionRedis,
        Self::SessionDisk,
        Self::SessionWriteRedis,
        Self::SessionWriteDisk,
        Self::PluginNone,
        Self::PluginPlan,
        Self::PluginRemembered,
        Self::PluginCalled,
        Self::LimitOff,
        Self::LimitLocal,
        Self::LimitLeased,
        Self::LimitRedis,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Hit1k => "hit-1k: hits of 1 KiB, 64 keep-alive connections",
            Self::Hit64k => "hit-64k: hits of 64 KiB, 64 keep-alive connections",
            Self::Urls10k => "urls-10k: hits of 1 KiB on 10,000 URLs at random, 64 keep-alive connections",
            Self::Pass => "pass: 1 KiB that is not cacheable, 64 keep-alive connections",
            Self::Connect => "connect: hits of 1 KiB, a new connection for each, 64 at a time",
            Self::Http2 => "http2: hits of 1 KiB, 4 connections of 16 streams",
            Self::Cold => {
                "cold: 200 clients ask for one cacheable response that nobody has yet, origin takes 500 ms"
            }
            Self::ColdUncacheable => {
                "cold-uncacheable: 200 clients, one response that turns out uncacheable, origin takes 500 ms"
            }
            Self::Memory => "memory: 100,000 responses of 1 KiB",
            Self::Large => "large: 4 GiB through a budget of 64 MiB, beside paced hits of 1 KiB",
            Self::Redis1k => "redis-1k: 1 KiB out of Redis, 10,000 URLs at random, 64 keep-alive connections",
            Self::Redis1kAlone => "redis-1k-alone: 1 KiB out of Redis, 10,000 URLs at random, 1 connection",
            Self::Redis64k => {
                "redis-64k: 64 KiB out of Redis, 2,000 URLs at random, 64 keep-alive connections"
            }
            Self::Redis64kAlone => "redis-64k-alone: 64 KiB out of Redis, 2,000 URLs at random, 1 connection",
            Self::Disk1k => {
                "disk-1k: 1 KiB out of the durable tier, 10,000 URLs at random, 64 keep-alive connections"
            }
            Self::PurgeGlob => "purge-glob: 1,000,000 responses, a purge by a pattern that fits ten of them",
            Self::SessionNone => {
                "session-none: 1 KiB passed on, without a session, 64 keep-alive connections"
            }
            Self::SessionRedis => {
                "session-redis: 1 KiB passed on, with a session out of Redis, 64 keep-alive connections"
            }
            Self::SessionDisk => {
                "session-disk: 1 KiB passed on, with a session out of the durable store, 64 keep-alive connections"
            }
            Self::SessionWriteRedis => {
                "session-write-redis: 1 KiB passed on, a session in Redis read and written, 64 keep-alive connections"
            }
            Self::SessionWriteDisk => {
                "session-write-disk: 1 KiB passed on, a session in the durable store read and written, 64 keep-alive connections"
            }
            Self::PluginNone => {
                "plugin-none: hits of 1 KiB with cookies, 64 keep-alive connections, no plugin"
            }
            Self::PluginPlan => "plugin-plan: likewise, with a plugin that gives a plan (query-normalize)",
            Self::PluginRemembered => {
                "plugin-remembered: likewise, with a plugin whose decisions are remembered (cookie-allowlist)"
            }
            Self::PluginCalled => "plugin-called: likewise, and nothing is remembered",
            Self::LimitOff => "limit-off: hits of 1 KiB without a limit, 64 keep-alive connections",
            Self::LimitLocal => "limit-local: hits of 1 KiB under a limit that this proxy counts alone",
            Self::LimitLeased => {
                "limit-leased: hits of 1 KiB under a limit of all proxies, fast enough for leases"
            }
            Self::LimitRedis => {
                "limit-redis: hits of 1 KiB under a limit of all proxies, so slow that Redis decides each"
            }
        }
    }

    /// Whether the question makes sense for such a server.
    pub(crate) fn concerns(self, kind: Kind) -> bool {
        match kind {
            Kind::Hyper => {
                matches!(self, Self::Hit1k | Self::Hit64k | Self::Urls10k | Self::Connect | Self::Http2)
            }
            Kind::HyperProxy => matches!(self, Self::Pass | Self::ColdUncacheable),
            Kind::Weir => true,
            _ if self.is_about_sessions() => false,
            // Nobody else has such plugins.
            _ if self.is_about_plugins() => false,
            _ if self.is_about_limits() => false,
            // Its client is in Lua, so it takes another configuration.
            Kind::Nginx if self.behind() == Behind::Redis => self != Self::PurgeGlob && nginx_lua().is_some(),
            _ => self.behind().is_nothing(),
        }
    }

    /// The same without what the scenario is about: the two take turns, so that what the one costs more can be told. A machine that is
    /// slower in one minute than in the next would tell nonsense of figures that were taken apart.
    pub(crate) fn compared_with(self) -> Option<Self> {
        match self {
            Self::SessionNone | Self::PluginNone | Self::LimitOff => None,
            _ if self.is_about_sessions() => Some(Self::SessionNone),
            _ if self.is_about_plugins() => Some(Self::PluginNone),
            _ if self.is_about_limits() => Some(Self::LimitOff),
            _ => None,
        }
    }

    /// Whether it keeps asking, so that what a request takes can be counted in instructions. Those with many URLs would take long under valgrind.
    pub(crate) fn can_be_counted(self) -> bool {
        match self {
            Self::Hit1k | Self::Hit64k | Self::Pass | Self::Connect | Self::Http2 => true,
            _ => self.is_about_plugins() || self.is_about_limits() || self.is_about_sessions(),
        }
    }

    /// Whether the servers that run all the time are asked, or one that is started for the question.
    pub(crate) fn wants_fresh_server(self) -> bool {
        matches!(self, Self::Memory | Self::Large | Self::PurgeGlob)
    }

    /// Whether repeating it makes the figure better.
    pub(crate) fn repeats(self) -> bool {
        !self.wants_fresh_server()
    }

    /// Asks `server` once. `serial` differs in every call of a run, for keys that must be new.
    pub(crate) fn measure(self, bench: &Bench<'_>, server: &Server, serial: u64) -> io::Result<Sample> {
        let stored = |size, id| Resource { storing: Storing::Store, size, delay_ms: 0, id };
        match self {
            Self::Hit1k => rate(bench, server, Transport::KeepAlive, 64, &[stored(1024, 0)]),
            Self::Hit64k => rate(bench, server, Transport::KeepAlive, 64, &[stored(64 * 1024, 0)]),
            Self::Urls10k => {
                let count = if bench.smoke { 500 } else { 10_000 };
                let resources: Vec<_> = (1..=count).map(|id| stored(1024, id)).collect();
                rate(bench, server, Transport::KeepAlive, 64, &resources)
            }
            Self::Pass => {
                let resource = Resource { storing: Storing::Pass, size: 1024, delay_ms: 0, id: 0 };
                rate(bench, server, Transport::KeepAlive, 64, &[resource])
            }
            Self::Connect => rate(bench, server, Transport::NewConnection, 64, &[stored(1024, 0)]),
            Self::Http2 => rate(bench, server, Transport::Http2 { streams: 16 }, 4, &[stored(1024, 0)]),
            Self::Cold => cold(bench, server, Storing::Store, serial),
            Self::ColdUncacheable => cold(bench, server, Storing::Surprise, serial),
            Self::Memory => memory(bench, server),
            Self::Large => large(bench, server),
            Self::Redis1k => behind(bench, server, 64, 1024, 10_000),
            Self::Redis1kAlone => behind(bench, server, 1, 1024, 10_000),
            Self::Redis64k => behind(bench, server, 64, 64 * 1024, 2_000),
            Self::Redis64kAlone => behind(bench, server, 1, 64 * 1024, 2_000),
            Self::Disk1k => behind(bench, server, 64, 1024, 10_000),
            Self::PurgeGlob => purge_glob(bench, server),
            Self::SessionNone => Self::Pass.measure(bench, server, serial),
            Self::SessionRedis | Self::SessionDisk => sessions(bench, server, Storing::Session),
            Self::SessionWriteRedis | Self::SessionWriteDisk => {
                sessions(bench, server, Storing::SessionWrite)
            }
            Self::PluginNone | Self::PluginPlan | Self::PluginRemembered | Self::PluginCalled => {
                let target = Target::of_a_visitor(&stored(1024, 0));
                rate_of(bench, server, Transport::KeepAlive, 64, &[target], false)
            }
            Self::LimitOff => rate(bench, server, Transport::KeepAlive, 64, &[stored(1024, 9_000_000)]),
            Self::LimitLocal | Self::LimitLeased | Self::LimitRedis => {
                let id = UNDER_LIMIT.iter().find(|(scenario, _)| *scenario == self).map_or(0, |(_, id)| *id);
                rate(bench, server, Transport::KeepAlive, 64, &[stored(1024, id)])
            }
        }
    }

    fn is_about_sessions(self) -> bool {
        matches!(
            self,
            Self::SessionNone
                | Self::SessionRedis
                | Self::SessionDisk
                | Self::SessionWriteRedis
                | Self::SessionWriteDisk
        )
    }

    fn is_about_plugins(self) -> bool {
        matches!(self, Self::PluginNone | Self::PluginPlan | Self::PluginRemembered | Self::PluginCalled)
    }

    fn is_about_limits(self) -> bool {
        matches!(self, Self::LimitOff | Self::LimitLocal | Self::LimitLeased | Self::LimitRedis)
    }

    /// What the caches may hold in this scenario.
    pub(crate) fn budget(self) -> Budget {
        match self {
            Self::Large => Budget { mebibytes: 64, entries: 200_000 },
            // Memory holds next to nothing, so that each request is answered from behind it.
            _ if !self.behind().is_nothing() && self != Self::PurgeGlob => {
                Budget { mebibytes: 1024, entries: ENTRIES_BEFORE }
            }
            Self::PurgeGlob => Budget { mebibytes: 4096, entries: 1_100_000 },
            _ => Budget { mebibytes: 1024, entries: 200_000 },
        }
    }
}

impl Scenario {
    /// What is behind memory in this scenario.
    pub(crate) fn behind(self) -> Behind {
        match self {
            // All on one server, so that nothing but the limit differs.
            _ if self.is_about_limits() => Behind::Redis,
            Self::Redis1k
            | Self::Redis1kAlone
            | Self::Redis64k
            | Self::Redis64kAlone
            | Self::PurgeGlob
            | Self::SessionRedis
            | Self::SessionWriteRedis => Behind::Redis,
            Self::Disk1k | Self::SessionDisk | Self::SessionWriteDisk => Behind::Disk,
            Self::PluginPlan => Behind::PluginPlan,
            Self::PluginRemembered => Behind::PluginRemembered,
            Self::PluginCalled => Behind::PluginCalled,
            _ => Behind::Nothing,
        }
    }
}

/// Responses that memory holds where what is behind it is measured: few of those that are asked for, and more than are asked for at once, so that who
/// waits for the same finds it there.
const ENTRIES_BEFORE: u32 = 128;
/// How often all URLs are asked for until none of them reaches the origin. What is written behind the answers may find no room.
const STORING_MAX: usize = 50;

/// Hits of what lies behind memory.
fn behind(
    bench: &Bench<'_>,
    server: &Server,
    connections: usize,
    size: u64,
    count: u64,
) -> io::Result<Sample> {
    let count = if bench.smoke { count / 20 } else { count };
    let resource = |id| Resource { storing: Storing::Store, size, delay_ms: 0, id };
    let targets: Vec<_> = (1..=count).map(|id| Target::new(&resource(id))).collect();
    let mut round = 0;
    loop {
        let before = bench.origin.borrow_mut().settled_requests()?;
        store_all(bench, server.http1, Transport::KeepAlive, &targets)?;
        if bench.origin.borrow_mut().settled_requests()? == before {
            break;
        }
        round += 1;
        if round == STORING_MAX {
            return Err(io::Error::other("not all that was asked for comes to lie behind memory"));
        }
    }
    let plan = Plan {
        address: server.http1,
        transport: Transport::KeepAlive,
        connections,
        targets: &targets,
        schedule: Schedule::Random { warm_up: bench.window / 4, window: bench.window },
        download: None,
        limit: bench.window * 4 + Duration::from_secs(20),
        // It may sleep: with one connection it would keep whoever else wants its core from it.
        when_idle: WhenIdle::Yield,
    };
    let asked = || server.redis.as_ref().map_or(Ok(0), |redis| redis.calls("get"));
    let (fills_before, asked_before) = (bench.origin.borrow().fills(), asked()?);
    let (mut sample, outcome) = observed(bench, server, &plan)?;
    let fills = bench.origin.borrow().fills() - fills_before;
    if fills != 0 {
        return Err(io::Error::other(format!("the origin saw {fills} requests for what is stored")));
    }
    let answered = outcome.latencies.count();
    if answered == 0 {
        return Err(io::Error::other("no answer within the window"));
    }
    // The warm-up is in it too, so this only shows that memory answered no more than it can hold.
    let beyond_memory = 1.0 - f64::from(ENTRIES_BEFORE) / count as f64;
    if server.redis.is_some() && ((asked()? - asked_before) as f64) < answered as f64 * beyond_memory * 0.9 {
        return Err(io::Error::other("not every request was one for Redis"));
    }
    sample.set(Metric::Memory, mebibytes(server.memory()));
    Ok(sample)
}

/// Requests of clients that have sessions. Of what it costs, all but what `pass` costs is the session's.
fn sessions(bench: &Bench<'_>, server: &Server, storing: Storing) -> io::Result<Sample> {
    let count = if bench.smoke { 8 } else { 200 };
    let mut targets = Vec::with_capacity(count);
    for id in 0..count as u64 {
        let begun = Resource { storing: Storing::SessionWrite, size: 64, delay_ms: 0, id };
        let cookie = begin_session(bench, server.http1, &begun.path())?;
        let resource = Resource { storing, size: 1024, delay_ms: 0, id };
        targets.push(Target::with_cookie(&resource, &cookie));
    }
    let plan = Plan {
        address: server.http1,
        transport: Transport::KeepAlive,
        connections: 64,
        targets: &targets,
        schedule: Schedule::Random { warm_up: bench.window / 4, window: bench.window },
        download: None,
        limit: bench.window * 4 + Duration::from_secs(20),
        when_idle: WhenIdle::Yield,
    };
    let before = bench.origin.borrow_mut().settled_requests()?;
    let (mut sample, outcome) = observed(bench, server, &plan)?;
    let answered = outcome.latencies.count();
    if answered == 0 || bench.origin.borrow().requests() - before < answered {
        return Err(io::Error::other("not every request reached the origin"));
    }
    sample.set(Metric::Memory, mebibytes(server.memory()));
    Ok(sample)
}

/// Begins a session; returns the cookie that leads to it.
fn begin_session(bench: &Bench<'_>, address: std::net::SocketAddr, path: &str) -> io::Result<String> {
    use std::io::{Read as _, Write as _};
    let request = format!("GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\nConnection: close\r\n\r\n");
    let asked = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    });
    // The origin answers while it is turned.
    while !asked.is_finished() {
        bench.origin.borrow_mut().turn(Some(Duration::from_millis(1)))?;
    }
    let answer = asked.join().map_err(|_| io::Error::other("the client panicked"))??;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: ").or_else(|| line.strip_prefix("Set-Cookie: ")));
    let cookie = line.and_then(|line| line.split(';').next());
    cookie.map(str::to_owned).ok_or_else(|| io::Error::other(format!("no session was begun: {answer}")))
}

/// A purge by pattern among many responses.
fn purge_glob(bench: &Bench<'_>, server: &Server) -> io::Result<Sample> {
    let count = if bench.smoke { 20_000 } else { 1_000_000 };
    // Ten numbers begin with these digits; so do ten tags.
    let (first, digits) = (1_000_000, 100_234);
    let resource = |id| Resource { storing: Storing::Store, size: 64, delay_ms: 0, id };
    let targets: Vec<_> = (first..first + count).map(|id| Target::new(&resource(id))).collect();
    store_all(bench, server.http1, Transport::KeepAlive, &targets)?;
    let redis = server.redis.as_ref().ok_or_else(|| io::Error::other("there is no Redis"))?;
    redis.ask("SLOWLOG RESET")?;
    let asked = Instant::now();
    order_purge(server.admin, &format!("page:{digits}*"))?;
    let took = asked.elapsed();
    let slow = redis.number("SLOWLOG LEN")?;
    // Those of its neighbourhood, among which are the ten, and no others are fetched again.
    let before = bench.origin.borrow_mut().settled_requests()?;
    let near = usize::try_from(digits * 10 - first - 1_000).unwrap_or_default();
    store_all(bench, server.http1, Transport::KeepAlive, &targets[near..near + 2_000])?;
    let purged = bench.origin.borrow_mut().settled_requests()? - before;
    if purged != 10 {
        return Err(io::Error::other(format!("the origin saw {purged} requests after ten were purged")));
    }
    let mut sample = Sample::default();
    sample.set(Metric::Purge, micros(took) / 1e3);
    sample.set(Metric::Purged, purged as f64);
    sample.set(Metric::SlowCommands, slow as f64);
    sample.set(Metric::Memory, mebibytes(server.memory()));
    Ok(sample)
}

/// Orders a purge of Weir, and waits until all proxies have applied it.
fn order_purge(admin: std::net::SocketAddr, glob: &str) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    let body = format!(r#"{{"glob": ["{glob}"], "wait": "all"}}"#);
    let mut stream = std::net::TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "POST /purge HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other(answer)) }
}

/// Requests one after the other on each connection for the length of the window.
fn rate(
    bench: &Bench<'_>,
    server: &Server,
    transport: Transport,
    connections: usize,
    resources: &[Resource],
) -> io::Result<Sample> {
    let closing = transport == Transport::NewConnection;
    let targets: Vec<Target> =
        resources.iter().map(if closing { Target::closing } else { Target::new }).collect();
    let passes = resources.iter().any(|resource| resource.storing != Storing::Store);
    rate_of(bench, server, transport, connections, &targets, passes)
}

/// Requests of these targets, at random. `passes`: each reaches the origin.
fn rate_of(
    bench: &Bench<'_>,
    server: &Server,
    transport: Transport,
    connections: usize,
    targets: &[Target],
    passes: bool,
) -> io::Result<Sample> {
    let address = match transport {
        Transport::Http2 { .. } => server.http2,
        _ => server.http1,
    };
    if !passes {
        store_all(bench, address, transport, targets)?;
    }
    let plan = Plan {
        address,
        transport,
        connections,
        targets,
        schedule: Schedule::Random { warm_up: bench.window / 4, window: bench.window },
        download: None,
        limit: bench.window * 4 + Duration::from_secs(20),
        when_idle: bench.when_idle(),
    };
    let origin_before = bench.origin.borrow_mut().settled_requests()?;
    let fills_before = bench.origin.borrow().fills();
    let (mut sample, outcome) = observed(bench, server, &plan)?;
    let asked_origin = bench.origin.borrow().requests() - origin_before;
    let fills = bench.origin.borrow().fills() - fills_before;
    let answered = outcome.latencies.count();
    if !passes && fills != 0 {
        return Err(io::Error::other(format!("the origin saw {fills} requests for what is stored")));
    }
    if passes && server.kind != Kind::Hyper && asked_origin < answered {
        return Err(io::Error::other(format!("the origin saw {asked_origin} requests of {answered}")));
    }
    if answered == 0 {
        return Err(io::Error::other("no answer within the window"));
    }
    sample.set(Metric::Memory, mebibytes(server.memory()));
    Ok(sample)
}

/// Runs the plan and relates what the processes used meanwhile to the answers.
fn observed(bench: &Bench<'_>, server: &Server, plan: &Plan<'_>) -> io::Result<(Sample, Outcome)> {
    if let Some(counting) = &server.counting {
        return counted(bench, counting, plan);
    }
    let redis = || server.redis.as_ref().map_or(Usage::default(), |redis| redis.tree.usage());
    let read = || (server.tree.usage(), busy(SERVER_CORE), redis());
    let (mut begin, mut end) = (read(), read());
    let outcome = load::run(plan, &mut bench.origin.borrow_mut(), |border| match border {
        Border::Begin => begin = read(),
        Border::End => end = read(),
    })?;
    if let Some(failure) = &outcome.first_failure {
        return Err(io::Error::other(format!("{} wrong answers, the first: {failure}", outcome.failures)));
    }
    let used: Usage = end.0 - begin.0;
    let used_by_redis = (end.2 - begin.2).cpu();
    let others = end.1.saturating_sub(begin.1).saturating_sub(used.cpu()).saturating_sub(used_by_redis);
    let count = outcome.latencies.count().max(1) as f64;
    let seconds = outcome.window.as_secs_f64();
    let mut sample = Sample::default();
    sample.set(Metric::Cpu, micros(used.cpu()) / count);
    if server.redis.is_some() {
        sample.set(Metric::RedisCpu, micros(used_by_redis) / count);
    }
    sample.set(Metric::User, micros(used.user) / count);
    sample.set(Metric::System, micros(used.system) / count);
    sample.set(Metric::Switches, used.switches as f64 / count);
    sample.set(Metric::RequestsPerSecond, count / seconds);
    sample.set(Metric::P50, micros(outcome.latencies.quantile(0.5)));
    sample.set(Metric::P99, micros(outcome.latencies.quantile(0.99)));
    sample.set(Metric::LoadCore, (1.0 - outcome.idle.as_secs_f64() / seconds) * 100.0);
    if bench.setup.pin {
        sample.set(Metric::Disturbed, others.as_secs_f64() / seconds * 100.0);
    }
    Ok((sample, outcome))
}

/// Runs a number of the plan's requests, and relates the server's instructions to them.
fn counted(bench: &Bench<'_>, counting: &Counting, plan: &Plan<'_>) -> io::Result<(Sample, Outcome)> {
    let count = if bench.smoke { 100 } else { 2_000 };
    let targets: Vec<Target> = plan.targets.iter().cycle().take(count).cloned().collect();
    let Plan { address, transport, connections, .. } = *plan;
    let plan = Plan {
        address,
        transport,
        connections,
        targets: &targets,
        schedule: Schedule::Once,
        download: None,
        limit: Duration::from_secs(120),
        when_idle: WhenIdle::Yield,
    };
    let run = || load::run(&plan, &mut bench.origin.borrow_mut(), |_| {});
    // What is done for the first time only is not what a request takes.
    run()?;
    let (outcome, instructions) = counting.during(run)?;
    if let Some(failure) = &outcome.first_failure {
        return Err(io::Error::other(format!("{} wrong answers, the first: {failure}", outcome.failures)));
    }
    let mut sample = Sample::default();
    sample.set(Metric::Instructions, instructions as f64 / outcome.latencies.count().max(1) as f64);
    Ok((sample, outcome))
}

/// Fetches every target, so that all are stored.
fn store_all(
    bench: &Bench<'_>,
    address: std::net::SocketAddr,
    transport: Transport,
    targets: &[Target],
) -> io::Result<()> {
    let origin = &mut bench.origin.borrow_mut();
    let transport = match transport {
        Transport::Http2 { .. } => transport,
        _ => Transport::KeepAlive,
    };
    if let [target] = targets {
        return load::fetch(address, transport, target, origin);
    }
    let plan = Plan {
        address,
        transport,
        connections: 8,
        targets,
        schedule: Schedule::Once,
        download: None,
        // A million of them take a while, where each is stored in Redis too.
        limit: Duration::from_secs(60)
            .max(Duration::from_micros(500).saturating_mul(u32::try_from(targets.len()).unwrap_or(u32::MAX))),
        when_idle: bench.when_idle(),
    };
    match load::run(&plan, origin, |_| {})?.first_failure {
        None => Ok(()),
        Some(failure) => Err(io::Error::other(format!("while storing: {failure}"))),
    }
}

/// Clients that ask at the same time for what nobody has asked for before.
fn cold(bench: &Bench<'_>, server: &Server, storing: Storing, serial: u64) -> io::Result<Sample> {
    let (clients, delay_ms) = if bench.smoke { (20, 100) } else { (200, 500) };
    let resource = Resource { storing, size: 1024, delay_ms, id: 1_000_000 + serial };
    let targets = vec![Target::new(&resource); clients];
    let plan = Plan {
        address: server.http1,
        transport: Transport::KeepAlive,
        connections: clients,
        targets: &targets,
        schedule: Schedule::Once,
        download: None,
        limit: Duration::from_millis(delay_ms) * 250,
        when_idle: bench.when_idle(),
    };
    let origin_before = bench.origin.borrow_mut().settled_requests()?;
    let (sample, outcome) = observed(bench, server, &plan)?;
    let origin_requests = bench.origin.borrow().requests() - origin_before;
    let mut sample = sample.only(&[Metric::P50, Metric::P99, Metric::Disturbed]);
    sample.set(Metric::OriginRequests, origin_requests as f64);
    sample.set(Metric::BeyondOrigin, micros(outcome.window) / 1e3 - delay_ms as f64);
    Ok(sample)
}

/// Growth of memory with the number of stored responses.
fn memory(bench: &Bench<'_>, server: &Server) -> io::Result<Sample> {
    let (first, count) = if bench.smoke { (200, 2_000) } else { (2_000, 100_000) };
    let resource = |id| Resource { storing: Storing::Store, size: 1024, delay_ms: 0, id };
    let targets = |from: u64, to: u64| (from..to).map(|id| Target::new(&resource(id))).collect::<Vec<_>>();
    // Buffers and tables grow with the first responses; that is not the cost of an entry.
    store_all(bench, server.http1, Transport::KeepAlive, &targets(2_000_000, 2_000_000 + first))?;
    let before = server.memory();
    store_all(bench, server.http1, Transport::KeepAlive, &targets(3_000_000, 3_000_000 + count))?;
    let after = server.memory();
    // All of it must be there, or the growth says nothing.
    let origin_before = bench.origin.borrow_mut().settled_requests()?;
    store_all(bench, server.http1, Transport::KeepAlive, &targets(3_000_000, 3_000_000 + count))?;
    let lost = bench.origin.borrow().requests() - origin_before;
    let sample = resource(3_000_000);
    // The name of a field, a colon and its line end count as a response's own.
    let head = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 07:46:10 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";
    let own = AUTHORITY.len()
        + sample.path().len()
        + head.len()
        + "Cache-Control: \r\n".len()
        + sample.cache_control().len()
        + 1024;
    let held = count.saturating_sub(lost).max(1) as f64;
    let growth = after.saturating_sub(before) as f64;
    let mut found = Sample::default();
    found.set(Metric::Lost, lost as f64);
    // A cache that takes all its memory when it starts does not grow at all, and so does not say.
    if growth / held >= own as f64 {
        found.set(Metric::Overhead, growth / held - own as f64);
    }
    found.set(Metric::Memory, mebibytes(after));
    Ok(found)
}

/// A response that is far larger than the cache, while other clients ask for what is stored.
fn large(bench: &Bench<'_>, server: &Server) -> io::Result<Sample> {
    let size = if bench.smoke { 64 << 20 } else { 4 << 30 };
    let small = Target::new(&Resource { storing: Storing::Store, size: 1024, delay_ms: 0, id: 0 });
    let big = Target::new(&Resource { storing: Storing::Store, size, delay_ms: 0, id: 1 });
    load::fetch(server.http1, Transport::KeepAlive, &small, &mut bench.origin.borrow_mut())?;
    let interval = Duration::from_millis(10);
    let mut plan = Plan {
        address: server.http1,
        transport: Transport::KeepAlive,
        connections: 16,
        targets: std::slice::from_ref(&small),
        schedule: Schedule::Paced { warm_up: bench.window / 4, window: bench.window, interval },
        download: None,
        limit: Duration::from_secs(120),
        when_idle: bench.when_idle(),
    };
    let (alone, _) = observed(bench, server, &plan)?;
    server.tree.forget_peak();
    let before = server.tree.resident();
    plan.download = Some(&big);
    let (beside, outcome) = observed(bench, server, &plan)?;
    let download = outcome.download.ok_or_else(|| io::Error::other("the download did not end"))?;
    let peak = server.tree.peak_memory();
    let mut sample = beside.clone().only(&[Metric::P99, Metric::Disturbed]);
    sample.set(Metric::FirstByte, micros(download.first_byte) / 1e3);
    sample.set(Metric::Throughput, mebibytes(size) / download.whole.as_secs_f64());
    sample.set(Metric::PeakGrowth, mebibytes(peak.saturating_sub(before)));
    sample.set(Metric::Memory, mebibytes(peak));
    if let (Some(alone), Some(beside)) = (alone.value(Metric::P99), beside.value(Metric::P99)) {
        sample.set(Metric::OthersSlowdown, (beside / alone - 1.0) * 100.0);
    }
    Ok(sample)
}

/// Whether the server answers right at all, within a time in which every server has started.
pub(crate) fn wait_until_ready(server: &mut Server, origin: &RefCell<Origin>) -> io::Result<()> {
    let storing = if server.kind == Kind::HyperProxy { Storing::Pass } else { Storing::Store };
    let target = Target::new(&Resource { storing, size: 1024, delay_ms: 0, id: 0 });
    let started = Instant::now();
    loop {
        match load::fetch(server.http1, Transport::KeepAlive, &target, &mut origin.borrow_mut()) {
            Ok(()) => {
                server.look_for_children();
                return Ok(());
            }
            Err(error) if started.elapsed() > Duration::from_secs(10) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
