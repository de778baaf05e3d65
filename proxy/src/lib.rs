//! Weir: a caching reverse proxy.
