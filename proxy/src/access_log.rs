//! A line per request, written where no request waits for it.
//!
//! A worker hands over a compact record; nothing is formatted on its thread. One writer thread formats and writes. A full queue drops
//! the record and counts it, so that a blocked standard output costs lines and never time. Never logged: `Cookie`, `Authorization`, the values of
//! query parameters.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};
use parking_lot::Mutex;

use crate::config::model::LogFormat;
use crate::gate::Authority;
use crate::lines;
use crate::metrics::{Metrics, WorkerMetrics};

/// What is known of a request once it has been answered. Every field is a copy that costs no allocation.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// When its head had been read.
    pub at: SystemTime,
    /// From then to the end of its answer.
    pub duration: Duration,
    /// Who asked: the client behind trusted proxies. `None`: a Unix socket.
    pub client: Option<IpAddr>,
    /// The protocol spoken with the client.
    pub version: Version,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Its method.
    pub method: Method,
    /// The authority asked for.
    pub host: Option<Authority>,
    /// The target; the values in its query are left out of the line.
    pub target: Option<PathAndQuery>,
    /// The answer's status.
    pub status: StatusCode,
    /// Bytes of content sent.
    pub bytes: u64,
    /// Whether the answer went out whole.
    pub complete: bool,
    /// The `Cache-Status` that was sent.
    pub cache: Option<HeaderValue>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// The origin server asked, `host:port`.
    pub origin: Option<Arc<str>>,
}

/// Records that wait to be written, for each worker.
const RECORDS_MAX: usize = 2_048;

/// A writer with nothing to do looks again after this long, and after one more time of nothing waits to be woken. So busy workers
/// wake nobody, and a single request's line does not wait.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines written at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// The access log: a queue for each worker and the thread that empties them.
#[derive(Debug)]
pub struct AccessLog {
    sinks: Vec<AccessSink>,
    ended: Mutex<Receiver<()>>,
}

/// One worker's end of the log.
#[derive(Debug, Clone)]
pub struct AccessSink {
    queue: SyncSender<AccessRecord>,
    writer: Arc<Writer>,
    metrics: Arc<WorkerMetrics>,
}

#[derive(Debug)]
struct Writer {
    thread: Thread,
    /// 0 is off.
    format: AtomicU8,
    parked: AtomicBool,
    ending: AtomicBool,
}

const fn format_number(format: Option<LogFormat>) -> u8 {
    match format {
        None => 0,
        Some(LogFormat::Console) => 1,
        Some(LogFormat::Json) => 2,
    }
}

impl AccessSink {
    /// Whether anybody reads. Ask before making a record.
    pub fn is_on(&self) -> bool {
        self.writer.format.load(Ordering::Relaxed) != 0
    }

    /// Hands a record over.
    pub fn record(&self, record: AccessRecord) {
        if self.queue.try_send(record).is_err() {
            self.metrics.access_lines_dropped.one();
        } else if self.writer.parked.load(Ordering::Relaxed)
            && self.writer.parked.swap(false, Ordering::Relaxed)
        {
            self.writer.thread.unpark();
        }
    }
}

impl AccessLog {
    /// Starts the writer to standard output; colours only for a terminal.
    pub fn to_stdout(metrics: &Metrics, workers: usize, format: Option<LogFormat>) -> io::Result<Self> {
        let stdout = io::stdout();
        let colour =
            stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::to(stdout, colour, metrics, workers, format)
    }

