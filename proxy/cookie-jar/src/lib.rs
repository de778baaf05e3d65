//! Cookies as values: how `Set-Cookie` and `Cookie` are read, what a policy changes about them, and what a jar keeps of them and gives back.
//!
//! | question | answer |
//! |---|---|
//! | what does a `Set-Cookie` line say? | [`SetCookie::parse`] (RFC 6265bis §5.6) |
//! | when does a cookie end? | [`SetCookie::ends_s`], [`date::parse`] (§5.1.1) |
//! | which cookies does a request carry? | [`request::pairs`] |
//! | what of it does a policy change, on both ways? | [`Policy::to_client`], [`Policy::to_origin`] |
//! | is a cookie taken in, and with which requests does it go out? | [`Kept::take`], [`Kept::goes_to`] (§5.7, §5.8.3) |
//!
//! Bytes are compared as they came: names and values are octets, and nothing is decoded. Pure: no runtime, no sockets, no clock. Time is an argument, in seconds or milliseconds since 1970.

pub mod date;
mod kept;
mod policy;
pub mod request;
mod set_cookie;
#[cfg(test)]
mod tests;

pub use kept::{Kept, NotTaken, Site, Taken, cookie_value};
pub use policy::{Lifetime, Policy, Prefix, Rule, Secure, ToOrigin};
pub use set_cookie::{AGE_MAX_S, PAIR_BYTES_MAX, SameSite, SetCookie};
