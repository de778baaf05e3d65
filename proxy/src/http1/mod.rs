//! HTTP/1.1 as it is on the wire (RFC 9112), the same for clients and for origins.
//!
//! Heads are parsed by `httparse`; what a message's length is, and where its content ends, is decided here, once. `server/http1.rs`
//! speaks to clients with it, `origin/http1.rs` to origins.

pub(crate) mod batch;
pub mod chunked;
pub mod content;
pub mod head;
pub(crate) mod out;
pub(crate) mod receive;
pub(crate) mod spare;