    /// Starts the writer.
    pub fn to(
        mut out: impl Write + Send + 'static,
        colour: bool,
        metrics: &Metrics,
        workers: usize,
        format: Option<LogFormat>,
    ) -> io::Result<Self> {
        let (queues, records): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(RECORDS_MAX)).unzip();
        let (end, ended) = sync_channel(1);
        let (hand_over, handed_over) = sync_channel::<Arc<Writer>>(1);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            if let Ok(writer) = handed_over.recv() {
                writer.run(&mut out, colour, &records);
            }
            // Nobody may be waiting.
            let _ = end.try_send(());
        })?;
        let writer = Arc::new(Writer {
            thread: thread.thread().clone(),
            format: AtomicU8::new(format_number(format)),
            parked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        // The thread waits for exactly this.
        let _ = hand_over.send(Arc::clone(&writer));
        let sinks = queues.into_iter().enumerate().map(|(index, queue)| AccessSink {
            queue,
            writer: Arc::clone(&writer),
            metrics: Arc::clone(metrics.worker(index)),
        });
        Ok(Self { sinks: sinks.collect(), ended: Mutex::new(ended) })
    }

    /// The end of worker `index`.
    pub fn sink(&self, index: usize) -> AccessSink {
        self.sinks[index].clone()
    }

    /// Changes the form of lines, or switches them off.
    pub fn set_format(&self, format: Option<LogFormat>) {
        if let Some(sink) = self.sinks.first() {
            sink.writer.format.store(format_number(format), Ordering::Relaxed);
        }
    }

    /// Writes what waits, but for no longer than `within`.
    pub fn finish(&self, within: Duration) {
        if let Some(sink) = self.sinks.first() {
            sink.writer.ending.store(true, Ordering::Relaxed);
            sink.writer.thread.unpark();
        }
        // Late: whoever reads the lines is blocked, and the process has waited for it long enough.
        let _ = self.ended.lock().recv_timeout(within);
    }
}

impl Writer {
    fn run(&self, out: &mut impl Write, colour: bool, queues: &[Receiver<AccessRecord>]) {
        let mut buffer = String::with_capacity(BUFFER_BYTES);
        let mut idle_rounds = 0;
        loop {
            // Before looking: what was handed over before the end was asked for is seen below.
            let ending = self.ending.load(Ordering::Relaxed);
            self.take(&mut buffer, colour, queues);
            if !buffer.is_empty() {
                idle_rounds = 0;
                // Where standard output is closed, lines have nowhere to go; requests do not suffer for it.
                let _ = out.write_all(buffer.as_bytes()).and_then(|()| out.flush());
                buffer.clear();
                continue;
            }
            if ending {
                return;
            }
            idle_rounds += 1;
            if idle_rounds == 1 {
                std::thread::park_timeout(PAUSE);
            } else {
                self.parked.store(true, Ordering::Relaxed);
                // A record that came just before `parked` could be seen is found after this at the latest.
                std::thread::park_timeout(50 * PAUSE);
                self.parked.store(false, Ordering::Relaxed);
                idle_rounds = 0;
            }
        }
    }

    /// Formats what waits, in turn, until the buffer is full or all queues are empty.
    fn take(&self, buffer: &mut String, colour: bool, queues: &[Receiver<AccessRecord>]) {
        let mut found = true;
        while found && buffer.len() < BUFFER_BYTES {
            found = false;
            for queue in queues {
                let Ok(record) = queue.try_recv() else {
                    continue;
                };
                found = true;
                match self.format.load(Ordering::Relaxed) {
                    2 => record.json(buffer),
                    _ => record.console(buffer, colour),
                }
            }
        }
    }
}

impl AccessRecord {
    /// A line for people: time, status, method, size, duration, what the cache did, and the URL last, because it is the longest.
    fn console(&self, line: &mut String, colour: bool) {
        lines::timestamp(line, self.at);
        let (on, off) = match self.status.as_u16() {
            _ if !colour => ("", ""),
            ..400 => ("\u{1b}[32m", "\u{1b}[0m"),
            400..500 => ("\u{1b}[33m", "\u{1b}[0m"),
            500.. => ("\u{1b}[31m", "\u{1b}[0m"),
        };
        let cut = if self.complete { ' ' } else { '!' };
        let _ = write!(line, "  {on}{}{off}{cut} ", self.status.as_u16());
        let start = line.len();
        lines::plain(line, self.method.as_str());
        pad(line, start, 7);
        let _ = write!(line, " {:>9} {:>8}  ", size_text(self.bytes), duration_text(self.duration));
        let start = line.len();
        match &self.cache {
            Some(cache) => lines::plain(line, &String::from_utf8_lossy(cache.as_bytes())),
            None => line.push('-'),
        }
        pad(line, start, 24);
        line.push_str(if self.tls { "  https://" } else { "  http://" });
        if let Some(host) = &self.host {
            lines::plain(line, host.as_str());
        }
        self.write_target(|path, query| {
            lines::plain(line, path);
            if !query.is_empty() {
                line.push('?');
                lines::plain(line, query);
            }
        });
        if let Some(client) = self.client {
            let _ = write!(line, "  from {client}");
        }
        for (what, value) in [("route", &self.route), ("origin", &self.origin)] {
            if let Some(value) = value {
                let _ = write!(line, "  {what} ");
                lines::plain(line, value);
            }
        }
        line.push('\n');
    }

