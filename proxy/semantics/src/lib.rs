//! HTTP caching as pure functions over values: no sockets, no clock, no runtime.
