//! HTTP/1.1 on the wire, by hand: sends exactly what it is given and reads strictly.
//!
//! The reader accepts one spelling of each thing: CRLF line ends, one `Content-Length` of plain digits or one
//! `Transfer-Encoding: chunked` and never both, chunk sizes without extensions. Whatever a proxy passes on in another
//! spelling is a fault, and the test that sees it fails.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lock;

/// How long anything in a test may take before the test fails: what takes a second on a machine of its own takes many where others get nine tenths of it, and a
/// Sentinel that was stopped for two seconds does nothing for thirty.
pub const WAIT: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A byte stream of a connection: TCP, Unix, TLS over either.
pub trait Stream: Read + Write + Send {
    /// Limits each read.
    fn limit_read(&self, limit: Duration) -> io::Result<()>;
    /// Says that nothing more will be written.
    fn end_writing(&mut self) -> io::Result<()>;
    /// Makes closing send a reset instead of an orderly end.
    fn reset_on_close(&self);
}

impl Stream for TcpStream {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn reset_on_close(&self) {
        // With a linger time of zero, close(2) discards what is unsent and answers RST.
        let socket = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
        socket.expect("linger can be set on a TCP socket");
    }
}

impl Stream for UnixStream {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn reset_on_close(&self) {}
}

impl Stream for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.sock.limit_read(limit)
    }
    fn end_writing(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()
    }
    fn reset_on_close(&self) {
        self.sock.reset_on_close();
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.sock.limit_read(limit)
    }
    fn end_writing(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()
    }
    fn reset_on_close(&self) {
        self.sock.reset_on_close();
    }
}

/// Field lines in the order they came, bytes shown as ISO 8859-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of the only field line of this name; panics when there are several.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "several `{name}` lines in {self:?}");
        values.first().copied()
    }

    /// The values of every field line of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// Is there a field line of this name?
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Does the list of comma-separated members, over all lines, have this one (any case)?
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|m| m.trim().eq_ignore_ascii_case(member))
    }
}

/// How a message said where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There can be no body.
    None,
    /// `Content-Length`.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

/// How the other side stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An orderly end.
    Closed,
    /// A reset, or TLS without `close_notify`.
    Reset,
    /// Nothing more came within [`WAIT`], and no end either.
    Silent,
}

/// A response as it came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The header section.
    pub headers: Headers,
    /// The content, without chunked framing.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: Headers,
    /// Interim (1xx) responses that came before it.
    pub interim: Vec<(u16, Headers)>,
    /// What ended it.
    pub framing: Framing,
}

impl Response {
    /// The value of the only header line of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What Weir's own member of `Cache-Status` says.
    #[track_caller]
    pub fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_else(|| panic!("no Cache-Status in {:?}", self.headers))
    }

    /// Was it answered from the cache, without asking the origin?
    #[track_caller]
    pub fn is_hit(&self) -> bool {
        self.cache_status().split(';').any(|part| part.trim() == "hit")
    }
}

/// A request as it came to an origin.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target, untouched.
    pub target: String,
    /// The header section.
    pub headers: Headers,
    /// The content, without chunked framing.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: Headers,
    /// What ended it.
    pub framing: Framing,
    /// Which connection of the origin it came on, counted from 0.
    pub connection: usize,
}

impl Request {
    /// The value of the only header line of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The path of the target, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Why no whole message came.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// The stream ended before a whole head; these bytes came.
    Ended(Ending, Vec<u8>),
    /// The head was whole, the body was not; `body` holds what came.
    Cut(Ending, Box<Response>),
    /// Bytes came that are not HTTP/1.1 in its strict spelling.
    Malformed(String),
}

impl ReadError {
    /// Was the connection closed, in whatever way, before any byte of a message?
    pub fn is_end(&self) -> bool {
        matches!(self, ReadError::Ended(Ending::Closed | Ending::Reset, bytes) if bytes.is_empty())
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Ended(ending, bytes) => write!(f, "{ending:?} after {:?}", show(bytes)),
            ReadError::Cut(ending, response) => {
                write!(
                    f,
                    "{ending:?} in the body of a {} after {} bytes",
                    response.status,
                    response.body.len()
                )
            }
            ReadError::Malformed(what) => f.write_str(what),
        }
    }
}

