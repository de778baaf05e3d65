//! Sessions in PostgreSQL: what several machines share and what outlives all of them.
//!
//! Each statement is a transaction of its own, so that connections can be shared and a proxy that stops in its tracks holds no lock. A change is read, merged and written on condition that the row
//! has not changed since (`rev`), and again from the start if it has; within a proxy, changes of one session wait for each other, so that only proxies meet there. The tables make
//! themselves, under an advisory lock, and carry a version. What has ended is deleted once a minute, a thousand rows at a time.

#[cfg(feature = "postgres")]
mod pool;
#[cfg(feature = "postgres")]
mod tls;
pub mod url;

#[cfg(feature = "postgres")]
pub(super) use self::store::Postgres;

#[cfg(feature = "postgres")]
use self::store::{SCHEMA, SCHEMA_VERSION, STATEMENTS};

#[cfg(feature = "postgres")]
mod store;
