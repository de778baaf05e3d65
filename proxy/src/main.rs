//! Weir: a caching reverse proxy.
fn main() {}
