//! HTTP caching as pure functions over values: no sockets, no clock, no runtime.

/// The time of a request, both ways: dates need the wall clock, lifetimes inside the process the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, for dates.
    pub wall: std::time::SystemTime,
    /// Monotonic clock, for ages.
    pub mono: std::time::Instant,
}
