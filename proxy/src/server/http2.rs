//! What hyper's HTTP/2 does not count: resets either way, and control frames that make work without being any use.
//!
//! A scanner over the frame headers of RFC 9113 §4.1 that looks at nine bytes a frame and skips the rest. It judges nothing that hyper judges
//! (sizes, order, states); it only counts, so whatever it is fed it cannot fail.

use std::sync::atomic::Ordering;

use super::connection::Progress;

/// What a client sends first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection's end when it has used up its budget: GOAWAY, last stream 0... the client learns why, `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7).
pub(super) const CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// Control frames that a connection may send in [`WINDOW_SECONDS`] beyond one for each frame that carries something.
pub(super) const CONTROL_FRAMES_MAX: u64 = 1_000;

/// How long the budgets of resets and control frames last.
pub(super) const WINDOW_SECONDS: u64 = 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where one direction of the connection is.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; 9],
    header_bytes: usize,
    /// Bytes of the current frame's payload still to come.
    payload: usize,
    in_data: bool,
    in_head: bool,
}

/// What the scanner saw, one call per frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Scanner {
    /// For the client's side, which begins with the preface.
    pub(super) fn after_preface() -> Self {
        Self { payload: PREFACE.len(), ..Self::default() }
    }

    /// Between two frames: here another one may be written.
    pub(super) const fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.payload == 0
    }

    /// In the middle of a head, or of any frame but DATA, of which a client may take its time.
    const fn owes_head(&self) -> bool {
        self.in_head || !(self.at_boundary() || (self.in_data && self.payload > 0))
    }

    fn feed(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(FrameHeader)) -> usize {
        let mut content = 0;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                if self.in_data {
                    content += skipped;
                }
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = (self.header.len() - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + wanted].copy_from_slice(&bytes[..wanted]);
            self.header_bytes += wanted;
            bytes = &bytes[wanted..];
            if self.header_bytes == self.header.len() {
                let [a, b, c, kind, flags, ..] = self.header;
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.header_bytes = 0;
                self.payload = length;
                self.in_data = kind == DATA;
                if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                    self.in_head = flags & END_HEADERS == 0;
                }
                on_frame(FrameHeader { length, kind, flags });
            }
        }
        content
    }

    /// Counts what was received.
    pub(super) fn received(&mut self, bytes: &[u8], progress: &Progress) {
        let content = self.feed(bytes, |frame| {
            match frame.kind {
                RST_STREAM => progress.resets.one(),
                HEADERS => progress.useful_frames.one(),
                DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => progress.useful_frames.one(),
                // A client that reads sends many of these; h2 bounds what they can do.
                WINDOW_UPDATE => {}
                _ => progress.control_frames.one(),
            }
            if frame.kind != CONTINUATION {
                progress.head_number.one();
            }
        });
        progress.content_in.add(content as u64);
        progress.head_begun.store(self.owes_head(), Ordering::Relaxed);
    }

    /// Counts what was sent.
    pub(super) fn sent(&mut self, bytes: &[u8], progress: &Progress) {
        let content = self.feed(bytes, |frame| match frame.kind {
            RST_STREAM => progress.resets.one(),
            // A client may well answer what we sent with a PING of its own, as gRPC does to measure the path.
            DATA | HEADERS => progress.useful_frames.one(),
            _ => {}
        });
        progress.content_out.add(content as u64);
    }
}

/// Budgets of one connection, renewed every [`WINDOW_SECONDS`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    window: u64,
    resets_before: u64,
    excess_before: i64,
}

/// Which budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    Resets,
    Frames,
}

fn excess(progress: &Progress) -> i64 {
    let count = |counter: &crate::metrics::Counter| i64::try_from(counter.count()).unwrap_or(i64::MAX);
    count(&progress.control_frames).saturating_sub(count(&progress.useful_frames))
}

