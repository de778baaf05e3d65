//! Nothing: it depends on `weir` with every optional feature, so that `--workspace` builds, tests and checks them all in one go, while `cargo build` alone has
//! only those that are on by default.
