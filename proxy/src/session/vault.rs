//! The vault: cookies of applications that keep sessions of their own, held here. The browser gets one opaque cookie instead, and the application its own cookies with every request.
//!
//! ```text
//!  browser ── __Host-vault=… ──→ handle (SHA-256) ──→ jar ──→ Cookie: sessionid=…; csrftoken=… ──→ origin
//!  browser ←─ Set-Cookie, if the handle is new ←── jar ←── Set-Cookie: sessionid=…; HttpOnly; Path=/ ←─┘
//! ```
//!
//! A jar is a session in the sense of `session-state`: its attributes are cookies, by their identity. So it lies in the same stores, sealed with the same keys, and what two answers set at once is merged.
//! A browser has a jar for cookies that end with it, and one for those that have a date: the cookie that leads to the first has no date, either, so that each ends as its application said.
//!
//! A handle is **renewed** when a cookie that `renew` names gets another value: that is how a login looks from outside. The old jar is never told what the new one holds. It keeps what it
//! held for a minute, for requests that are under way, and is then emptied; so who has planted or seen the old handle has what its cookies were worth before, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cookie_jar::{Kept, SameSite, SetCookie, Site, Taken, cookie_value};
use http::header::{self, HeaderMap, HeaderValue};
use session_state::{Attribute, Lifetimes, Session, Standing};

use super::cookie::{self, Handle};
use super::spec;
use super::store::{Trouble, Written};
use super::{Sessions, millis};
use crate::clock::Now;

/// Cookies in a jar, and bytes of their values: as many as browsers keep for a host.
const COOKIES_MAX: usize = 64;
const BYTES_MAX: usize = 64 << 10;
/// So long an old handle leads to what its cookies were.
const GRACE_MS: u64 = 60_000;
/// An attribute that is no cookie: this jar has a successor. No identity begins so.
const SUCCEEDED: &str = ";succeeded";
/// What makes handles of jars others than those of sessions: neither is good for the other.
const PURPOSE: &[u8] = b"weir vault jar\0";
/// A browser is given the cookie for as long as browsers keep any (RFC 6265bis §5.5), and again when half of that is over.
const MAX_AGE_S: u64 = cookie_jar::AGE_MAX_S;

/// `[vault]` at work.
#[derive(Debug)]
pub struct Vault {
    spec: Arc<spec::Vault>,
    sessions: Arc<Sessions>,
    lifetimes: Lifetimes,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    begun: AtomicU64,
    opened: AtomicU64,
    missing: AtomicU64,
    written: AtomicU64,
    renewed: AtomicU64,
    emptied: AtomicU64,
    not_taken: AtomicU64,
    trouble: AtomicU64,
}

impl Counted {
    pub(super) fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("vault-begun", &self.begun),
            ("vault-opened", &self.opened),
            ("vault-missing", &self.missing),
            ("vault-written", &self.written),
            ("vault-renewed", &self.renewed),
            ("vault-emptied", &self.emptied),
            ("vault-not-taken", &self.not_taken),
            ("vault-trouble", &self.trouble),
        ]
        .map(|(word, counter)| (word, counter.load(Ordering::Relaxed)))
    }
}

/// Which cookies a jar is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Those that end with the browser.
    Browser,
    /// Those that have a date.
    Dated,
}

const KINDS: [Kind; 2] = [Kind::Browser, Kind::Dated];

impl Kind {
    const fn of(cookie: &Kept) -> Self {
        if cookie.ends_s.is_some() { Self::Dated } else { Self::Browser }
    }
}

/// The jars of a request.
#[derive(Debug, Clone, Default)]
pub struct Jars([Option<Jar>; 2]);

#[derive(Debug, Clone)]
struct Jar {
    /// What the browser knows it by.
    name: String,
    handle: Handle,
    held: Session,
}

impl Jar {
    fn cookies(&self, now_ms: u64) -> impl Iterator<Item = Kept> {
        self.held.live(now_ms).filter_map(|(_, value)| Kept::decode(value))
    }

