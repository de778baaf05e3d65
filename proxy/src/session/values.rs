//! Values that are too large for header fields. The session holds a reference; the value lies beside it in the same stores, sealed like everything else, and the origin reads and writes it over
//! the admin listener, with a token that it is given with the request.
//!
//! A value is never changed: a new one gets a name of its own, and the reference is what is merged. So a value survives that its session gets a new name, and two that are written at once do not mix.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::HeaderValue;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use session_state::protocol::{self, VALUE_MAX};
use session_state::{Attribute, Session};

use super::cookie::Handle;
use super::spec::Use;
use super::store::{Trouble, Written};
use super::{Opened, Sessions, millis};
use crate::clock::Now;

/// So long a token is good: longer than a request should take.
const TOKEN_MS: u64 = 600_000;
/// The attribute that holds a value. No name of an application begins so.
pub(super) const VALUE: &str = ";value";
/// What a reference begins with: an item of RFC 9651 that no application can set, for it may give no such parameter.
const REFERENCE: &[u8] = b"large;size=";

/// Seals tokens; another process knows nothing of them.
#[derive(Debug)]
pub(super) struct Tokens(LessSafeKey);

impl Tokens {
    pub(super) fn new() -> Option<Self> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).ok()?;
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?)))
    }

    fn seal(&self, handle: &Handle, writes: bool, ends_ms: u64) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = [&handle.0[..], &ends_ms.to_be_bytes(), &[u8::from(writes)]].concat();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Whose session a token is for, and whether it may be written.
    fn open(&self, token: &str, now_ms: u64) -> Option<(Handle, bool)> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let unique = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(unique, Aad::empty(), sealed).ok()?;
        let (handle, rest) = opened.split_first_chunk::<32>()?;
        let (ends_ms, writes) = rest.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*ends_ms) > now_ms).then_some((Handle(*handle), writes == [1]))
    }
}

/// What an origin asks about a value.
#[derive(Debug)]
pub enum ValueAsk {
    /// Give it.
    Read,
    /// Set it.
    Write(Vec<u8>),
    /// Remove it.
    Remove,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSaid {
    /// It.
    Value(Vec<u8>),
    /// What was asked is done.
    Done,
    /// There is none.
    Missing,
    /// The token is none, or not any more, or does not allow it; or the session is over.
    Denied,
    /// The name cannot be one.
    BadName,
    /// So many bytes at most.
    TooLarge(u64),
    /// No store answers.
    Unavailable,
}

/// Where a value lies, and how long it is; `None`: it stands in the attribute itself.
fn referred(value: &[u8]) -> Option<Handle> {
    let rest = value.strip_prefix(REFERENCE)?;
    let (_, place) = std::str::from_utf8(rest).ok()?.split_once(";at=:")?;
    Some(Handle(STANDARD.decode(place.strip_suffix(':')?).ok()?.try_into().ok()?))
}

impl Sessions {
    /// What an origin may ask for values with, during this request.
    pub fn token(&self, opened: &Opened, used: Use, now: Now) -> Option<HeaderValue> {
        let (Opened::Some(found), Some(tokens)) = (opened, &self.tokens) else { return None };
        let token = tokens.seal(&found.0, used == Use::Write, millis(now) + TOKEN_MS)?;
        HeaderValue::try_from(token).ok()
    }

    /// Answers an origin that asks about a value.
    pub async fn value(&self, token: &str, name: &str, ask: ValueAsk, now: Now) -> ValueSaid {
        let now_ms = millis(now);
        let Some((handle, writes)) = self.tokens.as_ref().and_then(|tokens| tokens.open(token, now_ms))
        else {
            return ValueSaid::Denied;
        };
        if !writes && !matches!(ask, ValueAsk::Read) {
            return ValueSaid::Denied;
        }
        if !protocol::is_name(name) {
            return ValueSaid::BadName;
        }
        self.about_value(handle, name, ask, now_ms).await.unwrap_or(ValueSaid::Unavailable)
    }

    async fn about_value(
        &self,
        handle: Handle,
        name: &str,
        ask: ValueAsk,
        now_ms: u64,
    ) -> Result<ValueSaid, Trouble> {
        let Some(session) = self.read(handle, now_ms).await? else { return Ok(ValueSaid::Denied) };
        let known = session.live(now_ms).find(|(known, _)| *known == name).map(|(_, value)| value.to_vec());
        let place = known.as_deref().and_then(referred);
        let value = match ask {
            ValueAsk::Read => return self.read_value(known, place, now_ms).await,
            ValueAsk::Remove if known.is_none() => return Ok(ValueSaid::Missing),
            ValueAsk::Remove => None,
            ValueAsk::Write(value) => {
                let most = self.spec.value_bytes;
                if value.len() as u64 > most {
                    return Ok(ValueSaid::TooLarge(most));
                }
                Some(self.keep_value(&session, value, now_ms).await?)
            }
        };
        let version = self.versions.lock().next(now_ms);
        let mut after = session.clone();
        let mut change = session.change(now_ms);
        change.attributes.insert(name.to_owned(), Attribute { version, ends_ms: 0, value });
        after.merge(&change);
        if !protocol::fits(&after, now_ms) {
            return Ok(ValueSaid::TooLarge(protocol::TOTAL_MAX as u64));
        }
        match self.put(handle, &after, now_ms, None).await? {
            Written::Done(_) => {}
            Written::Conflict | Written::Over => return Ok(ValueSaid::Denied),
        }
        if let Some(place) = place {
            self.drop_value(place, &session, now_ms).await;
        }
        Ok(ValueSaid::Done)
    }

    async fn read_value(
        &self,
        known: Option<Vec<u8>>,
        place: Option<Handle>,
        now_ms: u64,
    ) -> Result<ValueSaid, Trouble> {
        let Some(place) = place else { return Ok(known.map_or(ValueSaid::Missing, ValueSaid::Value)) };
        let found = self.stores.read(place, now_ms).await?.map(|sealed| self.opened(&place, sealed));
        let value = found.and_then(|mut held| held.attributes.remove(VALUE)?.value);
        Ok(value.map_or(ValueSaid::Missing, ValueSaid::Value))
    }

    /// Puts a value beside its session; returns the reference.
    async fn keep_value(&self, session: &Session, value: Vec<u8>, now_ms: u64) -> Result<Vec<u8>, Trouble> {
        let mut place = Handle([0; 32]);
        SystemRandom::new().fill(&mut place.0).map_err(|_| Trouble::Durable)?;
        let reference =
            [REFERENCE, format!("{};at=:{}:", value.len(), STANDARD.encode(place.0)).as_bytes()].concat();
        debug_assert!(reference.len() < VALUE_MAX, "a reference is an attribute");
        let version = self.versions.lock().next(now_ms);
        // It lasts as long as its session may, also while nobody uses either.
        let mut held = Session { seen_ms: session.ends_ms, ..session.change(now_ms) };
        held.attributes.insert(VALUE.to_owned(), Attribute { version, ends_ms: 0, value: Some(value) });
        self.put(place, &held, now_ms, None).await?;
        Ok(reference)
    }

    async fn drop_value(&self, place: Handle, session: &Session, now_ms: u64) {
        // What is not dropped now goes when its session would have ended; nobody is referred to it any more.
        let _ = self.stores.merge(place, &session.ending(), now_ms, None, None).await;
    }

    /// Drops all values of a session that has ended.
    pub(super) async fn drop_values(&self, session: &Session, now_ms: u64) {
        for place in session.live(now_ms).filter_map(|(_, value)| referred(value)).collect::<Vec<_>>() {
            self.drop_value(place, session, now_ms).await;
        }
    }
}
