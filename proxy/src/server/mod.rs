//! Listeners, connections and their limits.

pub mod connection;

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;

use crate::answer::Answer;
use connection::Connection;

/// What answers requests. Each worker has one of its own, made and used on the worker's thread.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request. Called when its head has been read; a panic ends the connection, and no other.
    fn serve(&self, request: Request<Incoming>, connection: &Arc<Connection>) -> Answer;
}