    fn has_successor(&self) -> bool {
        self.held.attributes.contains_key(SUCCEEDED)
    }
}

impl Jars {
    /// The cookies that go out with this request; `None`: none.
    pub fn cookies(&self, site: &Site<'_>, now: Now) -> Option<Vec<u8>> {
        let now_ms = millis(now);
        let all: Vec<Kept> = self.0.iter().flatten().flat_map(|jar| jar.cookies(now_ms)).collect();
        cookie_value(all.iter().filter(|cookie| cookie.goes_to(site)))
    }
}

/// The vault cannot be asked. It says nothing about anybody's cookies.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the vault does not answer")]
pub struct Unavailable;

impl Vault {
    /// The vault of these sessions' stores.
    pub fn new(spec: Arc<spec::Vault>, sessions: Arc<Sessions>) -> Self {
        let idle_ms = u64::try_from(spec.idle.as_millis()).unwrap_or(u64::MAX);
        // How long a jar lies unused is all there is to it: each cookie ends by itself.
        let lifetimes = Lifetimes { idle_ms, absolute_ms: idle_ms, touch_ms: idle_ms / 100 };
        Self { spec, sessions, lifetimes }
    }

    /// Whether a cookie of this name is kept here.
    pub fn takes(&self, name: &[u8]) -> bool {
        self.spec.cookies.iter().any(|glob| glob.matches(name))
    }

    /// Whether a name is that of the browser's cookie.
    pub fn is_own(&self, name: &[u8]) -> bool {
        KINDS.iter().any(|kind| self.name(*kind).as_bytes() == name)
    }

    fn name(&self, kind: Kind) -> &str {
        match kind {
            Kind::Browser => &self.spec.name,
            Kind::Dated => &self.spec.name_dated,
        }
    }

    /// Whether a request names a jar.
    pub fn is_named(&self, headers: &HeaderMap) -> bool {
        KINDS.iter().any(|kind| cookie::is_given(headers, self.name(*kind)))
    }

