//! HTTP caching for a shared cache, as pure functions over values: no sockets, no clock, no runtime, no logging.
//!
//! | question | function | source |
//! |---|---|---|
//! | what does the request say about caching? | [`storable::RequestFacts::of`] | RFC 9111 §5.2.1 |
//! | which cookies count, which are forwarded? | [`cookies::Passing`] | RFC 9111 §7.3 |
//! | which query is forwarded and keyed? | [`query::QueryRule::filter`] | |
//! | what identifies the response? | [`key::KeyBuilder`] | RFC 9111 §2 |
//! | what does content mean, as part of a key? | [`json::Json::canonical`] | RFC 8259, RFC 6901 |
//! | do two queries ask for the same? | [`query::NoVarySearch`] | draft-ietf-httpbis-no-vary-search |
//! | which variant answers the request? | [`vary::select`] | RFC 9111 §4.1 |
//! | may it answer now? | [`reuse::decide`] | RFC 9111 §4, §4.2, RFC 5861, RFC 8246 |
//! | 200, 304 or 412? | [`validation::evaluate`] | RFC 9110 §13, RFC 9111 §4.3.2 |
//! | 200, 206 or 416? | [`range::plan`], [`range::Part::satisfy`] | RFC 9110 §14, RFC 9111 §3.3 |
//! | how do we ask the origin whether it still holds? | [`validation::Conditional`] | RFC 9111 §4.3.1 |
//! | what does a 304, a HEAD update? | [`validation::select`], [`validation::freshen`], [`validation::head_effect`] | RFC 9111 §4.3.3–5 |
//! | may the response be stored, on what terms? | [`storable::decide`] | RFC 9111 §3, §4.2 |
//! | what of its header section is stored? | [`storable::stored_headers`] | RFC 9111 §3.1 |
//! | may a stale one stand in for an error? | [`reuse::on_error`] | RFC 5861 §4 |
//! | what does an unsafe request make stale? | [`invalidation::invalidated`] | RFC 9111 §4.4 |
//! | which tags has it? | [`tags::Tags`] | RFC 9875 |
//! | which coding does the client like best? | [`negotiate::AcceptEncoding`] | RFC 9110 §12.5.3 |
//! | what do we say we did? | [`cache_status::CacheStatus`] | RFC 9211 |
//!
//! `now` is always an argument ([`time::Now`]). What a look-up asks allocates nothing; what can be derived when a response is stored
//! is derived then, into [`storable::Terms`], [`vary::Variant`] and [`validation::Validators`].

pub mod authority;
pub mod cache_control;
pub mod cache_status;
pub mod cookies;
pub mod freshness;
pub mod glob;
pub mod invalidation;
pub mod json;
pub mod key;
pub mod negotiate;
pub mod policy;
pub mod query;
pub mod range;
pub mod reuse;
pub mod storable;
pub mod tags;
#[cfg(test)]
mod testing;
pub mod time;
pub mod validation;
pub mod vary;

pub use time::Now;