/// Bytes for people: control bytes escaped, long ones cut.
pub fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(2_000)];
    cut.escape_ascii().to_string()
}

/// Every byte that came on a connection, growing.
pub type Log = Arc<Mutex<Vec<u8>>>;

/// One end of a connection.
pub struct Conn {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    received: Log,
    number: usize,
}

impl Conn {
    /// Takes a stream over; its reads are limited to [`WAIT`].
    pub fn new(stream: impl Stream + 'static) -> Conn {
        Conn::numbered(Box::new(stream), 0)
    }

    /// Connects over TCP.
    #[track_caller]
    pub fn connect(address: impl std::net::ToSocketAddrs + fmt::Debug) -> Conn {
        let stream =
            TcpStream::connect(&address).unwrap_or_else(|e| panic!("cannot connect to {address:?}: {e}"));
        stream.set_nodelay(true).expect("nodelay can be set");
        Conn::new(stream)
    }

    pub(crate) fn numbered(stream: Box<dyn Stream>, number: usize) -> Conn {
        stream.limit_read(WAIT).expect("a read limit can be set");
        Conn { stream, buffer: Vec::new(), received: Arc::default(), number }
    }

    /// Every byte received so far, shared: the test may look while another thread reads.
    pub fn received(&self) -> Log {
        Arc::clone(&self.received)
    }

