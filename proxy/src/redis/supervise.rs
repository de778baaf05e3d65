//! The supervisor of one Redis: dials, looks whether it is what it should be, publishes the link, watches it, gives it up, dials again.
//!
//! Why there is one, in what was measured of clients without: a time-out never makes them reconnect, a password that was wrong for a while is
//! wrong for ever, a primary that was demoted goes on taking writes for eleven seconds, and requests wait for reconnects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::advice;
use super::client::{self, Address, Command, Credentials, Reply, Wire};
use super::error::{Evidence, RedisError};
use super::link::{Endpoint, Link, Made, Shards, info_value};
use super::url::Place;
use super::{Part, Shared, TELL_EVERY};
use crate::config::model;
use crate::drill::{self, Fault};
use crate::server_url::HostPort;

/// Between two attempts at first, and at most.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// Between two attempts with a password that was refused: servers count those.
const AGAIN_DENIED: Duration = Duration::from_secs(5);
/// How often a primary named by Sentinels is asked whether it still is one.
const ROLE_EVERY: Duration = Duration::from_secs(1);
/// How often Sentinels are asked again, and a Cluster for its servers.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// How long a look may take.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut again = AGAIN_MIN;
    loop {
        match connect(&shared).await {
            Ok(link) => {
                shared.advise(&link).await;
                shared.publish(&link);
                again = AGAIN_MIN;
                watch(&shared, &link).await;
                shared.withdraw(&link);
            }
            Err(error) => shared.failed(error),
        }
        let denied = matches!(shared.trouble.lock().why, Some(RedisError::Denied { .. }));
        let wait = if denied { AGAIN_DENIED } else { again };
        tokio::time::sleep(jittered(wait)).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}

/// Full jitter: anything from nothing to `most`, so that proxies do not come back all at once.
fn jittered(most: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness it waits its whole time.
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)).max(Duration::from_millis(5))
}

impl Shared {
    fn publish(&self, link: &Arc<Link>) {
        self.link.store(Some(link.clone()));
        self.number.send_replace(link.number());
        *self.trouble.lock() = super::Trouble::default();
        self.counted.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::info!(redis = &*self.spec.name, url = %self.spec.url, writable = link.is_writable(), "connected to redis");
    }

    /// Looks at the settings of the server, and says once what is wrong with them.
    async fn advise(&self, link: &Link) {
        if self.part == Part::Replica {
            // What is there is the primary's.
            return;
        }
        let mut known =
            advice::Known { password: self.spec.url.password.is_some(), ..advice::Known::default() };
        for section in ["memory", "replication", "persistence"] {
            let command = Command::new("INFO").arg(section.as_bytes());
            // What may not be asked, or comes too late, is not worth a word.
            if let Ok(reply) = client::within(LOOK, link.fast.call(&command)).await {
                known.info.push_str(reply.text().unwrap_or_default());
            }
        }
        let command = Command::new("CONFIG").arg(b"GET").arg(b"save");
        if let Ok(reply) = client::within(LOOK, link.fast.call(&command)).await
            && let Ok([_, save]) = reply.list().as_deref()
        {
            known.save = save.text().ok().map(str::to_owned);
        }
        for server in self.spec.url.place.servers() {
            let found =
                tokio::time::timeout(LOOK, tokio::net::lookup_host((&*server.host, server.port))).await;
            known
                .addresses
                .extend(found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()));
        }
        let found = advice::of(&known, self.spec.holds);
        let mut known = self.advice.lock();
        for advice in found.iter().filter(|advice| advice.loses_data() && !known.contains(advice)) {
            tracing::warn!(
                redis = &*self.spec.name,
                mend = advice.line(),
                why = advice.message(),
                "redis has a setting that loses data, or lets anybody in"
            );
        }
        *known = found;
    }

    fn withdraw(&self, link: &Link) {
        self.link.store(None);
        let why = link.why_ended().unwrap_or(RedisError::Unexpected);
        tracing::warn!(
            redis = &*self.spec.name,
            url = %self.spec.url,
            error.type = why.word(),
            error = %why,
            "redis is given up; going on without it"
        );
        *self.trouble.lock() = super::Trouble { why: Some(why), told: Some(Instant::now()) };
    }

    /// An attempt failed. Told at once if it is news, and once a minute.
    fn failed(&self, error: RedisError) {
        self.counted.connects_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut trouble = self.trouble.lock();
        let is_news = trouble.why.as_ref().map(RedisError::word) != Some(error.word());
        let is_time = trouble.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if is_time || (is_news && matches!(error, RedisError::Denied { .. })) {
            tracing::warn!(
                redis = &*self.spec.name,
                url = %self.spec.url,
                error.type = error.word(),
                error = %error,
                "cannot connect to redis; going on without it"
            );
            trouble.told = Some(Instant::now());
        }
        trouble.why = Some(error);
    }
}

