//! A worker's own connection to the server of a link, driven by the worker: asking costs no other thread a wake-up, and what all its requests
//! ask within one turn of its loop is one write and one read.
//!
//! A lane only carries. It is dialled beside the requests, which use the link's shared connection until it is there; it goes to the very process that the
//! supervisor has found well (by its run id). Whatever is doubtful about it ends it; what was read over it is asked for once more on the shared connection, and
//! the worker gets another lane. It is never mended.
//!
//! The head of the log that a look-up compares is asked for once behind up to [`SHARING_MAX`] values: it may be newer than it need be, and never older.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::client::{self, Command, Reply, within};
use super::error::RedisError;
use super::link::{Endpoint, Link, info_value};
use super::resp::{self, Taken};
use crate::config::model;

/// Values that wait for one and the same head of the log.
const SHARING_MAX: usize = 16;
/// What is read at once where nothing larger is announced.
const READ_BYTES: usize = 16 << 10;
/// Buffers that grew beyond this are given back when they are empty.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Between two attempts of a thread to have a lane to one link.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Links that one thread remembers lanes of; those that ended go first.
const REMEMBERED_MAX: usize = 64;

/// What can be asked on this thread.
pub(super) struct Lane {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Commands that are not with the driver yet.
    out: Vec<u8>,
    /// Who waits, in the order of the commands.
    waiting: VecDeque<Waiting>,
    /// Values at the end of `waiting` for which no head has been asked for yet, and the log that they are to be compared with.
    headless: usize,
    log: Option<Arc<[u8]>>,
    /// The driver, while it sleeps.
    driver: Option<Waker>,
    ended: bool,
}

type Answer = Result<(Reply, Reply), RedisError>;

enum Waiting {
    /// For one answer.
    One(oneshot::Sender<Result<Reply, RedisError>>),
    /// For a value, and the head behind it.
    Value(oneshot::Sender<Answer>),
    /// The head for all values since the last one.
    Head,
}

