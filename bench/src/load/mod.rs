//! The load generator: one thread, one epoll loop, requests made up front, answers checked by status, length and label.
//!
//! It must cost less than a server, or the figures would be its own; the report shows how busy it was. Unless it is told to, it never sleeps, for a
//! server would pay for waking it, the more the faster the load generator is. The origin runs in the same loop. The loop is closed: a
//! connection (a stream, in HTTP/2) asks again as soon as it has its answer, unless it is paced.

mod h1;
mod h2;
mod histogram;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::content::{AUTHORITY, LABEL_LENGTH, Resource, next_random};
use crate::origin::Origin;
pub(crate) use histogram::Histogram;

const READ_BYTES: usize = 256 * 1024;
/// A download takes so many bytes and then rests: 400 MiB/s, so that it leaves the load core to others, and a server
/// that does not hold back its origin shows in its memory.
const DOWNLOAD_BYTES: usize = 2 << 20;
const DOWNLOAD_REST: Duration = Duration::from_millis(5);
/// The origin, among the tokens of connections.
const ORIGIN: Token = Token(usize::MAX);
/// It sleeps no longer than this, for what is due has no event.
const SLEEP_MAX: Duration = Duration::from_millis(1);
/// After so many wrong answers a run is of no use.
const FAILURES_MAX: u64 = 1_000;

/// One request, ready to be sent, and what its answer must be.
#[derive(Clone)]
pub(crate) struct Target {
    http1: Vec<u8>,
    http2: Vec<u8>,
    label: [u8; LABEL_LENGTH],
    size: u64,
}

impl Target {
    pub(crate) fn new(resource: &Resource) -> Self {
        Self::with_head(resource, "")
    }

    /// A request with the cookies of somebody who is not logged in.
    pub(crate) fn of_a_visitor(resource: &Resource) -> Self {
        Self::with_head(
            resource,
            "Cookie: _ga=GA1.2.1234567890.1700000000; csrftoken=rT5kXbPzQwE2yU8iOpAsDfGh\r\n",
        )
    }

    /// A request after which the server closes the connection.
    pub(crate) fn closing(resource: &Resource) -> Self {
        Self::with_head(resource, "Connection: close\r\n")
    }

    /// A request with this `Cookie`.
    pub(crate) fn with_cookie(resource: &Resource, cookie: &str) -> Self {
        Self::with_head(resource, &format!("Cookie: {cookie}\r\n"))
    }

    fn with_head(resource: &Resource, fields: &str) -> Self {
        let path = resource.path();
        Self {
            http1: format!("GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\n{fields}\r\n").into_bytes(),
            http2: h2::request_block(&path, AUTHORITY),
            label: resource.label(),
            size: resource.size,
        }
    }
}

/// How requests travel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One request at a time on each connection.
    KeepAlive,
    /// A connection for each request, which the server closes.
    NewConnection,
    /// HTTP/2 by prior knowledge with so many streams open at a time on each connection.
    Http2 { streams: usize },
}

/// Which request comes next, and when to stop.
#[derive(Clone, Copy)]
pub(crate) enum Schedule {
    /// Targets at random, for a warm-up and then a measured window.
    Random { warm_up: Duration, window: Duration },
    /// As above, but each connection waits until its next turn; latency counts from the turn.
    Paced { warm_up: Duration, window: Duration, interval: Duration },
    /// Each target once, in order.
    Once,
}

pub(crate) struct Plan<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    pub(crate) targets: &'a [Target],
    pub(crate) schedule: Schedule,
    /// One more connection that fetches this once, when the window begins; the window ends with it.
    pub(crate) download: Option<&'a Target>,
    /// A run that takes longer than this is given up.
    pub(crate) limit: Duration,
    pub(crate) when_idle: WhenIdle,
}

/// What the load generator does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenIdle {
    /// It looks again at once: nobody else is to run on its core, and no server pays for waking it.
    Spin,
    /// It looks again when others have run.
    Yield,
    /// It sleeps, as clients and applications on a server's own machine do, and the server pays for waking it.
    Sleep,
}

pub(crate) struct Outcome {
    pub(crate) latencies: Histogram,
    pub(crate) window: Duration,
    /// The part of the window in which there was nothing to do.
    pub(crate) idle: Duration,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) download: Option<Download>,
}

/// How the one big response went.
#[derive(Clone, Copy)]
pub(crate) struct Download {
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
}

/// What happens at the borders of the measured window.
pub(crate) enum Border {
    Begin,
    End,
}

