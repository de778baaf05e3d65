//! Sessions for applications that keep none: the proxy holds them, the application speaks of them in header fields.
//!
//! ```text
//!  cookie ──→ handle (SHA-256) ──→ stores: Redis, else the durable one ──→ is it over? idle, absolute, logged out ──→ Session-Info, Session-Data ──→ origin
//!  client ←── Set-Cookie ←── both stores, one merge each ←── Session-Set, Session-Unset, Session-Control ←──────────────────────────────────┘
//! ```
//!
//! `vault.rs` keeps the cookies of applications that have sessions of their own, in the same stores.
//!
//! What a session is and how copies of it become one is in the crate `session-state`. `cookie.rs`: its name; `store.rs`: both stores together; `ends.rs`: what no store may bring back; `redis.rs`, `durable.rs` (`disk.rs` or `postgres/`): each; `seal.rs`:
//! values as stores see them. Nothing that depends on a session is stored in a shared cache: a request that carries one is not looked up, unless
//! what the origin is told of it is in the key, and a route that writes sessions does not cache.

pub mod cookie;
mod disk;
mod durable;
mod ends;
pub mod mac;
mod owed;
pub mod postgres;
mod redis;
mod seal;
pub mod spec;
mod store;
pub mod values;
pub mod vault;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use session_state::protocol::{self, Plain, Wish};
use session_state::{Clock as Versions, MARKS_MS, Over, Session, Standing};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle as Runtime;
use tokio::task::AbortHandle;

use self::cookie::Handle;
use self::disk::Disk;
use self::durable::Durable;
use self::ends::LOOK_EVERY;
use self::owed::Owed;
use self::redis::InRedis;
use self::seal::Keys;
use self::store::{Stores, Trouble, Written};
use crate::clock::{Clock, Now};
use crate::redis::Redis;

/// To the origin.
pub const INFO: HeaderName = HeaderName::from_static("session-info");
const DATA: HeaderName = HeaderName::from_static("session-data");
const MAC: HeaderName = HeaderName::from_static("session-mac");
/// With it, an origin asks for values that are too large for fields.
pub const TOKEN: HeaderName = HeaderName::from_static("session-token");
const SET: HeaderName = HeaderName::from_static("session-set");
const UNSET: HeaderName = HeaderName::from_static("session-unset");
const CONTROL: HeaderName = HeaderName::from_static("session-control");

/// What only the proxy and its origins say to each other.
pub static FIELDS: [HeaderName; 7] = [INFO, DATA, MAC, TOKEN, SET, UNSET, CONTROL];

/// Whether a field is one of them.
pub fn is_field(name: &HeaderName) -> bool {
    name.as_str().starts_with("session-") && FIELDS.contains(name)
}

/// How often it is seen to that both stores have all.
const SEND_EVERY: Duration = Duration::from_secs(1);

/// Sessions listed at once.
const LIST_MAX: u64 = 1_000;

/// `[session]` at work.
#[derive(Debug)]
pub struct Sessions {
    spec: Arc<spec::Session>,
    stores: Arc<Stores>,
    keys: Keys,
    tokens: Option<values::Tokens>,
    versions: Mutex<Versions>,
    counted: Counted,
    task: Option<AbortHandle>,
}

/// What is counted.
#[derive(Debug, Default)]
struct Counted {
    begun: AtomicU64,
    read: AtomicU64,
    over: AtomicU64,
    written: AtomicU64,
    conflicts: AtomicU64,
    refused: AtomicU64,
    trouble: AtomicU64,
    vault: vault::Counted,
}

/// The session of a request.
#[derive(Debug, Clone)]
pub enum Opened {
    /// The request names none, or one that is over; `stale`: its cookie is to be forgotten.
    None {
        /// There is a cookie, and nothing behind it: that is sure.
        stale: bool,
    },
    /// It has one.
    Some(Box<(Handle, Session)>),
    /// Nobody can tell. The request goes on without, and its cookie stays.
    Unknown,
}

