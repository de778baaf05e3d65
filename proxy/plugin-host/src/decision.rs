//! What a plugin may say. Each decision is checked whole before anybody acts on it: its sizes, and every byte that will leave this process.

use std::sync::Arc;
use std::time::Duration;

use cache_semantics::cookies::CookieRule;
use http::HeaderName;
pub use plugin_inputs::NAMES_MAX;
pub use plugin_inputs::plan::ForwardCookies;
use plugin_inputs::plan::is_cookie_name;
use plugin_inputs::request::{Input, from_isomorphic};

use crate::bindings::weir::policy::types as wit;
use crate::error::CallError;

/// The longest key.
pub const KEY_BYTES_MAX: usize = 4096;
/// The most variants, and the most that they take together.
pub const VARIANTS_MAX: usize = 32;
/// The longest text that one hook hands to another.
pub const CARRY_BYTES_MAX: usize = 4096;
/// The longest query that is forwarded.
pub const QUERY_BYTES_MAX: usize = 8192;
/// The most tags.
pub const TAGS_MAX: usize = 128;
/// The longest tag, bucket or name.
pub const TAG_BYTES_MAX: usize = 256;
/// The most purges of one answer.
pub const PURGES_MAX: usize = 128;
/// The most charges for one request.
pub const CHARGES_MAX: usize = 16;
/// All that is handed over in one call, in bytes: nothing that is valid is near it.
pub(crate) const HANDED_OVER_MAX: usize = 256 * 1024;
/// The longest lifetime that means anything (RFC 9111 §1.2.2).
const LIFETIME_MAX: Duration = Duration::from_secs(1 << 31);

/// What the cache does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Looks up and stores.
    Lookup,
    /// Asks the origin in any case, and stores.
    Refresh,
    /// Neither.
    Bypass,
}

/// The answer of the request hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDecision {
    /// What the cache does.
    pub mode: Mode,
    /// What the plugin adds to the key, as it said it.
    pub key: Option<Box<str>>,
    /// What tells responses of one key apart.
    pub variants: Vec<Box<str>>,
    /// Key and variants as one part of a key; `None`: it adds nothing.
    pub key_part: Option<Box<[u8]>>,
    /// The query to forward.
    pub query: ForwardQuery,
    /// The cookies to forward.
    pub cookies: ForwardCookies,
    /// Handed to later hooks.
    pub carry: Option<Box<str>>,
    pub(crate) remember: Option<Duration>,
}

/// The query to forward.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ForwardQuery {
    /// As the route has it.
    #[default]
    AsRouted,
    /// This one.
    Exactly(Option<Box<str>>),
}

/// What the response hook says about storing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreDecision {
    /// As RFC 9111 says.
    #[default]
    Default,
    /// On these terms.
    Store(StorePolicy),
    /// Not.
    NoStore,
    /// Not, and nobody waits for another's fill for so long.
    HitForPass(Duration),
}

/// On what terms a response is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorePolicy {
    /// How long it is fresh.
    pub ttl: Option<Duration>,
    /// The window of `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Duration>,
    /// The window of `stale-if-error`.
    pub stale_if_error: Option<Duration>,
    /// Surrogate tags.
    pub tags: Vec<Box<str>>,
    /// Request fields that it varies on too.
    pub vary: Vec<HeaderName>,
    /// Fields that are not stored.
    pub strip: Vec<HeaderName>,
}

/// One purge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Purge {
    /// What.
    pub target: PurgeTarget,
    /// Made stale only.
    pub soft: bool,
}

/// What is purged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PurgeTarget {
    /// What carries the tag.
    Tag(Box<str>),
    /// What carries a tag that fits.
    TagGlob(Box<str>),
    /// What is stored for this path and query.
    PathAndQuery(Box<str>),
    /// What is stored for paths that begin so.
    PathPrefix(Box<str>),
    /// What the route of the request stored.
    Route,
}

/// What a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCharge {
    /// The bucket: one that the manifest names.
    pub bucket: Box<str>,
    /// Who pays.
    pub key: Box<str>,
    /// How much.
    pub cost: u32,
}

fn invalid<T>(what: impl Into<String>) -> Result<T, CallError> {
    Err(CallError::Invalid(what.into()))
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), CallError> {
    if count > max { invalid(format!("{count} {what}, and at most {max} are taken")) } else { Ok(()) }
}

fn text(what: &str, text: String, max: usize) -> Result<Box<str>, CallError> {
    // Nothing is written for what fits: each call passes here several times.
    if text.len() > max {
        return invalid(format!("{} bytes of {what}, and at most {max} are taken", text.len()));
    }
    Ok(text.into())
}