    /// Whether an answer sets a cookie that is kept here.
    pub fn is_set(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::SET_COOKIE).iter().any(|line| self.takes_line(line))
    }

    fn renews(&self, cookie: &Kept) -> bool {
        self.spec.renew.iter().any(|glob| glob.matches(&cookie.name))
    }

    fn takes_line(&self, line: &HeaderValue) -> bool {
        SetCookie::parse(line.as_bytes()).is_some_and(|cookie| self.takes(cookie.name))
    }

    /// Opens the jars that a request names.
    pub async fn open(&self, headers: &HeaderMap, now: Now) -> Result<Jars, Unavailable> {
        let mut jars = Jars::default();
        for (jar, kind) in jars.0.iter_mut().zip(KINDS) {
            let Some(name) = cookie::only_value(headers, self.name(kind)) else { continue };
            let Some(handle) = Handle::of_name(&name, PURPOSE) else { continue };
            let found = self.read(handle, millis(now)).await.map_err(|error| self.trouble(error))?;
            let counted = &self.sessions.counted.vault;
            let counter = if found.is_some() { &counted.opened } else { &counted.missing };
            counter.fetch_add(1, Ordering::Relaxed);
            *jar = found.map(|held| Jar { name, handle, held });
        }
        Ok(jars)
    }

    fn trouble(&self, error: Trouble) -> Unavailable {
        self.sessions.counted.vault.trouble.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "the vault cannot be asked");
        Unavailable
    }

    async fn read(&self, handle: Handle, now_ms: u64) -> Result<Option<Session>, Trouble> {
        let Some(sealed) = self.sessions.stores.read(handle, now_ms).await? else { return Ok(None) };
        let standing = sealed.standing(now_ms, &self.lifetimes);
        if matches!(standing, Standing::Over(_)) {
            return Ok(None);
        }
        let mut held = self.sessions.opened(&handle, sealed);
        held.forget_marks(now_ms);
        self.sessions.versions.lock().seen(held.version(), now_ms);
        if standing == (Standing::Live { touch: true }) {
            let mut used = held.clone();
            used.merge(&self.change(&held, now_ms));
            // One that is lost is made up for by the next.
            let _ = self.put(handle, used, now_ms).await;
        }
        // A jar in which nothing is left any more is none.
        let is_empty = held.live(now_ms).next().is_none();
        Ok(Some(held).filter(|_| !is_empty))
    }

    /// A change of a jar that says only that it is used.
    fn change(&self, held: &Session, now_ms: u64) -> Session {
        Session { ends_ms: now_ms + self.lifetimes.idle_ms, ..held.change(now_ms) }
    }

    async fn put(&self, handle: Handle, whole: Session, now_ms: u64) -> Result<Written, Trouble> {
        let sealed = self.sessions.sealed(&handle, whole).ok_or(Trouble::Durable)?;
        let written = self.sessions.stores.merge(handle, &sealed, now_ms, None, None).await?;
        self.sessions.counted.vault.written.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    /// Takes what an answer sets for the vault out of it, and puts it into the jars. Adds what the browser is to be told. When this returns, the browser's next request finds it, at any proxy.
    pub async fn keep(
        &self,
        jars: &Jars,
        headers: &mut HeaderMap,
        site: &Site<'_>,
        now: Now,
    ) -> Result<(), Unavailable> {
        let lines: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        let (ours, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| self.takes_line(line));
        if ours.is_empty() {
            return Ok(());
        }
        headers.remove(header::SET_COOKIE);
        for line in others {
            headers.append(header::SET_COOKIE, line);
        }
        // Nobody between here and the browser may keep an answer that came with cookies, now that it does not look like one.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        let asked = self.asked(&ours, site, millis(now));
        let told = self.change_jars(jars, &asked, millis(now)).await.map_err(|error| self.trouble(error))?;
        for cookie in told {
            headers.append(header::SET_COOKIE, cookie);
        }
        Ok(())
    }

    /// What the lines ask for, by identity: a cookie to keep, or `None`, to forget it. Of two lines about one cookie the later counts.
    fn asked(&self, lines: &[HeaderValue], site: &Site<'_>, now_ms: u64) -> BTreeMap<String, Option<Kept>> {
        let mut asked = BTreeMap::new();
        for line in lines {
            let Some(cookie) = SetCookie::parse(line.as_bytes()) else { continue };
            match Kept::take(&cookie, site, now_ms) {
                Ok(Taken::Kept(kept)) => drop(asked.insert(kept.identity(), Some(kept))),
                Ok(Taken::Deleted(identity)) => drop(asked.insert(identity, None)),
                Err(why) => {
                    self.sessions.counted.vault.not_taken.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        ?why,
                        "the origin sets a cookie that no browser would take, and neither does the vault"
                    );
                }
            }
        }
        asked
    }

    async fn change_jars(
        &self,
        jars: &Jars,
        asked: &BTreeMap<String, Option<Kept>>,
        now_ms: u64,
    ) -> Result<Vec<HeaderValue>, Trouble> {
        let mut planned = Vec::new();
        let mut renews = false;
        for (jar, kind) in jars.0.iter().zip(KINDS) {
            let now_held = match jar {
                // Others may have written since the request came.
                Some(jar) => match self.read(jar.handle, now_ms).await? {
                    Some(held) => Some(Jar { held, ..jar.clone() }),
                    // Ended meanwhile: what is set late is not set. Somebody who logs in is not late, and begins anew.
                    None if asked.values().flatten().any(|cookie| self.renews(cookie)) => None,
                    None => continue,
                },
                None => None,
            };
            let version = self.sessions.versions.lock().next(now_ms);
            let known = now_held.as_ref().map(|jar| &jar.held);
            let mut change = known
                .map_or_else(|| Session::begin(now_ms, &self.lifetimes), |held| self.change(held, now_ms));
            for (identity, cookie) in asked {
                let held = known.and_then(|held| held.attributes.get(identity));
                let is_there = held.is_some_and(|attribute| attribute.value.is_some());
                let Some(cookie) = cookie.as_ref().filter(|cookie| Kind::of(cookie) == kind) else {
                    if is_there {
                        change
                            .attributes
                            .insert(identity.clone(), Attribute { version, ends_ms: 0, value: None });
                    }
                    continue;
                };
                let when_asked = jar.as_ref().and_then(|jar| jar.held.attributes.get(identity));
                if when_asked.is_some_and(|then| then.value.is_some()) && !is_there {
                    // It was deleted while this request was under way.
                    continue;
                }
                let before = held.and_then(|held| Kept::decode(held.value.as_deref()?));
                let differs = before.as_ref().is_none_or(|before| before.value != cookie.value);
                renews |= differs && self.renews(cookie);
                let created_ms = before.map_or(now_ms, |before| before.created_ms);
                let value = Kept { created_ms, ..cookie.clone() }.encode();
                let ends_ms = cookie.ends_s.map_or(0, |ends_s| ends_s.saturating_mul(1_000));
                change
                    .attributes
                    .insert(identity.clone(), Attribute { version, ends_ms, value: Some(value) });
            }
            planned.push((kind, now_held, change));
        }
        let mut told = Vec::new();
        for (kind, jar, change) in planned {
            told.extend(self.change_jar(kind, jar, change, renews, now_ms).await?);
        }
        Ok(told)
    }

    /// Does what was planned for one jar; returns what the browser is told.
    async fn change_jar(
        &self,
        kind: Kind,
        jar: Option<Jar>,
        change: Session,
        renews: bool,
        now_ms: u64,
    ) -> Result<Option<HeaderValue>, Trouble> {
        let counted = &self.sessions.counted.vault;
        let Some(jar) = jar else {
            if change.live(now_ms).next().is_none() {
                return Ok(None);
            }
            counted.begun.fetch_add(1, Ordering::Relaxed);
            return self.begin(kind, change, now_ms).await.map(Some);
        };
        // What comes late by an old handle, and is no login, is not taken: it would only lead the browser back.
        if (change.attributes.is_empty() || jar.has_successor()) && !renews {
            return Ok(None);
        }
        let mut after = jar.held.clone();
        after.merge(&change);
        if renews {
            after.attributes.remove(SUCCEEDED);
        }
        self.make_room(&mut after, now_ms);
        if after.live(now_ms).next().is_none() {
            self.sessions.stores.merge(jar.handle, &after.ending(), now_ms, None, None).await?;
            counted.emptied.fetch_add(1, Ordering::Relaxed);
            return Ok(self.told(kind, "", None));
        }
        if renews {
            let fresh = Session { created_ms: now_ms, ..live_of(&after, now_ms) };
            let told = self.begin(kind, fresh, now_ms).await?;
            self.succeed(&jar, now_ms).await?;
            counted.renewed.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(told));
        }
        let stricter = strictest(&after, now_ms) > strictest(&jar.held, now_ms);
        let is_old = now_ms.saturating_sub(jar.held.created_ms) > MAX_AGE_S * 500;
        let again = stricter || (kind == Kind::Dated && is_old);
        let site = strictest(&after, now_ms);
        match self.put(jar.handle, after, now_ms).await? {
            Written::Done(_) if again => Ok(self.told(kind, &jar.name, site)),
            // Ended meanwhile: what is set late is not set.
            Written::Done(_) | Written::Conflict | Written::Over => Ok(None),
        }
    }

    /// Puts cookies into a new jar; returns the cookie that leads to it.
    async fn begin(&self, kind: Kind, held: Session, now_ms: u64) -> Result<HeaderValue, Trouble> {
        let name = cookie::new_secret().ok_or(Trouble::Durable)?;
        let handle = Handle::of_name(&name, PURPOSE).ok_or(Trouble::Durable)?;
        let site = strictest(&held, now_ms);
        self.put(handle, held, now_ms).await?;
        self.told(kind, &name, site).ok_or(Trouble::Durable)
    }

    /// Leaves the old jar to requests that are under way, for a while.
    async fn succeed(&self, jar: &Jar, now_ms: u64) -> Result<(), Trouble> {
        let version = self.sessions.versions.lock().next(now_ms);
        let mut last = live_of(&jar.held, now_ms);
        let ends_ms = now_ms + GRACE_MS;
        let mark = Attribute { version, ends_ms, value: Some(Vec::new()) };
        last.attributes.entry(SUCCEEDED.to_owned()).or_insert(mark);
        for attribute in last.attributes.values_mut() {
            let sooner = if attribute.ends_ms == 0 { ends_ms } else { attribute.ends_ms.min(ends_ms) };
            (attribute.version, attribute.ends_ms) = (version, sooner);
        }
        self.put(jar.handle, last, now_ms).await?;
        // Nothing of it can be read after that; this is so that nothing of it lies about, either.
        let (sessions, handle, ending) = (self.sessions.clone(), jar.handle, jar.held.ending());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(GRACE_MS)).await;
            let _ = sessions.stores.merge(handle, &ending, now_ms + GRACE_MS, None, None).await;
        });
        Ok(())
    }

    /// Forgets what was set first, where there is too much.
    fn make_room(&self, held: &mut Session, now_ms: u64) {
        loop {
            let (count, bytes) =
                held.live(now_ms).fold((0, 0), |(count, bytes), (_, value)| (count + 1, bytes + value.len()));
            if count <= COOKIES_MAX && bytes <= BYTES_MAX {
                return;
            }
            let oldest = held
                .live(now_ms)
                .min_by_key(|(_, value)| Kept::decode(value).map_or(0, |cookie| cookie.created_ms));
            let Some(oldest) = oldest.map(|(name, _)| name.to_owned()) else { return };
            tracing::warn!(cookie = %oldest, "the jar is full: what was set first is forgotten");
            if let Some(attribute) = held.attributes.get_mut(&oldest) {
                let version = self.sessions.versions.lock().next(now_ms);
                *attribute = Attribute { version, ends_ms: 0, value: None };
            }
        }
    }

    /// `Set-Cookie` for the browser; without a name: it is to forget its cookie.
    fn told(&self, kind: Kind, name: &str, strictest: Option<SameSite>) -> Option<HeaderValue> {
        let max_age = match kind {
            _ if name.is_empty() => Some(Duration::ZERO),
            Kind::Browser => None,
            Kind::Dated => Some(Duration::from_secs(MAX_AGE_S)),
        };
        let cookie = spec::Cookie {
            name: self.name(kind).into(),
            old_names: Vec::new(),
            max_age,
            secure: self.spec.secure,
            http_only: true,
            same_site: strictest.map_or(self.spec.same_site, |strictest| strictest.max(self.spec.same_site)),
        };
        cookie::set_cookie(&cookie, Some(name).filter(|name| !name.is_empty()))
    }
}

/// A jar that holds only what is there, and no marks of what was: nobody who knows the new handle can write late what was removed.
fn live_of(held: &Session, now_ms: u64) -> Session {
    let is_live = |attribute: &Attribute| {
        attribute.value.is_some() && (attribute.ends_ms == 0 || attribute.ends_ms > now_ms)
    };
    let attributes = held.attributes.iter().filter(|(_, attribute)| is_live(attribute));
    Session {
        attributes: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
        ..held.clone()
    }
}

/// The strictest that any of its cookies says of requests from other sites: the browser's one cookie has to keep the promise of all.
fn strictest(held: &Session, now_ms: u64) -> Option<SameSite> {
    held.live(now_ms).filter_map(|(_, value)| Kept::decode(value)?.same_site).max()
}
