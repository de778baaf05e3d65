//! Where a PostgreSQL is: a URL as `libpq` has it, read by rules of our own.
//!
//! | form | meaning |
//! |---|---|
//! | `postgres://user:password@host/database`, `postgresql://…` | one server, port 5432 |
//! | `postgres://user@h1,h2:5433/database` | several: the one that takes writes |
//! | `postgres:///database?host=/run/postgresql` | a Unix socket, by its folder |
//! | `…?sslmode=verify-full` | TLS, and the server must prove that it is the one that is named |
//!
//! Without `sslmode`, nothing is encrypted: what `libpq` does then (`prefer`) gives way to whoever refuses TLS. `require` and `verify-ca` check as much as `verify-full` here.
//! What is wrong is told without showing anything that could be a password.

use std::fmt;
use std::path::PathBuf;

use crate::config::model::Secret;
use crate::server_url::{self, HostPort, PartError, decoded, encoded, list, servers};

/// The port of a server.
const PORT: u16 = 5432;

/// A PostgreSQL, as its URL describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// Where it is.
    pub place: Place,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The role; without one, the name of the process's user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The database; without one, that of the role's name.
    pub database: Option<String>,
}

/// Where a PostgreSQL is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Servers, of which the one is meant that takes writes.
    Servers(Vec<HostPort>),
    /// The folder of a Unix socket, and the port that is in its name.
    Unix(PathBuf, u16),
}

/// What is wrong with a URL. Nothing of it is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// No scheme that means PostgreSQL.
    #[error("this does not begin with `postgres://` or `postgresql://`")]
    Scheme,
    /// An `@` behind the first `/`, or a `#`: the password has one that is not encoded.
    #[error("there is an `@` or a `#` where none belongs")]
    NotEncoded,
    /// What can be wrong with the URL of any store.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Neither a host nor a socket.
    #[error("no server is named")]
    NoServer,
    /// A socket and a host.
    #[error("a host and a socket are named")]
    Both,
    /// A path of more than one segment.
    #[error("the path is not the name of a database")]
    Database,
    /// Two different names.
    #[error("the {part} is named twice, and differently")]
    Twice {
        /// What.
        part: &'static str,
    },
    /// A mode that promises nothing.
    #[error("this `sslmode` leaves it to the server whether anything is encrypted")]
    Mode,
    /// TLS to a Unix socket.
    #[error("TLS is not spoken on a Unix socket")]
    TlsOnUnix,
    /// A parameter that is not known.
    #[error("the parameter number {number} behind `?` is not known")]
    Parameter {
        /// Which, from 1.
        number: usize,
    },
}

impl PostgresUrlError {
    /// How to mend it.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Scheme | Self::Part(PartError::NoHost { .. }) => {
                "write `postgres://user:password@host:5432/database`, several hosts with one comma between two"
            }
            Self::Part(part) => part.help(),
            Self::NotEncoded => {
                "in a password write `@` as `%40`, `/` as `%2F`, `?` as `%3F`, `#` as `%23`; or put it into `password` or `password_file`"
            }
            Self::NoServer | Self::Both => {
                "write `postgres://user@host/database`, or `postgres://user@/database?host=/run/postgresql` for a socket"
            }
            Self::Database => "write `postgres://host/database`",
            Self::Twice { .. } => "write it once",
            Self::Mode => "write `sslmode=verify-full`, or `sslmode=disable` where the way is safe by itself",
            Self::TlsOnUnix => "leave `sslmode` out: what passes through a socket does not leave the machine",
            Self::Parameter { .. } => {
                "`host`, `port`, `user`, `password`, `dbname` and `sslmode` are; everything else stands in `[session.postgres]`"
            }
        }
    }
}

impl PostgresUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, PostgresUrlError> {
        server_url::check(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(PostgresUrlError::Scheme)?;
        if !["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(PostgresUrlError::Scheme);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains(['#', '@']) || path.contains('@') {
            return Err(PostgresUrlError::NotEncoded);
        }
        if path.contains('/') {
            return Err(PostgresUrlError::Database);
        }
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut read = Read {
            user: some(user, "user's name")?,
            password: some(password, "password")?,
            database: some(path, "name of the database")?,
            hosts: some(hosts, "host")?,
            ..Read::default()
        };
        for (position, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = read.parameter(name, value)?;
            if !known {
                return Err(PostgresUrlError::Parameter { number: position + 1 });
            }
        }
        read.whole()
    }
}

