//! Lines for people and programs: how they leave without anyone waiting, and how foreign text is made harmless in them.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Foreign text is cut here.
pub(crate) const FIELD_BYTES_MAX: usize = 1_024;

/// The longest prefix within the limit, and whether something was cut.
fn cut(text: &str) -> (&str, bool) {
    match text
        .char_indices()
        .map(|(at, character)| at + character.len_utf8())
        .find(|end| *end > FIELD_BYTES_MAX)
    {
        None => (text, false),
        Some(_) => {
            let mut end = FIELD_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            (&text[..end], true)
        }
    }
}

/// Foreign text for a terminal: printable ASCII as it is, everything else escaped, so that it can neither end the line nor command the terminal.
pub(crate) fn plain(into: &mut String, text: &str) {
    let (text, was_cut) = cut(text);
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            ' '..='~' => into.push(character),
            other => {
                let _ = write!(into, "{}", other.escape_default());
            }
        }
    }
    if was_cut {
        into.push_str("...");
    }
}

/// Foreign text as a JSON string. Beyond what JSON asks for, DEL and the C1 controls are escaped.
pub(crate) fn json(into: &mut String, text: &str) {
    let (text, was_cut) = cut(text);
    into.push('"');
    for character in text.chars() {
        match character {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            other if other.is_control() || matches!(other, '\u{2028}' | '\u{2029}') => {
                let _ = write!(into, "\\u{:04x}", u32::from(other));
            }
            other => into.push(other),
        }
    }
    if was_cut {
        into.push_str("...");
    }
    into.push('"');
}

/// `2026-11-21T08:17:47.123Z`
pub(crate) fn timestamp(into: &mut String, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let _ = write!(
        into,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_millis()
    );
}

/// The Gregorian date so many days after 1970-01-01. Counts in years that begin in March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_based + 2) / 5 + 1;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A thread that writes lines. Giving it one never waits: a full queue drops the line and counts it.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(String),
    /// Everything before this has been written.
    Flushed(SyncSender<()>),
}

const LINES_MAX: usize = 1_024;

impl Lines {
    pub(crate) fn to(out: impl Write + Send + 'static, name: &str) -> std::io::Result<Self> {
        let (queue, items) = sync_channel(LINES_MAX);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || write_all(out, &items))?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Gives it a line, complete with its end.
    pub(crate) fn line(&self, line: String) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that found the queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was given so far is written, but no longer than `within`.
    pub(crate) fn flush(&self, within: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Item::Flushed(done)).is_ok() {
            // Late or never: the reader of these lines is blocked, and this process has waited for it long enough.
            let _ = wait.recv_timeout(within);
        }
    }
}

fn write_all(mut out: impl Write, items: &Receiver<Item>) {
    while let Ok(item) = items.recv() {
        match item {
            // There is nowhere left to tell that standard error is closed.
            Item::Line(line) => drop(out.write_all(line.as_bytes()).and_then(|()| out.flush())),
            Item::Flushed(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(f: impl FnOnce(&mut String)) -> String {
        let mut text = String::new();
        f(&mut text);
        text
    }

    #[test]
    fn foreign_text_can_neither_end_a_line_nor_command_a_terminal() {
        let cases = [
            ("plain", "plain", "\"plain\""),
            ("a\r\nb", "a\\r\\nb", "\"a\\u000d\\u000ab\""),
            ("\u{1b}[31m", "\\u{1b}[31m", "\"\\u001b[31m\""),
            ("\u{7f}\u{9b}", "\\u{7f}\\u{9b}", "\"\\u007f\\u009b\""),
            ("say \"\\\"", "say \"\\\\\"", "\"say \\\"\\\\\\\"\""),
            ("\u{202e}é", "\\u{202e}\\u{e9}", "\"\u{202e}é\""),
        ];
        for (text, in_plain, in_json) in cases {
            assert_eq!(with(|into| plain(into, text)), in_plain, "{text:?}");
            assert_eq!(with(|into| json(into, text)), in_json, "{text:?}");
            assert_eq!(serde_json::from_str::<String>(&with(|into| json(into, text))).unwrap(), text);
        }
    }

    #[test]
    fn a_field_is_cut_between_two_characters() {
        assert_eq!(with(|into| plain(into, &"a".repeat(FIELD_BYTES_MAX))).len(), FIELD_BYTES_MAX);
        let long = with(|into| json(into, &"é".repeat(FIELD_BYTES_MAX)));
        assert_eq!(long, format!("\"{}...\"", "é".repeat(FIELD_BYTES_MAX / 2)));
        let odd = with(|into| json(into, &format!("a{}", "é".repeat(FIELD_BYTES_MAX))));
        assert_eq!(odd, format!("\"a{}...\"", "é".repeat(FIELD_BYTES_MAX / 2 - 1)));
    }

    #[test]
    fn timestamps_are_right_on_odd_days() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_249_067_123, "2026-11-21T08:17:47.123Z"),
        ];
        for (milliseconds, expected) in cases {
            let at = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(with(|into| timestamp(into, at)), expected);
        }
    }

    #[test]
    fn a_blocked_reader_costs_lines_and_no_time() {
        let (read, write) = std::io::pipe().unwrap();
        let lines = Lines::to(write, "test").unwrap();
        for _ in 0..2 * LINES_MAX {
            lines.line("x".repeat(1_000));
        }
        assert!(lines.dropped() > 0);
        lines.flush(Duration::from_millis(1));
        drop(read);
    }
}