/// Names, tags and the like: neither empty, nor too long, nor with control characters.
fn name(what: &str, name: String) -> Result<Box<str>, CallError> {
    if name.is_empty() {
        return invalid(format!("an empty {what}"));
    }
    if name.chars().any(char::is_control) {
        return invalid(format!("a {what} with a control character: {name:?}"));
    }
    text(what, name, TAG_BYTES_MAX)
}

fn field(name: &str) -> Result<HeaderName, CallError> {
    HeaderName::from_bytes(name.as_bytes()).or_else(|_| {
        invalid(format!("{:?} is no name of a field", name.chars().take(64).collect::<String>()))
    })
}

fn fields(names: &[String]) -> Result<Vec<HeaderName>, CallError> {
    at_most("names of fields", names.len(), NAMES_MAX)?;
    names.iter().map(|name| field(name)).collect()
}

fn lifetime(ms: Option<u64>) -> Option<Duration> {
    ms.map(|ms| Duration::from_millis(ms).min(LIFETIME_MAX))
}

/// What a request target may hold (RFC 9112 §3): no spaces, no control characters, no fragment.
fn is_target(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#')
}

/// Length-prefixed, with marks for what is there.
///
/// `kinds`: what of its inputs the plugin could not tell, so that it stands beside what the plugin says of them. Where it says nothing of them, nobody else is
/// told of them either, and there is nothing to keep apart.
fn key_part(key: Option<&str>, variants: &[Box<str>], kinds: Option<&[u8]>) -> Option<Box<[u8]>> {
    if key.is_none() && variants.is_empty() {
        return None;
    }
    let said = || key.into_iter().map(str::as_bytes).chain(variants.iter().map(|variant| variant.as_bytes()));
    let all = || kinds.into_iter().chain(said());
    let mut part = Vec::with_capacity(1 + all().map(|bytes| 8 + bytes.len()).sum::<usize>());
    part.push(u8::from(key.is_some()) | u8::from(kinds.is_some()) << 1);
    for bytes in all() {
        part.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        part.extend_from_slice(bytes);
    }
    Some(part.into())
}

impl RequestDecision {
    /// Whether both say the same. How long that holds grows shorter by itself: a token ends when it ends.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let Self { mode, key, variants, key_part, query, cookies, carry, remember: _ } = self;
        *mode == other.mode
            && *key == other.key
            && *variants == other.variants
            && *key_part == other.key_part
            && *query == other.query
            && *cookies == other.cookies
            && *carry == other.carry
    }

    /// `kinds`: [`Gathered::kinds`](plugin_inputs::request::Gathered::kinds) of the request.
    pub(crate) fn check(
        said: wit::RequestDecision,
        inputs: &[Input],
        kinds: Option<&[u8]>,
    ) -> Result<Self, CallError> {
        let mode = match said.mode {
            wit::CacheMode::Lookup => Mode::Lookup,
            wit::CacheMode::Bypass => Mode::Bypass,
            wit::CacheMode::Refresh => Mode::Refresh,
        };
        let key = said.key.map(|key| text("the key", key, KEY_BYTES_MAX)).transpose()?;
        at_most("variants", said.variants.len(), VARIANTS_MAX)?;
        at_most("bytes of variants", said.variants.iter().map(String::len).sum(), KEY_BYTES_MAX)?;
        let variants: Vec<Box<str>> = said.variants.into_iter().map(Into::into).collect();
        let (query, cookies) = match said.forward {
            None => (ForwardQuery::AsRouted, ForwardCookies::AsRouted),
            Some(forward) => (forward_query(forward.query)?, forward_cookies(forward.cookies, inputs)?),
        };
        let carry = said.carry.map(|carry| text("what is carried", carry, CARRY_BYTES_MAX)).transpose()?;
        let key_part = key_part(key.as_deref(), &variants, kinds);
        Ok(Self {
            mode,
            key,
            variants,
            key_part,
            query,
            cookies,
            carry,
            remember: lifetime(said.remember_ms),
        })
    }

    /// For how long the same request has this same decision; `None`: until the next reload.
    #[must_use]
    pub fn remember(&self) -> Option<Duration> {
        self.remember
    }

    /// What it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let variants: usize = self.variants.iter().map(|variant| variant.len() + 16).sum();
        let query = match &self.query {
            ForwardQuery::Exactly(query) => text(query),
            ForwardQuery::AsRouted => 0,
        };
        let cookies = match &self.cookies {
            ForwardCookies::Only { rule, .. } => rule.declared().map(|name| name.len() + 16).sum(),
            ForwardCookies::AsRouted | ForwardCookies::None => 0,
        };
        let part = self.key_part.as_ref().map_or(0, |part| part.len());
        size_of::<Self>() + text(&self.key) + variants + part + query + cookies + text(&self.carry)
    }
}

