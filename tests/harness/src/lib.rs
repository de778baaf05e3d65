//! What end-to-end tests are made of, in reading order:
//!
//! - [`wire`]: HTTP/1.1 by hand. Bytes are sent exactly as written and read strictly, because what a test asserts on
//!   must not pass through the parser that it tests.
//! - [`origin`]: an origin that counts and keeps its requests and answers from a closure, and one that follows a
//!   script, connection by connection, byte by byte.
//! - [`weir`]: the real binary with a configuration file of its own, on ports that the system picks.
//! - [`names`]: a name server that says what a test wants.
//! - [`redis`]: real Redis servers, alone, with Sentinels, as a Cluster; [`postgres`]: a real PostgreSQL.
//! - [`between`]: somebody between a client and a server who loses an answer when told to.
//! - [`browser`]: a browser, as far as cookies go.
//! - [`h2`]: HTTP/2, well-formed through hyper and otherwise frame by frame.
//! - [`tls`], [`websocket`], [`random`]: certificates, frames, repeatable chance.
//!
//! Everything blocks, on threads: a story reads top to bottom. Every wait has a limit ([`wire::WAIT`]) and none is a
//! sleep: a test waits for an event (bytes, a request at the origin, a line of output, a gate that it opens itself) or
//! asks again until the answer is the wanted one ([`eventually`]).

pub mod between;
pub mod browser;
mod daemon;
pub mod h2;
pub mod names;
pub mod origin;
pub mod postgres;
pub mod random;
pub mod redis;
pub mod tls;
pub mod websocket;
pub mod weir;
pub mod wire;

pub use between::{Between, Loss};
pub use browser::Browser;
pub use h2::{H2Client, H2Origin};
pub use names::NameServer;
pub use origin::{Origin, Reply, Script};
pub use postgres::PostgresServer;
pub use redis::RedisServer;
pub use weir::Weir;
pub use wire::{Conn, ReadError, Request, Response, WAIT};

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Asks until the answer is `true`; panics with `what` when that takes longer than [`WAIT`].
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "not in {WAIT:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A gate that threads wait at until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open; panics after [`WAIT`].
    #[track_caller]
    pub fn wait(&self) {
        let guard = lock(&self.0.0);
        let (guard, limit) =
            self.0.1.wait_timeout_while(guard, WAIT, |open| !*open).unwrap_or_else(|e| e.into_inner());
        assert!(*guard || !limit.timed_out(), "nobody opened the gate in {WAIT:?}");
    }
}

/// The wall clock, for `Date` and its kin in what origins answer.
#[expect(clippy::disallowed_methods, reason = "an origin has a clock of its own")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// An HTTP date so many seconds from now.
pub fn http_date(seconds_from_now: i64) -> String {
    let offset = Duration::from_secs(seconds_from_now.unsigned_abs());
    let date = if seconds_from_now < 0 { now() - offset } else { now() + offset };
    httpdate::fmt_http_date(date)
}

/// Locks, also after another thread panicked: the panic is reported where it happened.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
