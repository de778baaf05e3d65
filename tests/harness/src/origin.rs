//! Origins: one that counts and answers from a closure, one that follows a script.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crate::tls::Identity;
use crate::wire::{Conn, Log, ReadError, Request, Stream, WAIT};
use crate::{http_date, lock};

/// What an origin answers.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    trailers: Vec<(String, String)>,
    date: bool,
    close: bool,
}

enum Body {
    Whole(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
    Stream(Box<dyn FnOnce(&mut Chunks<'_>) + Send>),
    Raw(Vec<u8>),
    TakeOver(Box<dyn FnOnce(&mut Conn) + Send>),
}

impl Reply {
    /// A response of this status without content.
    pub fn new(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: Body::Whole(Vec::new()),
            trailers: Vec::new(),
            date: true,
            close: false,
        }
    }

    /// A 200 with this content.
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200).body(body)
    }

    /// These bytes as they are, and nothing else: head, framing, content.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { body: Body::Raw(bytes.into()), ..Reply::new(0) }
    }

    /// Hands the connection over, at the end of the request; closes it afterwards.
    pub fn take_over(with: impl FnOnce(&mut Conn) + Send + 'static) -> Reply {
        Reply { body: Body::TakeOver(Box::new(with)), ..Reply::new(0) }
    }

    /// Closes the connection without a byte of an answer.
    pub fn hang_up() -> Reply {
        Reply::raw("").close()
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Content with a `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = Body::Whole(body.into());
        self
    }

    /// Content in these chunks.
    pub fn chunks(mut self, chunks: &[&str]) -> Reply {
        self.body = Body::Chunks(chunks.iter().map(|c| c.as_bytes().to_vec()).collect());
        self
    }

    /// Content in chunks that are written while the closure runs.
    pub fn stream(mut self, with: impl FnOnce(&mut Chunks<'_>) + Send + 'static) -> Reply {
        self.body = Body::Stream(Box::new(with));
        self
    }

    /// A trailer line, for content in chunks.
    pub fn trailer(mut self, name: &str, value: &str) -> Reply {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves `Date` out.
    pub fn without_date(mut self) -> Reply {
        self.date = false;
        self
    }

    /// Says `Connection: close` and closes.
    pub fn close(mut self) -> Reply {
        self.close = true;
        self
    }

    fn send(self, conn: &mut Conn, method: &str) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).into_bytes();
        let mut line = |name: &str, value: &str| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend(value.chars().map(|c| u8::try_from(u32::from(c)).expect("a value is ISO 8859-1")));
            head.extend_from_slice(b"\r\n");
        };
        let has = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if self.date && !has("date") {
            line("Date", &http_date(0));
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        if self.close && !has("connection") {
            line("Connection", "close");
        }
        let bodiless = method == "HEAD" || matches!(self.status, 204 | 304) || self.status < 200;
        match &self.body {
            Body::Raw(bytes) => return conn.try_send(bytes),
            Body::TakeOver(_) => {}
            Body::Whole(body) => {
                if !has("content-length") && !matches!(self.status, 204 | 304) {
                    line("Content-Length", &body.len().to_string());
                }
            }
            Body::Chunks(_) | Body::Stream(_) => line("Transfer-Encoding", "chunked"),
        }
        match self.body {
            Body::Raw(_) => {}
            Body::TakeOver(with) => with(conn),
            Body::Whole(body) => {
                head.extend_from_slice(b"\r\n");
                if !bodiless {
                    head.extend_from_slice(&body);
                }
                conn.try_send(head)?;
            }
            Body::Chunks(chunks) => {
                head.extend_from_slice(b"\r\n");
                if !bodiless {
                    for chunk in chunks {
                        head.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        head.extend_from_slice(&chunk);
                        head.extend_from_slice(b"\r\n");
                    }
                    head.extend_from_slice(&last_chunk(&self.trailers));
                }
                conn.try_send(head)?;
            }
            Body::Stream(with) => {
                head.extend_from_slice(b"\r\n");
                conn.try_send(head)?;
                if !bodiless {
                    let mut chunks = Chunks { conn, cut: false };
                    with(&mut chunks);
                    if chunks.cut {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    conn.try_send(last_chunk(&self.trailers))?;
                }
            }
        }
        Ok(())
    }
}

fn last_chunk(trailers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = b"0\r\n".to_vec();
    for (name, value) in trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn reason(status: u16) -> String {
    let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("Unnamed").to_owned()
}

/// Writes the chunks of a streamed reply.
pub struct Chunks<'a> {
    conn: &'a mut Conn,
    cut: bool,
}

impl Chunks<'_> {
    /// Sends one chunk now; `false` when the other side has gone.
    pub fn send(&mut self, data: impl AsRef<[u8]>) -> bool {
        let data = data.as_ref();
        let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
        !self.cut && self.conn.try_send(bytes).is_ok()
    }

    /// Ends the connection in the middle of the content.
    pub fn cut(&mut self) {
        self.cut = true;
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;
/// Accepts one connection; with TCP also a handle that can shut it down.
type Accept = dyn FnMut() -> Option<(Box<dyn Stream>, Option<TcpStream>)> + Send;

#[derive(Default)]
struct Seen {
    count: usize,
    requests: Vec<Request>,
    faults: Vec<String>,
    open: Vec<(usize, TcpStream)>,
    connections: usize,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    handler: Box<Handler>,
    identity: Option<Identity>,
    keeps: bool,
    stopping: AtomicBool,
}

/// An origin that answers every request from a closure, and keeps and counts them all.
pub struct Origin {
    shared: Arc<Shared>,
    place: Place,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Origin {
    /// An origin on a port of 127.0.0.1.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Origin {
        Origin::launch(Place::Tcp(any_port()), None, true, Box::new(handler))
    }

    /// An origin on this address and port.
    pub fn start_at(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Origin {
        Origin::launch(Place::Tcp(address), None, true, Box::new(handler))
    }

    /// An origin that counts its requests and keeps none of them, for when there are many.
    pub fn start_counting(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Origin {
        Origin::launch(Place::Tcp(any_port()), None, false, Box::new(handler))
    }

    /// An origin that speaks TLS.
    pub fn start_tls(
        identity: Identity,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Origin {
        Origin::launch(Place::Tcp(any_port()), Some(identity), true, Box::new(handler))
    }

    /// An origin on a Unix socket.
    pub fn start_unix(path: &Path, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Origin {
        Origin::launch(Place::Unix(path.to_owned()), None, true, Box::new(handler))
    }

    /// An origin whose answers say what was asked, and may be stored for a minute.
    pub fn echo() -> Origin {
        Origin::start(|request| {
            Reply::ok(format!("{} {}", request.method, request.target)).header("Cache-Control", "max-age=60")
        })
    }

    fn launch(place: Place, identity: Option<Identity>, keeps: bool, handler: Box<Handler>) -> Origin {
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            changed: Condvar::new(),
            handler,
            identity,
            keeps,
            stopping: AtomicBool::new(false),
        });
        let mut origin = Origin { shared, place, acceptor: None };
        origin.up();
        origin
    }

    /// Listens (again), where it listened before.
    pub fn up(&mut self) {
        self.shared.stopping.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let accept: Box<Accept> = match &self.place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).expect("the origin can listen");
                self.place = Place::Tcp(listener.local_addr().expect("a listener has an address"));
                let identity = shared.identity.clone();
                Box::new(move || {
                    let (stream, _) = listener.accept().ok()?;
                    stream.set_nodelay(true).ok()?;
                    let handle = stream.try_clone().ok();
                    match &identity {
                        None => Some((Box::new(stream), handle)),
                        Some(identity) => Some((Box::new(identity.accept(stream)), handle)),
                    }
                })
            }
            Place::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path).expect("the origin can listen");
                Box::new(move || Some((Box::new(listener.accept().ok()?.0), None)))
            }
        };
        self.acceptor = Some(std::thread::spawn(move || accept_all(&shared, accept)));
    }

    /// Stops listening and closes every connection: connecting is refused from now on.
    pub fn down(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Accepting blocks; a connection of our own wakes it.
        match &self.place {
            Place::Tcp(address) => drop(TcpStream::connect(address)),
            Place::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.close_connections();
    }

    /// Closes every connection that is open now.
    pub fn close_connections(&self) {
        for (_, stream) in lock(&self.shared.seen).open.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// `http://127.0.0.1:PORT`, `https://…`, or `unix:PATH`.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) if self.shared.identity.is_some() => format!("https://{address}"),
            Place::Tcp(address) => format!("http://{address}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Where it listens; panics for a Unix socket.
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// How many requests it has read.
    pub fn count(&self) -> usize {
        lock(&self.shared.seen).count
    }

    /// How many requests for this target it has read.
    pub fn count_of(&self, target: &str) -> usize {
        lock(&self.shared.seen).requests.iter().filter(|request| request.target == target).count()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.seen).requests.clone()
    }

    /// Forgets the requests so far, and counts from nothing again.
    pub fn forget(&self) {
        let mut seen = lock(&self.shared.seen);
        seen.requests.clear();
        seen.count = 0;
    }

    /// The latest request for this target.
    #[track_caller]
    pub fn last(&self, target: &str) -> Request {
        let seen = lock(&self.shared.seen);
        let last = seen.requests.iter().rev().find(|request| request.target == target).cloned();
        last.unwrap_or_else(|| panic!("no request for {target} came to the origin"))
    }

    /// How many connections have been made to it.
    pub fn connections(&self) -> usize {
        lock(&self.shared.seen).connections
    }

    /// Waits until it has read so many requests.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let seen = lock(&self.shared.seen);
        let (seen, _) = self
            .shared
            .changed
            .wait_timeout_while(seen, WAIT, |seen| seen.count < count)
            .unwrap_or_else(|e| e.into_inner());
        let came = seen.count;
        assert!(came >= count, "{came} requests came to the origin in {WAIT:?}, not {count}");
    }

    /// What came that was not strict HTTP/1.1: nothing, or the proxy is at fault.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.shared.seen).faults.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.down();
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn accept_all(shared: &Arc<Shared>, mut accept: Box<Accept>) {
    loop {
        let accepted = accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Some((stream, handle)) = accepted else { continue };
        let number = {
            let mut seen = lock(&shared.seen);
            let number = seen.connections;
            seen.connections += 1;
            seen.open.extend(handle.map(|handle| (number, handle)));
            number
        };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            answer_all(&shared, Conn::numbered(stream, number));
            let mut seen = lock(&shared.seen);
            // The clone keeps the socket open: it must go when its connection ends.
            seen.open.retain(|(n, _)| *n != number);
        });
    }
}