fn forward_query(query: wit::ForwardQuery) -> Result<ForwardQuery, CallError> {
    let query = match query {
        wit::ForwardQuery::AsRouted => return Ok(ForwardQuery::AsRouted),
        wit::ForwardQuery::Exactly(query) => query,
    };
    let Some(query) = query else { return Ok(ForwardQuery::Exactly(None)) };
    at_most("bytes of the query", query.len(), QUERY_BYTES_MAX)?;
    let is_valid = from_isomorphic(&query).is_some_and(|bytes| is_target(&bytes));
    if !is_valid {
        return invalid(format!("{query:?} cannot stand in a query"));
    }
    Ok(ForwardQuery::Exactly(Some(query.into())))
}

fn forward_cookies(cookies: wit::ForwardCookies, inputs: &[Input]) -> Result<ForwardCookies, CallError> {
    let names = match cookies {
        wit::ForwardCookies::AsRouted => return Ok(ForwardCookies::AsRouted),
        wit::ForwardCookies::Only(names) if names.is_empty() => return Ok(ForwardCookies::None),
        wit::ForwardCookies::Only(names) => names,
    };
    at_most("names of cookies", names.len(), NAMES_MAX)?;
    if let Some(bad) = names.iter().find(|name| !is_cookie_name(name)) {
        return invalid(format!("{:?} is no name of a cookie", bad.chars().take(64).collect::<String>()));
    }
    let reads = |name: &String| {
        inputs.iter().any(|input| match input {
            Input::Cookie(read) => read == name,
            Input::Header(field) => field == http::header::COOKIE,
            _ => false,
        })
    };
    let all_read = names.iter().all(reads);
    Ok(ForwardCookies::Only { rule: Arc::new(CookieRule::declaring(names)), all_read })
}

impl StoreDecision {
    pub(crate) fn check(said: wit::StoreDecision) -> Result<Self, CallError> {
        Ok(match said {
            wit::StoreDecision::Default => Self::Default,
            wit::StoreDecision::NoStore => Self::NoStore,
            wit::StoreDecision::HitForPass(ms) => {
                Self::HitForPass(Duration::from_millis(ms).min(LIFETIME_MAX))
            }
            wit::StoreDecision::Store(policy) => {
                at_most("tags", policy.tags.len(), TAGS_MAX)?;
                Self::Store(StorePolicy {
                    ttl: lifetime(policy.ttl_ms),
                    stale_while_revalidate: lifetime(policy.stale_while_revalidate_ms),
                    stale_if_error: lifetime(policy.stale_if_error_ms),
                    tags: policy.tags.into_iter().map(|tag| name("tag", tag)).collect::<Result<_, _>>()?,
                    vary: fields(&policy.vary)?,
                    strip: fields(&policy.strip_headers)?,
                })
            }
        })
    }
}

impl Purge {
    pub(crate) fn check(said: wit::Purge) -> Result<Self, CallError> {
        let path = |path: String| {
            if !path.starts_with('/') || path.len() > QUERY_BYTES_MAX || !is_target(path.as_bytes()) {
                return invalid(format!("{:?} is no path", path.chars().take(64).collect::<String>()));
            }
            Ok(path.into())
        };
        let target = match said.target {
            wit::PurgeTarget::Tag(tag) => PurgeTarget::Tag(name("tag", tag)?),
            wit::PurgeTarget::TagGlob(glob) => PurgeTarget::TagGlob(name("pattern", glob)?),
            wit::PurgeTarget::Key(target) => PurgeTarget::PathAndQuery(path(target)?),
            wit::PurgeTarget::PathPrefix(prefix) if prefix.contains('?') => {
                return invalid(format!("{:?} is no path", prefix.chars().take(64).collect::<String>()));
            }
            wit::PurgeTarget::PathPrefix(prefix) => PurgeTarget::PathPrefix(path(prefix)?),
            wit::PurgeTarget::Route => PurgeTarget::Route,
        };
        Ok(Self { target, soft: matches!(said.mode, wit::PurgeMode::Soft) })
    }

    pub(crate) fn check_all(said: Vec<wit::Purge>) -> Result<Vec<Self>, CallError> {
        at_most("purges", said.len(), PURGES_MAX)?;
        said.into_iter().map(Self::check).collect()
    }
}

impl RateCharge {
    pub(crate) fn check_all(said: Vec<wit::RateCharge>, buckets: &[String]) -> Result<Vec<Self>, CallError> {
        at_most("charges", said.len(), CHARGES_MAX)?;
        let one = |charge: wit::RateCharge| {
            if !buckets.contains(&charge.bucket) {
                return invalid(format!("its manifest names no bucket {:?}", charge.bucket));
            }
            let key = text("a rate key", charge.key, KEY_BYTES_MAX)?;
            Ok(Self { bucket: charge.bucket.into(), key, cost: charge.cost })
        };
        said.into_iter().map(one).collect()
    }

