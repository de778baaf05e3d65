//! A key for each user, tenant or role: equal for those who may see the same, and for nobody else.
//!
//! An identity is only worth what proves it. On a hit the origin is not asked, so whatever a client can invent must not open an entry that others filled. Hence a
//! source is one of four: an attribute of Weir's session; a field that a proxy in front sets; a credential, whose knowledge is the proof; or a token (JWT) that this plugin
//! verifies (HS256). A token that it cannot verify counts as a credential: all of it is in the key, so that a forged one opens only what was fetched with it.

mod jwt;

use std::time::Duration;

use serde::Deserialize;
use weir_plugin::{Error, Manifest, Plugin, Request, RequestDecision, RequestHook, digest, host};

struct UserOrTenantKey {
    sources: Vec<Source>,
    anonymous: Anonymous,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What the key is made of. All of them together: a tenant and a role.
    by: Vec<Source>,
    #[serde(default)]
    anonymous: Anonymous,
}

/// What happens to requests in which no source is present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Anonymous {
    /// They share.
    #[default]
    Share,
    /// They pass the cache.
    Bypass,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    /// An attribute of the session that Weir keeps: what the application itself put there.
    session: Option<String>,
    /// A field that something in front of Weir sets, and takes away from clients: `trusted` says that it is so.
    header: Option<String>,
    #[serde(default)]
    trusted: bool,
    /// A field whose value lets in whoever knows it.
    credential: Option<String>,
    /// A claim of a token in `Authorization: Bearer`, or in the cookie named by `cookie`.
    jwt: Option<String>,
    cookie: Option<String>,
    /// What verifies the token; several while they are being exchanged. Without one the whole token is in the key.
    #[serde(default)]
    secrets: Vec<String>,
    /// What `iss` and `aud` must be.
    issuer: Option<String>,
    audience: Option<String>,
}

/// What a source says of a request.
enum Identity {
    /// It is not there.
    Absent,
    /// It is this one; where a token says so, until then (in milliseconds since 1970).
    Is(String, Option<u64>),
    /// It is there, and proves nothing. The origin shall say what it makes of that.
    Doubtful(&'static str),
}

impl Source {
    fn check(&self) -> Result<(), String> {
        let kinds = [&self.session, &self.header, &self.credential, &self.jwt];
        if kinds.iter().filter(|kind| kind.is_some()).count() != 1 {
            return Err("needs exactly one of `session`, `header`, `credential`, `jwt`".to_owned());
        }
        if let Some(header) = &self.header
            && !self.trusted
        {
            return Err(format!(
                "a client can send any `{header}`, and would read what others with it were shown: say `trusted = true` if something in front of Weir sets \
                 it and removes what clients send, or `credential = \"{header}\"` if knowing its value is what lets a client in"
            ));
        }
        if self.jwt.is_none()
            && (self.cookie.is_some()
                || !self.secrets.is_empty()
                || self.issuer.is_some()
                || self.audience.is_some())
        {
            return Err("`cookie`, `secrets`, `issuer` and `audience` belong to `jwt`".to_owned());
        }
        if self.secrets.is_empty() && (self.issuer.is_some() || self.audience.is_some()) {
            return Err(
                "`issuer` and `audience` of a token that is not verified say nothing: give `secrets`"
                    .to_owned(),
            );
        }
        // RFC 7518 §3.2: "A key of the same size as the hash output (for instance, 256 bits for "HS256") or larger MUST be used".
        if self.secrets.iter().any(|secret| secret.len() < 32) {
            return Err("a secret is shorter than 32 bytes, and could be guessed".to_owned());
        }
        Ok(())
    }

