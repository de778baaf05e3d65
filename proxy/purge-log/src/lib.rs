//! Purges as an ordered log of facts.
//!
//! A purge is a record in a log that all proxies read in the same order; nothing has to be found and deleted for it to hold. A stored response
//! carries the [`Stamp`] at which its fetch *began*: a newer record that names it makes it invalid, however late it was stored and
//! wherever it lies.
//!
//! | question | answer |
//! |---|---|
//! | what does a purge name, how is it written down? | [`target`] |
//! | what does an application say it has changed? | [`field`] |
//! | what is a stored response known by? | [`known`] |
//! | is this stored response still valid? | [`facts`] |
//! | what does a proxy have to do, and when may it say what? | [`instance`] |
//!
//! `model.rs` runs all of it, several proxies at once, against partitions, failovers and restarts; and shows for each rule what breaks
//! without it.
//!
//! Pure: no runtime, no sockets, no clock. Time is an argument.

#[cfg(test)]
mod bounds;
pub mod facts;
pub mod field;
pub mod instance;
pub mod known;
#[cfg(test)]
mod model;
pub mod position;
mod rules;
mod sketch;
pub mod target;

pub use facts::{Facts, FillStamp, Judgement, Sizes, Softened, Stamp, Verdict};
pub use instance::{Announcement, Applied, Instance, Phase, Send, Server};
pub use known::{Known, Labels};
pub use position::Position;
pub use target::{Mode, Prefix, Published, Record, Target, TargetError, Url, Version};
