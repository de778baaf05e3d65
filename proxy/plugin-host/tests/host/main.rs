//! The host against guests written by hand: what each hook gives, and every way in which a plugin can fail.

mod deciding;
mod faults;
mod loading;
mod support;
