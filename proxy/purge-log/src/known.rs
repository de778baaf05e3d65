//! What a stored response is known by, as far as purges may name it.

use std::sync::Arc;

use cache_semantics::key::{self, KeyUrl};

/// The route that stored a response and the surrogate tags it carries, and the epoch. Responses of one route without tags of their own share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    route: Arc<str>,
    /// Under which epoch of its cache it was stored.
    epoch: Option<Arc<str>>,
    /// Each with its length in two bytes before it.
    tags: Box<[u8]>,
}

impl Labels {
    /// The labels of a response. A tag beyond 64 KiB is left out; limits on tags are far below.
    pub fn new<'t>(route: Arc<str>, tags: impl IntoIterator<Item = &'t str>) -> Self {
        let mut packed = Vec::new();
        for tag in tags {
            if let Ok(len) = u16::try_from(tag.len()) {
                packed.extend_from_slice(&len.to_be_bytes());
                packed.extend_from_slice(tag.as_bytes());
            }
        }
        Self { route, epoch: None, tags: packed.into() }
    }

    /// The same, stored under this epoch.
    #[must_use]
    pub fn of_epoch(self, epoch: Option<Arc<str>>) -> Self {
        Self { epoch, ..self }
    }

    /// The epoch of its cache under which it was stored.
    #[must_use]
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// Likewise, to be shared.
    #[must_use]
    pub fn shared_epoch(&self) -> Option<Arc<str>> {
        self.epoch.clone()
    }

    /// The name of the route.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.tags;
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (tag, tail) = tail.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = tail;
            std::str::from_utf8(tag).ok()
        })
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.tags.len()
    }
}

/// All that a purge may name a stored response by.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    /// Its key, whole: scheme, authority, path and query as they were forwarded are in it.
    pub key: &'k [u8],
    /// The named cache it is in.
    pub cache: &'k str,
    /// The version of that cache under which it lies.
    pub version: u64,
    /// Route and tags.
    pub labels: &'k Labels,
}

impl<'k> Known<'k> {
    /// The URL in its key. `None`: the key is not one of ours, and no purge of a URL can name it.
    pub(crate) fn url(&self) -> Option<KeyUrl<'k>> {
        key::url(self.key)
    }
}
