//! What can come of asking Redis, in words of our own, and what each means for the breaker.

use std::time::Duration;

/// Why there is no answer. Every one of them is a miss to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// It was not asked.
    #[error("redis was not asked: {0}")]
    Skipped(Skip),
    /// No answer in time.
    #[error("redis did not answer within {} ms", within.as_millis())]
    TimedOut {
        /// The budget.
        within: Duration,
    },
    /// Refused, reset, closed, TLS that failed.
    #[error("the connection to redis failed: {detail}")]
    Lost {
        /// What the operating system or TLS said.
        detail: String,
    },
    /// Neither name and password, or wrong ones.
    #[error("redis does not let us in: {detail}")]
    Denied {
        /// What it said.
        detail: String,
    },
    /// It is there, and cannot serve: loading, cut off from its primary, part of a Cluster that is down or that a plain client does not know.
    #[error("redis cannot serve: {code}")]
    NotReady {
        /// What it said: `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `MOVED`, ….
        code: String,
    },
    /// It reads and does not write: out of memory, a replica, no replicas, a disk that is full.
    #[error("redis takes no writes: {code}")]
    NoWrites {
        /// What it said: `OOM`, `READONLY`, `NOREPLICAS`, `MISCONF`.
        code: String,
    },
    /// A script keeps it from everything else.
    #[error("redis is busy with a script")]
    Busy,
    /// It understood the command and did not like it: a wrong type, a script that failed, a command that the ACL forbids.
    #[error("redis refused the command: {detail}")]
    Refused {
        /// The first word of the error.
        code: String,
        /// All of it.
        detail: String,
    },
    /// An answer that this command does not have: whatever is behind it on the connection cannot be trusted.
    #[error("redis answered something that this command does not have")]
    Unexpected,
}

/// Why Redis was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// There is no connection, or the breaker is open.
    #[error("it is down")]
    Down,
    /// It has just come back, and this request is not among those that try it.
    #[error("it has just come back")]
    Ramp,
    /// Too much is under way already.
    #[error("too much is under way")]
    InFlight,
    /// It takes no writes at the moment.
    #[error("it takes no writes")]
    Writes,
}

/// What an outcome says about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It works.
    Good,
    /// It does not serve: open at once.
    Down,
    /// One such tells nothing; several do.
    Slow,
    /// It does not write.
    NoWrites,
    /// Says something about the command and nothing about the server.
    Neutral,
}

impl RedisError {
    /// What it says about the server.
    pub const fn evidence(&self) -> Evidence {
        match self {
            Self::Lost { .. } | Self::Denied { .. } | Self::NotReady { .. } | Self::Unexpected => {
                Evidence::Down
            }
            Self::TimedOut { .. } | Self::Busy | Self::Skipped(Skip::InFlight) => Evidence::Slow,
            Self::NoWrites { .. } => Evidence::NoWrites,
            Self::Refused { .. } | Self::Skipped(Skip::Down | Skip::Ramp | Skip::Writes) => Evidence::Neutral,
        }
    }

    /// A word of a closed list, for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Skipped(_) => "skipped",
            Self::TimedOut { .. } => "timed-out",
            Self::Lost { .. } => "lost",
            Self::Denied { .. } => "denied",
            Self::NotReady { .. } => "not-ready",
            Self::NoWrites { .. } => "no-writes",
            Self::Busy => "busy",
            Self::Refused { .. } => "refused",
            Self::Unexpected => "unexpected",
        }
    }

    /// From the error line of a server. Codes that a client library knows and those it does not arrive alike here.
    pub fn said(code: &str, detail: &str) -> Self {
        let owned = || code.to_owned();
        let all = || if detail.is_empty() { code.to_owned() } else { format!("{code} {detail}") };
        match code {
            "NOAUTH" | "WRONGPASS" | "DENIED" => Self::Denied { detail: all() },
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "UNBLOCKED" => {
                Self::NotReady { code: owned() }
            }
            "OOM" | "READONLY" | "NOREPLICAS" | "MISCONF" => Self::NoWrites { code: owned() },
            "BUSY" => Self::Busy,
            _ => Self::Refused { code: owned(), detail: all() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_opens_as_much_as_it_must() {
        #[rustfmt::skip]
        let cases = [
            // code           evidence
            ("NOAUTH",        Evidence::Down),
            ("WRONGPASS",     Evidence::Down),
            ("LOADING",       Evidence::Down),
            ("MASTERDOWN",    Evidence::Down),
            ("CLUSTERDOWN",   Evidence::Down),
            ("MOVED",         Evidence::Down),
            ("OOM",           Evidence::NoWrites),
            ("READONLY",      Evidence::NoWrites),
            ("NOREPLICAS",    Evidence::NoWrites),
            ("MISCONF",       Evidence::NoWrites),
            ("BUSY",          Evidence::Slow),
            ("WRONGTYPE",     Evidence::Neutral),
            ("NOSCRIPT",      Evidence::Neutral),
            ("NOPERM",        Evidence::Neutral),
            ("ERR",           Evidence::Neutral),
        ];
        for (code, expected) in cases {
            assert_eq!(RedisError::said(code, "").evidence(), expected, "{code}");
        }
    }
}
