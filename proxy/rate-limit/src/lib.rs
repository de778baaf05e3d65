//! How many requests are let through: the arithmetic, without clocks, sockets or a runtime.
//!
//! | question | answer |
//! |---|---|
//! | what is allowed? | [`Quota`], several in a [`Policy`] |
//! | may this one pass? | [`Bucket::decide`]: GCRA, one number per quota |
//! | and where a server that all proxies ask has the last word? | [`Bucket::step`]: a lease, a remembered refusal, or a question; [`Bucket::answered`] |
//! | who has used how much? | [`Table`]: bounded, and what it forgets is counted |
//! | what is the client told? | [`fields`] |
//!
//! **The algorithm** is the generic cell rate algorithm (ITU-T I.371). Each quota has one number per key: the time at which all that was let through
//! would have been let through at an even pace. What lies ahead of now is debt; a request may pass if its debt stays within the burst. So there is no edge of a window at
//! which twice the quota passes, and when the next request may pass is known exactly.
//!
//! **Time** is in [`Ticks`] of 100 ns, since any beginning: whole numbers of them stay exact in the script that runs in Redis, whose numbers are doubles, until
//! the year 2052. Debts travel between machines, times do not: clocks need not agree.

mod bucket;
pub mod fields;
#[cfg(test)]
mod model;
mod quota;
mod table;

pub use bucket::{Bucket, Decision, Question, Refusal, Standing, Step};
pub use quota::{Policy, PolicyError, QUOTAS_MAX, Quota};
pub use table::Table;

/// Time in units of 100 ns.
pub type Ticks = u64;

/// Ticks of a second.
pub const SECOND: Ticks = 10_000_000;

/// For every key of a policy: for each quota, a time or a debt.
pub type PerQuota = [Ticks; QUOTAS_MAX];

/// A lease ends so long after it was given.
pub const LEASE: Ticks = SECOND / 10;

/// While one request asks for the next lease, the others go on with what is left of the last one, so much longer at most.
pub const OVERLAP: Ticks = LEASE / 4;

/// A lease holds what is let through in this time at most.
const LEASE_HOLDS: Ticks = SECOND / 50;
