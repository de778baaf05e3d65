//! What policy plugins read of requests. Pure: no engine, no runtime.
//!
//! | module | what it answers |
//! |---|---|
//! | [`request`] | what a plugin may read, and how the declared part of it is gathered, so that what differs has other bytes |
//! | [`grants`] | what the operator lets a plugin read and do |
//! | [`plan`] | keys that are made of it without a call |

pub mod grants;
pub mod plan;
pub mod request;

/// The most names in a list: cookies, fields.
pub const NAMES_MAX: usize = 64;