    /// Sends these bytes; panics when the other side does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.try_send(bytes).unwrap_or_else(|e| panic!("cannot send {:?}: {e}", show(bytes)));
    }

    /// Sends these bytes to somebody who may have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&mut self) {
        // The other side may have closed already: then there is nothing to say.
        let _ = self.stream.end_writing();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.stream.reset_on_close();
    }

    /// Sends a `GET` and reads its response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, &[], b"")
    }

    /// Sends a request with a Host of `weir.test` unless given, and reads its response.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send(request_bytes(method, target, headers, body));
        self.expect_response(method)
    }

    /// Reads the response to a request of this method; panics when there is no whole one.
    #[track_caller]
    pub fn expect_response(&mut self, method: &str) -> Response {
        self.response(method).unwrap_or_else(|e| panic!("no whole response: {e}"))
    }

    /// Reads the response to a request of this method, and the interim ones before it.
    pub fn response(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.response_head()?;
            if response.status / 100 == 1 && response.status != 101 {
                interim.push((response.status, response.headers));
                continue;
            }
            response.interim = interim;
            let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
            response.framing = match framing_of(&response.headers).map_err(ReadError::Malformed)? {
                _ if method == "CONNECT" && response.status / 100 == 2 => Framing::None,
                _ if bodiless => Framing::None,
                Framing::None => Framing::UntilClose,
                framing => framing,
            };
            let mut body = Vec::new();
            return match self.body(response.framing, &mut body) {
                Ok(trailers) => Ok(Response { body, trailers, ..response }),
                Err(BodyError::Ended(ending)) => {
                    Err(ReadError::Cut(ending, Box::new(Response { body, ..response })))
                }
                Err(BodyError::Malformed(what)) => Err(ReadError::Malformed(what)),
            };
        }
    }

    /// Reads one response head, interim or final; its `framing` is not decided yet.
    pub fn response_head(&mut self) -> Result<Response, ReadError> {
        let head = self.head()?;
        let (line, headers) = parse_head(&head).map_err(ReadError::Malformed)?;
        let malformed = || ReadError::Malformed(format!("status line {line:?}"));
        let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(malformed)?;
        let (digits, reason) = rest.split_at_checked(3).ok_or_else(malformed)?;
        let status = digits.parse().map_err(|_| malformed())?;
        let reason = reason.strip_prefix(' ').ok_or_else(malformed)?.to_owned();
        Ok(Response {
            status,
            reason,
            headers,
            body: Vec::new(),
            trailers: Headers::default(),
            interim: Vec::new(),
            framing: Framing::None,
        })
    }

    /// Reads the head of a request; its body follows with [`Conn::request_body`].
    pub fn request_head(&mut self) -> Result<Request, ReadError> {
        let head = self.head()?;
        let (line, headers) = parse_head(&head).map_err(ReadError::Malformed)?;
        let parts: Vec<_> = line.split(' ').collect();
        let &[method, target, "HTTP/1.1"] = parts.as_slice() else {
            return Err(ReadError::Malformed(format!("request line {line:?}")));
        };
        if headers.all("host").len() != 1 {
            return Err(ReadError::Malformed(format!("not one Host in {headers:?}")));
        }
        let framing = framing_of(&headers).map_err(ReadError::Malformed)?;
        Ok(Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: Vec::new(),
            trailers: Headers::default(),
            framing,
            connection: self.number,
        })
    }

    /// Reads the body that the head announced.
    pub fn request_body(&mut self, request: &mut Request) -> Result<(), ReadError> {
        let mut body = Vec::new();
        let result = self.body(request.framing, &mut body);
        request.body = body;
        match result {
            Ok(trailers) => {
                request.trailers = trailers;
                Ok(())
            }
            Err(BodyError::Ended(ending)) => Err(ReadError::Ended(ending, request.body.clone())),
            Err(BodyError::Malformed(what)) => Err(ReadError::Malformed(what)),
        }
    }

    /// Reads a whole request.
    pub fn request(&mut self) -> Result<Request, ReadError> {
        let mut request = self.request_head()?;
        self.request_body(&mut request)?;
        Ok(request)
    }

    /// Reads the next chunk of a chunked body; `None` is the last one, its trailers are read too.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        match self.one_chunk(&mut data) {
            Ok(true) => Some(data),
            Ok(false) => {
                self.trailer_section().unwrap_or_else(|e| panic!("no whole trailer section: {e:?}"));
                None
            }
            Err(error) => panic!("no whole chunk: {error:?}"),
        }
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.take(length, &mut bytes)
            .unwrap_or_else(|e| panic!("{e:?} after {} of {length} bytes: {:?}", bytes.len(), show(&bytes)));
        bytes
    }

    /// Reads until these bytes have come, and returns everything up to and with them.
    #[track_caller]
    pub fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                return self.buffer.drain(..at + mark.len()).collect();
            }
            if let Err(ending) = self.fill() {
                panic!("{ending:?} before {:?}; got {:?}", show(mark), show(&self.buffer));
            }
        }
    }

    /// Reads to the end, whatever comes; `limit` bounds the bytes.
    pub fn rest(&mut self, limit: usize) -> (Vec<u8>, Ending) {
        loop {
            if self.buffer.len() >= limit {
                return (std::mem::take(&mut self.buffer), Ending::Silent);
            }
            if let Err(ending) = self.fill() {
                return (std::mem::take(&mut self.buffer), ending);
            }
        }
    }

    /// The other side has nothing more to say and closes; panics when it says something, or stays.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let (bytes, ending) = self.rest(1 << 16);
        assert!(bytes.is_empty(), "bytes instead of an end: {:?}", show(&bytes));
        assert_ne!(ending, Ending::Silent, "the connection is still open after {WAIT:?}");
    }

    /// Limits each read from now on.
    pub fn limit_reads(&self, limit: Duration) {
        self.stream.limit_read(limit).expect("a read limit can be set");
    }

    fn head(&mut self) -> Result<Vec<u8>, ReadError> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(self.buffer.drain(..at + 4).collect());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(ReadError::Malformed("a head without an end".to_owned()));
            }
            if let Err(ending) = self.fill() {
                return Err(ReadError::Ended(ending, std::mem::take(&mut self.buffer)));
            }
        }
    }

    fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> Result<Headers, BodyError> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.take(length, body)?,
            Framing::Chunked => {
                while self.one_chunk(body)? {}
                return self.trailer_section();
            }
            Framing::UntilClose => loop {
                body.append(&mut self.buffer);
                match self.fill() {
                    Ok(()) => {}
                    Err(Ending::Closed) => break,
                    Err(ending) => return Err(BodyError::Ended(ending)),
                }
            },
        }
        Ok(Headers::default())
    }

    /// Appends one chunk's data; `false` is the last chunk.
    fn one_chunk(&mut self, data: &mut Vec<u8>) -> Result<bool, BodyError> {
        let line = self.line()?;
        let is_size = !line.is_empty() && line.len() <= 16 && line.bytes().all(|b| b.is_ascii_hexdigit());
        let size = is_size.then(|| usize::from_str_radix(&line, 16).ok()).flatten();
        let size = size.ok_or_else(|| BodyError::Malformed(format!("chunk size {line:?}")))?;
        if size == 0 {
            return Ok(false);
        }
        self.take(size, data)?;
        match self.line()?.as_str() {
            "" => Ok(true),
            more => Err(BodyError::Malformed(format!("{more:?} after the data of a chunk"))),
        }
    }

    fn trailer_section(&mut self) -> Result<Headers, BodyError> {
        let mut trailers = Headers::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.0.push(parse_field(&line).map_err(BodyError::Malformed)?);
        }
    }

    fn line(&mut self) -> Result<String, BodyError> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(latin1(&line[..at]));
            }
            self.fill().map_err(BodyError::Ended)?;
        }
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut missing = length;
        loop {
            let now = missing.min(self.buffer.len());
            into.extend(self.buffer.drain(..now));
            missing -= now;
            if missing == 0 {
                return Ok(());
            }
            self.fill().map_err(BodyError::Ended)?;
        }
    }

    /// Reads what there is, at least one byte.
    fn fill(&mut self) -> Result<(), Ending> {
        let begun = Instant::now();
        let mut some = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut some) {
                Ok(0) => Err(Ending::Closed),
                Ok(n) => {
                    self.buffer.extend_from_slice(&some[..n]);
                    lock(&self.received).extend_from_slice(&some[..n]);
                    Ok(())
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted && begun.elapsed() < WAIT => continue,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    Err(Ending::Silent)
                }
                Err(_) => Err(Ending::Reset),
            };
        }
    }
}