impl Budget {
    /// What is used up in this window, if anything.
    pub(super) fn spent(&mut self, progress: &Progress, window: u64, resets_max: u64) -> Option<Spent> {
        if std::mem::replace(&mut self.window, window) != window {
            self.renew(progress);
        }
        if progress.resets.count() - self.resets_before > resets_max {
            return Some(Spent::Resets);
        }
        let allowed = i64::try_from(CONTROL_FRAMES_MAX).unwrap_or(i64::MAX);
        (excess(progress) - self.excess_before > allowed).then_some(Spent::Frames)
    }

    fn renew(&mut self, progress: &Progress) {
        self.resets_before = progress.resets.count();
        self.excess_before = excess(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![length_bytes[1], length_bytes[2], length_bytes[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + length, 0xaa);
        bytes
    }

    #[test]
    fn frames_are_counted_however_the_bytes_are_cut() {
        let mut wire = PREFACE.to_vec();
        for (kind, flags, length) in [
            (4, 0, 18),
            (HEADERS, 0, 40),
            (CONTINUATION, END_HEADERS, 7),
            (DATA, 0, 0),
            (DATA, 0, 900),
            (RST_STREAM, 0, 4),
            (6, 0, 8),
        ] {
            wire.extend(frame(kind, flags, length));
        }
        for cut in 1..=wire.len() {
            let (mut scanner, progress) = (Scanner::after_preface(), Progress::default());
            for piece in wire.chunks(cut) {
                scanner.received(piece, &progress);
            }
            assert_eq!(progress.resets.count(), 1, "pieces of {cut}");
            assert_eq!(progress.useful_frames.count(), 2, "pieces of {cut}");
            assert_eq!(
                progress.control_frames.count(),
                4,
                "SETTINGS, CONTINUATION, empty DATA, PING; pieces of {cut}"
            );
            assert_eq!(progress.head_number.count(), 6, "pieces of {cut}");
            assert!(scanner.at_boundary() && !scanner.owes_head(), "pieces of {cut}");
        }
    }

    #[test]
    fn a_head_is_owed_from_its_first_byte_to_its_last() {
        let wire = [frame(HEADERS, 0, 10), frame(CONTINUATION, END_HEADERS, 3)].concat();
        let (mut scanner, progress) = (Scanner::default(), Progress::default());
        for (at, byte) in wire.iter().enumerate() {
            scanner.received(&[*byte], &progress);
            assert_eq!(progress.head_begun.load(Ordering::Relaxed), at + 1 < wire.len(), "after byte {at}");
        }
        scanner.received(&frame(DATA, 0, 100)[..50], &progress);
        assert!(!progress.head_begun.load(Ordering::Relaxed), "half a DATA frame is no head");
    }

    #[test]
    fn content_sent_is_what_data_frames_carry() {
        let (mut scanner, progress) = (Scanner::default(), Progress::default());
        let wire = [
            frame(HEADERS, END_HEADERS, 20),
            frame(DATA, 0, 1_000),
            frame(6, 0, 8),
            frame(DATA, END_STREAM, 24),
        ]
        .concat();
        scanner.sent(&wire[..500], &progress);
        assert_eq!(progress.content_out.count(), 500 - 9 - 20 - 9);
        scanner.sent(&wire[500..], &progress);
        assert_eq!(progress.content_out.count(), 1_024);
    }

    #[test]
    fn useful_frames_pay_for_control_frames_and_time_renews_the_budget() {
        let (mut budget, progress) = (Budget::default(), Progress::default());
        progress.control_frames.add(CONTROL_FRAMES_MAX);
        assert_eq!(budget.spent(&progress, 0, 10), None);
        progress.control_frames.one();
        assert_eq!(budget.spent(&progress, 0, 10), Some(Spent::Frames));
        progress.useful_frames.one();
        assert_eq!(budget.spent(&progress, 0, 10), None);
        progress.resets.add(11);
        assert_eq!(budget.spent(&progress, 0, 10), Some(Spent::Resets));
        assert_eq!(budget.spent(&progress, 1, 10), None);
    }
}
