//! What is stored, and where.
//!
//! A stored response is immutable. What has to change (a freshened head, a new encoding, one more part) is built beside it and swapped in.

pub mod head;
pub mod memory;
pub mod shared;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cache_semantics::negotiate::Coding;
use cache_semantics::range::Part;
use cache_semantics::storable::Terms;
use cache_semantics::vary::Variant;
use http::StatusCode;

use crate::body::Body;
use crate::config::model;
use crate::purge::{Facts, Labels, Position, Stamp, Verdict};
pub use head::StoredHead;

/// Content up to this many bytes lies in one allocation with its head; larger content stays in pieces, so that nothing large is copied at once.
pub const PACKED_MAX: usize = 64 << 10;

/// A response as it is stored.
#[derive(Debug)]
pub struct StoredResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without `Content-Length`: content has a length of its own.
    pub head: StoredHead,
    /// Its content.
    pub content: Content,
    /// Which part of the representation the content is; `None`: the whole.
    pub part: Option<Box<Part>>,
    /// The terms on which it may be reused.
    pub terms: Terms,
    /// What it varies on, and what its request said there.
    pub variant: Variant,
    /// Its route and surrogate tags: what purges know it by, beside its key.
    pub labels: Arc<Labels>,
    /// Where in the log of purges its fetch began.
    pub position: Position,
    /// The number of the newest purge when its fetch began; later, up to where it has been found valid since.
    checked: AtomicU64,
    /// Its content in other encodings, made here.
    pub encoded: Encodings,
}

/// Content as it is stored.
#[derive(Debug, Clone)]
pub enum Content {
    /// Behind the fields, in the head's own allocation.
    Packed,
    /// In pieces of its own.
    Pieces {
        /// The pieces in order.
        pieces: Arc<[Bytes]>,
    },
}

/// Which encodings may be made of a response, and which have been.
#[derive(Debug, Clone, Default)]
pub enum Encodings {
    /// The content is served as it is.
    #[default]
    Never,
    /// Text that is worth compressing; those that have been asked for.
    Made(Box<[Encoded]>),
}

/// The same response, encoded here.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The coding.
    pub coding: Coding,
    /// Its fields, with the content behind them. Empty: it did not get smaller, so it is served as it is.
    pub head: Option<StoredHead>,
}

/// Keeps responses alive that are on their way to a tier behind memory, as far as there is room for them: memory may have evicted them when their turn comes.
#[derive(Debug, Clone, Default)]
pub struct Carrying(Arc<AtomicU64>);

/// One of them.
#[derive(Debug)]
pub struct Carried {
    stored: Arc<StoredResponse>,
    bytes: u64,
    of: Carrying,
}

/// Bytes that are carried at most by one tier.
const CARRIED_BYTES_MAX: u64 = 32 << 20;

impl Carrying {
    /// Takes one along. `None`: there is no room, and it has to be in memory still.
    pub fn take(&self, stored: &Arc<StoredResponse>) -> Option<Carried> {
        let bytes = stored.memory_bytes();
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let carried = Carried { stored: stored.clone(), bytes, of: self.clone() };
        (before + bytes <= CARRIED_BYTES_MAX).then_some(carried)
    }
}

