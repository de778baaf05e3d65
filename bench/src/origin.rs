//! The origin: an epoll loop that answers from memory and counts what it was asked.
//!
//! The load generator turns it in its own loop, so that no server pays for waking it, and it does as little as an HTTP/1.1 origin
//! can. `GET /count` answers with the number of requests so far; every other path is a [`Resource`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::content::{Resource, Storing, filler};

/// After so long without a request, those that a server had under way when its load ended have come.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
const LISTENER: Token = Token(usize::MAX);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Answers on `address` until the process ends. Says the address on standard output once it listens.
pub(crate) fn run(address: SocketAddr) -> io::Result<()> {
    let mut origin = Origin::listen(address)?;
    writeln!(io::stdout(), "{}", origin.address()?)?;
    loop {
        origin.turn(None)?;
    }
}

/// The origin, which answers while it is turned.
pub(crate) struct Origin {
    listener: TcpListener,
    poll: Poll,
    events: Events,
    connections: HashMap<usize, Connection>,
    next_token: usize,
    /// Answers that wait for their time, soonest first.
    delayed: BinaryHeap<Reverse<(Instant, usize)>>,
    requests: u64,
    /// Those of them that ask for what is to be stored.
    fills: u64,
    date: Date,
    filler: Vec<u8>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    answer: Option<Resource>,
    /// Bytes of the answer that the kernel did not take yet, then filler to the end of the body.
    unsent: Vec<u8>,
    sent: usize,
    filler_left: u64,
    close: bool,
}

impl Origin {
    pub(crate) fn listen(address: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            poll,
            events: Events::with_capacity(1024),
            connections: HashMap::new(),
            next_token: 0,
            delayed: BinaryHeap::new(),
            requests: 0,
            fills: 0,
            date: Date::new(),
            filler: filler(256 * 1024),
            scratch: vec![0; 64 * 1024],
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// How many requests it has seen.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// How many requests for what is to be stored it has seen. Another server may still be passing on what it was asked before.
    pub(crate) fn fills(&self) -> u64 {
        self.fills
    }

    /// How many requests it has seen once no more come: a server may still be busy with what was asked before.
    pub(crate) fn settled_requests(&mut self) -> io::Result<u64> {
        for _ in 0..1_000 {
            if !self.turn(Some(SETTLED_AFTER))? {
                break;
            }
        }
        Ok(self.requests)
    }

    /// What becomes readable when there is something to do.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Does what there is to do, and waits for that if it is allowed to. Returns whether there was anything.
    pub(crate) fn turn(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let until_due =
            self.delayed.peek().map(|Reverse((due, _))| due.saturating_duration_since(Instant::now()));
        let wait = wait.into_iter().chain(until_due).min();
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            other => other?,
        }
        let mut busy = false;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            busy = true;
            if event.token() == LISTENER {
                self.accept()?;
            } else {
                self.advance(event.token().0, event.is_read_closed());
            }
        }
        self.events = events;
        let now = Instant::now();
        while let Some(Reverse((due, token))) = self.delayed.peek().copied() {
            if due > now {
                break;
            }
            busy = true;
            self.delayed.pop();
            self.answer(token);
        }
        Ok(busy)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = self.next_token;
            self.next_token += 1;
            self.poll.registry().register(
                &mut stream,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            self.connections.insert(token, Connection::new(stream));
        }
    }

    /// Writes what is left to write, then reads what there is to read.
    fn advance(&mut self, token: usize, ended: bool) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.write(&self.filler).is_err() {
            self.connections.remove(&token);
            return;
        }
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            let read = match connection.stream.read(&mut self.scratch) {
                Ok(0) => None,
                Ok(read) => Some(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => None,
            };
            let Some(read) = read.filter(|read| connection.head.len() + read <= HEAD_BYTES_MAX) else {
                self.connections.remove(&token);
                return;
            };
            connection.head.extend_from_slice(&self.scratch[..read]);
            self.take_request(token);
            // A short read emptied the socket; only an end that was announced with it is still to be read.
            if read < self.scratch.len() && !ended {
                return;
            }
        }
    }

    fn take_request(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.answer.is_some() {
            return;
        }
        let Some(end) = memchr::memmem::find(&connection.head, b"\r\n\r\n") else { return };
        let Ok(head) = str::from_utf8(&connection.head[..end]) else {
            self.connections.remove(&token);
            return;
        };
        let path = head.split(' ').nth(1).unwrap_or_default();
        connection.close = wants_close(head);
        if path == "/count" {
            let body = self.requests.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            connection.unsent.extend_from_slice(answer.as_bytes());
            connection.head.drain(..end + 4);
            if connection.write(&self.filler).is_err() {
                self.connections.remove(&token);
            }
            return;
        }
        self.requests += 1;
        let Some(resource) = Resource::parse(path) else {
            self.connections.remove(&token);
            return;
        };
        if resource.storing == Storing::Store {
            self.fills += 1;
        }
        connection.head.drain(..end + 4);
        connection.answer = Some(resource);
        if resource.delay_ms == 0 {
            self.answer(token);
        } else {
            let due = Instant::now() + Duration::from_millis(resource.delay_ms);
            self.delayed.push(Reverse((due, token)));
        }
    }

    fn answer(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let Some(resource) = connection.answer.take() else { return };
        let out = &mut connection.unsent;
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nDate: ");
        out.extend_from_slice(self.date.text().as_bytes());
        if resource.storing == Storing::SessionWrite {
            write!(out, "\r\nSession-Set: n={}, theme=\"dark\"", self.requests)
                .expect("a vector takes anything");
        }
        write!(
            out,
            "\r\nContent-Type: text/plain\r\nCache-Control: {}\r\nContent-Length: {}\r\n\r\n",
            resource.cache_control(),
            resource.size
        )
        .expect("a vector takes anything");
        let label = resource.label();
        let labelled = usize::try_from(resource.size).unwrap_or(usize::MAX).min(label.len());
        out.extend_from_slice(&label[..labelled]);
        connection.filler_left = resource.size - labelled as u64;
        if connection.filler_left <= 64 * 1024 {
            // The head and a small body leave in one write.
            let rest = usize::try_from(connection.filler_left).expect("at most 64 KiB");
            out.extend_from_slice(&self.filler[labelled..labelled + rest]);
            connection.filler_left = 0;
        }
        if connection.write(&self.filler).is_err() {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: Vec::new(),
            answer: None,
            unsent: Vec::new(),
            sent: 0,
            filler_left: 0,
            close: false,
        }
    }

    /// Writes until all is sent or the kernel takes no more. An error ends the connection, as does a finished
    /// answer after which the client asked to close.
    fn write(&mut self, filler: &[u8]) -> io::Result<()> {
        let started = self.sent < self.unsent.len() || self.filler_left > 0;
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        while self.filler_left > 0 {
            let chunk = usize::try_from(self.filler_left).unwrap_or(usize::MAX).min(filler.len());
            match self.stream.write(&filler[..chunk]) {
                Ok(written) => self.filler_left -= written as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if started && self.close { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

fn wants_close(head: &str) -> bool {
    let mut lines = head.split("\r\n");
    lines.next().is_some_and(|line| line.ends_with("HTTP/1.0"))
        || lines.any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close")
            })
        })
}

/// The `Date` of answers, made once a second.
struct Date {
    text: String,
    made: Instant,
}

impl Date {
    fn new() -> Self {
        Self { text: http_date(), made: Instant::now() }
    }

    fn text(&mut self) -> &str {
        if self.made.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        &self.text
    }
}

#[expect(clippy::disallowed_methods, reason = "the origin is not the proxy and has no clock to be given")]
fn http_date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}