impl Read for Conn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty()
            && let Err(ending) = self.fill()
        {
            return match ending {
                Ending::Closed => Ok(0),
                Ending::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                Ending::Silent => Err(io::ErrorKind::TimedOut.into()),
            };
        }
        let n = into.len().min(self.buffer.len());
        into[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        Ok(n)
    }
}

impl Write for Conn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Debug)]
enum BodyError {
    Ended(Ending),
    Malformed(String),
}

/// A well-formed request: Host `weir.test` unless given, `Content-Length` when there is a body.
pub fn request_bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    let mut line = |name: &str, value: &str| {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend(value.chars().map(|c| u8::try_from(u32::from(c)).expect("a value is ISO 8859-1")));
        bytes.extend_from_slice(b"\r\n");
    };
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        line("Host", "weir.test");
    }
    for (name, value) in headers {
        line(name, value);
    }
    let chunked = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    if !chunked && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
        line("Content-Length", &body.len().to_string());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn parse_head(head: &[u8]) -> Result<(String, Headers), String> {
    let text = latin1(&head[..head.len() - 4]);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(parse_field).collect::<Result<_, _>>()?;
    Ok((first, Headers(fields)))
}

fn parse_field(line: &str) -> Result<(String, String), String> {
    let malformed = || format!("field line {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(malformed());
    }
    let value = value.trim_matches([' ', '\t']);
    if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err(malformed());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn framing_of(headers: &Headers) -> Result<Framing, String> {
    let lengths = headers.all("content-length");
    let codings = headers.all("transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::None),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([digits], []) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map(Framing::Length).map_err(|e| format!("Content-Length {digits:?}: {e}"))
        }
        _ => Err(format!("ambiguous framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}")),
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
