//! Interim responses (103) on their way to an HTTP/1.1 client.

use std::task::Waker;

use parking_lot::Mutex;

use super::*;

/// Hands interim responses of the origin to the client's connection, until the final one is made.
pub(super) struct InterimRelay {
    connection: Arc<Connection>,
    closed: AtomicBool,
    /// The connection's task, while it waits for the final one.
    waiting: Mutex<Option<Waker>>,
}

impl InterimRelay {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, closed: AtomicBool::new(false), waiting: Mutex::new(None) }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Waits for `future`; each interim response meanwhile wakes the connection, which flushes it.
    /// The future stays where it is pinned: a future that takes another by value holds room for it twice.
    pub(super) async fn relay<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|context| {
            // Before the future is polled: what arrives from then on wakes this task.
            match &mut *self.waiting.lock() {
                Some(waker) => waker.clone_from(context.waker()),
                waiting => *waiting = Some(context.waker().clone()),
            }
            future.as_mut().poll(context)
        })
        .await
    }
}

impl HearsInterim for InterimRelay {
    fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut head =
            format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default())
                .into_bytes();
        for (name, value) in headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        self.connection.interim.push(&head);
        if let Some(waker) = &*self.waiting.lock() {
            waker.wake_by_ref();
        }
    }
}
