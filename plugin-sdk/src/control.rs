//! Purges at any time, beside those that the invalidate hook returns. The operator must grant it.

#[cfg(target_arch = "wasm32")]
use crate::guest::calls::control as imp;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::fake::control as imp;

use crate::Purge;

/// Asks for a purge and never waits. `false` where the operator did not allow it, or too many are waiting.
///
/// ```
/// use weir_plugin::{Purge, control, testing};
///
/// assert!(control::purge(&Purge::tag("posts")));
/// assert_eq!(testing::purged(), [Purge::tag("posts")]);
/// ```
pub fn purge(purge: &Purge) -> bool {
    imp::purge(purge)
}
