//! Weir side by side with its peers.
fn main() {}
