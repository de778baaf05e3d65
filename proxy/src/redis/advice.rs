//! Settings of a Redis server that lose what Weir keeps there, and the line of `redis.conf` that mends each.

use std::net::IpAddr;

use super::link::info_value;

/// A setting that is dangerous for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Any key may be evicted, the log of purges among them.
    EvictsAnything,
    /// Likewise, and sessions lie there.
    EvictsSessions,
    /// Sessions lie there only, and nothing is written to its disk.
    ForgetsSessions,
    /// Anybody may reach it, and it asks nobody for a password.
    LetsAnybodyIn,
    /// No bound, so that it may be killed for its memory instead of evicting.
    NoBound,
    /// A primary with replicas goes on writing when it has lost all of them: what it writes is lost at a failover.
    WritesAlone,
}

/// What of ours lies there, beside stored responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holds {
    /// Sessions.
    pub sessions: bool,
    /// Sessions, and nowhere else.
    pub sessions_only_here: bool,
}

/// What is known of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What INFO says.
    pub(super) info: String,
    /// What CONFIG GET says of `save`; `None`: it may not be asked.
    pub(super) save: Option<String>,
    /// Its addresses, and whether we have a password for it.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) password: bool,
}

impl Advice {
    /// What may happen.
    pub const fn message(self) -> &'static str {
        match self {
            Self::EvictsAnything => {
                "it may evict any key, the log of purges too: everything stored would have to be validated again"
            }
            Self::EvictsSessions => {
                "it may evict any key, sessions too: visitors are logged out when its memory is full"
            }
            Self::ForgetsSessions => {
                "it writes nothing to its disk, and sessions are kept nowhere else: a restart logs everybody out"
            }
            Self::LetsAnybodyIn => {
                "its address is a public one, and it asks for no password: whoever reaches it reads and changes all there is"
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
            Self::EvictsAnything
            | Self::EvictsSessions
            | Self::ForgetsSessions
            | Self::LetsAnybodyIn
            | Self::WritesAlone => true,
            Self::NoBound => false,
        }
    }

    /// Whether it loses what cannot be fetched again.
    pub const fn loses_sessions(self) -> bool {
        matches!(self, Self::EvictsSessions | Self::ForgetsSessions)
    }

    /// What to put into `redis.conf`.
    pub const fn line(self) -> &'static str {
        match self {
            Self::EvictsAnything | Self::EvictsSessions => "maxmemory-policy volatile-lru",
            Self::ForgetsSessions => "appendonly yes",
            Self::LetsAnybodyIn => "requirepass A-LONG-RANDOM-PASSWORD",
            Self::NoBound => "maxmemory 2gb",
            Self::WritesAlone => "min-replicas-to-write 1",
        }
    }
}

/// Whether the whole Internet may reach an address.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified())
        }
        IpAddr::V6(address) => {
            !(address.is_unique_local()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified())
        }
    }
}

/// What is to be said about a server of which this is known.
pub(super) fn of(known: &Known, holds: Holds) -> Vec<Advice> {
    let info = &*known.info;
    let mut advice = Vec::new();
    if info_value(info, "maxmemory_policy").is_some_and(|policy| policy.starts_with("allkeys-")) {
        advice.push(if holds.sessions { Advice::EvictsSessions } else { Advice::EvictsAnything });
    }
    // One that may not be asked for its snapshots is not said to have none.
    let writes_nothing = info_value(info, "aof_enabled") == Some("0") && known.save.as_deref() == Some("");
    if holds.sessions_only_here && writes_nothing {
        advice.push(Advice::ForgetsSessions);
    }
    if !known.password && known.addresses.iter().copied().any(is_public) {
        advice.push(Advice::LetsAnybodyIn);
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
        let nothing = Holds::default();
        let sessions = Holds { sessions: true, sessions_only_here: false };
        let only_here = Holds { sessions: true, sessions_only_here: true };
        #[rustfmt::skip]
        let cases: [(&str, Option<&str>, Holds, &[Advice]); 10] = [
            ("maxmemory:1000\r\nmaxmemory_policy:volatile-lru\r\nconnected_slaves:0\r\n", None, nothing, &[]),
            ("maxmemory:1000\r\nmaxmemory_policy:allkeys-lfu\r\n", None, nothing, &[Advice::EvictsAnything]),
            ("maxmemory:1000\r\nmaxmemory_policy:allkeys-lfu\r\n", None, sessions, &[Advice::EvictsSessions]),
            ("maxmemory:0\r\nmaxmemory_policy:noeviction\r\nconnected_slaves:1\r\n", None, nothing, &[Advice::NoBound, Advice::WritesAlone]),
            ("maxmemory:1\r\nconnected_slaves:2\r\nmin_slaves_good_slaves:2\r\n", None, nothing, &[]),
            ("maxmemory:1\r\naof_enabled:0\r\n", Some(""), only_here, &[Advice::ForgetsSessions]),
            ("maxmemory:1\r\naof_enabled:0\r\n", Some(""), sessions, &[]),
            ("maxmemory:1\r\naof_enabled:0\r\n", Some("3600 1"), only_here, &[]),
            ("maxmemory:1\r\naof_enabled:1\r\n", Some(""), only_here, &[]),
            ("maxmemory:1\r\naof_enabled:0\r\n", None, only_here, &[]),
        ];
        for (info, save, holds, expected) in cases {
            let known = Known { info: info.to_owned(), save: save.map(str::to_owned), ..Known::default() };
            assert_eq!(of(&known, holds), expected, "{info} {save:?} {holds:?}");
        }
    }

    #[test]
    fn a_public_address_without_a_password_is_told() {
        #[rustfmt::skip]
        let cases = [
            ("127.0.0.1",       false, false),
            ("10.1.2.3",        false, false),
            ("::1",             false, false),
            ("fd00::1",         false, false),
            ("::ffff:10.0.0.1", false, false),
            ("203.0.113.9",     false, true),
            ("203.0.113.9",     true,  false),
            ("2001:db8::1",     false, true),
        ];
        for (address, password, told) in cases {
            let addresses = vec![address.parse().unwrap()];
            let known = Known { addresses, password, ..Known::default() };
            assert_eq!(of(&known, Holds::default()) == [Advice::LetsAnybodyIn], told, "{address} {password}");
        }
    }
}
