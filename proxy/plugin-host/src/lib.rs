//! Policy plugins: sandboxed programs that decide what makes two requests the same, what is stored, and what a write makes stale.
//!
//! This crate knows nothing of the proxy around it. It takes a component and what the operator allows it ([`PluginSpec`]), borrowed
//! requests ([`Request`]), and gives decisions whose every byte it has checked ([`decision`]), or says in what way the plugin
//! failed ([`CallError`]); what follows from a failure is the caller's.
//!
//! | module | what it answers |
//! |---|---|
//! | [`Host`] (`engine`) | one per process: the engine, its ticker, compiled code on disk; loads plugins |
//! | [`Plugin`] (`plugin`) | one plugin with one configuration: its hooks, an instance for each worker, what it remembers |
//! | [`decision`] | what a plugin may say, checked |
//! | crate `plugin-inputs` | what a plugin may read of a [`Request`], its [`Grants`], and a [`KeyPlan`], with which it is not called |
//! | `guest` | what a plugin may call; its limits |
//! | `memo`, `breaker` | what it said before; when it is not asked any more |
//!
//! Rules that hold everywhere here:
//!
//! - Nothing waits: a call is a plain function, bounded by a deadline that a ticker enforces. No lock is held but the worker's own.
//! - An instance that failed is dropped, never mended.
//! - What is remembered is found by the whole of what the plugin read, compared byte by byte, never by a hash of it.
//! - Host calls never panic and never block.

mod bindings;
mod breaker;
mod compiled;
pub mod decision;
mod engine;
mod error;
mod guest;
mod inspect;
mod memo;
mod plugin;
mod state;
mod ticker;

pub use breaker::BreakerState;
pub use engine::{Host, HostOptions};
pub use error::{CallError, HostError, LoadError};
pub use inspect::Inspection;
pub use plugin::{Hook, HookStats, Hooks, Limits, Manifest, MemoLimits, Plugin, PluginSpec, Stats};
pub use plugin_inputs::grants::{Grant, GrantError, Grants};
pub use plugin_inputs::plan::{KeyPlan, Planned};
pub use plugin_inputs::request::{Allowance, Attribute, Content, Input, NameFilter, Request, Response};
pub use state::SharedState;

/// How loud a line of a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For who reads the plugin's source.
    Trace,
    /// For who debugs it.
    Debug,
    /// Life cycle.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Somebody must act.
    Error,
}

/// Where what a plugin says beside its decisions goes. Called in the middle of requests: nothing here may wait.
pub trait Sink: Send + Sync {
    /// A line of its log, cut to 1 KiB; control characters are the receiver's to escape. At most 16 in one call of a hook.
    fn log(&self, plugin: &str, level: Level, message: &str);
    /// It has counted something.
    fn count(&self, plugin: &str, name: &str, delta: u64);
    /// It asks for a purge, which the operator has allowed it; false: there is no room for it.
    fn request_purge(&self, plugin: &str, purge: decision::Purge) -> bool;
}
