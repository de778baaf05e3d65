//! Values as stores see them: sealed with AES-256-GCM, where keys are configured.
//!
//! A sealed value names its key by four bytes of the key's digest, so that keys can be changed: the first seals, all open. Session and attribute are bound into it: a value cannot be moved
//! to another session, or to another name.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::cookie::Handle;
use crate::config::model::Secret;

/// What a sealed value begins with. No item of RFC 9651 begins so.
const MARK: u8 = 0x01;
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;

/// The keys. Without any, values stay as they are.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<([u8; ID_BYTES], LessSafeKey)>);

impl Keys {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let key = |Secret(secret): &Secret| {
            // A secret is a text of any length: what is long enough comes out of a digest, and that of another purpose names it.
            let bytes = Sha256::digest([b"weir session key\0", secret.as_bytes()].concat());
            let id = Sha256::digest([b"weir session key id\0", secret.as_bytes()].concat());
            let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
            Some(([id[0], id[1], id[2], id[3]], LessSafeKey::new(key)))
        };
        Self(secrets.iter().filter_map(key).collect())
    }

    /// Seals a value; `None`: it cannot be, and must not be stored in the open.
    pub(super) fn seal(&self, handle: &Handle, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        let Some((id, key)) = self.0.first() else { return Some(value.to_vec()) };
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = value.to_vec();
        let about = Aad::from([&handle.0, name.as_bytes()].concat());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about, &mut sealed).ok()?;
        Some([&[MARK][..], id, &nonce, &sealed].concat())
    }

    /// Opens a value; `None`: it was sealed with a key that is not known any more, or tampered with.
    pub(super) fn open(&self, handle: &Handle, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        let Some(rest) = value.strip_prefix(&[MARK]) else {
            // What was stored before there were keys.
            return Some(value.to_vec());
        };
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (_, key) = self.0.iter().find(|(known, _)| known == id)?;
        let about = Aad::from([&handle.0, name.as_bytes()].concat());
        let mut opened = sealed.to_vec();
        let value = key.open_in_place(Nonce::assume_unique_for_key(*nonce), about, &mut opened).ok()?;
        Some(value.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_still_open_and_nothing_can_be_moved_or_changed() {
        let secret = |text: &str| Secret(text.to_owned());
        let (old, both) = (Keys::new(&[secret("old")]), Keys::new(&[secret("new"), secret("old")]));
        let (one, other) = (Handle([1; 32]), Handle([2; 32]));
        let sealed = old.seal(&one, "tier", b"\"gold\"").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"gold"));
        assert_eq!(both.open(&one, "tier", &sealed).unwrap(), b"\"gold\"");
        assert_eq!(
            old.open(&one, "tier", &both.seal(&one, "tier", b"1").unwrap()),
            None,
            "a key that is not known"
        );
        assert_eq!(both.open(&other, "tier", &sealed), None, "of another session");
        assert_eq!(both.open(&one, "user", &sealed), None, "under another name");
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(both.open(&one, "tier", &changed), None);
        let plain = Keys::default();
        assert_eq!(plain.seal(&one, "tier", b"1").unwrap(), b"1");
        assert_eq!(both.open(&one, "tier", b"1").unwrap(), b"1", "from before there were keys");
    }
}
