//! Where Redis is: every form of URL that people write, read by rules of our own.
//!
//! | form | meaning |
//! |---|---|
//! | `redis://host`, `redis://host:6379/1` | one server, and a database of it |
//! | `redis://:password@host`, `redis://user:password@host` | with a password, or an ACL user |
//! | `rediss://…` | the same with TLS |
//! | `redis://s1:26379,s2:26379/mymaster`, `…/mymaster/1` | the primary that these Sentinels name |
//! | `redis://primary,redis://replica`, more of them | a primary, and replicas of it that are read |
//! | `redis://n1,n2:6379,n3` , `…/1` | a Cluster; a number becomes part of every key, because a Cluster has one database |
//! | `redis+unix:///run/redis.sock?db=1`, `unix:/run/redis.sock` | a Unix socket |
//!
//! `valkey` may stand for `redis`, `valkeys` for `rediss`; `redis+sentinel://` and `redis+cluster://` say so where one host alone would be read as a
//! server. Names, passwords and paths are percent-decoded. What is wrong is told without showing anything that could be a password.

use std::fmt;
use std::path::PathBuf;

use crate::config::model::Secret;
use crate::server_url::{self, HostPort, PartError, SERVERS_MAX, decoded, digits, encoded, list, servers};

/// The port of a server.
pub const SERVER_PORT: u16 = 6379;
/// The port of a Sentinel.
pub const SENTINEL_PORT: u16 = 26379;

/// A Redis, as its URL describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it is.
    pub place: Place,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The ACL user; without one, the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database. On a Cluster, which has one only, a number to be made part of every key.
    pub database: u32,
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Server(HostPort),
    /// A Unix socket.
    Unix(PathBuf),
    /// The primary that Sentinels name.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<HostPort>,
        /// What they call it.
        primary: String,
    },
    /// A Cluster, by some of its nodes.
    Cluster(Vec<HostPort>),
    /// A primary, and replicas of it.
    Replicated {
        /// What is written to, and has the log of purges.
        primary: HostPort,
        /// Where values are read; at least one.
        replicas: Vec<HostPort>,
    },
}

impl Place {
    /// The servers that are named.
    pub fn servers(&self) -> impl Iterator<Item = &HostPort> {
        let (first, rest): (Option<&HostPort>, &[HostPort]) = match self {
            Self::Server(server) => (Some(server), &[]),
            Self::Unix(_) => (None, &[]),
            Self::Sentinel { sentinels: servers, .. } | Self::Cluster(servers) => (None, servers),
            Self::Replicated { primary, replicas } => (Some(primary), replicas),
        };
        first.into_iter().chain(rest)
    }
}

/// What is wrong with a URL. Nothing of it is shown but what cannot be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No scheme that means Redis.
    #[error("this does not begin with `redis://`, `rediss://` or `redis+unix:`")]
    Scheme,
    /// What can be wrong with the URL of any store.
    #[error(transparent)]
    Part(#[from] PartError),
    /// An `@` behind the first `/`: the password has one that is not encoded.
    #[error("there is an `@` behind the first `/`, `?` or `#`")]
    AtBehind,
    /// A path that is not a database.
    #[error("the path is not the number of a database")]
    Database,
    /// A path of more than two segments, or whose second is not a database.
    #[error("the path is neither a database nor a Sentinel's name for the primary and a database")]
    Path,
    /// Sentinels without a name to ask for.
    #[error("the name by which the Sentinels know the primary is missing")]
    NoPrimary,
    /// Two different databases.
    #[error("two different databases are named")]
    TwoDatabases,
    /// A list of URLs, one of which is more than a server.
    #[error("URL {number} of the list is not that of one server")]
    NotAServer {
        /// Which of the list, from 1.
        number: usize,
    },
    /// A replica with other credentials, another database or another protocol than the primary.
    #[error("URL {number} of the list differs from the first in {what}")]
    Differs {
        /// Which of the list, from 1.
        number: usize,
        /// In what.
        what: &'static str,
    },
    /// A server that stands in the list twice.
    #[error("URL {number} of the list names a server a second time")]
    Twice {
        /// Which of the list, from 1.
        number: usize,
    },
    /// A Unix socket without a path.
    #[error("the path of the socket is missing")]
    NoSocket,
    /// TLS to a Unix socket.
    #[error("TLS is not spoken on a Unix socket")]
    TlsOnUnix,
    /// A parameter that is not known.
    #[error("the parameter number {number} behind `?` is not known")]
    Parameter {
        /// Which, from 1.
        number: usize,
    },
    /// A part behind `#`.
    #[error("there is a `#`, which means nothing here")]
    Fragment,
}

