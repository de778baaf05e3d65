//! Sessions as values: what one holds, how two copies of it become one, how it is written down, and how an application speaks of it.
//!
//! | question | answer |
//! |---|---|
//! | what does a session hold? | [`Session`]: attributes with versions, whom it belongs to, when it was begun and seen, whether it was ended |
//! | two stores know different things of it: what holds? | [`Session::merge`]: in any order, any number of times, the same |
//! | is it still valid, and must it be touched? | [`Session::standing`] |
//! | which version does a change get? | [`Clock`] |
//! | what do bytes in a store say? | [`Session::encode`], [`Session::decode`] |
//! | what is the application told, and what does it say? | [`protocol`] (RFC 9651) |
//!
//! **Merging.** A session is never saved whole: what is written is a change, which is itself a session that holds only what it says. For each attribute the higher
//! version stays; an attribute that was removed stays as a mark, so that an older value does not come back; and *an end beats everything*, so that what is saved late never brings back
//! a session that was logged out. The operation is commutative, associative and idempotent, which `model.rs` tests by chance over several stores that lose everything now and then.
//!
//! Pure: no runtime, no sockets, no clock. Time is an argument, in milliseconds since 1970.

mod codec;
#[cfg(test)]
mod model;
pub mod protocol;
mod state;

pub use codec::{Damaged, ENDED_AT};
pub use state::{
    Attribute, Clock, Declined, Lifetimes, MARKS_MS, Over, Session, Standing, Version, version_at,
};