impl Lane {
    /// Asks one thing. Dropping the future abandons the answer, not the connection.
    pub(super) async fn ask(&self, command: &Command) -> Result<Reply, RedisError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.open()?;
            state.end_sharing();
            command.write_to(&mut state.out);
            state.waiting.push_back(Waiting::One(answer));
            state.wake();
        }
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Asks for a value, and for the head of the log at that moment or later.
    pub(super) async fn ask_with_head(
        &self,
        key: &[u8],
        log: &Arc<[u8]>,
    ) -> Result<(Reply, Reply), RedisError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.open()?;
            if state.headless >= SHARING_MAX || state.log.as_ref().is_some_and(|other| other != log) {
                state.end_sharing();
            }
            resp::command(&mut state.out, [b"GET", key]);
            state.waiting.push_back(Waiting::Value(answer));
            state.headless += 1;
            if state.log.is_none() {
                state.log = Some(log.clone());
            }
            state.wake();
        }
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    fn open(&self) -> Result<parking_lot::MutexGuard<'_, State>, RedisError> {
        let state = self.state.lock();
        if state.ended { Err(lost()) } else { Ok(state) }
    }

    /// Nothing is asked any more, and who waits is told.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.wake();
        drop(state);
        // Each finds that nobody will answer.
        drop(waiting);
    }

    fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl State {
    /// The head that the values so far wait for is asked for.
    fn end_sharing(&mut self) {
        if self.headless > 0
            && let Some(log) = &self.log
        {
            resp::command(&mut self.out, [&b"XREVRANGE"[..], log, b"+", b"-", b"COUNT", b"1"]);
            self.waiting.push_back(Waiting::Head);
            self.headless = 0;
            self.log = None;
        }
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

fn lost() -> RedisError {
    RedisError::Lost { detail: "the connection was given up".to_owned() }
}

// ---------------------------------------------------------------- finding the lane of this thread

/// The lane of a thread to a link: empty while it is dialled, and for ever if that fails.
type Slot = Arc<OnceLock<Arc<Lane>>>;

/// A lane of this thread, or one that was.
struct Remembered {
    link: u64,
    begun: Instant,
    slot: Slot,
}

impl Remembered {
    fn has_ended(&self) -> bool {
        self.slot.get().is_some_and(|lane| lane.has_ended())
    }
}

thread_local! {
    static LANES: RefCell<Vec<Remembered>> = const { RefCell::new(Vec::new()) };
}

/// The lane of this thread, if it is there. The first to ask has it dialled; where none may be had, the shared connection does.
pub(super) fn of(link: &Link) -> Option<Arc<Lane>> {
    LANES.with_borrow_mut(|lanes| {
        if let Some(at) = lanes.iter().position(|known| known.link == link.id()) {
            let known = &lanes[at];
            // One that was lost has another after it, in a while.
            if !known.has_ended() || known.begun.elapsed() < AGAIN_AFTER {
                return known.slot.get().filter(|lane| !lane.has_ended()).cloned();
            }
            lanes.swap_remove(at);
        }
        let runtime = Handle::try_current().ok()?;
        // Workers only: the background has the shared connections, and elsewhere a thread is not one loop.
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread || link.is_background(&runtime) {
            return None;
        }
        if lanes.len() >= REMEMBERED_MAX {
            lanes.retain(|known| known.slot.get().is_some_and(|lane| !lane.has_ended()));
        }
        let slot = Slot::default();
        lanes.push(Remembered { link: link.id(), begun: Instant::now(), slot: slot.clone() });
        if let Some(link) = link.take_room_for_lane() {
            runtime.spawn(begin(link, slot));
        }
        None
    })
}

/// Dials, and drives until it ends.
async fn begin(link: Weak<Link>, slot: Slot) {
    let _room = Room(link.clone());
    let Some((spec, server, run_id)) = link
        .upgrade()
        .and_then(|link| Some((link.spec().clone(), link.server()?.clone(), link.run_id()?.to_owned())))
    else {
        return;
    };
    let dialled = within(spec.connect_timeout, dial(&spec, &server, &run_id)).await;
    let stream = match dialled {
        Ok(stream) => stream,
        Err(error) => {
            // The link is judged by its own connections; without a lane these are used.
            tracing::debug!(redis = &*spec.name, %error, "a worker has no connection of its own to redis");
            return;
        }
    };
    let lane = Arc::new(Lane { state: Mutex::default() });
    if link.upgrade().is_none_or(|link| !link.keep_lane(&lane)) {
        return;
    }
    let _ = slot.set(lane.clone());
    drop(slot);
    let mut driver = Driver {
        lane,
        stream,
        writing: Vec::new(),
        written: 0,
        received: BytesMut::new(),
        wanted: READ_BYTES,
        held: Vec::new(),
    };
    if let Some(error) = std::future::poll_fn(|cx| driver.poll(cx)).await {
        tracing::debug!(redis = &*spec.name, %error, "a worker has lost its connection to redis");
    }
}

/// Room for a lane, given back at its end.
struct Room(Weak<Link>);

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.give_room_back();
        }
    }
}

/// Anything that bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn dial(spec: &model::Redis, server: &Endpoint, run_id: &str) -> Result<Box<dyn Stream>, RedisError> {
    let failed = |error: std::io::Error| RedisError::Lost { detail: error.to_string() };
    let mut stream: Box<dyn Stream> = match server {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        Endpoint::Server(server) => {
            let stream = TcpStream::connect((&*server.host, server.port)).await.map_err(failed)?;
            let socket = SockRef::from(&stream);
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(15))
                .with_interval(Duration::from_secs(5))
                .with_retries(3);
            let settings = socket
                .set_tcp_nodelay(true)
                .and_then(|()| socket.set_tcp_keepalive(&keepalive))
                .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(5))));
            settings.map_err(failed)?;
            if spec.url.tls {
                let (config, name) = client::tls(spec, &server.host)?;
                Box::new(TlsConnector::from(config).connect(name, stream).await.map_err(failed)?)
            } else {
                Box::new(stream)
            }
        }
    };
    let mut hello = Vec::new();
    let mut answers = 1;
    if let Some(password) = &spec.url.password {
        match &spec.url.username {
            Some(user) => resp::command(&mut hello, [b"AUTH", user.as_bytes(), password.0.as_bytes()]),
            None => resp::command(&mut hello, [&b"AUTH"[..], password.0.as_bytes()]),
        }
        answers += 1;
    }
    if spec.database() != 0 {
        resp::command(&mut hello, [&b"SELECT"[..], spec.database().to_string().as_bytes()]);
        answers += 1;
    }
    resp::command(&mut hello, [&b"INFO"[..], b"server"]);
    stream.write_all(&hello).await.map_err(failed)?;
    let mut received = BytesMut::new();
    let mut last = Reply::Nil;
    while answers > 0 {
        match resp::take(&mut received)? {
            Taken::Whole(answer) => {
                last = answer?;
                answers -= 1;
            }
            Taken::More(_) => {
                if stream.read_buf(&mut received).await.map_err(failed)? == 0 {
                    return Err(lost());
                }
            }
        }
    }
    // A name may stand for several servers, of which the supervisor has looked at one.
    if info_value(last.text()?, "run_id") == Some(run_id) && received.is_empty() {
        Ok(stream)
    } else {
        Err(RedisError::NotReady { code: "another server answers".to_owned() })
    }
}