impl UrlError {
    /// How to mend it.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Scheme => {
                "write `redis://host:6379/0`, `rediss://…` for TLS, `redis://s1:26379,s2:26379/mymaster/0` for Sentinel, \
                 `redis://n1,n2,n3` for a Cluster, `redis://primary,redis://replica` for read replicas, `redis+unix:///run/redis.sock` for a socket"
            }
            Self::Part(PartError::TooMany) => "a few servers are enough: the others are learned from them",
            Self::Part(PartError::NoHost { .. }) => {
                "write `redis://host:6379`; servers of a list are separated by one comma"
            }
            Self::Part(part) => part.help(),
            Self::AtBehind => {
                "in a password write `@` as `%40`, `/` as `%2F`, `?` as `%3F`, `#` as `%23`; or put it into `password` or `password_file`"
            }
            Self::Database => {
                "write a number, as in `redis://host:6379/1`; Sentinels are written `redis://s1:26379,s2:26379/mymaster/1`"
            }
            Self::Path => "write `redis://host/1` for a database, `redis://s1,s2/mymaster/1` for Sentinels",
            Self::NoPrimary => "write `redis+sentinel://s1:26379,s2:26379/mymaster`",
            Self::TwoDatabases => "write it once, in the path or as `?db=1`",
            Self::Twice { .. } => {
                "name each server once: the first is the primary, the others are replicas of it"
            }
            Self::NotAServer { .. } => {
                "a list of URLs is a primary and its replicas, `redis://primary:6379/1,redis://replica:6379/1`; \
                 Sentinels and Clusters are one URL with several servers in it"
            }
            Self::Differs { .. } => {
                "the first is the primary, the others are replicas of it: write user, password and database there, and the same or nothing in the others"
            }
            Self::NoSocket => "write `redis+unix:///run/redis/redis.sock`",
            Self::TlsOnUnix => "write `redis+unix:`: what passes through a socket does not leave the machine",
            Self::Parameter { .. } => {
                "`db`, `user`, `password` are; everything else stands in `[redis.NAME]`, as `tls = { ca = … }`"
            }
            Self::Fragment => "in a password write `#` as `%23`",
        }
    }
}

/// What a scheme says of the place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To be told from the hosts and the path.
    Open,
    Sentinel,
    Cluster,
    Unix,
}

