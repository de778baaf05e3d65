//! The strict gate: which messages are taken at all. A message has one length, one target and one authority, or it goes no further.
//!
//! Everything here is a pure function over heads that have been parsed. After the gate a head holds end-to-end fields only, and what the
//! removed ones meant is said by a type. It does not decide where a request goes (`routes.rs`), who sent it (`identity.rs`) or which
//! fields the origin sees (`origin/headers.rs`).
//!
//! Left to the parsers (`http1/`, and h2 for HTTP/2), because they see the bytes: field names are tokens, values hold no control byte but a
//! tab, a target has no fragment, chunk framing is exact.

mod authority;
mod connection;
mod framing;
mod rejection;
mod request;
mod response;

pub use authority::Authority;
pub(crate) use connection::has_token;
pub use connection::{is_hop_by_hop, via};
pub(crate) use framing::{Lengths, check_transfer_encoding};
pub use rejection::Rejection;
pub use request::{Gated, RequestFacts, WebSocketAsk, check_request};
pub use response::{Asked, GatedResponse, ResponseFault, check_response, check_trailers};

/// How this proxy calls itself in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "weir";
