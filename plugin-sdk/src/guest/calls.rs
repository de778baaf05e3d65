//! What the host offers, in the words of the SDK. A component imports only what it calls.

pub(crate) mod host {
    use crate::guest::bindings::weir::policy::host;
    use crate::host::Level;

    pub(crate) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }

    pub(crate) fn now_ms() -> u64 {
        host::now_ms()
    }

    pub(crate) fn count(name: &str, delta: u64) {
        host::counter_add(name, delta);
    }
}

pub(crate) mod state {
    use std::time::Duration;

    use crate::guest::bindings::weir::policy::state;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        state::get(key)
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> bool {
        state::set(key, value, ttl.map(crate::milliseconds))
    }

    pub(crate) fn add(key: &str, delta: i64, ttl: Option<Duration>) -> i64 {
        state::incr(key, delta, ttl.map(crate::milliseconds))
    }
}

pub(crate) mod control {
    use crate::Purge;
    use crate::guest::bindings::weir::policy::control;

    pub(crate) fn purge(purge: &Purge) -> bool {
        control::request_purge(&crate::guest::purge(purge.clone()))
    }
}
