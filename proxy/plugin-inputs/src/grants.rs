//! What the operator lets a plugin read and do.

use std::fmt;

use crate::request::Input;

/// What is granted: `header:accept`, `cookie:ab`, `cookie:*`, `session:tier`, `query`, `client-ip`, `tls-sni`, `body`, `control`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    granted: Vec<Grant>,
}

/// One thing that is granted, or would have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A request field. `*` as a name: all but those that carry secrets.
    Header(String),
    /// A cookie. `*`: all.
    Cookie(String),
    /// Which cookies there are.
    CookieNames,
    /// An attribute of the session. `*`: all.
    Session(String),
    /// The client's address.
    ClientIp,
    /// The name the client asked for in TLS.
    TlsSni,
    /// The content of requests.
    Body,
    /// Purging at any time.
    Control,
}

/// What was written is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no grant: there are `header:NAME`, `cookie:NAME`, `cookie-names`, `session:NAME`, `client-ip`, `tls-sni`, `body` and `control`; `*` is any NAME"
)]
pub struct GrantError(pub String);

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::CookieNames => f.write_str("cookie-names"),
            Self::Session(name) => write!(f, "session:{name}"),
            Self::ClientIp => f.write_str("client-ip"),
            Self::TlsSni => f.write_str("tls-sni"),
            Self::Body => f.write_str("body"),
            Self::Control => f.write_str("control"),
        }
    }
}

impl std::str::FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let bad = || GrantError(text.to_owned());
        Ok(match text.split_once(':') {
            Some((_, "")) => return Err(bad()),
            Some(("header", name)) => Self::Header(name.to_ascii_lowercase()),
            Some(("cookie", name)) => Self::Cookie(name.to_owned()),
            Some(("session", name)) => Self::Session(name.to_owned()),
            None if text == "cookie-names" => Self::CookieNames,
            None if text == "client-ip" => Self::ClientIp,
            None if text == "tls-sni" => Self::TlsSni,
            None if text == "body" => Self::Body,
            None if text == "control" => Self::Control,
            Some(_) | None => return Err(bad()),
        })
    }
}

/// Fields that carry secrets: `header:*` does not grant them.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

impl Grants {
    /// Reads what the operator has written.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, GrantError> {
        let granted = texts.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { granted })
    }

    /// Grants everything: for tools in which the plugin's author is the operator.
    #[must_use]
    pub fn everything() -> Self {
        let any = || "*".to_owned();
        let secret = SECRET.iter().map(|name| Grant::Header((*name).to_owned()));
        let granted = [
            Grant::Header(any()),
            Grant::Cookie(any()),
            Grant::CookieNames,
            Grant::Session(any()),
            Grant::ClientIp,
            Grant::TlsSni,
            Grant::Body,
            Grant::Control,
        ];
        Self { granted: granted.into_iter().chain(secret).collect() }
    }

    /// What an input needs and is not granted. Method, scheme, authority, path, query and route are every plugin's to read: they are in
    /// the host's own key.
    #[must_use]
    pub fn missing(&self, input: &Input) -> Option<Grant> {
        let needed = match input {
            Input::Method
            | Input::Scheme
            | Input::Authority
            | Input::Path
            | Input::Query
            | Input::QueryParam(_)
            | Input::Route => return None,
            Input::Header(name) => Grant::Header(name.as_str().to_owned()),
            Input::Cookie(name) => Grant::Cookie(name.clone()),
            Input::CookieNames(_) => Grant::CookieNames,
            Input::Session(name) => Grant::Session(name.clone()),
            Input::ClientIp => Grant::ClientIp,
            Input::TlsSni => Grant::TlsSni,
            Input::BodyJson(_) | Input::BodyDigest => Grant::Body,
        };
        (!self.allows(&needed)).then_some(needed)
    }

    /// Whether this is granted.
    #[must_use]
    pub fn allows(&self, needed: &Grant) -> bool {
        self.granted.iter().any(|granted| match (granted, needed) {
            (Grant::Header(any), Grant::Header(name)) if any == "*" => !SECRET.contains(&name.as_str()),
            (Grant::Cookie(any), Grant::Cookie(_) | Grant::CookieNames) if any == "*" => true,
            (Grant::Session(any), Grant::Session(_)) if any == "*" => true,
            (granted, needed) => granted == needed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_granted_may_be_read() {
        #[rustfmt::skip]
        let cases = [
            // granted                        needed                  allowed
            ("header:accept",                 "header:accept",        true),
            ("header:Accept",                 "header:accept",        true),
            ("header:accept",                 "header:accept-language", false),
            ("header:*",                      "header:accept",        true),
            ("header:*",                      "header:authorization", false),
            ("header:*",                      "header:cookie",        false),
            ("header:authorization",          "header:authorization", true),
            ("cookie:a",                      "cookie:a",             true),
            ("cookie:a",                      "cookie:A",             false),
            ("cookie:*",                      "cookie:a",             true),
            ("cookie:*",                      "cookie-names",         true),
            ("cookie:a",                      "cookie-names",         false),
            ("cookie-names",                  "cookie:a",             false),
            ("session:tier",                  "session:tier",         true),
            ("session:tier",                  "session:user",         false),
            ("session:*",                     "session:user",         true),
            ("client-ip",                     "client-ip",            true),
            ("client-ip",                     "tls-sni",              false),
            ("body",                          "body",                 true),
            ("body",                          "control",              false),
        ];
        for (granted, needed, allowed) in cases {
            let grants = Grants::parse([granted]).unwrap();
            assert_eq!(grants.allows(&needed.parse().unwrap()), allowed, "{granted} for {needed}");
        }
        for bad in ["", "header", "header:", "headers:x", "cookie", "all", "query:x"] {
            assert!(Grants::parse([bad]).is_err(), "{bad}");
        }
    }
}