/// These attributes of a session, as plugins read them.
pub fn attributes(opened: &Opened, names: &[Box<str>], now: Now) -> Vec<(String, Plain)> {
    let Opened::Some(found) = opened else { return Vec::new() };
    let live = found.1.live(millis(now)).filter(|(name, _)| names.iter().any(|wanted| **wanted == **name));
    live.filter_map(|(name, value)| Some((name.to_owned(), protocol::plain(value)?))).collect()
}

/// These attributes of a session, those that there are, each with the value that an origin is told.
pub fn values<'o>(opened: &'o Opened, names: &[Box<str>], now: Now) -> Vec<(&'o str, &'o [u8])> {
    let Opened::Some(found) = opened else { return Vec::new() };
    found.1.live(millis(now)).filter(|(name, _)| names.iter().any(|wanted| **wanted == **name)).collect()
}

/// What an origin is told of a session, where it may know of these attributes and of nothing else.
pub fn tell_some(opened: &Opened, names: &[Box<str>], now: Now) -> Option<(HeaderName, HeaderValue)> {
    let Opened::Some(found) = opened else { return None };
    let mut session = found.1.clone();
    session.attributes.retain(|name, _| names.iter().any(|wanted| **wanted == **name));
    let (_, data) = protocol::tell(&session, "", false, millis(now));
    Some((DATA, HeaderValue::try_from(data?).ok()?))
}

/// Why a name is no session's.
#[derive(Debug, Clone, Copy)]
enum NotThere {
    /// No store knows it.
    Forgotten,
    /// It is over by itself.
    Over(Over),
    /// All of whom it belonged to were ended.
    LoggedOut,
}

impl NotThere {
    const fn word(self) -> &'static str {
        match self {
            Self::Forgotten => "forgotten",
            Self::Over(Over::Ended) => "ended",
            Self::Over(Over::Expired) => "expired",
            Self::Over(Over::Idle) => "idle",
            Self::LoggedOut => "logged-out",
        }
    }
}

/// What an origin's wish came to.
#[derive(Debug)]
pub enum Settled {
    /// Nothing is to be said to the client.
    Done,
    /// This cookie.
    Cookie(HeaderValue),
    /// It asked to be refused if somebody else had written meanwhile, and somebody has.
    Conflict,
    /// No store has taken it.
    Lost,
}

/// A session, for people: no value is shown.
#[derive(Debug, serde::Serialize)]
pub struct Shown {
    /// Its handle, which is not its name.
    pub handle: String,
    /// Whether it can be used.
    pub live: bool,
    /// Why not: `ended`, `expired`, `idle`, `logged-out`, `forgotten`; or `unknown`, where a store does not answer.
    pub over: Option<&'static str>,
    /// Whom it belongs to.
    pub user: Option<String>,
    /// When it was begun, last used, and ends at the latest: seconds since 1970.
    pub begun: u64,
    /// Likewise.
    pub used: u64,
    /// Likewise.
    pub ends: u64,
    /// Names of its attributes, and the bytes of their values.
    pub attributes: Vec<(String, usize)>,
}