impl RedisUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        server_url::check(text)?;
        let read = match urls_of(text).as_slice() {
            [_] => Self::parse_one(text)?,
            several => replicated(several)?,
        };
        // What is told of it can be read back.
        server_url::check(&read.to_string())?;
        Ok(read)
    }

    fn parse_one(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::Scheme)?;
        let (tls, kind) = scheme_of(scheme).ok_or(UrlError::Scheme)?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        if rest.contains('#') || query.is_some_and(|query| query.contains('#')) {
            // A password with a `#` looks like this too.
            let password = rest.contains('@') || query.is_some_and(|query| query.contains('@'));
            return Err(if password { UrlError::AtBehind } else { UrlError::Fragment });
        }
        if kind == Kind::Unix {
            return unix(tls, rest, query);
        }
        let rest = rest.strip_prefix("//").ok_or(UrlError::Scheme)?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        if path.contains('@') || query.is_some_and(|query| query.contains('@')) {
            return Err(UrlError::AtBehind);
        }
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let mut read =
            Self { place: Place::Cluster(Vec::new()), tls, username: None, password: None, database: 0 };
        if let Some(credentials) = credentials {
            read.credentials(credentials)?;
        }
        let asked = read.parameters(query)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        let several = hosts.contains(',');
        let (primary, database) = match (kind, segments.as_slice()) {
            (Kind::Sentinel, []) => return Err(UrlError::NoPrimary),
            (Kind::Sentinel, [primary]) => (Some(*primary), None),
            (Kind::Open, [primary]) if several && digits(primary).is_none() => (Some(*primary), None),
            (Kind::Open | Kind::Sentinel, [primary, database]) => (Some(*primary), Some(*database)),
            (_, []) => (None, None),
            (Kind::Open | Kind::Cluster, [database]) => (None, Some(*database)),
            _ => return Err(UrlError::Path),
        };
        let named = match database {
            Some(text) => Some(digits(text).ok_or(match primary {
                Some(_) => UrlError::Path,
                None => UrlError::Database,
            })?),
            None => None,
        };
        if let (Some(one), Some(other)) = (asked, named)
            && one != other
        {
            return Err(UrlError::TwoDatabases);
        }
        read.database = asked.or(named).unwrap_or(0);
        read.place = match primary {
            Some(primary) => {
                let primary = decoded(primary, "name of the primary")?;
                if primary.is_empty() {
                    return Err(UrlError::NoPrimary);
                }
                Place::Sentinel { sentinels: servers(hosts, SENTINEL_PORT)?, primary }
            }
            None => {
                let mut servers = servers(hosts, SERVER_PORT)?;
                match (servers.len(), kind) {
                    (1, Kind::Open) => Place::Server(servers.remove(0)),
                    _ => Place::Cluster(servers),
                }
            }
        };
        Ok(read)
    }

    /// Whether this is a Cluster.
    pub const fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    fn credentials(&mut self, text: &str) -> Result<(), UrlError> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        if !user.is_empty() {
            self.username = Some(decoded(user, "user's name")?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            self.password = Some(Secret(decoded(password, "password")?));
        }
        Ok(())
    }

    /// What stands behind `?`. Returns the database, if it is there.
    fn parameters(&mut self, query: Option<&str>) -> Result<Option<u32>, UrlError> {
        let mut database = None;
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for (position, pair) in pairs.enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "db" => {
                    let said = digits(value).ok_or(UrlError::Database)?;
                    if database.is_some_and(|before| before != said) {
                        return Err(UrlError::TwoDatabases);
                    }
                    database = Some(said);
                }
                "user" | "username" => self.username = Some(decoded(value, "user's name")?),
                "pass" | "password" => self.password = Some(Secret(decoded(value, "password")?)),
                _ => return Err(UrlError::Parameter { number: position + 1 }),
            }
        }
        Ok(database)
    }
}

/// The URLs of a list: each begins with a scheme of its own behind a comma.
fn urls_of(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        let begins = text[at + 1..].split_once("://").is_some_and(|(scheme, _)| scheme_of(scheme).is_some());
        if begins {
            urls.push(&text[start..at]);
            start = at + 1;
        }
    }
    urls.push(&text[start..]);
    urls
}

/// A primary, and replicas of it.
fn replicated(urls: &[&str]) -> Result<RedisUrl, UrlError> {
    let mut first: Option<RedisUrl> = None;
    let mut servers = Vec::with_capacity(urls.len());
    for (position, text) in urls.iter().enumerate() {
        let number = position + 1;
        if number > SERVERS_MAX {
            return Err(PartError::TooMany.into());
        }
        let read = RedisUrl::parse_one(text)?;
        let Place::Server(server) = &read.place else { return Err(UrlError::NotAServer { number }) };
        servers.push(server.clone());
        let Some(primary) = &first else {
            first = Some(read);
            continue;
        };
        let differs = [
            (read.tls != primary.tls, "TLS"),
            (read.username.is_some() && read.username != primary.username, "the user"),
            (read.password.is_some() && read.password != primary.password, "the password"),
            (read.database != 0 && read.database != primary.database, "the database"),
        ];
        if let Some((_, what)) = differs.into_iter().find(|(differs, _)| *differs) {
            return Err(UrlError::Differs { number, what });
        }
    }
    let read = first.ok_or(UrlError::Scheme)?;
    let replicas = servers.split_off(1);
    let primary = servers.remove(0);
    let is_known = |position: &usize| {
        let replica = &replicas[*position];
        *replica == primary || replicas[..*position].contains(replica)
    };
    if let Some(position) = (0..replicas.len()).find(is_known) {
        return Err(UrlError::Twice { number: position + 2 });
    }
    Ok(RedisUrl { place: Place::Replicated { primary, replicas }, ..read })
}

