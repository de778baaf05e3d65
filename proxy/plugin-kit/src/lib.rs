//! What an author of plugins needs beside the proxy: [`create`] writes a plugin that builds and passes its tests at once, [`build`] makes a component of it.
//!
//! Pure of the proxy: nothing here runs a plugin. The SDK travels in the binary, since an author has the binary and nothing else.

mod build;
mod create;
mod sdk;

pub use build::{BuildError, Built, build};
pub use create::{CreateError, Language, create};