/// Runs `plan` to its end, turns the origin meanwhile, and calls `at_border` when the window begins and ends.
pub(crate) fn run(
    plan: &Plan<'_>,
    origin: &mut Origin,
    mut at_border: impl FnMut(Border),
) -> io::Result<Outcome> {
    let mut load = Load::new(plan)?;
    if plan.when_idle == WhenIdle::Sleep {
        load.poll.registry().register(&mut SourceFd(&origin.descriptor()), ORIGIN, Interest::READABLE)?;
    }
    load.open_all()?;
    let begun = Instant::now();
    let (warm_up, window) = match plan.schedule {
        Schedule::Random { warm_up, window } | Schedule::Paced { warm_up, window, .. } => {
            (warm_up, Some(window))
        }
        Schedule::Once => (Duration::ZERO, None),
    };
    let mut window_begun = None;
    if warm_up.is_zero() {
        at_border(Border::Begin);
        window_begun = Some(Instant::now());
    }
    load.ask_all()?;
    if window_begun.is_some() {
        load.begin_download()?;
    }
    let mut events = Events::with_capacity(1024);
    let mut idle = Duration::ZERO;
    let mut turns_without_origin = 0;
    let mut last = Instant::now();
    let mut wait = Duration::ZERO;
    loop {
        load.take_turns(last)?;
        match load.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => other?,
        }
        if !wait.is_zero() {
            idle += last.elapsed();
            last = Instant::now();
        }
        let mut busy = false;
        for event in events.iter().filter(|event| event.token() != ORIGIN) {
            busy = true;
            load.advance(event.token().0, event.is_read_closed())?;
        }
        // An origin that nobody asks anything is looked at less often, where looking is all there is to do.
        let look = turns_without_origin % 16 < 2 || plan.when_idle == WhenIdle::Sleep;
        let origin_busy = look && origin.turn(Some(Duration::ZERO))?;
        turns_without_origin = if origin_busy { 0 } else { turns_without_origin + 1 };
        let now = Instant::now();
        wait = Duration::ZERO;
        if !busy && !origin_busy {
            idle += now - last;
            match plan.when_idle {
                WhenIdle::Spin => {}
                WhenIdle::Yield => std::thread::yield_now(),
                WhenIdle::Sleep => wait = SLEEP_MAX,
            }
        }
        last = now;
        if load.download_due.is_some_and(|due| due <= now) {
            load.download_due = Some(now + DOWNLOAD_REST);
            load.download_left = DOWNLOAD_BYTES;
            load.advance(plan.connections, false)?;
        }
        match window_begun {
            None if now >= begun + warm_up => {
                load.latencies = Histogram::new();
                idle = Duration::ZERO;
                at_border(Border::Begin);
                window_begun = Some(Instant::now());
                load.begin_download()?;
            }
            Some(start) => {
                let over = match (plan.download, window) {
                    (Some(_), _) => load.downloaded.is_some(),
                    (None, Some(window)) => now >= start + window,
                    (None, None) => load.finished == plan.targets.len(),
                };
                if over {
                    at_border(Border::End);
                    return Ok(Outcome {
                        latencies: load.latencies,
                        window: now - start,
                        idle,
                        failures: load.failures,
                        first_failure: load.first_failure,
                        download: load.downloaded,
                    });
                }
            }
            None => {}
        }
        if now > begun + plan.limit || load.failures > FAILURES_MAX {
            let reason = load.first_failure.unwrap_or_else(|| format!("no end after {:?}", plan.limit));
            return Err(io::Error::other(reason));
        }
    }
}

/// What the connections of one run share.
struct Load<'a> {
    plan: &'a Plan<'a>,
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    random: u64,
    /// Targets handed out and answered, where each is asked for once.
    asked: usize,
    finished: usize,
    /// Connections that wait for their turn, soonest first.
    waiting: VecDeque<(Instant, usize)>,
    latencies: Histogram,
    failures: u64,
    first_failure: Option<String>,
    download_begun: Option<Instant>,
    /// When it may take bytes again, and how many until then.
    download_due: Option<Instant>,
    download_left: usize,
    downloaded: Option<Download>,
}

struct Connection {
    stream: TcpStream,
    protocol: Protocol,
}

enum Protocol {
    Http1(h1::Exchange),
    Http2(Box<h2::Session>),
}