    /// A JSON object with the names of OpenTelemetry's semantic conventions, and `weir.*` for what they do not know.
    fn json(&self, line: &mut String) {
        line.push_str("{\"timestamp\":\"");
        lines::timestamp(line, self.at);
        line.push('"');
        let mut text = |name: &str, value: &str| {
            let _ = write!(line, ",\"{name}\":");
            lines::json(line, value);
        };
        text("http.request.method", self.method.as_str());
        text("url.scheme", if self.tls { "https" } else { "http" });
        if let Some(host) = &self.host {
            text("server.address", host.as_str());
        }
        self.write_target(|path, query| {
            text("url.path", path);
            if !query.is_empty() {
                text("url.query", query);
            }
        });
        text(
            "network.protocol.version",
            match self.version {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
        );
        if let Some(cache) = &self.cache {
            text("weir.cache_status", &String::from_utf8_lossy(cache.as_bytes()));
        }
        if let Some(route) = &self.route {
            text("weir.route", route);
        }
        if let Some(origin) = &self.origin {
            text("weir.origin", origin);
        }
        if !self.complete {
            text("error.type", "incomplete");
        }
        if let Some(client) = self.client {
            let _ = write!(line, ",\"client.address\":\"{client}\"");
        }
        let _ = writeln!(
            line,
            ",\"http.response.status_code\":{},\"http.response.body.size\":{},\"http.server.request.duration\":{:.6}}}",
            self.status.as_u16(),
            self.bytes,
            self.duration.as_secs_f64()
        );
    }

    /// Path and query. A query may hold tokens under any name, so only its names are shown; what has no name is not shown at all.
    fn write_target(&self, mut with: impl FnMut(&str, &str)) {
        let Some(target) = &self.target else {
            return with("", "");
        };
        let mut names = String::new();
        for (at, pair) in target.query().unwrap_or_default().split('&').enumerate() {
            if at > 0 {
                names.push('&');
            }
            match pair.split_once('=') {
                Some((name, _)) => {
                    let _ = write!(names, "{name}=*");
                }
                None if pair.is_empty() => {}
                None => names.push('*'),
            }
            if names.len() > lines::FIELD_BYTES_MAX {
                break;
            }
        }
        with(target.path(), &names);
    }
}

/// Fills up with spaces so that what was written since `start` takes `width`.
fn pad(line: &mut String, start: usize, width: usize) {
    let missing = width.saturating_sub(line.len() - start);
    line.extend(std::iter::repeat_n(' ', missing));
}

fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Tenths, so that no floating point is needed.
    let mut tenths = u128::from(bytes) * 10 / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn duration_text(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ ..1_000 => format!("{micros} us"),
        micros @ 1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        micros => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::time::UNIX_EPOCH;

    use super::*;

    fn record(target: &str) -> AccessRecord {
        AccessRecord {
            at: UNIX_EPOCH + Duration::from_millis(1_795_249_067_123),
            duration: Duration::from_micros(1_234),
            client: Some([192, 0, 2, 1].into()),
            version: Version::HTTP_11,
            tls: true,
            method: Method::GET,
            host: Authority::from_field(&HeaderValue::from_static("example.org"), false),
            target: target.parse().ok(),
            status: StatusCode::OK,
            bytes: 1_536,
            complete: true,
            cache: Some(HeaderValue::from_static("weir; hit")),
            route: Some("everything".into()),
            origin: None,
        }
    }

    #[test]
    fn a_line_for_people_is_aligned_and_shows_no_value_of_a_query() {
        let mut lines = String::new();
        record("/a?token=secret&b=&secret").console(&mut lines, false);
        AccessRecord {
            method: Method::DELETE,
            status: StatusCode::BAD_GATEWAY,
            bytes: 7,
            complete: false,
            tls: false,
            ..record("/")
        }
        .console(&mut lines, false);
        assert_eq!(
            lines,
            "2026-11-21T08:17:47.123Z  200  GET       1.5 KiB   1.2 ms  weir; hit                 https://example.org/a?token=*&b=*&*  from 192.0.2.1  route everything\n\
             2026-11-21T08:17:47.123Z  502! DELETE        7 B   1.2 ms  weir; hit                 http://example.org/  from 192.0.2.1  route everything\n"
        );
        let mut coloured = String::new();
        record("/").console(&mut coloured, true);
        assert!(coloured.contains("\u{1b}[32m200\u{1b}[0m"));
    }

    #[test]
    fn a_json_line_is_an_object_with_the_names_of_open_telemetry() {
        let mut line = String::new();
        AccessRecord { complete: false, origin: Some("127.0.0.1:8000".into()), ..record("/a?q=1") }
            .json(&mut line);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2026-11-21T08:17:47.123Z",
            "http.request.method": "GET",
            "url.scheme": "https",
            "server.address": "example.org",
            "url.path": "/a",
            "url.query": "q=*",
            "network.protocol.version": "1.1",
            "weir.cache_status": "weir; hit",
            "weir.route": "everything",
            "weir.origin": "127.0.0.1:8000",
            "error.type": "incomplete",
            "client.address": "192.0.2.1",
            "http.response.status_code": 200,
            "http.response.body.size": 1_536,
            "http.server.request.duration": 0.001_234,
        });
        assert_eq!(object, expected);
        assert!(line.ends_with("}\n"));
    }

    #[test]
    fn sizes_and_durations_take_few_characters() {
        let sizes = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size_text(bytes), text);
        }
        for (micros, text) in
            [(0, "0 us"), (999, "999 us"), (1_000, "1.0 ms"), (999_999, "999.9 ms"), (61_500_000, "61.5 s")]
        {
            assert_eq!(duration_text(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn lines_of_all_workers_arrive_and_the_form_can_change() {
        let metrics = Metrics::new(2);
        let (read, write) = io::pipe().unwrap();
        let log = AccessLog::to(write, false, &metrics, 2, Some(LogFormat::Json)).unwrap();
        let mut lines = BufReader::new(read).lines().map(|line| line.unwrap());
        for worker in 0..2 {
            assert!(log.sink(worker).is_on());
            log.sink(worker).record(record(&format!("/{worker}")));
            assert!(lines.next().unwrap().contains(&format!("\"url.path\":\"/{worker}\"")));
        }
        log.set_format(Some(LogFormat::Console));
        log.sink(1).record(record("/console"));
        assert!(lines.next().unwrap().starts_with("2026-11-21T08:17:47.123Z  200"));
        log.set_format(None);
        assert!(!log.sink(0).is_on());
        log.finish(Duration::from_secs(10));
        assert_eq!(lines.next(), None, "the writer has ended");
    }

    #[test]
    fn a_blocked_output_costs_lines_and_no_time() {
        let metrics = Metrics::new(1);
        let (read, write) = io::pipe().unwrap();
        let log = AccessLog::to(write, false, &metrics, 1, Some(LogFormat::Json)).unwrap();
        let given = 4 * RECORDS_MAX as u64;
        for _ in 0..given {
            log.sink(0).record(record("/"));
        }
        let dropped = metrics.worker(0).access_lines_dropped.count();
        assert!(dropped > 0 && dropped < given, "{dropped} of {given}");
        log.finish(Duration::from_millis(1));
        drop(read);
    }
}