fn answer_all(shared: &Shared, mut conn: Conn) {
    // A proxy keeps connections for as long as it likes: only the end of the test is a limit here.
    conn.limit_reads(WAIT * 20);
    loop {
        let request = conn.request_head().and_then(|mut head| {
            if head.headers.lists("expect", "100-continue") {
                let _ = conn.try_send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            conn.request_body(&mut head)?;
            Ok(head)
        });
        let request = match request {
            Ok(request) => request,
            Err(ReadError::Malformed(what)) => {
                lock(&shared.seen).faults.push(what);
                return;
            }
            // An unfinished request on a connection that is then closed is what a proxy may leave behind.
            Err(ReadError::Ended(..) | ReadError::Cut(..)) => return,
        };
        {
            let mut seen = lock(&shared.seen);
            seen.count += 1;
            if shared.keeps {
                seen.requests.push(request.clone());
            }
        }
        shared.changed.notify_all();
        let reply = (shared.handler)(&request);
        let last = reply.close
            || matches!(reply.body, Body::TakeOver(_))
            || request.headers.lists("connection", "close");
        if reply.send(&mut conn, &request.method).is_err() || last {
            return;
        }
    }
}

/// One step after another on one connection.
pub type Act = Box<dyn FnOnce(&mut Conn) + Send>;

/// An origin that follows a script: what it does on its first connection, its second, and so on. Further connections
/// are closed at once.
pub struct Script {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Log>>>,
    connections: Arc<AtomicUsize>,
    panics: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Starts to listen; `acts` has one closure per connection.
    pub fn start(acts: Vec<Act>) -> Script {
        let listener = TcpListener::bind(any_port()).expect("the origin can listen");
        let address = listener.local_addr().expect("a listener has an address");
        let script =
            Script { address, received: Arc::default(), connections: Arc::default(), panics: Arc::default() };
        let received = Arc::clone(&script.received);
        let connections = Arc::clone(&script.connections);
        let panics = Arc::clone(&script.panics);
        std::thread::spawn(move || {
            let mut acts = acts.into_iter();
            while let Ok((stream, _)) = listener.accept() {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let Some(act) = acts.next() else { continue };
                let _ = stream.set_nodelay(true);
                let mut conn = Conn::numbered(Box::new(stream), number);
                lock(&received).push(conn.received());
                let panics = Arc::clone(&panics);
                std::thread::spawn(move || {
                    let run = std::panic::AssertUnwindSafe(|| act(&mut conn));
                    if let Err(panic) = std::panic::catch_unwind(run) {
                        let message = panic.downcast_ref::<String>().cloned();
                        let message =
                            message.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        lock(&panics).push(message.unwrap_or_default());
                    }
                });
            }
        });
        script
    }

    /// On every connection: reads one request, answers these bytes, reads what else comes, closes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Script {
        let bytes = bytes.into();
        let act = move |_| {
            let bytes = bytes.clone();
            Box::new(move |conn: &mut Conn| {
                if conn.request().is_ok() {
                    let _ = conn.try_send(&bytes);
                    conn.end_sending();
                    conn.rest(1 << 20);
                }
            }) as Act
        };
        Script::start((0..64).map(act).collect())
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Every byte that came on each connection so far.
    pub fn received(&self) -> Vec<Vec<u8>> {
        lock(&self.received).iter().map(|bytes| lock(bytes).clone()).collect()
    }

    /// Panics if an act did.
    #[track_caller]
    pub fn check(&self) {
        let panics = lock(&self.panics);
        assert!(panics.is_empty(), "the origin's script failed: {panics:?}");
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.place).finish()
    }
}