/// What the reading of some bytes led to.
enum Progress {
    /// All that was there has been read.
    Drained,
    /// The peer closed, or broke the protocol in a way that leaves nothing to go on with.
    Ended,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan<'a>) -> io::Result<Self> {
        Ok(Self {
            plan,
            poll: Poll::new()?,
            connections: Vec::with_capacity(plan.connections + 1),
            buffer: vec![0; READ_BYTES],
            random: 0x2545_f491_4f6c_dd1d,
            asked: 0,
            finished: 0,
            waiting: VecDeque::new(),
            latencies: Histogram::new(),
            failures: 0,
            first_failure: None,
            download_begun: None,
            download_due: None,
            download_left: DOWNLOAD_BYTES,
            downloaded: None,
        })
    }

    fn open_all(&mut self) -> io::Result<()> {
        for token in 0..self.plan.connections {
            let connection = self.open(token)?;
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Waits for the handshake, which on loopback is done by the time the call returns.
    fn open(&self, token: usize) -> io::Result<Connection> {
        let stream = std::net::TcpStream::connect(self.plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        register(self.poll.registry(), &mut stream, token)?;
        let protocol = match self.plan.transport {
            Transport::Http2 { streams } if token < self.plan.connections => {
                Protocol::Http2(Box::new(h2::Session::new(streams)))
            }
            _ => Protocol::Http1(h1::Exchange::default()),
        };
        Ok(Connection { stream, protocol })
    }

    fn ask_all(&mut self) -> io::Result<()> {
        if let Schedule::Paced { interval, .. } = self.plan.schedule {
            // Turns are spread over the interval from the start.
            let count = u32::try_from(self.plan.connections).unwrap_or(u32::MAX);
            let start = Instant::now();
            self.waiting =
                (0..count).map(|index| (start + interval * index / count, index as usize)).collect();
            return Ok(());
        }
        for token in 0..self.plan.connections {
            self.ask(token, Instant::now())?;
        }
        Ok(())
    }

    fn begin_download(&mut self) -> io::Result<()> {
        let Some(target) = self.plan.download else { return Ok(()) };
        let token = self.connections.len();
        let mut connection = self.open(token)?;
        self.download_begun = Some(Instant::now());
        self.download_due = Some(Instant::now() + DOWNLOAD_REST);
        if let Protocol::Http1(exchange) = &mut connection.protocol {
            exchange.send(&mut connection.stream, target, 0, Instant::now())?;
        }
        self.connections.push(connection);
        Ok(())
    }

    fn take_turns(&mut self, now: Instant) -> io::Result<()> {
        while let Some((due, token)) = self.waiting.front().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_front();
            self.ask(token, due)?;
        }
        Ok(())
    }

    /// The index of the next target, or `None` when each has been asked for.
    fn next_target(&mut self) -> Option<usize> {
        let count = self.plan.targets.len();
        if let Schedule::Once = self.plan.schedule {
            let index = self.asked;
            self.asked += 1;
            return (index < count).then_some(index);
        }
        if count == 1 {
            return Some(0);
        }
        usize::try_from(next_random(&mut self.random) % count as u64).ok()
    }

    /// Sends the next request of a connection: in HTTP/2, as many as may be open.
    fn ask(&mut self, token: usize, since: Instant) -> io::Result<()> {
        let plan = self.plan;
        if let Protocol::Http2(session) = &self.connections[token].protocol {
            for _ in 0..session.vacancies() {
                let Some(index) = self.next_target() else { break };
                if let Protocol::Http2(session) = &mut self.connections[token].protocol {
                    session.open_stream(&plan.targets[index], index, since);
                }
            }
            let Connection { stream, protocol: Protocol::Http2(session) } = &mut self.connections[token]
            else {
                return Ok(());
            };
            return session.flush(stream);
        }
        let Some(index) = self.next_target() else { return Ok(()) };
        let Connection { stream, protocol: Protocol::Http1(exchange) } = &mut self.connections[token] else {
            return Ok(());
        };
        exchange.send(stream, &plan.targets[index], index, since)
    }

    /// Reads what a connection has for us, and asks again where that ended an answer.
    fn advance(&mut self, token: usize, ended: bool) -> io::Result<()> {
        if token >= self.connections.len() {
            return Ok(());
        }
        match self.connections[token].protocol {
            Protocol::Http1(_) => self.advance_http1(token, ended),
            Protocol::Http2(_) => self.advance_http2(token, ended),
        }
    }

    fn advance_http1(&mut self, token: usize, ended: bool) -> io::Result<()> {
        let plan = self.plan;
        let downloading = token >= plan.connections;
        let Connection { stream, protocol: Protocol::Http1(exchange) } = &mut self.connections[token] else {
            return Ok(());
        };
        let target = |index: usize| if downloading { plan.download } else { plan.targets.get(index) };
        let mut answered = None;
        let progress = loop {
            let space =
                if downloading { self.buffer.len().min(self.download_left) } else { self.buffer.len() };
            if space == 0 {
                break Progress::Drained;
            }
            match h1::read(stream, &mut self.buffer[..space])? {
                None => break Progress::Drained,
                Some(0) => break Progress::Ended,
                Some(read) => {
                    if downloading {
                        self.download_left -= read;
                    }
                    match exchange.take(&self.buffer[..read], target(exchange.index())) {
                        Ok(done) => answered = answered.or(done),
                        Err(failure) => {
                            self.failures += 1;
                            self.first_failure.get_or_insert(failure);
                            break Progress::Ended;
                        }
                    }
                    // A short read emptied the socket; only an end announced with it is still to be read.
                    if read < space && !ended {
                        break Progress::Drained;
                    }
                }
            }
        };
        if downloading {
            self.note_download(token, answered.is_some());
            return Ok(());
        }
        let now = Instant::now();
        if let Some(since) = answered {
            self.latencies.record(now.saturating_duration_since(since));
            self.finished += 1;
        }
        match progress {
            Progress::Drained if answered.is_none() => Ok(()),
            // The server is to close; the next connection is made when it has.
            Progress::Drained if plan.transport == Transport::NewConnection => Ok(()),
            Progress::Drained => self.next_turn(token, answered.unwrap_or(now), now),
            Progress::Ended => {
                let Protocol::Http1(exchange) = &self.connections[token].protocol else { return Ok(()) };
                if exchange.is_open() {
                    self.failures += 1;
                    self.first_failure
                        .get_or_insert_with(|| "the connection ended within an answer".to_owned());
                    self.finished += 1;
                }
                if matches!(plan.schedule, Schedule::Once) && self.asked >= plan.targets.len() {
                    return Ok(());
                }
                self.connections[token] = self.open(token)?;
                self.next_turn(token, answered.unwrap_or(now), now)
            }
        }
    }

    /// Asks again at once, or when the connection's next turn has come.
    fn next_turn(&mut self, token: usize, since: Instant, now: Instant) -> io::Result<()> {
        if let Schedule::Paced { interval, .. } = self.plan.schedule {
            let due = since + interval;
            let place = self.waiting.partition_point(|(other, _)| *other <= due);
            self.waiting.insert(place, (due, token));
            return self.take_turns(now);
        }
        self.ask(token, now)
    }

    fn note_download(&mut self, token: usize, whole: bool) {
        let Protocol::Http1(exchange) = &self.connections[token].protocol else { return };
        let (Some(begun), Some(first)) = (self.download_begun, exchange.first_byte()) else { return };
        if whole {
            self.downloaded = Some(Download { first_byte: first - begun, whole: begun.elapsed() });
        }
    }

    fn advance_http2(&mut self, token: usize, ended: bool) -> io::Result<()> {
        let plan = self.plan;
        let Connection { stream, protocol: Protocol::Http2(session) } = &mut self.connections[token] else {
            return Ok(());
        };
        let mut broken = false;
        loop {
            match h1::read(stream, &mut self.buffer)? {
                None => break,
                Some(0) => {
                    broken = true;
                    break;
                }
                Some(read) => {
                    if let Err(failure) = session.take(&self.buffer[..read], plan.targets) {
                        self.failures += 1;
                        self.first_failure.get_or_insert(failure);
                        broken = true;
                        break;
                    }
                    if read < self.buffer.len() && !ended {
                        break;
                    }
                }
            }
        }
        let now = Instant::now();
        for since in session.answered.drain(..) {
            self.latencies.record(now.saturating_duration_since(since));
            self.finished += 1;
        }
        if broken {
            self.connections[token] = self.open(token)?;
        }
        self.ask(token, now)
    }
}

fn register(registry: &Registry, stream: &mut TcpStream, token: usize) -> io::Result<()> {
    registry.register(stream, Token(token), Interest::READABLE | Interest::WRITABLE)
}

/// Fetches one target on a connection of its own and fails unless the answer is right.
pub(crate) fn fetch(
    address: SocketAddr,
    transport: Transport,
    target: &Target,
    origin: &mut Origin,
) -> io::Result<()> {
    let transport = match transport {
        Transport::Http2 { .. } => Transport::Http2 { streams: 1 },
        other => other,
    };
    let outcome = run(
        &Plan {
            address,
            transport,
            connections: 1,
            targets: std::slice::from_ref(target),
            schedule: Schedule::Once,
            download: None,
            limit: Duration::from_secs(20),
            when_idle: WhenIdle::Yield,
        },
        origin,
        |_| {},
    )?;
    match outcome.first_failure {
        None => Ok(()),
        Some(failure) => Err(io::Error::other(failure)),
    }
}