impl Carried {
    /// The response.
    pub const fn stored(&self) -> &Arc<StoredResponse> {
        &self.stored
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What identifies a stored response and how it came to be.
#[derive(Debug, Clone)]
pub struct Origins {
    /// What it varies on, and what its request said there.
    pub variant: Variant,
    /// Its route and surrogate tags.
    pub labels: Arc<Labels>,
    /// Where its fetch began.
    pub stamp: Stamp,
}

impl StoredResponse {
    /// Puts a response together.
    pub fn new(
        status: StatusCode,
        head: StoredHead,
        content: Content,
        part: Option<Part>,
        terms: Terms,
        origins: Origins,
        encoded: Encodings,
    ) -> Self {
        let Origins { variant, labels, stamp: Stamp { position, number } } = origins;
        let (part, checked) = (part.map(Box::new), AtomicU64::new(number));
        Self { status, head, content, part, terms, variant, labels, position, checked, encoded }
    }

    /// The same response with one more encoding.
    pub fn with_encoded(&self, encoded: Encoded) -> Self {
        let made = match &self.encoded {
            Encodings::Never => Vec::new(),
            Encodings::Made(made) => made.to_vec(),
        };
        let made = made.into_iter().filter(|other| other.coding != encoded.coding);
        self.with(self.terms, self.origins(), Encodings::Made(made.chain([encoded.clone()]).collect()))
    }

    /// The same response on other terms, known to be valid up to `checked`.
    pub fn with_terms(&self, terms: Terms, checked: u64) -> Self {
        let origins = self.origins();
        let stamp = Stamp { number: checked, ..origins.stamp };
        self.with(terms, Origins { stamp, ..origins }, self.encoded.clone())
    }

    /// The same response on other terms, under other labels.
    pub fn with_labels(&self, terms: Terms, labels: Arc<Labels>) -> Self {
        self.with(terms, Origins { labels, ..self.origins() }, self.encoded.clone())
    }

    fn with(&self, terms: Terms, origins: Origins, encoded: Encodings) -> Self {
        let (head, content) = (self.head.clone(), self.content.clone());
        Self::new(self.status, head, content, self.part.as_deref().copied(), terms, origins, encoded)
    }

    /// What identifies it.
    pub fn origins(&self) -> Origins {
        let stamp = Stamp { position: self.position, number: self.checked.load(Ordering::Relaxed) };
        Origins { variant: self.variant.clone(), labels: self.labels.clone(), stamp }
    }

    /// Whether a purge has named it, in a cache of this description and under this key. That none did is remembered, so that each record is looked at once.
    pub fn check(&self, facts: &Facts, cache: &model::Cache, key: &[u8]) -> Verdict {
        let checked = self.checked.load(Ordering::Relaxed);
        let verdict = facts.check(checked, || cache.known(key, &self.labels));
        if let Verdict::Valid(upto) = verdict
            && upto != checked
        {
            self.checked.fetch_max(upto, Ordering::Relaxed);
        }
        verdict
    }

    /// The encodings that have been made.
    pub fn encodings(&self) -> &[Encoded] {
        match &self.encoded {
            Encodings::Never => &[],
            Encodings::Made(made) => made,
        }
    }

    /// The bytes of its content.
    pub fn content_len(&self) -> u64 {
        match &self.content {
            Content::Packed => self.head.content_len() as u64,
            Content::Pieces { pieces } => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    /// Its whole content, ready to be sent.
    pub fn body(&self) -> Body {
        match &self.content {
            Content::Packed => Body::full(self.head.content()),
            Content::Pieces { pieces } => Body::pieces(pieces.iter().cloned()),
        }
    }

    /// Its whole content in pieces.
    pub fn pieces(&self) -> Vec<Bytes> {
        match &self.content {
            Content::Packed => vec![self.head.content()],
            Content::Pieces { pieces } => pieces.to_vec(),
        }
    }

    /// The bytes from `first` to `last` of its content, in pieces.
    #[expect(clippy::cast_possible_truncation, reason = "both are positions within a piece")]
    pub fn slice(&self, first: u64, last: u64) -> Vec<Bytes> {
        let mut start = 0;
        let mut slices = Vec::new();
        for piece in self.pieces() {
            let end = start + piece.len() as u64;
            if first < end && last >= start {
                let from = first.saturating_sub(start);
                let to = (last + 1 - start).min(piece.len() as u64);
                slices.push(piece.slice(from as usize..to as usize));
            }
            start = end;
        }
        slices
    }

    /// Bytes of memory that it takes, for the bound on the tier.
    pub fn memory_bytes(&self) -> u64 {
        let content = match &self.content {
            Content::Packed => 0,
            Content::Pieces { pieces } => self.content_len() + pieces.len() as u64 * PIECE_OVERHEAD,
        };
        let encoded: usize = match &self.encoded {
            Encodings::Never => 0,
            Encodings::Made(made) => made
                .iter()
                .map(|encoded| size_of::<Encoded>() + encoded.head.as_ref().map_or(0, StoredHead::heap_bytes))
                .sum(),
        };
        // Shared by all of its route where there are no tags.
        let own_labels = if self.labels.tags().next().is_none() { 0 } else { self.labels.heap_bytes() };
        let fixed = size_of::<Self>() + self.variant.heap_bytes() + own_labels;
        (fixed + self.head.heap_bytes() + encoded) as u64 + content
    }
}

/// A piece's handle and its own allocation.
const PIECE_OVERHEAD: u64 = 64;

/// Packs content: small content behind the fields, larger content in pieces that hold nothing but it.
pub fn pack(fields: &http::HeaderMap, pieces: &[Bytes]) -> (StoredHead, Content) {
    let len: usize = pieces.iter().map(Bytes::len).sum();
    if len <= PACKED_MAX {
        return (StoredHead::pack(fields, pieces), Content::Packed);
    }
    let pieces = if pieces.iter().all(|piece| piece.len() >= PACKED_MAX) {
        pieces.into()
    } else {
        even_pieces(pieces)
    };
    (StoredHead::pack(fields, &[]), Content::Pieces { pieces })
}

/// The same bytes in pieces of [`PACKED_MAX`]: what was received is in pieces of any size, each of which may keep a whole read buffer alive.
fn even_pieces(pieces: &[Bytes]) -> Arc<[Bytes]> {
    let mut even = Vec::new();
    let mut current = Vec::with_capacity(PACKED_MAX);
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PACKED_MAX - current.len()));
            current.extend_from_slice(now);
            rest = later;
            if current.len() == PACKED_MAX {
                even.push(Bytes::from(std::mem::replace(&mut current, Vec::with_capacity(PACKED_MAX))));
            }
        }
    }
    if !current.is_empty() {
        current.shrink_to_fit();
        even.push(current.into());
    }
    even.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn small_content_is_packed_and_large_content_stays_in_even_pieces() {
        let (head, content) = pack(&HeaderMap::new(), &[Bytes::from_static(b"small")]);
        assert!(matches!(content, Content::Packed));
        assert_eq!(head.content(), "small");

        let uneven: Vec<Bytes> = (0..100_u8).map(|byte| vec![byte; 5000].into()).collect();
        let (_, content) = pack(&HeaderMap::new(), &uneven);
        let Content::Pieces { pieces } = content else { panic!("it is too large to be packed") };
        assert_eq!(pieces.concat(), uneven.concat());
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.len() == PACKED_MAX));
    }
}