    fn identity(&self, request: &Request) -> Identity {
        if let Some(name) = &self.session {
            return request
                .session(name)
                .map_or(Identity::Absent, |value| Identity::Is(format!("session:{name}={value}"), None));
        }
        if let Some(name) = &self.header {
            return match request.header(name) {
                None => Identity::Absent,
                // Two lines: one of them may be the client's.
                Some(value) if value.contains(',') => Identity::Doubtful("several values of a trusted field"),
                Some(value) => Identity::Is(format!("header:{name}={value}"), None),
            };
        }
        if let Some(name) = &self.credential {
            return request
                .header(name)
                .map_or(Identity::Absent, |value| Identity::Is(hidden("credential", name, value), None));
        }
        let Some(claim) = &self.jwt else { return Identity::Doubtful("no source") };
        let token = match &self.cookie {
            Some(cookie) => request.cookie(cookie),
            None => match request.header("authorization") {
                None => None,
                Some(value) => match value.split_once(' ') {
                    Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
                    _ => return Identity::Doubtful("no bearer token"),
                },
            },
        };
        let Some(token) = token else { return Identity::Absent };
        let now = host::now_ms();
        if self.secrets.is_empty() {
            // Nothing of it is believed but its end, and that only against the one who sent it.
            let until = jwt::unverified_end(token);
            return match until {
                Some(until) if until <= now => Identity::Doubtful("an expired token"),
                until => Identity::Is(hidden("token", claim, token), until),
            };
        }
        let verified = jwt::verify(token, &self.secrets, now);
        let claims = match verified {
            Ok(claims) => claims,
            Err(why) => return Identity::Doubtful(why),
        };
        if self.issuer.as_ref().is_some_and(|issuer| claims.text("iss").as_ref() != Some(issuer)) {
            return Identity::Doubtful("a token of another issuer");
        }
        if self.audience.as_ref().is_some_and(|audience| !claims.is_for(audience)) {
            return Identity::Doubtful("a token for another audience");
        }
        match claims.text(claim) {
            Some(value) => Identity::Is(format!("jwt:{claim}={value}"), claims.until_ms()),
            None => Identity::Doubtful("a token without the claim"),
        }
    }
}

/// What is secret stands in no key, log or trace.
fn hidden(kind: &str, name: &str, secret: &str) -> String {
    format!("{kind}:{name}={}", digest::sha256_hex(secret.as_bytes()))
}

impl Plugin for UserOrTenantKey {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.by.is_empty() {
            return Err("config: `by` names no source".into());
        }
        for (n, source) in config.by.iter().enumerate() {
            source.check().map_err(|why| Error::new(format!("config: `by[{n}]`: {why}")))?;
        }
        Ok(Self { sources: config.by, anonymous: config.anonymous })
    }

    fn manifest(&self) -> Manifest {
        self.sources.iter().fold(Manifest::new().pure(), |manifest, source| {
            let (session, header) = (&source.session, source.header.as_ref().or(source.credential.as_ref()));
            match (session, header, &source.cookie) {
                (Some(name), _, _) => manifest.session(name),
                (_, Some(name), _) => manifest.header(name),
                (_, _, Some(name)) => manifest.cookie(name),
                _ => manifest.header("authorization"),
            }
        })
    }
}

impl RequestHook for UserOrTenantKey {
    fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
        let mut decision = RequestDecision::lookup();
        let mut nobody = true;
        let mut ends: Option<u64> = None;
        for source in &self.sources {
            match source.identity(request) {
                // Its place stays: a role without a tenant is nobody's role with one.
                Identity::Absent => decision = decision.variant("-"),
                Identity::Is(identity, until) => {
                    nobody = false;
                    ends = ends.into_iter().chain(until).min();
                    decision = decision.variant(identity);
                }
                Identity::Doubtful(why) => {
                    weir_plugin::debug!("bypass: {why}");
                    host::count("doubtful", 1);
                    // It may be valid in a moment ("nbf"), or elsewhere: not remembered for long.
                    return Ok(RequestDecision::bypass().remember_for(Duration::from_secs(1)));
                }
            }
        }
        if nobody {
            return Ok(match self.anonymous {
                Anonymous::Share => RequestDecision::lookup(),
                Anonymous::Bypass => RequestDecision::bypass(),
            });
        }
        Ok(match ends {
            Some(ends) => decision.remember_for(Duration::from_millis(ends.saturating_sub(host::now_ms()))),
            None => decision,
        })
    }
}

weir_plugin::export!(UserOrTenantKey: request);

#[cfg(test)]
mod tests;