/// A part that is there; nothing is as good as left out.
fn some(text: &str, part: &'static str) -> Result<Option<String>, PostgresUrlError> {
    let text = decoded(text, part)?;
    if text.contains('\0') {
        return Err(PartError::Encoding { part }.into());
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[derive(Default)]
struct Read {
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    hosts: Option<String>,
    port: Option<String>,
    tls: Option<bool>,
}

impl Read {
    fn parameter(&mut self, name: &str, value: &str) -> Result<bool, PostgresUrlError> {
        let (field, part) = match name {
            "user" => (&mut self.user, "user's name"),
            "password" => (&mut self.password, "password"),
            "dbname" => (&mut self.database, "name of the database"),
            "host" => (&mut self.hosts, "host"),
            "port" => (&mut self.port, "port"),
            "sslmode" => {
                let tls = match value {
                    "disable" => false,
                    "require" | "verify-ca" | "verify-full" => true,
                    _ => return Err(PostgresUrlError::Mode),
                };
                if self.tls.is_some_and(|before| before != tls) {
                    return Err(PostgresUrlError::Twice { part: "mode" });
                }
                self.tls = Some(tls);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let said = some(value, part)?;
        if field.is_some() && said.is_some() && *field != said {
            let is_place = part == "host" && said.as_ref().is_some_and(|host| host.starts_with('/'));
            return Err(if is_place { PostgresUrlError::Both } else { PostgresUrlError::Twice { part } });
        }
        if said.is_some() {
            *field = said;
        }
        Ok(true)
    }

    fn whole(self) -> Result<PostgresUrl, PostgresUrlError> {
        let hosts = self.hosts.ok_or(PostgresUrlError::NoServer)?;
        let port = match &self.port {
            None => PORT,
            Some(text) => match servers(&format!("p:{text}"), PORT)?.as_slice() {
                [HostPort { port, .. }] => *port,
                _ => return Err(PartError::Port { number: 1 }.into()),
            },
        };
        let tls = self.tls.unwrap_or(false);
        let place = if hosts.starts_with('/') {
            if tls {
                return Err(PostgresUrlError::TlsOnUnix);
            }
            Place::Unix(hosts.into(), port)
        } else {
            Place::Servers(servers(&hosts, port)?)
        };
        let password = self.password.map(Secret);
        Ok(PostgresUrl { place, tls, user: self.user, password, database: self.database })
    }
}

/// Without the password: fit for logs, and read back as the same place.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(out, "{}@", encoded(user))?;
        }
        if let Place::Servers(servers) = &self.place {
            out.write_str(&list(servers))?;
        }
        write!(out, "/{}", encoded(self.database.as_deref().unwrap_or_default()))?;
        match &self.place {
            Place::Unix(folder, port) => {
                write!(out, "?host={}&port={port}", encoded(&folder.to_string_lossy()))
            }
            Place::Servers(_) if self.tls => out.write_str("?sslmode=verify-full"),
            Place::Servers(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        #[rustfmt::skip]
        let cases = [
            ("postgres://weir:s%40crets@db/app",                  "postgres://weir@db:5432/app"),
            ("postgresql://weir@db:5433/app?sslmode=verify-full", "postgres://weir@db:5433/app?sslmode=verify-full"),
            ("POSTGRES://db",                                     "postgres://db:5432/"),
            ("postgres://a,b:5433,[::1]:5434/app?sslmode=require","postgres://a:5432,b:5433,[::1]:5434/app?sslmode=verify-full"),
            ("postgres://weir@/app?host=/run/postgresql",         "postgres://weir@/app?host=%2frun%2fpostgresql&port=5432"),
            ("postgres://%2Frun%2Fpg/app?port=6000",              "postgres:///app?host=%2frun%2fpg&port=6000"),
            ("postgres://?host=db&user=weir&password=p&dbname=a", "postgres://weir@db:5432/a"),
            ("postgres://db/app?sslmode=disable",                 "postgres://db:5432/app"),
        ];
        for (text, shown) in cases {
            let read = PostgresUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.to_string(), shown, "{text}");
        }
        let read = PostgresUrl::parse("postgres://weir:s%40crets@db/app").unwrap();
        assert_eq!(read.password, Some(Secret("s@crets".to_owned())));
        assert!(!format!("{read:?}").contains("s@crets"));
    }

    #[test]
    fn what_is_wrong_is_told_without_showing_it() {
        use PostgresUrlError as E;
        #[rustfmt::skip]
        let cases = [
            ("mysql://db/app",                             E::Scheme),
            ("postgres:db",                                E::Scheme),
            ("postgres://db/a b",                          E::Part(PartError::Character { at: 15 })),
            ("postgres://weir:p@ss/word@db/app",           E::NotEncoded),
            ("postgres://weir:p#ss@db/app",                E::NotEncoded),
            ("postgres://weir:%zz@db/app",                 E::Part(PartError::Encoding { part: "password" })),
            ("postgres://db/%00",                          E::Part(PartError::Encoding { part: "name of the database" })),
            ("postgres://db:0/app",                        E::Part(PartError::Port { number: 1 })),
            ("postgres://a,,b/app",                        E::Part(PartError::NoHost { number: 2 })),
            ("postgres:///app",                            E::NoServer),
            ("postgres://db/app?host=/run",                E::Both),
            ("postgres://db/app?host=other",               E::Twice { part: "host" }),
            ("postgres://db/app?dbname=other",             E::Twice { part: "name of the database" }),
            ("postgres://db/app/more",                     E::Database),
            ("postgres://db/app?sslmode=prefer",           E::Mode),
            ("postgres://db?sslmode=disable&sslmode=require", E::Twice { part: "mode" }),
            ("postgres:///a?host=/run&sslmode=require",    E::TlsOnUnix),
            ("postgres://db/app?connect_timeout=3",        E::Parameter { number: 1 }),
        ];
        for (text, expected) in cases {
            assert_eq!(PostgresUrl::parse(text), Err(expected.clone()), "{text}");
            assert!(!expected.help().is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_back(text in "(postgres://)?([a-z%:@,/?=&0-9\\[\\].#-]|host=|sslmode=require|port=|%2F){0,40}") {
            if let Ok(read) = PostgresUrl::parse(&text) {
                let plain = PostgresUrl { password: None, ..read };
                prop_assert_eq!(PostgresUrl::parse(&plain.to_string()), Ok(plain));
            }
        }
    }
}
