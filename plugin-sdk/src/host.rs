//! What every plugin may ask of the proxy. In native tests, [`testing`](crate::testing) stands in for it.

use std::fmt;

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault in the plugin.
    Trace,
    /// For each request.
    Debug,
    /// Once in a while.
    Info,
    /// It went on, but not as it should.
    Warn,
    /// Somebody must act.
    Error,
}

/// Writes a line to the proxy's log; [`info!`](crate::info) and its like are shorter. Lines are cut and limited in number.
///
/// ```
/// use weir_plugin::{host, testing};
///
/// host::log(host::Level::Info, format_args!("{} buckets", 3));
/// assert_eq!(testing::logged(), [(host::Level::Info, "3 buckets".to_owned())]);
/// ```
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    let formatted;
    let text = match message.as_str() {
        Some(text) => text,
        None => {
            formatted = message.to_string();
            &formatted
        }
    };
    imp::log(level, text);
}

/// Milliseconds since 1970, as the proxy's clock says. A hook that reads it is not [pure](crate::Manifest::pure), unless it says with
/// [`remember_for`](crate::RequestDecision::remember_for) how long its decision holds.
///
/// ```
/// use std::time::Duration;
/// use weir_plugin::{host, testing};
///
/// let before = host::now_ms();
/// testing::advance(Duration::from_secs(1));
/// assert_eq!(host::now_ms(), before + 1_000);
/// ```
pub fn now_ms() -> u64 {
    imp::now_ms()
}

/// Adds to a counter, which the operator sees as a metric of this plugin. Names are lower-case words with `_` between them. A decision that is
/// remembered is not counted again.
///
/// ```
/// use weir_plugin::{host, testing};
///
/// host::count("anonymous", 1);
/// assert_eq!(testing::counter("anonymous"), 1);
/// ```
pub fn count(name: &str, delta: u64) {
    imp::count(name, delta);
}

/// Writes a line that somebody must act on.
///
/// ```
/// weir_plugin::error!("no secret for issuer {}", "example");
/// ```
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::host::log($crate::host::Level::Error, ::core::format_args!($($message)+)) };
}

/// Writes a line about something that went on, but not as it should.
///
/// ```
/// weir_plugin::warn!("unknown bucket");
/// ```
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::host::log($crate::host::Level::Warn, ::core::format_args!($($message)+)) };
}

/// Writes a line about something that happens once in a while.
///
/// ```
/// weir_plugin::info!("{} models", 6);
/// ```
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::host::log($crate::host::Level::Info, ::core::format_args!($($message)+)) };
}

/// Writes a line about one request.
///
/// ```
/// weir_plugin::debug!("shared");
/// ```
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::host::log($crate::host::Level::Debug, ::core::format_args!($($message)+)) };
}

#[cfg(target_arch = "wasm32")]
use crate::guest::calls::host as imp;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::fake::host as imp;