    pub(crate) fn size(charges: &[Self]) -> usize {
        charges.iter().map(|charge| size_of::<Self>() + charge.bucket.len() + charge.key.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_decision_that_holds_for_less_is_still_the_same() {
        let before = RequestDecision {
            mode: Mode::Lookup,
            key: Some("tenant".into()),
            variants: Vec::new(),
            key_part: None,
            query: ForwardQuery::AsRouted,
            cookies: ForwardCookies::default(),
            carry: None,
            remember: Some(Duration::from_secs(60)),
        };
        let later = RequestDecision { remember: Some(Duration::from_secs(59)), ..before.clone() };
        assert!(later.says_the_same(&before));
        let other = RequestDecision { key: Some("another".into()), ..before.clone() };
        assert!(!other.says_the_same(&before));
    }

    fn said() -> wit::RequestDecision {
        wit::RequestDecision {
            mode: wit::CacheMode::Lookup,
            key: None,
            variants: Vec::new(),
            forward: None,
            carry: None,
            remember_ms: None,
        }
    }

    #[test]
    fn what_would_leave_the_process_is_checked_byte_by_byte() {
        let query = |query: &str| {
            let query = wit::ForwardQuery::Exactly(Some(query.to_owned()));
            let cookies = wit::ForwardCookies::AsRouted;
            let forward = Some(wit::Forward { query, cookies });
            RequestDecision::check(wit::RequestDecision { forward, ..said() }, &[], None).is_ok()
        };
        for (text, expected) in [
            ("a=1&b=%20", true),
            ("", true),
            ("a b", false),
            ("a\r\nb", false),
            ("a#b", false),
            ("é", false),
            ("€", false),
        ] {
            assert_eq!(query(text), expected, "{text:?}");
        }
        let cookie = |name: &str| {
            let cookies = wit::ForwardCookies::Only(vec![name.to_owned()]);
            let forward = Some(wit::Forward { query: wit::ForwardQuery::AsRouted, cookies });
            RequestDecision::check(wit::RequestDecision { forward, ..said() }, &[], None).is_ok()
        };
        for (name, expected) in [
            ("sid", true),
            ("__Host-sid", true),
            ("a=b", false),
            ("a;b", false),
            ("", false),
            ("a\nb", false),
        ] {
            assert_eq!(cookie(name), expected, "{name:?}");
        }
        let vary = |name: &str| {
            let policy = wit::StorePolicy {
                ttl_ms: None,
                stale_while_revalidate_ms: None,
                stale_if_error_ms: None,
                tags: Vec::new(),
                vary: vec![name.to_owned()],
                strip_headers: Vec::new(),
            };
            StoreDecision::check(wit::StoreDecision::Store(policy)).is_ok()
        };
        for (name, expected) in
            [("accept", true), ("Accept", true), ("a b", false), ("a\r\nset-cookie: x", false), ("", false)]
        {
            assert_eq!(vary(name), expected, "{name:?}");
        }
    }

    #[test]
    fn forwarded_cookies_count_as_read_where_the_plugin_declared_them() {
        let check = |inputs: &[Input]| {
            let cookies = wit::ForwardCookies::Only(vec!["sid".to_owned()]);
            match forward_cookies(cookies, inputs) {
                Ok(ForwardCookies::Only { all_read, .. }) => all_read,
                other => panic!("{other:?}"),
            }
        };
        assert!(!check(&[]));
        assert!(!check(&[Input::Cookie("other".into())]));
        assert!(check(&[Input::Cookie("sid".into())]));
        assert!(check(&[Input::Header(http::header::COOKIE)]));
    }

    /// A key, variants, and kinds.
    type Said = (Option<String>, Vec<String>, Option<Vec<u8>>);

    fn any_said() -> impl Strategy<Value = Said> {
        let text = || "[ab]{0,2}";
        let kinds = proptest::collection::vec(0_u8..2, 1..3);
        (proptest::option::of(text()), proptest::collection::vec(text(), 0..3), proptest::option::of(kinds))
    }

    proptest! {
        #[test]
        fn different_keys_and_variants_are_different_parts(
            one in any_said(),
            other in any_said(),
        ) {
            let part = |(key, variants, kinds): &Said| {
                let variants: Vec<Box<str>> = variants.iter().map(|variant| variant.as_str().into()).collect();
                key_part(key.as_deref(), &variants, kinds.as_deref())
            };
            // Kinds stand beside what was said, and nowhere else.
            let said = |(key, variants, kinds): &Said| {
                (key.clone(), variants.clone(), kinds.clone().filter(|_| key.is_some() || !variants.is_empty()))
            };
            prop_assert_eq!(part(&one) == part(&other), said(&one) == said(&other));
        }
    }
}
