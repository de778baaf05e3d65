//! Where a record stands in the log: the id that the log gave it.

use std::fmt;
use std::str::FromStr;

/// A place in the order of all purges. It is what a Redis stream calls an id: milliseconds of the server's clock, and a count within
/// them. No clock of a proxy is ever compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Milliseconds.
    pub ms: u64,
    /// The count within them.
    pub seq: u64,
}

impl Position {
    /// Before every record.
    pub const START: Self = Self { ms: 0, seq: 0 };
    /// Behind every record: where a record stands that the log has not taken yet.
    pub const PENDING: Self = Self { ms: u64::MAX, seq: u64::MAX };
    /// Bytes of [`Position::to_bytes`].
    pub const BYTES: usize = 16;

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }

    /// The first one that a log may give at `ms` of its clock after `self`: clocks go back, positions never.
    #[must_use]
    pub fn next_at(self, ms: u64) -> Self {
        if ms > self.ms { Self { ms, seq: 0 } } else { self.next() }
    }

    /// As bytes that sort as positions do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// Read back.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let both = u128::from_be_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the upper and the lower half")]
        Self { ms: (both >> 64) as u64, seq: both as u64 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.ms, self.seq)
    }
}

/// The text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: two numbers with a hyphen between them")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (ms, seq) = text.split_once('-').ok_or(NotAPosition)?;
        // `parse` takes a sign, a log writes none.
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(NotAPosition)
        };
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_are_written_as_streams_write_them() {
        let position = Position { ms: 1_526_919_030_474, seq: 55 };
        assert_eq!(position.to_string(), "1526919030474-55");
        assert_eq!("1526919030474-55".parse(), Ok(position));
        for wrong in ["", "1", "1-", "-1", "+1-2", "1-+2", "1-2-3", "a-b", "1-99999999999999999999"] {
            assert_eq!(wrong.parse::<Position>(), Err(NotAPosition), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_no_position_with_it() {
        let newest = Position { ms: 100, seq: 7 };
        assert_eq!(newest.next_at(101), Position { ms: 101, seq: 0 });
        assert_eq!(newest.next_at(100), Position { ms: 100, seq: 8 });
        assert_eq!(newest.next_at(5), Position { ms: 100, seq: 8 });
        assert_eq!(Position { ms: 1, seq: u64::MAX }.next(), Position { ms: 2, seq: 0 });
    }

    proptest! {
        #[test]
        fn bytes_sort_as_positions_do(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let (a, b) = (Position { ms: a.0, seq: a.1 }, Position { ms: b.0, seq: b.1 });
            prop_assert_eq!(Position::from_bytes(a.to_bytes()), a);
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
        }
    }
}
