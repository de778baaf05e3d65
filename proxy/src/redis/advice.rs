//! Settings of a Redis server that lose what Weir keeps there, and the line of `redis.conf` that mends each.

use super::link::info_value;

/// A setting that is dangerous for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Any key may be evicted, the log of purges and sessions among them.
    EvictsAnything,
    /// No bound, so that it may be killed for its memory instead of evicting.
    NoBound,
    /// A primary with replicas goes on writing when it has lost all of them: what it writes is lost at a failover.
    WritesAlone,
}

impl Advice {
    /// What may happen.
    pub const fn message(self) -> &'static str {
        match self {
            Self::EvictsAnything => {
                "it may evict any key, the log of purges too: everything stored would have to be validated again"
            }
            Self::NoBound => "its memory has no bound: the system may end it instead of old responses",
            Self::WritesAlone => {
                "a primary that was cut off from its replicas goes on writing, and what it writes is lost"
            }
        }
    }

    /// Whether it is worth a line in the log, and not only a word to who asks.
    pub const fn loses_data(self) -> bool {
        match self {
            Self::EvictsAnything | Self::WritesAlone => true,
            Self::NoBound => false,
        }
    }

    /// What to put into `redis.conf`.
    pub const fn line(self) -> &'static str {
        match self {
            Self::EvictsAnything => "maxmemory-policy volatile-lru",
            Self::NoBound => "maxmemory 2gb",
            Self::WritesAlone => "min-replicas-to-write 1",
        }
    }
}

/// What is to be said about a server that answers INFO like this.
pub(super) fn of_info(info: &str) -> Vec<Advice> {
    let mut advice = Vec::new();
    if info_value(info, "maxmemory_policy").is_some_and(|policy| policy.starts_with("allkeys-")) {
        advice.push(Advice::EvictsAnything);
    }
    if info_value(info, "maxmemory") == Some("0") {
        advice.push(Advice::NoBound);
    }
    let replicas = info_value(info, "connected_slaves").is_some_and(|count| count != "0");
    // Only shown where `min-replicas-to-write` is set.
    if replicas && info_value(info, "min_slaves_good_slaves").is_none() {
        advice.push(Advice::WritesAlone);
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_lose_data_are_told() {
        #[rustfmt::skip]
        let cases: [(&str, &[Advice]); 4] = [
            ("maxmemory:1000\r\nmaxmemory_policy:volatile-lru\r\nconnected_slaves:0\r\n", &[]),
            ("maxmemory:1000\r\nmaxmemory_policy:allkeys-lfu\r\n", &[Advice::EvictsAnything]),
            ("maxmemory:0\r\nmaxmemory_policy:noeviction\r\nconnected_slaves:1\r\n", &[Advice::NoBound, Advice::WritesAlone]),
            ("maxmemory:1\r\nconnected_slaves:2\r\nmin_slaves_good_slaves:2\r\n", &[]),
        ];
        for (info, expected) in cases {
            assert_eq!(of_info(info), expected, "{info}");
        }
    }
}
