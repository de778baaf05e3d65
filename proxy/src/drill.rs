//! Drills: faults that this process inflicts on its own links, so that an operator sees what would come of them. Nothing is done to a Redis or to an origin, and other proxies notice
//! nothing. A drill ends by itself, also if whoever began it is gone.
//!
//! There is one drill at a time in a process, so it is the process that has it: those who act on it (`redis/`, `origin/`) ask here, and outside of a drill that is one load of a number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

/// How much later answers of Redis come in a drill that slows it.
pub const LATER_BY: Duration = Duration::from_secs(2);
/// A drill lasts at least so long, and at most.
pub const LASTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Answers of a route whose time is kept; of more, the first count.
const TIMES_MAX: usize = 100_000;

/// What is practised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections to Redis end, and new ones are refused.
    RedisDown = 1,
    /// What Redis answers comes too late.
    RedisSlow,
    /// Redis is read, and takes no writes.
    RedisOom,
    /// Origins refuse connections.
    OriginDown,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::RedisDown, Self::RedisSlow, Self::RedisOom, Self::OriginDown];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedisDown => "redis-down",
            Self::RedisSlow => "redis-slow",
            Self::RedisOom => "redis-oom",
            Self::OriginDown => "origin-down",
        }
    }

    /// Read back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == text)
    }
}

/// Which fault there is now; 0: none.
static NOW: AtomicU8 = AtomicU8::new(0);
static DRILL: Mutex<Option<Drill>> = Mutex::new(None);
static CHANGES: LazyLock<watch::Sender<Option<Fault>>> = LazyLock::new(|| watch::Sender::new(None));

/// One that is under way, or the last one.
#[derive(Debug)]
struct Drill {
    number: u64,
    fault: Fault,
    began: Instant,
    lasts: Duration,
    /// After how long it has ended.
    ended: Option<Duration>,
    routes: BTreeMap<Arc<str>, Answers>,
}

/// What became of the requests of a route.
#[derive(Debug, Default)]
struct Answers {
    count: u64,
    from_cache: u64,
    /// Of 500 and above.
    errors: u64,
    micros: Vec<u32>,
}

/// Why none begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a drill (`{}`) is under way; it ends in {} s", fault.name(), ends_in.as_secs())]
pub struct UnderWay {
    fault: Fault,
    ends_in: Duration,
}

/// Whether this fault is practised now.
pub fn is(fault: Fault) -> bool {
    NOW.load(Ordering::Relaxed) == fault as u8
}

/// Whether any is.
pub fn is_on() -> bool {
    NOW.load(Ordering::Relaxed) != 0
}

/// Waits until this fault is practised.
pub async fn begun(fault: Fault) {
    // An error: the sender is gone, which a static never is.
    let _ = CHANGES.subscribe().wait_for(|now| *now == Some(fault)).await;
}

/// Begins one, asked for from `peer`. Returns its number. It ends on this runtime, which outlives whoever asked.
pub fn begin(fault: Fault, lasts: Duration, peer: SocketAddr) -> Result<u64, UnderWay> {
    let mut drill = DRILL.lock();
    if let Some(Drill { fault, began, lasts, ended: None, .. }) = &*drill {
        return Err(UnderWay { fault: *fault, ends_in: lasts.saturating_sub(began.elapsed()) });
    }
    let number = drill.as_ref().map_or(1, |last| last.number + 1);
    *drill =
        Some(Drill { number, fault, began: Instant::now(), lasts, ended: None, routes: BTreeMap::new() });
    NOW.store(fault as u8, Ordering::Relaxed);
    drop(drill);
    CHANGES.send_replace(Some(fault));
    tracing::warn!(drill = number, fault = fault.name(), seconds = lasts.as_secs(), peer = %peer, "a drill begins: what fails from now on fails on purpose");
    tokio::spawn(async move {
        tokio::time::sleep(lasts).await;
        end(number, None);
    });
    Ok(number)
}

/// Ends the one that is under way. False: there is none.
pub fn stop(peer: SocketAddr) -> bool {
    let number = DRILL.lock().as_ref().filter(|drill| drill.ended.is_none()).map(|drill| drill.number);
    number.is_some_and(|number| end(number, Some(peer)))
}

fn end(number: u64, by: Option<SocketAddr>) -> bool {
    let mut drill = DRILL.lock();
    let Some(drill) = drill.as_mut().filter(|drill| drill.number == number && drill.ended.is_none()) else {
        return false;
    };
    drill.ended = Some(drill.began.elapsed());
    NOW.store(0, Ordering::Relaxed);
    CHANGES.send_replace(None);
    let answers: u64 = drill.routes.values().map(|answers| answers.count).sum();
    let errors: u64 = drill.routes.values().map(|answers| answers.errors).sum();
    let peer = by.map_or_else(|| "its time is over".to_owned(), |peer| peer.to_string());
    tracing::warn!(drill = number, fault = drill.fault.name(), by = %peer, answers, errors, "a drill has ended");
    true
}

/// Takes an answer down, while a drill is under way.
pub fn note(route: &Arc<str>, status: StatusCode, from_cache: bool, took: Duration) {
    let mut drill = DRILL.lock();
    let Some(drill) = drill.as_mut().filter(|drill| drill.ended.is_none()) else { return };
    let answers = drill.routes.entry(route.clone()).or_default();
    answers.count += 1;
    answers.from_cache += u64::from(from_cache);
    answers.errors += u64::from(status.is_server_error());
    if answers.micros.len() < TIMES_MAX {
        answers.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }
}

/// What is known of the one that is under way, or of the last one.
pub fn report() -> serde_json::Value {
    let drill = DRILL.lock();
    let Some(drill) = &*drill else { return json!({ "drill": null }) };
    let lasted = drill.ended.unwrap_or_else(|| drill.began.elapsed());
    let routes: Vec<serde_json::Value> =
        drill.routes.iter().map(|(route, answers)| answers.told(route)).collect();
    json!({
        "drill": drill.number,
        "fault": drill.fault.name(),
        "running": drill.ended.is_none(),
        "seconds": lasted.as_secs_f64(),
        "ends_in_seconds": if drill.ended.is_some() { 0.0 } else { drill.lasts.saturating_sub(lasted).as_secs_f64() },
        "routes": routes,
    })
}

impl Answers {
    fn told(&self, route: &str) -> serde_json::Value {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        let at = |percent: usize| {
            let micros = micros.get(micros.len().saturating_sub(1) * percent / 100).copied();
            f64::from(micros.unwrap_or(0)) / 1e3
        };
        json!({
            "route": route,
            "answers": self.count,
            "from_cache": self.from_cache,
            "errors": self.errors,
            "p50_ms": at(50),
            "p99_ms": at(99),
            "slowest_ms": at(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_names() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.name()), Some(fault));
        }
        assert_eq!(Fault::parse("redis-gone"), None);
    }

    #[test]
    fn what_is_told_of_a_route_is_what_came() {
        let micros: Vec<u32> = (1..=100).map(|millis| millis * 1_000).collect();
        let told = Answers { count: 101, from_cache: 7, errors: 1, micros }.told("pages");
        assert_eq!(told["answers"], 101);
        assert_eq!(
            (&told["p50_ms"], &told["p99_ms"], &told["slowest_ms"]),
            (&json!(50.0), &json!(99.0), &json!(100.0))
        );
        assert_eq!(Answers::default().told("pages")["p99_ms"], 0.0);
    }
}
