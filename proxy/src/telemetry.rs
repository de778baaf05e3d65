//! Events (`tracing`) as lines on standard error: life cycle, trouble, and at `debug` what each refused connection did.
//!
//! A writer thread does the writing; a full queue drops and counts. Only this crate's events are taken below `warn`: what a library tells
//! itself is not what an operator asked for. Spans are not recorded.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::config::model::{Log, LogFormat, LogLevel};
use crate::lines::{self, Lines};

static INSTALLED: OnceLock<&'static Telemetry> = OnceLock::new();

/// Where events go.
#[derive(Debug)]
struct Telemetry {
    lines: Lines,
    level: AtomicU8,
    json: AtomicBool,
}

/// Takes events from now on, once for the process, and panics with them. `main` calls this; tests in the same process need not.
pub fn install(log: &Log) -> std::io::Result<()> {
    let telemetry = Telemetry {
        lines: Lines::to(std::io::stderr(), "event-log")?,
        level: AtomicU8::new(0),
        json: AtomicBool::new(false),
    };
    let telemetry: &'static Telemetry = Box::leak(Box::new(telemetry));
    if INSTALLED.set(telemetry).is_err() {
        return Ok(());
    }
    apply(log);
    // An error: somebody embeds this crate and has a subscriber of their own.
    let _ = tracing::subscriber::set_global_default(telemetry);
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("?");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(error.message = message, code.location = place, "a panic was caught: this is a bug");
    }));
    Ok(())
}

/// Puts a changed configuration in force.
pub fn apply(log: &Log) {
    if let Some(telemetry) = INSTALLED.get() {
        telemetry.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        telemetry.level.store(log.level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Writes what waits, for no longer than `within`.
pub fn flush(within: Duration) {
    if let Some(telemetry) = INSTALLED.get() {
        telemetry.lines.flush(within);
    }
}

/// Events that found the queue full.
pub fn dropped() -> u64 {
    INSTALLED.get().map_or(0, |telemetry| telemetry.lines.dropped())
}

impl Telemetry {
    fn level(&self) -> Level {
        const DEBUG: u8 = LogLevel::Debug as u8;
        const INFO: u8 = LogLevel::Info as u8;
        const WARN: u8 = LogLevel::Warn as u8;
        match self.level.load(Ordering::Relaxed) {
            DEBUG => Level::DEBUG,
            INFO => Level::INFO,
            WARN => Level::WARN,
            _ => Level::ERROR,
        }
    }
}

impl Subscriber for &'static Telemetry {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().split("::").next() == Some(env!("CARGO_PKG_NAME"));
        metadata.is_event() && metadata.level() <= &self.level() && (ours || metadata.level() <= &Level::WARN)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level().into())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        #[expect(
            clippy::disallowed_methods,
            reason = "a log line tells when it was written; nothing depends on it"
        )]
        let now = SystemTime::now();
        self.lines.line(line_of(event, now, self.json.load(Ordering::Relaxed)));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn line_of(event: &Event<'_>, now: SystemTime, json: bool) -> String {
    let level = event.metadata().level();
    let mut fields = Fields { json, message: String::new(), others: String::new() };
    event.record(&mut fields);
    let mut line = String::with_capacity(128);
    if json {
        line.push_str("{\"timestamp\":\"");
        lines::timestamp(&mut line, now);
        let _ = write!(line, "\",\"severity\":\"{level}\",\"message\":");
        lines::json(&mut line, &fields.message);
        line.push_str(&fields.others);
        line.push('}');
    } else {
        lines::timestamp(&mut line, now);
        let _ = write!(line, "  {level:<5}  ");
        lines::plain(&mut line, &fields.message);
        line.push_str(&fields.others);
    }
    line.push('\n');
    line
}

/// The fields of an event as text.
struct Fields {
    json: bool,
    message: String,
    others: String,
}

impl Fields {
    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if self.json {
            let _ = write!(self.others, ",\"{}\":", field.name());
            lines::json(&mut self.others, value);
        } else {
            let _ = write!(self.others, "  {}=", field.name());
            lines::plain(&mut self.others, value);
        }
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        let _ = match self.json {
            true => write!(self.others, ",\"{}\":{value}", field.name()),
            false => write!(self.others, "  {}={value}", field.name()),
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    /// With the causes, because the innermost says what happened.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.text(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Keeps what events become.
    struct Kept {
        json: bool,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            self.lines.lock().unwrap().push(line_of(event, UNIX_EPOCH, self.json));
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        for (json, expected) in [
            (
                false,
                "1970-01-01T00:00:00.000Z  WARN   an origin is down  url.path=/a\\n\\u{1b}[2J  tries=3  error=outer: inner\n",
            ),
            (
                true,
                "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"severity\":\"WARN\",\"message\":\"an origin is down\",\
                 \"url.path\":\"/a\\u000a\\u001b[2J\",\"tries\":3,\"error\":\"outer: inner\"}\n",
            ),
        ] {
            #[derive(Debug, thiserror::Error)]
            #[error("outer")]
            struct Outer(#[source] std::io::Error);
            let lines = Arc::default();
            tracing::subscriber::with_default(Kept { json, lines: Arc::clone(&lines) }, || {
                let error = Outer(std::io::Error::other("inner"));
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(url.path = "/a\n\u{1b}[2J", tries = 3, error, "an origin is down");
            });
            assert_eq!(lines.lock().unwrap()[..], [expected]);
        }
    }
}
