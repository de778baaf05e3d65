//! What is known of a client's connection, for as long as it lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::metrics::{Counter, WorkerMetrics};

/// A client's connection: shared by the I/O wrapper, the server and every request on it.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end: of the socket, or as the PROXY header of a trusted peer says. `None`: a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Our own end, likewise.
    pub local: Option<SocketAddr>,
    /// The other end of the socket itself.
    pub socket_peer: Option<SocketAddr>,
    /// What TLS agreed on; `None` is cleartext.
    pub tls: Option<TlsFacts>,
    /// Interim responses that wait to be written (HTTP/1.1 only).
    pub interim: Interim,
    /// What its worker counts.
    pub metrics: Arc<WorkerMetrics>,
    pub(super) progress: Progress,
    pub(super) orders: Orders,
}

impl Connection {
    /// A connection in cleartext between the two ends.
    pub fn cleartext(
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            peer,
            local,
            socket_peer: peer,
            tls: None,
            interim: Interim::default(),
            metrics,
            progress: Progress::default(),
            orders: Orders::default(),
        }
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> http::uri::Scheme {
        if self.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }
}

/// What TLS agreed on.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// The name asked for.
    pub server_name: Option<Arc<str>>,
    /// `TLSv1.3` and the like.
    pub version: &'static str,
}

/// A slot for interim responses. hyper's server cannot send a 103, so the I/O wrapper writes what it finds here when it is asked to
/// flush: at that moment all earlier answers have left, and the final head of this one is not made yet.
#[derive(Debug, Default)]
pub struct Interim {
    heads: Mutex<Bytes>,
    // Every flush asks, so asking must not take a lock.
    waiting: AtomicBool,
}

impl Interim {
    /// Adds a checked interim head, complete with its empty line.
    pub fn push(&self, head: &[u8]) {
        let mut heads = self.heads.lock();
        *heads = [&heads[..], head].concat().into();
        self.waiting.store(true, Ordering::Release);
    }

    /// Takes what waits. The pipeline calls this before it answers, so that an interim head is never written after the final one.
    pub fn take(&self) -> Bytes {
        if !self.waiting.load(Ordering::Acquire) {
            return Bytes::new();
        }
        let mut heads = self.heads.lock();
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *heads)
    }
}

/// What a connection is doing, as far as its time limits depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// TLS or the PROXY header is under way.
    Handshake,
    /// Nothing has come yet from which the protocol could be told.
    Silent,
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
    /// An upgraded connection. Its own two ends watch over it.
    Tunnel,
    /// The answer has left and the connection is being closed; what the client still sends is thrown away, so that no reset overtakes the answer.
    Lingering,
}

/// What the I/O wrapper and the service note down for the janitor. All of it is written on the worker's thread with plain stores and read there once
/// a second: the hit path pays for a few stores and for no timer.
#[derive(Debug)]
pub(super) struct Progress {
    phase: AtomicU8,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    /// Bytes already added to the worker's metrics.
    pub(super) metered_in: Counter,
    pub(super) metered_out: Counter,
    /// Content bytes written (HTTP/2, where control frames move even if nothing else does).
    pub(super) content_out: Counter,
    /// Content bytes read (HTTP/2).
    pub(super) content_in: Counter,
    /// A stream of this HTTP/2 connection became a tunnel (RFC 8441).
    pub(super) tunnelled: AtomicBool,
    /// Requests whose head was complete.
    pub(super) begun: Counter,
    /// Requests whose answer was handed over in full, or given up.
    pub(super) ended: Counter,
    /// Of the requests under way, those that wait for us rather than for the client to read.
    pub(super) waiting: Level,
    /// A head has begun to come in and is not complete.
    pub(super) head_begun: AtomicBool,
    /// Which head that is.
    pub(super) head_number: Counter,
    /// HTTP/1.1: the last request had content, which may not have been read to its end.
    pub(super) had_content: AtomicBool,
    /// The last write could not be done whole.
    pub(super) write_blocked: AtomicBool,
    /// HTTP/2: streams reset, either way; control frames in excess of the useful ones.
    pub(super) resets: Counter,
    pub(super) control_frames: Counter,
    pub(super) useful_frames: Counter,
    /// HTTP/2: how often the connection's task has run.
    pub(super) turns: Counter,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Silent as u8),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            metered_in: Counter::default(),
            metered_out: Counter::default(),
            content_out: Counter::default(),
            content_in: Counter::default(),
            tunnelled: AtomicBool::new(false),
            begun: Counter::default(),
            ended: Counter::default(),
            waiting: Level::default(),
            head_begun: AtomicBool::new(false),
            head_number: Counter::default(),
            had_content: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            resets: Counter::default(),
            control_frames: Counter::default(),
            useful_frames: Counter::default(),
            turns: Counter::default(),
        }
    }
}

impl Progress {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Handshake,
            1 => Phase::Silent,
            2 => Phase::Http1,
            3 => Phase::Http2,
            4 => Phase::Tunnel,
            _ => Phase::Lingering,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.phase() == Phase::Tunnel
    }

    /// Requests under way.
    pub(super) fn active(&self) -> u64 {
        self.begun.count().wrapping_sub(self.ended.count())
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub(super) struct Level(AtomicU32);

impl Level {
    pub(super) fn up(&self) {
        self.0.store(self.level().wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.store(self.level().wrapping_sub(1), Ordering::Relaxed);
    }

    pub(super) fn level(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the connection's task is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    /// Go on.
    None,
    /// Finish what is under way and begin nothing new.
    Finish,
    /// Say 408 where nothing of an answer was sent, and end.
    EndWith408,
    /// End at once.
    End,
}

/// The way to tell a connection's task something: a flag that it reads whenever it runs, and its waker.
#[derive(Debug, Default)]
pub(super) struct Orders {
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Orders {
    /// What is asked for now.
    pub(super) fn current(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::None,
            1 => Order::Finish,
            2 => Order::EndWith408,
            _ => Order::End,
        }
    }

    /// Asks for something; what was asked before is never softened.
    pub(super) fn give(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::Relaxed) < order as u8
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }

    /// Wakes this task at the next order.
    pub(super) fn wake_me(&self, context: &Context<'_>) {
        *self.waker.lock() = Some(context.waker().clone());
    }

    /// Ready once at least this was ordered.
    pub(super) fn poll_at_least(&self, least: Order, context: &Context<'_>) -> Poll<()> {
        self.wake_me(context);
        if self.current() >= least { Poll::Ready(()) } else { Poll::Pending }
    }
}