/// How the durable store is.
#[derive(Debug)]
pub struct DurableState {
    /// Whether it can be asked, as far as that is known.
    pub up: bool,
    /// Changes that Redis has taken and it has not, as many as are remembered.
    pub owed: usize,
    /// Those for which there was no room.
    pub forgotten: u64,
    /// What came of asking it, where it is a server.
    pub asked: Option<[(&'static str, u64); 4]>,
}

fn millis(now: Now) -> u64 {
    let since = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn digest(user: &str) -> [u8; 32] {
    Sha256::digest(user.as_bytes()).into()
}

impl Sessions {
    /// Opens the stores.
    pub fn open(
        spec: Arc<spec::Session>,
        redis: Option<Arc<Redis>>,
        folder: Option<&Path>,
        clock: &Arc<dyn Clock>,
        background: &Runtime,
    ) -> Arc<Self> {
        let durable = durable_store(&spec, folder, clock, background);
        let tells_ends = durable.as_ref().is_some_and(|durable| !durable.is_shared());
        let in_redis = redis
            .map(|redis| InRedis::new(redis, spec.prefix.clone(), spec.budget, spec.hold_ms, tells_ends));
        // What a PostgreSQL misses is kept on this machine's own disk, where there is one.
        let owed = Owed::open(folder.filter(|_| durable.as_ref().is_some_and(Durable::is_shared)));
        let stores = Arc::new(Stores::new(in_redis, durable.map(Arc::new), owed));
        let task = stores
            .redis
            .is_some()
            .then(|| background.spawn(keep_both_up_to_date(stores.clone(), clock.clone())).abort_handle());
        let keys = Keys::new(&spec.keys);
        let tokens = if spec.value_bytes > 0 { values::Tokens::new() } else { None };
        Arc::new(Self {
            spec,
            stores,
            keys,
            tokens,
            versions: Mutex::default(),
            counted: Counted::default(),
            task,
        })
    }

    /// Whether these are they: then a reload keeps them.
    pub fn are(&self, spec: &spec::Session, redis: Option<&Arc<Redis>>) -> bool {
        let same = match (&self.stores.redis, redis) {
            (Some(mine), Some(other)) => Arc::ptr_eq(&mine.redis, other),
            (None, None) => true,
            _ => false,
        };
        same && *self.spec == *spec
    }

    /// The name of the cookie.
    fn cookie_name(&self) -> &str {
        &self.spec.cookie.name
    }

    /// Whether a cookie of this name carries a session's name, or once did.
    pub fn is_own(&self, name: &[u8]) -> bool {
        self.names().any(|own| own.as_bytes() == name)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let old = self.spec.cookie.old_names.iter().map(|name| &**name);
        std::iter::once(self.cookie_name()).chain(old)
    }

    /// The name of the cookie that a request carries, the present one before those of old.
    fn given(&self, headers: &HeaderMap) -> Option<&str> {
        self.names().find(|name| cookie::is_given(headers, name))
    }

    /// Whether a request names a session.
    pub fn is_named(&self, headers: &HeaderMap) -> bool {
        self.given(headers).is_some()
    }

    /// What a browser is told that still has the cookie under a name of old; `renamed`: it is told of the present one anyway.
    pub fn moved(&self, headers: &HeaderMap, renamed: bool) -> Vec<HeaderValue> {
        let given = |name: &&Arc<str>| cookie::is_given(headers, name);
        let mut told = Vec::new();
        if !renamed
            && let Some(name) = self.given(headers).filter(|name| *name != self.cookie_name())
            && let Some(secret) = cookie::only_value(headers, name)
        {
            told.extend(cookie::set_cookie(&self.spec.cookie, Some(&secret)));
        }
        for old in self.spec.cookie.old_names.iter().filter(given) {
            let cookie = spec::Cookie { name: old.clone(), ..self.spec.cookie.clone() };
            told.extend(cookie::set_cookie(&cookie, None));
        }
        told
    }

    /// The session that a request names.
    pub async fn of_request(&self, headers: &HeaderMap, now: Now) -> Opened {
        let Some(name) = self.given(headers) else { return Opened::None { stale: false } };
        let Some(handle) = cookie::handle(headers, name) else {
            return Opened::None { stale: true };
        };
        let now_ms = millis(now);
        match self.look_up(handle, now_ms).await {
            Err(_) => {
                self.counted.trouble.fetch_add(1, Ordering::Relaxed);
                Opened::Unknown
            }
            Ok(Err(why)) => {
                self.counted.over.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(session = %handle.hex(), over = why.word(), "a session that is over is asked for");
                Opened::None { stale: true }
            }
            Ok(Ok(session)) => {
                self.counted.read.fetch_add(1, Ordering::Relaxed);
                self.versions.lock().seen(session.version(), now_ms);
                if session.standing(now_ms, &self.spec.lifetimes) == (Standing::Live { touch: true }) {
                    // One that is lost is made up for by the next.
                    let mut used = session.clone();
                    used.merge(&session.change(now_ms));
                    let _ = self.put(handle, &used, now_ms, None).await;
                }
                Opened::Some(Box::new((handle, session)))
            }
        }
    }

    /// A session that can be used, its values opened; `Ok(None)`: there is none, and that is sure.
    async fn read(&self, handle: Handle, now_ms: u64) -> Result<Option<Session>, Trouble> {
        Ok(self.look_up(handle, now_ms).await?.ok())
    }

    /// Likewise, and why there is none.
    async fn look_up(&self, handle: Handle, now_ms: u64) -> Result<Result<Session, NotThere>, Trouble> {
        let Some(sealed) = self.stores.read(handle, now_ms).await? else {
            return Ok(Err(NotThere::Forgotten));
        };
        if let Standing::Over(why) = sealed.standing(now_ms, &self.spec.lifetimes) {
            return Ok(Err(NotThere::Over(why)));
        }
        let mut session = self.opened(&handle, sealed);
        session.forget_marks(now_ms);
        if let (Some(user), Some((version, _))) = (session.user(), &session.subject)
            && self.stores.logged_out(digest(user)).await? >= *version
        {
            return Ok(Err(NotThere::LoggedOut));
        }
        Ok(Ok(session))
    }

    /// Why a session cannot be used, in a word; `None`: it can.
    async fn why_not(&self, handle: Handle, now_ms: u64) -> Option<&'static str> {
        match self.look_up(handle, now_ms).await {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some(why.word()),
            Err(_) => Some("unknown"),
        }
    }

    fn opened(&self, handle: &Handle, mut session: Session) -> Session {
        session.subject = session.subject.and_then(|(version, user)| {
            let bytes = base64_of(&user).unwrap_or_else(|| user.into_bytes());
            let opened = self.keys.open(handle, "", &bytes)?;
            Some((version, String::from_utf8(opened).ok()?))
        });
        for (name, attribute) in &mut session.attributes {
            // One that cannot be opened is not there.
            attribute.value = attribute.value.take().and_then(|value| self.keys.open(handle, name, &value));
        }
        session
    }

    fn sealed(&self, handle: &Handle, mut session: Session) -> Option<Session> {
        if let Some((version, user)) = session.subject.take() {
            let sealed = self.keys.seal(handle, "", user.as_bytes())?;
            let text = if sealed == user.as_bytes() { user } else { text_of(&sealed) };
            session.subject = Some((version, text));
        }
        for (name, attribute) in &mut session.attributes {
            if let Some(value) = attribute.value.take() {
                attribute.value = Some(self.keys.seal(handle, name, &value)?);
            }
        }
        Some(session)
    }

    /// What the origin is told; and it is not told the session's name.
    pub fn tell(&self, opened: &Opened, now: Now) -> Vec<(HeaderName, HeaderValue)> {
        let (info, data) = match opened {
            Opened::None { .. } => ("new=?1".to_owned(), None),
            Opened::Unknown => ("new=?0, unavailable".to_owned(), None),
            Opened::Some(found) => protocol::tell(&found.1, &found.0.base64(), false, millis(now)),
        };
        let fields = [(INFO, Some(info)), (DATA, data)].into_iter();
        fields.filter_map(|(name, text)| Some((name, HeaderValue::try_from(text?).ok()?))).collect()
    }

    /// Whether an origin's answer speaks of sessions.
    pub fn is_spoken_of(headers: &HeaderMap) -> bool {
        [SET, UNSET, CONTROL].iter().any(|name| headers.contains_key(name))
    }

    /// Does what an origin's answer wishes. When this returns, the client's next request sees it, on any proxy. `opened` was so when the request came, at `then`.
    pub async fn settle(&self, opened: &Opened, then: Now, headers: &HeaderMap, now: Now) -> Settled {
        let field = |name: &HeaderName| {
            let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            (!lines.is_empty()).then(|| lines.join(&b", "[..]))
        };
        let wish = match Wish::parse(
            field(&SET).as_deref(),
            field(&UNSET).as_deref(),
            field(&CONTROL).as_deref(),
        ) {
            Ok(wish) => wish,
            Err(error) => {
                self.counted.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "what the origin says of the session is not understood; nothing of it is done");
                return Settled::Done;
            }
        };
        let settled = match self.again(opened, then, now).await {
            // It has ended meanwhile: what is saved late is not saved.
            Ok(Some(Opened::None { .. })) => Ok(Settled::Done),
            Ok(again) => self.obey(again.as_ref().unwrap_or(opened), &wish, millis(now)).await,
            Err(trouble) => Err(trouble),
        };
        if matches!(settled, Ok(Settled::Conflict)) {
            self.counted.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        settled.unwrap_or_else(|error| {
            self.counted.trouble.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a session could not be saved");
            Settled::Lost
        })
    }

    /// What there is of a session now, if the request has taken so long that marks of what it saw may be forgotten soon.
    async fn again(&self, opened: &Opened, then: Now, now: Now) -> Result<Option<Opened>, Trouble> {
        let Opened::Some(found) = opened else { return Ok(None) };
        if millis(now).saturating_sub(millis(then)) < MARKS_MS / 60 {
            return Ok(None);
        }
        let held = self.read(found.0, millis(now)).await?;
        Ok(Some(held.map_or(Opened::None { stale: true }, |held| Opened::Some(Box::new((found.0, held))))))
    }

    async fn obey(&self, opened: &Opened, wish: &Wish, now_ms: u64) -> Result<Settled, Trouble> {
        let forget = || cookie::set_cookie(&self.spec.cookie, None).map_or(Settled::Done, Settled::Cookie);
        let (handle, session) = match opened {
            Opened::Some(found) => (Some(found.0), found.1.clone()),
            Opened::None { stale } => {
                if wish.destroy || (wish.set.is_empty() && wish.user.is_none()) {
                    return Ok(if *stale { forget() } else { Settled::Done });
                }
                (None, Session::begin(now_ms, &self.spec.lifetimes))
            }
            // Whose session it would be is not known: nothing may be written, and nothing begun.
            Opened::Unknown => return Err(Trouble::Redis),
        };
        if let (Some(handle), true) = (handle, wish.destroy || wish.logout_everywhere) {
            if let (Some(user), true) = (session.user(), wish.logout_everywhere) {
                self.log_out(user, now_ms).await?;
            }
            self.stores.merge(handle, &session.ending(), now_ms, None, None).await?;
            self.drop_values(&session, now_ms).await;
            self.counted.over.fetch_add(1, Ordering::Relaxed);
            return Ok(forget());
        }
        if wish.is_empty() {
            return Ok(Settled::Done);
        }
        let version = self.versions.lock().next(now_ms);
        let change = wish.change(&session, version, now_ms);
        let mut after = session.clone();
        after.merge(&change);
        if !protocol::fits(&after, now_ms) {
            self.counted.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("the session is too large; nothing is changed");
            return Ok(Settled::Done);
        }
        // A session that changes hands gets a new name, and nothing leads from the old one to it: whoever has planted or seen the old one has nothing.
        let changes_hands =
            wish.user.as_deref().is_some_and(|user| session.user().unwrap_or_default() != user);
        let (Some(handle), false) = (handle, wish.rotate || changes_hands) else {
            let (name, new) = cookie::new_name().ok_or(Trouble::Durable)?;
            // What others have written since the request came goes along; nobody can write it to the new one.
            if let Some(old) = handle
                && let Some(held) = self.read(old, now_ms).await?
            {
                after.merge(&held);
            }
            after.created_ms = now_ms;
            after.seen_ms = now_ms;
            let fresh = self.put(new, &after, now_ms, None).await?;
            if let (Some(user), Some(redis)) = (after.user(), &self.stores.redis) {
                redis.note(&digest(user), &new, after.ends_ms, now_ms).await;
            }
            if let (Some(old), Written::Done(_)) = (handle, &fresh) {
                self.stores.merge(old, &session.ending(), now_ms, None, None).await?;
            }
            self.counted.begun.fetch_add(1, Ordering::Relaxed);
            return Ok(
                cookie::set_cookie(&self.spec.cookie, Some(&name)).map_or(Settled::Lost, Settled::Cookie)
            );
        };
        match self.put(handle, &after, now_ms, wish.if_version.filter(|_| wish.reject)).await? {
            Written::Done(_) => Ok(Settled::Done),
            Written::Conflict => Ok(Settled::Conflict),
            // Somebody has logged out meanwhile: what is saved late is not saved.
            Written::Over => Ok(forget()),
        }
    }

    /// Saves all that is known of a session. What others have written since is newer by its versions and stays; and a store that has forgotten the session, or never had it, has all of it then.
    async fn put(
        &self,
        handle: Handle,
        whole: &Session,
        now_ms: u64,
        if_version: Option<u64>,
    ) -> Result<Written, Trouble> {
        let user = whole.user().map(digest);
        let mut whole = whole.clone();
        whole.forget_marks(now_ms);
        let sealed = self.sealed(&handle, whole).ok_or(Trouble::Durable)?;
        let written = self.stores.merge(handle, &sealed, now_ms, if_version, user).await?;
        self.counted.written.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    async fn log_out(&self, user: &str, now_ms: u64) -> Result<(), Trouble> {
        let version = self.versions.lock().next(now_ms);
        self.stores.log_out(digest(user), version, now_ms + self.spec.lifetimes.absolute_ms).await
    }

    // ---------------------------------------------------------------- for people

    /// Sessions that are known here: all, or those of somebody.
    pub async fn list(&self, user: Option<&str>, now: Now) -> Result<Vec<Shown>, String> {
        let now_ms = millis(now);
        let found: Vec<(Handle, Session)> = match (&self.stores.durable, &self.stores.redis, user) {
            (Some(durable), ..) => {
                durable.list(user.map(digest), LIST_MAX).await.map_err(|error| error.to_string())?
            }
            (None, Some(redis), Some(user)) => {
                let handles = redis.list(&digest(user), LIST_MAX).await.map_err(|error| error.to_string())?;
                let mut found = Vec::new();
                for handle in handles {
                    if let Ok(Some(session)) = redis.read(&handle).await {
                        found.push((handle, session));
                    }
                }
                found
            }
            _ => return Err("without a durable store, sessions are listed by user only".to_owned()),
        };
        let mut shown = Vec::new();
        for (handle, session) in found {
            if session.attributes.contains_key(values::VALUE) {
                continue;
            }
            let over = self.why_not(handle, now_ms).await;
            shown.push(self.shown(handle, session, over));
        }
        Ok(shown)
    }

    fn shown(&self, handle: Handle, sealed: Session, over: Option<&'static str>) -> Shown {
        let session = self.opened(&handle, sealed);
        let size = |(name, attribute): (&String, &session_state::Attribute)| {
            Some((name.clone(), attribute.value.as_ref()?.len()))
        };
        Shown {
            handle: handle.hex(),
            live: over.is_none(),
            over,
            user: session.user().map(str::to_owned),
            begun: session.created_ms / 1_000,
            used: session.seen_ms / 1_000,
            ends: session.ends_ms / 1_000,
            attributes: session.attributes.iter().filter_map(size).collect(),
        }
    }

    /// One of them. `Ok(None)`: there is none.
    pub async fn show(&self, handle: Handle, now: Now) -> Result<Option<Shown>, String> {
        let now_ms = millis(now);
        let found = self.stores.read(handle, now_ms).await.map_err(|error| error.to_string())?;
        let over = self.why_not(handle, now_ms).await;
        Ok(found.map(|session| self.shown(handle, session, over)))
    }

    /// Ends one. False: there is none.
    pub async fn kill(&self, handle: Handle, now: Now) -> Result<bool, String> {
        let now_ms = millis(now);
        let found = self.stores.read(handle, now_ms).await.map_err(|error| error.to_string())?;
        let Some(session) = found.filter(|session| !session.ended) else { return Ok(false) };
        let ended = self.stores.merge(handle, &session.ending(), now_ms, None, None).await;
        ended.map(|_| true).map_err(|error| error.to_string())
    }

    /// Ends all sessions of somebody.
    pub async fn kill_user(&self, user: &str, now: Now) -> Result<(), String> {
        self.log_out(user, millis(now)).await.map_err(|error| error.to_string())
    }

    /// How the durable store is, where there is one.
    pub fn durable(&self) -> Option<DurableState> {
        let (up, owed, forgotten) = self.stores.durable_state()?;
        Some(DurableState { up, owed, forgotten, asked: self.stores.durable_counts() })
    }

    /// What has happened so far.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = &self.counted;
        let own = [
            ("begun", &counted.begun),
            ("read", &counted.read),
            ("over", &counted.over),
            ("written", &counted.written),
            ("conflict", &counted.conflicts),
            ("not-understood", &counted.refused),
            ("trouble", &counted.trouble),
        ]
        .map(|(word, counter)| (word, counter.load(Ordering::Relaxed)));
        own.into_iter().chain(self.stores.ends.counts()).chain(counted.vault.all())
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A sealed user is no text: in the stores it is base64 behind a mark that no user's name begins with.
const SEALED: char = '\u{1}';

fn text_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    format!("{SEALED}{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn base64_of(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text.strip_prefix(SEALED)?).ok()
}

/// PostgreSQL, where one is configured; else the folder.
fn durable_store(
    spec: &spec::Session,
    folder: Option<&Path>,
    clock: &Arc<dyn Clock>,
    background: &Runtime,
) -> Option<Durable> {
    #[cfg(feature = "postgres")]
    if let Some(spec) = spec.postgres.as_ref().filter(|_| spec.durable) {
        return Some(Durable::Postgres(postgres::Postgres::start(spec.clone(), clock.clone(), background)));
    }
    #[cfg(not(feature = "postgres"))]
    let _ = (clock, background);
    let report = |error: &crate::durable::StoreError| {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, cause, "sessions do not outlive Redis: the durable store cannot be opened");
    };
    Disk::open(folder.filter(|_| spec.durable)?).inspect_err(report).ok().map(Durable::Disk)
}

/// What each store has not taken is handed over when it is back.
async fn keep_both_up_to_date(stores: Arc<Stores>, clock: Arc<dyn Clock>) {
    let paying = async {
        loop {
            tokio::time::sleep(SEND_EVERY).await;
            stores.pay(millis(clock.now())).await;
        }
    };
    tokio::join!(keep_sending(stores.clone(), clock.clone()), paying);
}

/// As soon as Redis is there, it is sent what it has not taken, and told of all ends that it may have forgotten; again, if it did not take all. And this disk hears what others have ended.
async fn keep_sending(stores: Arc<Stores>, clock: Arc<dyn Clock>) {
    let Some(redis) = stores.redis.as_ref().map(|redis| redis.redis.clone()) else { return };
    let pause = if stores.hears_ends() { LOOK_EVERY } else { SEND_EVERY };
    let mut number = 0;
    loop {
        let link = redis.next_link(number).await;
        number = link.number();
        let mut sent: Option<Instant> = None;
        loop {
            let now_ms = millis(clock.now());
            let is_due = sent.is_none_or(|sent| sent.elapsed() >= SEND_EVERY);
            if is_due {
                stores.send(now_ms).await;
                sent = Some(Instant::now());
            }
            if stores.look(now_ms).await {
                stores.send(now_ms).await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = link.ended() => break,
            }
        }
    }
}
