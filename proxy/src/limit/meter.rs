//! How many messages a client sends on a WebSocket: frames are counted as they pass, and one too many is held back until it may go.
//!
//! Nothing is closed and nothing is lost: what is held back is in the tunnel's one buffer, and a client that goes on sending is stopped by TCP. A message is counted by
//! its first frame; control frames pass as they come (RFC 6455 §5.5).

use std::time::Duration;

use rate_limit::{Bucket, Decision, Policy, Quota, SECOND, Ticks};
use tokio::time::Instant;

/// Counts the messages of one direction of one socket.
#[derive(Debug)]
pub struct Meter {
    policy: Policy,
    bucket: Bucket,
    began: Instant,
    frames: Frames,
    /// Until then nothing passes.
    pub(crate) held_until: Option<Instant>,
}

impl Meter {
    /// So many messages in so long.
    pub fn new(quota: Quota) -> Option<Self> {
        let policy = Policy::new(vec![quota]).ok()?;
        let (bucket, frames) = (Bucket::default(), Frames::default());
        Some(Self { policy, bucket, began: Instant::now(), frames, held_until: None })
    }

    /// How many of these bytes may pass now. They are the next of the stream, and those that may not pass are asked for again.
    pub(crate) fn admit(&mut self, bytes: &[u8], now: Instant) -> usize {
        if self.held_until.is_some_and(|until| now < until) {
            return 0;
        }
        self.held_until = None;
        let Self { policy, bucket, began, frames, held_until } = self;
        let ticks = ticks(now.saturating_duration_since(*began));
        frames.pass(bytes, || match bucket.decide(policy, ticks, 1, 1) {
            Decision::Admitted(_) => true,
            Decision::Refused(refused) => {
                *held_until = Some(now + Duration::from_nanos(refused.retry_after * 100));
                false
            }
        })
    }
}

/// Finds where messages begin in a stream of frames, in whatever pieces it comes.
#[derive(Debug, Clone, Copy)]
pub enum Frames {
    /// In a frame's head: what has come of it.
    Head([u8; 14], usize),
    /// So much of a frame's content is still to come.
    Content(u64),
}

impl Default for Frames {
    fn default() -> Self {
        Self::Head([0; 14], 0)
    }
}

impl Frames {
    /// How many of these bytes pass: all, or those before the first message that may not begin.
    pub fn pass(&mut self, bytes: &[u8], mut may_begin: impl FnMut() -> bool) -> usize {
        let mut passed = 0;
        while let Some(&byte) = bytes.get(passed) {
            match self {
                Self::Content(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - passed);
                    *left -= here as u64;
                    passed += here;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Head(head, have) => {
                    // RFC 6455 §5.2: 1 is text, 2 is binary; 0 goes on with a message, 8 and above control the connection.
                    if *have == 0 && matches!(byte & 0x0f, 1 | 2) && !may_begin() {
                        return passed;
                    }
                    head[*have] = byte;
                    *have += 1;
                    passed += 1;
                    if let Some(length) = content_length(&head[..*have]) {
                        *self = if length == 0 { Self::default() } else { Self::Content(length) };
                    }
                }
            }
        }
        passed
    }
}

fn ticks(since: Duration) -> Ticks {
    SECOND + u64::try_from(since.as_nanos() / 100).unwrap_or(u64::MAX / 2)
}

/// How long the content is, once the head is whole (RFC 6455 §5.2).
fn content_length(head: &[u8]) -> Option<u64> {
    let (&second, rest) = head.get(1..)?.split_first()?;
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if rest.len() < extended + mask {
        return None;
    }
    Some(match extended {
        0 => u64::from(second & 0x7f),
        _ => rest[..extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, content: usize) -> Vec<u8> {
        let mut out = vec![0x80 | kind];
        match content {
            0..126 => out.push(0x80 | u8::try_from(content).unwrap()),
            126..65_536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(content).unwrap().to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(content as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&[1, 2, 3, 4]);
        out.resize(out.len() + content, 0x11);
        out
    }

    fn meter(units: u64) -> Meter {
        Meter::new(Quota::new(units, Duration::from_secs(1), None).unwrap()).unwrap()
    }

    #[test]
    fn messages_beyond_the_quota_are_held_back_and_control_frames_are_not_counted() {
        let mut meter = meter(2);
        let now = meter.began;
        let (text, ping, more) = (frame(1, 5), frame(9, 3), frame(0, 300));
        let begin = [text.clone(), ping.clone(), more.clone(), text.clone(), ping].concat();
        assert_eq!(meter.admit(&begin, now), begin.len());
        let end = [more.clone(), text.clone()].concat();
        assert_eq!(meter.admit(&end, now), more.len(), "what belongs to an earlier message passes");
        assert_eq!(meter.admit(&text, now), 0);
        let until = meter.held_until.unwrap();
        assert_eq!(until - now, Duration::from_millis(500));
        assert_eq!(meter.admit(&text, until), text.len());
        assert_eq!(meter.admit(&text, until), 0);
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_as_many_messages_pass(
            frames in prop::collection::vec((prop::sample::select(&[0_u8, 1, 2, 8, 9, 10]), prop::sample::select(&[0_usize, 5, 125, 126, 70_000])), 1..12),
            pieces in prop::collection::vec(1..5_000_usize, 1..200),
        ) {
            let all: Vec<u8> = frames.iter().flat_map(|(kind, content)| frame(*kind, *content)).collect();
            let mut whole = meter(3);
            let now = whole.began;
            let passed = whole.admit(&all, now);
            let mut in_pieces = meter(3);
            in_pieces.began = now;
            let (mut at, mut sizes) = (0, pieces.iter().cycle());
            while at < all.len() {
                let end = (at + sizes.next().unwrap()).min(all.len());
                let here = in_pieces.admit(&all[at..end], now);
                at += here;
                if here == 0 {
                    break;
                }
            }
            prop_assert_eq!(at, passed);
            let data = frames.iter().filter(|(kind, _)| matches!(kind, 1 | 2)).count();
            prop_assert_eq!(passed == all.len(), data <= 3);
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut meter = meter(1_000_000);
            let now = meter.began;
            prop_assert_eq!(meter.admit(&bytes, now), bytes.len());
        }
    }
}