// ---------------------------------------------------------------- driving

struct Driver {
    lane: Arc<Lane>,
    stream: Box<dyn Stream>,
    writing: Vec<u8>,
    written: usize,
    received: BytesMut,
    /// Room to read into.
    wanted: usize,
    /// Values that wait for the head.
    held: Vec<(oneshot::Sender<Answer>, Result<Reply, RedisError>)>,
}

impl Driver {
    /// Writes what there is to write and reads what there is to read. Ready when that is over, with what was wrong, if something was.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<RedisError>> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.writing.shrink_to(KEPT_BYTES_MAX);
                self.written = 0;
                let mut state = self.lane.state.lock();
                state.end_sharing();
                std::mem::swap(&mut state.out, &mut self.writing);
            }
            if let Poll::Ready(Err(error)) = self.write(cx) {
                return Poll::Ready(Some(error));
            }
            // Until there is no more, because only then it is told when there is.
            while let Poll::Ready(read) = self.read(cx) {
                if let Err(error) = read {
                    return Poll::Ready(Some(error));
                }
            }
            let mut state = self.lane.state.lock();
            if state.ended {
                return Poll::Ready(None);
            }
            if self.written < self.writing.len() || state.out.is_empty() {
                state.driver = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RedisError>> {
        while self.written < self.writing.len() {
            let wrote = Pin::new(&mut *self.stream).poll_write(cx, &self.writing[self.written..]);
            match std::task::ready!(wrote) {
                Ok(0) => return Poll::Ready(Err(lost())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(RedisError::Lost { detail: error.to_string() })),
            }
        }
        Pin::new(&mut *self.stream)
            .poll_flush(cx)
            .map_err(|error| RedisError::Lost { detail: error.to_string() })
    }

    /// Reads once, and hands out what is whole. Ready: there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RedisError>> {
        self.received.reserve(self.wanted);
        let read = std::task::ready!(pin!(self.stream.read_buf(&mut self.received)).poll(cx));
        match read {
            Ok(0) => Poll::Ready(Err(RedisError::Lost { detail: "redis closed the connection".to_owned() })),
            Ok(_) => Poll::Ready(self.hand_out()),
            Err(error) => Poll::Ready(Err(RedisError::Lost { detail: error.to_string() })),
        }
    }

    fn hand_out(&mut self) -> Result<(), RedisError> {
        self.wanted = READ_BYTES;
        loop {
            if self.received.is_empty() {
                return Ok(());
            }
            let answer = match resp::take(&mut self.received)? {
                Taken::Whole(answer) => answer,
                Taken::More(missing) => {
                    self.wanted = missing.max(READ_BYTES);
                    return Ok(());
                }
            };
            // Nobody asked: whatever it is, nothing behind it can be trusted.
            let waiting = self.lane.state.lock().waiting.pop_front().ok_or(RedisError::Unexpected)?;
            // Who has gone does not hear it.
            match waiting {
                // An answer that is none to this question: one was lost on the way, and all behind it belong to others.
                Waiting::Value(_) if matches!(answer, Ok(Reply::List(_) | Reply::Int(_))) => {
                    return Err(RedisError::Unexpected);
                }
                Waiting::Head if matches!(answer, Ok(Reply::Bytes(_) | Reply::Int(_))) => {
                    return Err(RedisError::Unexpected);
                }
                Waiting::One(asker) => drop(asker.send(answer)),
                Waiting::Value(asker) => self.held.push((asker, answer)),
                Waiting::Head => {
                    for (asker, value) in self.held.drain(..) {
                        drop(asker.send(value.and_then(|value| Ok((value, answer.clone()?)))));
                    }
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.lane.end();
    }
}
