//! What has ended, for all who might still believe in it: sessions, and all sessions of somebody.
//!
//! Each proxy's disk holds sessions on its own, and Redis may forget. So that no disk brings back what was ended elsewhere, an end goes two ways: it is put into a log in Redis, from which each proxy's disk
//! learns of it; and a Redis that was emptied, or that is another process than before, is told again of all ends that a disk knows.

use std::fmt;
use std::str::FromStr;

use session_state::Session;

use super::cookie::Handle;

/// Something that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// A session.
    Session {
        /// Which.
        handle: Handle,
        /// When it was begun.
        created_ms: u64,
        /// So long its end is remembered.
        ends_ms: u64,
    },
    /// All sessions of somebody up to a version.
    User {
        /// Who, as a digest.
        user: [u8; 32],
        /// The last of them.
        version: u64,
        /// So long that is remembered.
        ends_ms: u64,
    },
}

impl End {
    /// The change that ends a session.
    pub(super) fn change(created_ms: u64, ends_ms: u64) -> Session {
        Session { created_ms, ends_ms, ended: true, ..Session::default() }
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { handle, created_ms, ends_ms } => {
                write!(out, "s {} {created_ms} {ends_ms}", handle.hex())
            }
            Self::User { user, version, ends_ms } => {
                write!(out, "u {} {version} {ends_ms}", Handle(*user).hex())
            }
        }
    }
}

/// Not something that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoEnd;

impl FromStr for End {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(NoEnd);
        let (kind, digest) = (word()?, Handle::from_hex(word()?).ok_or(NoEnd)?);
        let number = |text: &str| text.parse().map_err(|_| NoEnd);
        let (number, ends_ms) = (number(word()?)?, number(word()?)?);
        match kind {
            _ if word().is_ok() => Err(NoEnd),
            "s" => Ok(Self::Session { handle: digest, created_ms: number, ends_ms }),
            "u" => Ok(Self::User { user: digest.0, version: number, ends_ms }),
            _ => Err(NoEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_end_is_read_as_it_was_written(digest in any::<[u8; 32]>(), number in any::<u64>(), ends_ms in any::<u64>()) {
            let session = End::Session { handle: Handle(digest), created_ms: number, ends_ms };
            let user = End::User { user: digest, version: number, ends_ms };
            for end in [session, user] {
                prop_assert_eq!(end.to_string().parse(), Ok(end));
            }
        }

        #[test]
        fn nothing_else_is_one(text in "([su] )?[0-9a-f]{0,66}( [0-9]{0,22}){0,4}") {
            if let Ok(end) = text.parse::<End>() {
                prop_assert_eq!(end.to_string().parse(), Ok(end));
            }
        }
    }
}
