//! Memory of the process, shared by all instances of a plugin and limited in size. It is gone after a restart, and each proxy has its own.
//!
//! A plugin that uses it is asked for every request: nothing that it says is remembered.
//!
//! ```
//! use std::time::Duration;
//! use weir_plugin::state;
//!
//! assert_eq!(state::get("seen"), None);
//! assert!(state::set("seen", b"yes", Some(Duration::from_secs(60))));
//! assert_eq!(state::get("seen").as_deref(), Some(&b"yes"[..]));
//! assert_eq!(state::add("count", 2, None), 2);
//! assert_eq!(state::add("count", -1, None), 1);
//! ```

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use crate::guest::calls::state as imp;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::fake::state as imp;

/// What is kept under the key.
pub fn get(key: &str) -> Option<Vec<u8>> {
    imp::get(key)
}

/// Keeps a value, for so long. `false` where there is no room.
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> bool {
    imp::set(key, value, ttl)
}

/// Adds to a number, and says what it is then. A new one begins at 0, and so does one for which there is no room; `ttl` counts from its beginning.
pub fn add(key: &str, delta: i64, ttl: Option<Duration>) -> i64 {
    imp::add(key, delta, ttl)
}