fn scheme_of(scheme: &str) -> Option<(bool, Kind)> {
    let scheme = scheme.to_ascii_lowercase();
    let (protocol, suffix) = match scheme.split_once('+') {
        Some((protocol, suffix)) => (protocol, Some(suffix)),
        None => (scheme.as_str(), None),
    };
    if suffix.is_none() && protocol == "unix" {
        return Some((false, Kind::Unix));
    }
    let tls = match protocol {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return None,
    };
    let kind = match suffix {
        None => Kind::Open,
        Some("unix" | "socket") => Kind::Unix,
        Some("sentinel") => Kind::Sentinel,
        Some("cluster") => Kind::Cluster,
        Some(_) => return None,
    };
    Some((tls, kind))
}

/// `/path`, `///path`, `//user:password@/path`.
fn unix(tls: bool, rest: &str, query: Option<&str>) -> Result<RedisUrl, UrlError> {
    if tls {
        return Err(UrlError::TlsOnUnix);
    }
    let mut read =
        RedisUrl { place: Place::Unix(PathBuf::new()), tls, username: None, password: None, database: 0 };
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (authority, _) = rest.split_once('/').ok_or(UrlError::NoSocket)?;
            if let Some(credentials) = authority.strip_suffix('@') {
                read.credentials(credentials)?;
            } else if !authority.is_empty() {
                return Err(UrlError::NoSocket);
            }
            &rest[authority.len()..]
        }
    };
    let path = decoded(path, "path of the socket")?;
    if path.is_empty() || path.contains('\0') {
        return Err(UrlError::NoSocket);
    }
    read.place = Place::Unix(path.into());
    read.database = read.parameters(query)?.unwrap_or(0);
    Ok(read)
}

