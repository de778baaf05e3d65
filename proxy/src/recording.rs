//! `[record]`: requests, and what origins answered, in a file with which a plugin can be tried: `weir plugin replay`.
//!
//! Off unless the operator turns it on. No request waits for it: records go through a bounded queue to a thread of their own, and what finds no room is
//! counted. The file and the one before it never exceed the size that the operator gave.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use plugin_cases::record::{Answered, Hider, LINE_BYTES_MAX, Recorded};
use plugin_cases::{AttributeValue, WrittenItem};

use crate::config::model::Record;
use crate::plugin::{Asking, Attribute};

/// Records that wait to be written.
const WAITING_MAX: usize = 1_024;

/// Writes records.
#[derive(Debug)]
pub struct Recorder {
    spec: Arc<Record>,
    hider: Hider,
    queue: SyncSender<Recorded>,
    lost: AtomicU64,
}

impl Recorder {
    /// Opens the file and starts the thread that writes it.
    pub fn start(spec: &Arc<Record>) -> io::Result<Arc<Self>> {
        use ring::rand::{SecureRandom as _, SystemRandom};
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("there is no randomness"))?;
        let log = Log::open(&spec.path, spec.size)?;
        let (queue, waiting) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("request-recorder".to_owned())
            .spawn(move || write(log, &waiting))?;
        let hider = Hider::new(key, spec.plain.iter().cloned());
        Ok(Arc::new(Self { spec: spec.clone(), hider, queue, lost: AtomicU64::new(0) }))
    }

    /// Whether this is it: then a reload keeps it.
    pub fn is(&self, spec: &Record) -> bool {
        *self.spec == *spec
    }

    /// Records that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn put(&self, recorded: Recorded) {
        if self.queue.try_send(recorded).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request that is being recorded: written when it is dropped, with what the origin has answered until then.
pub struct Recording {
    recorder: Arc<Recorder>,
    recorded: Recorded,
}

impl Recording {
    /// Begins with a request.
    pub fn begin(
        recorder: &Arc<Recorder>,
        asking: &Asking<'_>,
        route: &str,
        content: Option<&Bytes>,
    ) -> Self {
        let hider = &recorder.hider;
        let query = asking.query.map_or_else(String::new, |query| format!("?{}", hider.query(query)));
        let (method, scheme, authority) = (asking.method, asking.scheme, asking.authority);
        let attribute = |Attribute { name, value, is_text }: &Attribute<'_>| {
            let shown = hider.shows("session", name);
            let value = if shown { (*value).to_owned() } else { hider.hidden(value.as_bytes()) };
            // A number stays apart from a text that reads like it.
            let value = if *is_text {
                AttributeValue::Text(value)
            } else {
                AttributeValue::Item(WrittenItem { item: value })
            };
            ((*name).to_owned(), value)
        };
        let at = asking.now.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let recorded = Recorded {
            at: u64::try_from(at).unwrap_or(u64::MAX),
            request: format!("{method} {scheme}://{authority}{}{query}", asking.path),
            route: route.to_owned(),
            headers: hider.fields(asking.headers),
            client: asking.client.filter(|_| hider.shows("client-ip", "")),
            sni: asking.tls_sni.map(str::to_owned),
            session: asking.session.iter().map(attribute).collect(),
            content: content
                .filter(|_| hider.shows("body", ""))
                .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()),
            answer: None,
        };
        Self { recorder: recorder.clone(), recorded }
    }

    /// Adds what the origin has answered.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap, content_length: Option<u64>) {
        let headers = self.recorder.hider.fields(headers);
        self.recorded.answer = Some(Answered { status: status.as_u16(), headers, content_length });
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.recorder.put(std::mem::take(&mut self.recorded));
    }
}

/// The file, and the one before it.
struct Log {
    path: PathBuf,
    /// Of the two together.
    size: u64,
    file: BufWriter<File>,
    written: u64,
}

impl Log {
    fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = appended(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), size, file: BufWriter::new(file), written })
    }

    fn write(&mut self, recorded: &Recorded) -> io::Result<()> {
        let line = recorded.line();
        let length = line.len() as u64 + 1;
        if line.len() > LINE_BYTES_MAX || length > self.size / 2 {
            return Ok(());
        }
        if self.written + length > self.size / 2 {
            self.file.flush()?;
            std::fs::rename(&self.path, before(&self.path))?;
            self.file = BufWriter::new(appended(&self.path)?);
            self.written = 0;
        }
        self.written += length;
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }
}

/// The file in which older records are: `NAME.1`.
pub fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn appended(path: &Path) -> io::Result<File> {
    // For nobody else's eyes: without secrets it is still who asked for what.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn write(mut log: Log, waiting: &Receiver<Recorded>) {
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        let mut done = Ok(());
        while let (Some(recorded), true) = (&next, done.is_ok()) {
            done = log.write(recorded);
            next = waiting.try_recv().ok();
        }
        if let Err(error) = done.and_then(|()| log.file.flush()) {
            tracing::error!(%error, path = %log.path.display(), "requests are not recorded any more");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_together_stay_within_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.log");
        let mut log = Log::open(&path, 4_096).unwrap();
        for at in 0..200 {
            let request = format!("GET http://a.example/{at}");
            log.write(&Recorded { at, request, route: "r".to_owned(), ..Recorded::default() }).unwrap();
        }
        log.file.flush().unwrap();
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(length(&path) + length(&before(&path)) <= 4_096);
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(plugin_cases::record::parse(last, 1).unwrap().at, 199, "the newest are kept");
        // It goes on where it was.
        let again = Log::open(&path, 4_096).unwrap();
        assert_eq!(again.written, length(&path));
    }
}
