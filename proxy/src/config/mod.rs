//! The configuration: loading, checking, and the checked model.

pub mod model;