/// Without user and password: fit for logs, and read back as the same place.
impl fmt::Display for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.place {
            Place::Server(server) => write!(out, "{scheme}://{server}/{}", self.database),
            Place::Cluster(nodes) => write!(out, "{scheme}+cluster://{}/{}", list(nodes), self.database),
            Place::Sentinel { sentinels, primary } => {
                let primary = encoded(primary);
                write!(out, "{scheme}+sentinel://{}/{primary}/{}", list(sentinels), self.database)
            }
            Place::Replicated { primary, replicas } => {
                write!(out, "{scheme}://{primary}/{}", self.database)?;
                replicas.iter().try_for_each(|replica| write!(out, ",{scheme}://{replica}/{}", self.database))
            }
            Place::Unix(path) => {
                write!(out, "redis+unix:{}?db={}", encoded(&path.to_string_lossy()), self.database)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> HostPort {
        let (host, port) = text.rsplit_once(':').unwrap();
        HostPort { host: host.into(), port: port.parse().unwrap() }
    }

    fn hosts(list: &[&str]) -> Vec<HostPort> {
        list.iter().map(|text| host(text)).collect()
    }

    #[test]
    fn every_form_that_people_write_is_read() {
        let server = |text| Place::Server(host(text));
        let cluster = |list: &[&str]| Place::Cluster(hosts(list));
        let replicated =
            |list: &[&str]| Place::Replicated { primary: host(list[0]), replicas: hosts(&list[1..]) };
        let sentinel = |list: &[&str], primary: &str| Place::Sentinel {
            sentinels: hosts(list),
            primary: primary.into(),
        };
        #[rustfmt::skip]
        let cases = [
            // URL                                         place                                             tls    user          password       database
            ("redis://localhost",                          server("localhost:6379"),                         false, None,         None,          0),
            ("redis://127.0.0.1:6379/1",                   server("127.0.0.1:6379"),                         false, None,         None,          1),
            ("redis://127.0.0.1:7000/",                    server("127.0.0.1:7000"),                         false, None,         None,          0),
            ("redis://[::1]:7000/2",                       server("::1:7000"),                               false, None,         None,          2),
            ("REDIS://redis-cache_1:6379?db=3",            server("redis-cache_1:6379"),                     false, None,         None,          3),
            ("redis://:secret@cache:6379/0",               server("cache:6379"),                             false, None,         Some("secret"), 0),
            ("redis://app:p%40ss%2Fw%25rd@cache/1",        server("cache:6379"),                             false, Some("app"),  Some("p@ss/w%rd"), 1),
            ("redis://app:pass@word@cache/1",              server("cache:6379"),                             false, Some("app"),  Some("pass@word"), 1),
            ("redis://default@cache",                      server("cache:6379"),                             false, Some("default"), None,       0),
            ("rediss://cache.example.com:6380/0",          server("cache.example.com:6380"),                 true,  None,         None,          0),
            ("valkeys://cache",                            server("cache:6379"),                             true,  None,         None,          0),
            ("redis://s1:26379,s2:26379/mymaster/1",       sentinel(&["s1:26379", "s2:26379"], "mymaster"),  false, None,         None,          1),
            ("redis://s1,s2:26380/mymaster",               sentinel(&["s1:26379", "s2:26380"], "mymaster"),  false, None,         None,          0),
            ("redis://:pw@s1:26379/mymaster/0",            sentinel(&["s1:26379"], "mymaster"),              false, None,         Some("pw"),    0),
            ("rediss+sentinel://s1/my%20master",           sentinel(&["s1:26379"], "my master"),             true,  None,         None,          0),
            ("redis://n1,n2:7001,n3",                      cluster(&["n1:6379", "n2:7001", "n3:6379"]),      false, None,         None,          0),
            ("redis://n1,n2,n3/1",                         cluster(&["n1:6379", "n2:6379", "n3:6379"]),      false, None,         None,          1),
            ("rediss+cluster://u:p@n1:6379",               cluster(&["n1:6379"]),                            true,  Some("u"),    Some("p"),     0),
            ("redis://p,redis://r:7001",                   replicated(&["p:6379", "r:7001"]),                false, None,         None,          0),
            ("redis://:pw@p/1,redis://:pw@r/1,redis://s",  replicated(&["p:6379", "r:6379", "s:6379"]),      false, None,         Some("pw"),    1),
            ("rediss://u:p,q@p/2,rediss://r/2",            replicated(&["p:6379", "r:6379"]),                true,  Some("u"),    Some("p,q"),   2),
            ("unix:/run/redis.sock",                       Place::Unix("/run/redis.sock".into()),            false, None,         None,          0),
            ("unix:///run/redis.sock?db=2",                Place::Unix("/run/redis.sock".into()),            false, None,         None,          2),
            ("redis+unix:///run/a%20b.sock?db=2&pass=x%26y", Place::Unix("/run/a b.sock".into()),            false, None,         Some("x&y"),   2),
            ("unix://app:pw@/run/redis.sock",              Place::Unix("/run/redis.sock".into()),            false, Some("app"),  Some("pw"),    0),
        ];
        for (url, place, tls, user, password, database) in cases {
            let read = RedisUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let expected = RedisUrl {
                place,
                tls,
                username: user.map(str::to_owned),
                password: password.map(|password| Secret(password.into())),
                database,
            };
            assert_eq!(read, expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_how_to_mend_it() {
        #[rustfmt::skip]
        let cases = [
            ("http://localhost:6379",           UrlError::Scheme),
            ("localhost:6379",                  UrlError::Scheme),
            ("redis:localhost",                 UrlError::Scheme),
            ("redis+ssh://localhost",           UrlError::Scheme),
            ("redis://a b",                     UrlError::Part(PartError::Character { at: 9 })),
            ("redis://",                        UrlError::Part(PartError::NoHost { number: 1 })),
            ("redis://:secret@:6379",           UrlError::Part(PartError::NoHost { number: 1 })),
            ("redis://a,,b",                    UrlError::Part(PartError::NoHost { number: 2 })),
            ("redis://a,b:0",                   UrlError::Part(PartError::Port { number: 2 })),
            ("redis://a:65536",                 UrlError::Part(PartError::Port { number: 1 })),
            ("redis://a:+1",                    UrlError::Part(PartError::Port { number: 1 })),
            ("redis://::1",                     UrlError::Part(PartError::NoHost { number: 1 })),
            ("redis://fe80::1",                 UrlError::Part(PartError::Port { number: 1 })),
            ("redis://[::1",                    UrlError::Part(PartError::Host { number: 1 })),
            ("redis://a%41",                    UrlError::Part(PartError::Host { number: 1 })),
            ("redis://host/mymaster",           UrlError::Database),
            ("redis://host/-1",                 UrlError::Database),
            ("redis://host?db=x",               UrlError::Database),
            ("redis://host/1?db=2",             UrlError::TwoDatabases),
            ("redis://s1,s2/mymaster/x",        UrlError::Path),
            ("redis://s1,s2/mymaster/1/2",      UrlError::Path),
            ("redis+cluster://n1/a/1",          UrlError::Path),
            ("redis+sentinel://s1",             UrlError::NoPrimary),
            ("redis://s1,s2//1",                UrlError::NoPrimary),
            ("redis://:pa/ss@host:6379",        UrlError::AtBehind),
            ("redis://:pa?ss@host:6379",        UrlError::AtBehind),
            ("redis://:pa#ss@host:6379",        UrlError::AtBehind),
            ("redis://host#1",                  UrlError::Fragment),
            ("redis://:pa%zz@host",             UrlError::Part(PartError::Encoding { part: "password" })),
            ("redis://:pa%ff@host",             UrlError::Part(PartError::Encoding { part: "password" })),
            ("redis://host?ssl_cert_reqs=none", UrlError::Parameter { number: 1 }),
            ("redis://p,redis://a,b",           UrlError::NotAServer { number: 2 }),
            ("redis://p,unix://r/s",            UrlError::NoSocket),
            ("redis://p,redis+unix:///r.sock",  UrlError::NotAServer { number: 2 }),
            ("redis://p,redis://r,redis://p",   UrlError::Twice { number: 3 }),
            ("redis://p,redis://r,redis://r/0", UrlError::Twice { number: 3 }),
            ("redis://p,rediss://r",            UrlError::Differs { number: 2, what: "TLS" }),
            ("redis://p,redis://u@r",           UrlError::Differs { number: 2, what: "the user" }),
            ("redis://p,redis://:secret@r",     UrlError::Differs { number: 2, what: "the password" }),
            ("redis://p/1,redis://r/2",         UrlError::Differs { number: 2, what: "the database" }),
            ("redis://p,redis://",              UrlError::Part(PartError::NoHost { number: 1 })),
            ("unix:",                           UrlError::NoSocket),
            ("unix://host/run/redis.sock",      UrlError::NoSocket),
            ("rediss+unix:///run/redis.sock",   UrlError::TlsOnUnix),
        ];
        for (url, expected) in cases {
            let error = RedisUrl::parse(url).expect_err(url);
            assert_eq!(error, expected, "{url}");
            assert!(!error.help().is_empty());
            let told = format!("{error} {error:?} {}", error.help());
            assert!(!told.contains("secret") && !told.contains("pa/ss"), "{told}");
        }
        assert_eq!(
            RedisUrl::parse(&format!("redis://{}", "a".repeat(5000))),
            Err(UrlError::Part(PartError::TooLong))
        );
        let many = vec!["a"; SERVERS_MAX + 1].join(",");
        assert_eq!(RedisUrl::parse(&format!("redis://{many}")), Err(UrlError::Part(PartError::TooMany)));
        let many = vec!["redis://a"; SERVERS_MAX + 1].join(",");
        assert_eq!(RedisUrl::parse(&many), Err(UrlError::Part(PartError::TooMany)));
        // It would be longer than that when it is told.
        assert_eq!(
            RedisUrl::parse(&format!("unix:/{}", "+".repeat(4000))),
            Err(UrlError::Part(PartError::TooLong))
        );
    }

    #[test]
    fn a_password_is_not_printed() {
        let read = RedisUrl::parse("redis://app:hunter2@host/1").unwrap();
        assert_eq!(read.to_string(), "redis://host:6379/1");
        assert!(!format!("{read:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_read_back(text in "(redis|rediss|unix|redis\\+[a-z]{1,8}|valkey)?:?(//)?[ -~]{0,60}(,rediss?://[ -~]{0,20})?") {
            if let Ok(read) = RedisUrl::parse(&text) {
                let plain = RedisUrl { username: None, password: None, ..read };
                prop_assert_eq!(RedisUrl::parse(&plain.to_string()), Ok(plain));
            }
        }

        #[test]
        fn every_password_can_be_written(user in "\\PC{0,12}", password in "\\PC{1,20}", database in 0_u32..1_000_000) {
            let url = format!("redis://{}:{}@a,b/{database}", encoded(&user), encoded(&password));
            let read = RedisUrl::parse(&url).unwrap();
            prop_assert_eq!(read.username.unwrap_or_default(), user);
            prop_assert_eq!(read.password, Some(Secret(password)));
            prop_assert_eq!(read.database, database);
        }
    }
}