// ---------------------------------------------------------------- connecting

async fn connect(shared: &Arc<Shared>) -> Result<Arc<Link>, RedisError> {
    let spec = &shared.spec;
    if drill::is(Fault::RedisDown) {
        return Err(drilled());
    }
    if drill::is(Fault::RedisSlow) {
        return Err(RedisError::TimedOut { within: spec.connect_timeout });
    }
    let made = match &spec.url.place {
        Place::Server(server) if shared.part == Part::Replica => {
            to_server(spec, Endpoint::Server(server.clone()), Accept::Replica).await?
        }
        Place::Server(server) | Place::Replicated { primary: server, .. } => {
            to_server(spec, Endpoint::Server(server.clone()), Accept::Either).await?
        }
        Place::Unix(path) => to_server(spec, Endpoint::Unix(path.clone()), Accept::Either).await?,
        Place::Sentinel { sentinels, primary } => {
            let server = resolve(spec, sentinels, primary).await?;
            to_server(spec, Endpoint::Server(server), Accept::Primary).await?
        }
        Place::Cluster(nodes) => to_cluster(spec, nodes).await?,
    };
    let number = *shared.number.borrow() + 1;
    let (background, counted) = (shared.background.clone(), shared.counted.clone());
    Ok(Arc::new_cyclic(|me| Link::new(me.clone(), number, spec.clone(), background, counted, made)))
}

fn drilled() -> RedisError {
    RedisError::Lost { detail: "a drill is under way".to_owned() }
}

/// What a server has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    /// It takes writes.
    Primary,
    /// It follows one that does.
    Replica,
    /// Whatever it is: a replica where a primary was named is read by nobody, and looked at until it is one.
    Either,
}

/// Connections to one server, once it has shown that it can serve.
async fn to_server(spec: &model::Redis, server: Endpoint, accept: Accept) -> Result<Made, RedisError> {
    let address = server.address();
    let dial = || client::dial(spec, &address, spec.database(), Credentials::Given, false);
    let fast = dial().await?;
    let (writable, run_id, history) = client::within(spec.connect_timeout, async {
        let writable = is_primary(&fast).await?;
        let info = permitted(fast.call(&Command::new("INFO").arg(b"persistence")).await)?;
        if let Some(Reply::Bytes(info)) = info
            && info_value(&String::from_utf8_lossy(&info), "loading") == Some("1")
        {
            return Err(RedisError::NotReady { code: "LOADING".to_owned() });
        }
        let info = permitted(fast.call(&Command::new("INFO").arg(b"server")).await)?;
        let run_id =
            info.as_ref().and_then(|info| info_value(info.text().ok()?, "run_id")).map(str::to_owned);
        Ok((writable, run_id, history_of(&fast).await?))
    })
    .await?;
    match accept {
        Accept::Primary if !writable => return Err(RedisError::NoWrites { code: "READONLY".to_owned() }),
        Accept::Replica if writable => {
            return Err(RedisError::NotReady { code: "it is no replica".to_owned() });
        }
        Accept::Primary | Accept::Replica | Accept::Either => {}
    }
    let bulk = dial().await?;
    Ok(Made { fast, bulk, server: Some(server.clone()), run_id, shards: Shards::one(), writable, history })
}

/// Of which data it has a copy: a replica says what its primary says.
async fn history_of(wire: &Wire) -> Result<Option<String>, RedisError> {
    let info = permitted(wire.call(&Command::new("INFO").arg(b"replication")).await)?;
    Ok(info.as_ref().and_then(|info| info_value(info.text().ok()?, "master_replid")).map(str::to_owned))
}

