//! The host against guests written by hand: what each hook gives, and every way in which a plugin can fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod deciding;
mod faults;
mod loading;
mod support;
