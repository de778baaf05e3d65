//! What end-to-end tests are made of: a scripted origin, a raw client, a running Weir.