/// What an ACL forbids to ask is not known; everything else that fails, fails.
fn permitted(reply: Result<Reply, RedisError>) -> Result<Option<Reply>, RedisError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(RedisError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// ROLE: whether it is a primary. One that may not be asked is taken for one.
async fn is_primary(wire: &Wire) -> Result<bool, RedisError> {
    let Some(reply) = permitted(wire.call(&Command::new("ROLE")).await)? else { return Ok(true) };
    let role = reply.list()?;
    match role.first().map(Reply::text) {
        Some(Ok("master")) => Ok(true),
        Some(Ok("slave")) => Ok(false),
        _ => Err(RedisError::NotReady { code: "ROLE".to_owned() }),
    }
}

/// Asks a Sentinel: first without a password, because often only the servers have one.
async fn to_sentinel(spec: &model::Redis, sentinel: &HostPort) -> Result<(Wire, Credentials), RedisError> {
    let address = Address::Server(sentinel);
    let wire = client::dial(spec, &address, 0, Credentials::None, false).await;
    let asked = match wire {
        Ok(wire) => client::within(LOOK, wire.call(&Command::new("PING"))).await.map(|_| wire),
        Err(error) => Err(error),
    };
    match asked {
        Err(RedisError::Denied { .. }) => client::dial(spec, &address, 0, Credentials::Given, false)
            .await
            .map(|wire| (wire, Credentials::Given)),
        asked => asked.map(|wire| (wire, Credentials::None)),
    }
}

/// Which server the Sentinels call the primary: the first answer counts, and the server is asked afterwards whether it agrees.
async fn resolve(spec: &model::Redis, sentinels: &[HostPort], primary: &str) -> Result<HostPort, RedisError> {
    let mut last = RedisError::NotReady { code: "no Sentinel knows the primary".to_owned() };
    for sentinel in sentinels {
        let asked = client::within(spec.connect_timeout.min(Duration::from_secs(1)), async {
            let (wire, _) = to_sentinel(spec, sentinel).await?;
            let command = Command::new("SENTINEL").arg(b"GET-MASTER-ADDR-BY-NAME").arg(primary.as_bytes());
            address_of(wire.call(&command).await?)
        })
        .await;
        match asked {
            Ok(Some(server)) => return Ok(server),
            Ok(None) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn address_of(reply: Reply) -> Result<Option<HostPort>, RedisError> {
    let parts = reply.list()?;
    match parts.as_slice() {
        [] => Ok(None),
        [host, port] => {
            let port = port.text()?.parse().map_err(|_| RedisError::Unexpected)?;
            Ok(Some(HostPort { host: host.text()?.to_owned(), port }))
        }
        _ => Err(RedisError::Unexpected),
    }
}

async fn to_cluster(spec: &model::Redis, nodes: &[HostPort]) -> Result<Made, RedisError> {
    let fast = client::dial_cluster(spec, nodes, false).await?;
    let told = slots(&fast).await?;
    let bulk = client::dial_cluster(spec, nodes, false).await?;
    let (server, run_id, history) = (None, None, None);
    Ok(Made { fast, bulk, server, run_id, shards: Shards::of(&told, None), writable: true, history })
}

/// CLUSTER SLOTS: who has which.
async fn slots(wire: &Wire) -> Result<Vec<(u16, u16, HostPort)>, RedisError> {
    let command = Command::new("CLUSTER").arg(b"SLOTS");
    let reply = client::within(LOOK, wire.call(&command)).await?;
    let mut told = Vec::new();
    for range in reply.list()? {
        let parts = range.list()?;
        let [first, last, primary, ..] = parts.as_slice() else { return Err(RedisError::Unexpected) };
        let slot = |reply: &Reply| u16::try_from(reply.int()?).map_err(|_| RedisError::Unexpected);
        let node = primary.clone().list()?;
        let [host, port, ..] = node.as_slice() else { return Err(RedisError::Unexpected) };
        let port = u16::try_from(port.int()?).map_err(|_| RedisError::Unexpected)?;
        told.push((slot(first)?, slot(last)?, HostPort { host: host.text()?.to_owned(), port }));
    }
    if told.is_empty() { Err(RedisError::NotReady { code: "CLUSTERDOWN".to_owned() }) } else { Ok(told) }
}

// ---------------------------------------------------------------- watching

/// Returns when the link has ended.
async fn watch(shared: &Shared, link: &Link) {
    let spec = &shared.spec;
    tokio::select! {
        () = link.ended() => {}
        () = drill::begun(Fault::RedisDown) => link.give_up(drilled()),
        () = async {
            match &spec.url.place {
                Place::Server(_) | Place::Unix(_) if shared.part == Part::Primary => look_after_server(spec, link).await,
                Place::Server(_) | Place::Unix(_) | Place::Replicated { .. } => look_after_replicated(spec, link).await,
                Place::Sentinel { sentinels, primary } => look_after_primary(spec, link, sentinels, primary).await,
                Place::Cluster(_) => look_after_cluster(spec, link).await,
            }
        } => {}
    }
}

/// Asks the server for its role, and gives the link up if it is not what it was, or is silent again and again.
async fn look(link: &Link, silent: &mut u32) {
    match client::within(LOOK, is_primary(&link.fast)).await {
        Ok(primary) if primary == link.is_writable() => *silent = 0,
        Ok(_) => link.give_up(RedisError::NoWrites { code: "its role has changed".to_owned() }),
        Err(error) => match error.evidence() {
            Evidence::Down => link.give_up(error),
            Evidence::Slow => {
                *silent += 1;
                if *silent >= 2 {
                    link.give_up(error);
                }
            }
            Evidence::Good | Evidence::NoWrites | Evidence::Neutral => {}
        },
    }
}

async fn look_after_server(spec: &model::Redis, link: &Link) {
    let mut silent = 0;
    while link.is_alive() {
        tokio::time::sleep(if silent > 0 { LOOK } else { spec.health_interval }).await;
        look(link, &mut silent).await;
    }
}

/// Besides, a replica may follow another primary than before, whose data it has then; and a primary begins a new history when its first replica comes.
async fn look_after_replicated(spec: &model::Redis, link: &Link) {
    let mut silent = 0;
    while link.is_alive() {
        tokio::time::sleep(if silent > 0 { LOOK } else { spec.health_interval }).await;
        look(link, &mut silent).await;
        // What it does not tell in time it tells next time.
        if let Ok(history) = client::within(LOOK, history_of(&link.fast)).await {
            link.set_history(history);
        }
    }
}

/// Besides, a primary may be one no longer: each Sentinel tells, and is asked now and then.
async fn look_after_primary(spec: &model::Redis, link: &Link, sentinels: &[HostPort], primary: &str) {
    let changed = Arc::new(Notify::new());
    let mut watched: Vec<Option<Wire>> = vec![None; sentinels.len()];
    let (mut silent, mut resolved) = (0, None::<Instant>);
    while link.is_alive() {
        let told = tokio::time::timeout(ROLE_EVERY, changed.notified()).await.is_ok();
        if told || resolved.is_none_or(|at| at.elapsed() >= RESOLVE_EVERY) {
            resolved = Some(Instant::now());
            if let Ok(server) = resolve(spec, sentinels, primary).await
                && link.server() != Some(&Endpoint::Server(server))
            {
                link.give_up(RedisError::NoWrites { code: "the Sentinels name another primary".to_owned() });
                return;
            }
            for (sentinel, watched) in sentinels.iter().zip(&mut watched) {
                let is_well = match watched {
                    Some(wire) => client::within(LOOK, wire.call(&Command::new("PING"))).await.is_ok(),
                    None => false,
                };
                if !is_well {
                    *watched = subscribe(spec, sentinel, &changed).await.ok();
                }
            }
        }
        look(link, &mut silent).await;
    }
}

async fn subscribe(
    spec: &model::Redis,
    sentinel: &HostPort,
    changed: &Arc<Notify>,
) -> Result<Wire, RedisError> {
    client::within(Duration::from_secs(1), async {
        let (_, credentials) = to_sentinel(spec, sentinel).await?;
        client::watch_sentinel(spec, sentinel, credentials, changed.clone()).await
    })
    .await
}

/// Each server of a Cluster has a breaker of its own; those that are open are probed here, and those that left are forgotten.
async fn look_after_cluster(spec: &model::Redis, link: &Link) {
    let mut refreshed = Instant::now();
    let mut wait = AGAIN_MIN;
    while link.is_alive() {
        let some_open = link.shards().all.iter().any(|shard| shard.breaker.lock().is_open());
        if some_open {
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(AGAIN_MAX);
        } else {
            wait = AGAIN_MIN;
            // Whichever comes first; both mean to look.
            let _ = tokio::time::timeout(spec.health_interval, link.trouble.notified()).await;
        }
        if refreshed.elapsed() >= if some_open { AGAIN_MAX } else { RESOLVE_EVERY } {
            refreshed = Instant::now();
            if let Ok(told) = slots(&link.fast).await {
                let shards = Shards::of(&told, Some(&link.shards()));
                link.set_shards(shards);
            }
        }
        let shards = link.shards().clone();
        let (mut well, mut last) = (0, None);
        for shard in &shards.all {
            let Some(at) = &shard.at else { continue };
            match client::within(LOOK, link.fast.call_at(at, Command::new("PING"))).await {
                Ok(_) => {
                    well += 1;
                    let mut breaker = shard.breaker.lock();
                    if breaker.is_open() {
                        breaker.close(Instant::now());
                    }
                }
                Err(error) => {
                    if error.evidence() == Evidence::Down {
                        shard.breaker.lock().open();
                    }
                    last = Some(error);
                }
            }
        }
        if let (0, Some(error)) = (well, last) {
            link.give_up(error);
        }
    }
}
