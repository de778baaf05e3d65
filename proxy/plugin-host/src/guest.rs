//! What a plugin may call, and what it may take. Host calls never wait and never panic; what comes of them is bounded.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cache_semantics::Now;
use wasmtime::ResourceLimiter;

use crate::bindings::weir::policy::{control, host, state, types};
use crate::decision::Purge;
use crate::state::SharedState;
use crate::{Level, Sink};

/// The longest line of a log.
const LINE_BYTES_MAX: usize = 1024;
/// The most lines in one call.
const LINES_MAX: u32 = 16;
/// The longest name of a counter.
const COUNTER_BYTES_MAX: usize = 64;
/// The most purges that one call asks for.
const PURGES_MAX: u32 = 16;
/// The most elements of a table, the most instances, memories and tables: what a Python component needs, with room.
const TABLE_MAX: usize = 65_536;
const INSTANCES_MAX: usize = 128;
const MEMORIES_MAX: usize = 8;
const TABLES_MAX: usize = 128;

/// What all instances of a plugin share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) state: Arc<SharedState>,
    pub(crate) may_purge: bool,
}

/// One instance's side of the border.
pub(crate) struct Guest {
    shared: Arc<Shared>,
    pub(crate) limiter: Limiter,
    now: Now,
    lines_left: u32,
    purges_left: u32,
    /// What it said last at its loudest: where a panic hook speaks, this is the panic.
    pub(crate) last_error: Option<String>,
}

/// Memory, tables and instances.
pub(crate) struct Limiter {
    pub(crate) memory_max: usize,
    pub(crate) memory: usize,
    /// It wanted more.
    pub(crate) denied: bool,
}

impl Guest {
    pub(crate) fn new(shared: Arc<Shared>, memory_max: usize, now: Now) -> Self {
        let limiter = Limiter { memory_max, memory: 0, denied: false };
        Self { shared, limiter, now, lines_left: 0, purges_left: 0, last_error: None }
    }

    /// A new call begins.
    pub(crate) fn begin(&mut self, now: Now) {
        self.now = now;
        self.lines_left = LINES_MAX;
        self.purges_left = PURGES_MAX;
        self.last_error = None;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        let fits = total <= self.memory_max;
        if fits {
            self.memory = total;
        }
        self.denied |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_MAX)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

impl types::Host for Guest {}

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, mut message: String) {
        let level = match level {
            host::Level::Trace => Level::Trace,
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        message.truncate(message.floor_char_boundary(LINE_BYTES_MAX));
        if self.lines_left > 0 {
            self.lines_left -= 1;
            self.shared.sink.log(&self.shared.name, level, &message);
        }
        if level == Level::Error {
            self.last_error = Some(message);
        }
    }

    fn now_ms(&mut self) -> u64 {
        let since = self.now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn counter_add(&mut self, name: String, delta: u64) {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !name.is_empty() && name.len() <= COUNTER_BYTES_MAX && name.bytes().all(is_name) {
            self.shared.sink.count(&self.shared.name, &name, delta);
        }
    }
}

impl state::Host for Guest {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.shared.state.value(&key, self.now.mono)
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> bool {
        self.shared.state.set(&key, value, ttl_ms.map(Duration::from_millis), self.now.mono)
    }

    fn incr(&mut self, key: String, delta: i64, ttl_ms: Option<u64>) -> i64 {
        self.shared.state.add(&key, delta, ttl_ms.map(Duration::from_millis), self.now.mono)
    }
}

impl control::Host for Guest {
    fn request_purge(&mut self, what: types::Purge) -> bool {
        if !self.shared.may_purge || self.purges_left == 0 {
            return false;
        }
        self.purges_left -= 1;
        Purge::check(what).is_ok_and(|purge| self.shared.sink.request_purge(&self.shared.name, purge))
    }
}
