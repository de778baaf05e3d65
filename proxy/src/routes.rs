//! Which route takes a request: the first whose matcher says yes.

/// Which requests a route takes.
#[derive(Debug, Clone, Default)]
pub struct Matcher {}
