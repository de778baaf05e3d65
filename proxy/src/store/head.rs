//! The head of a stored response, held small: names shared between responses of the same shape, values in one block.
//!
//! A `HeaderMap` costs about a hundred bytes a field. Nearly all answers of one origin have the same names in the same order,
//! so the names are interned; the values lie one behind the other in one allocation, and are handed out as slices of it.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use cache_semantics::cache_status::CACHE_STATUS;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use parking_lot::Mutex;

use crate::http1;

/// Shapes kept for sharing. Beyond it a head keeps its own names: correct, and larger.
const SHAPES_MAX: usize = 4096;

/// Names of a head in order, shared, and what is known of them.
#[derive(Debug)]
struct Names {
    names: Box<[HeaderName]>,
    /// One `Date`, and none of the fields that an answer says itself: the lines may go out as they are.
    plain: bool,
}

type Shape = Arc<Names>;

impl Names {
    fn new(names: Vec<HeaderName>) -> Self {
        let said_anew = |name: &HeaderName| {
            *name == CACHE_STATUS
                || matches!(
                    *name,
                    header::AGE
                        | header::CONNECTION
                        | header::CONTENT_LENGTH
                        | header::TRANSFER_ENCODING
                        | header::UPGRADE
                )
        };
        let dates = names.iter().filter(|name| **name == header::DATE).count();
        let plain = dates == 1 && !names.iter().any(said_anew);
        Self { names: names.into(), plain }
    }
}

// A shape is found by its names.
impl std::borrow::Borrow<[HeaderName]> for ByNames {
    fn borrow(&self) -> &[HeaderName] {
        &self.0.names
    }
}

impl PartialEq for ByNames {
    fn eq(&self, other: &Self) -> bool {
        self.0.names == other.0.names
    }
}

impl Eq for ByNames {}

impl std::hash::Hash for ByNames {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.names.hash(state);
    }
}

/// A shape in the set of all.
struct ByNames(Shape);

static SHAPES: LazyLock<Mutex<HashSet<ByNames, ahash::RandomState>>> = LazyLock::new(Mutex::default);

/// The fields of a stored response, in their order, and whatever content was packed behind them.
#[derive(Clone)]
pub struct StoredHead {
    shape: Shape,
    /// Where each value ends in `block`. Heads are limited to far less than 4 GiB.
    ends: Box<[u32]>,
    block: Bytes,
}

impl StoredHead {
    /// Packs the fields, and behind them `content`, into one allocation.
    pub fn pack(fields: &HeaderMap, content: &[Bytes]) -> Self {
        let packed = Self::pack_with(fields, content.iter().map(Bytes::len).sum(), |block| {
            content.iter().for_each(|piece| block.extend_from_slice(piece));
            Ok::<_, std::convert::Infallible>(())
        });
        match packed {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }

    /// Packs the fields, and behind them what `fill` appends, about `content_len` bytes: content that is made where it will lie is copied by nobody.
    pub fn pack_with<E>(
        fields: &HeaderMap,
        content_len: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let shape = share(fields.iter().map(|(name, _)| name.clone()).collect());
        let values: usize = fields.values().map(HeaderValue::len).sum();
        let mut block = Vec::with_capacity(values + content_len);
        let mut ends = Vec::with_capacity(shape.names.len());
        for value in fields.values() {
            block.extend_from_slice(value.as_bytes());
            ends.push(u32::try_from(block.len()).expect("a head is limited to far less than 4 GiB"));
        }
        fill(&mut block)?;
        Ok(Self { shape, ends: ends.into(), block: block.into() })
    }

    /// The content packed behind the fields; shares their allocation.
    pub fn content(&self) -> Bytes {
        self.block.slice(self.head_len()..)
    }

    /// The length of the content packed behind the fields.
    pub fn content_len(&self) -> usize {
        self.block.len() - self.head_len()
    }

    /// Bytes of all values.
    fn head_len(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// The fields in their order. The values share the stored block.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let mut start = 0;
        self.shape.names.iter().zip(&self.ends).map(move |(name, end)| {
            let range = start..*end as usize;
            start = *end as usize;
            let value = HeaderValue::from_maybe_shared(self.block.slice(range))
                .expect("the value was a valid one when it was packed");
            (name, value)
        })
    }

    /// Whether its lines, written as they are, need nothing but `Content-Length` and what an answer says of its cache to be a head.
    pub fn is_plain(&self) -> bool {
        self.shape.plain
    }

    /// Writes its lines.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let mut start = 0;
        for (name, end) in self.shape.names.iter().zip(&self.ends) {
            let end = *end as usize;
            http1::head::write_field(out, name.as_str(), &self.block[start..end]);
            start = end;
        }
    }

    /// The content packed behind the fields.
    pub fn packed(&self) -> &[u8] {
        &self.block[self.head_len()..]
    }

    /// The first line of that name.
    pub fn value(&self, wanted: &HeaderName) -> Option<&[u8]> {
        let at = self.shape.names.iter().position(|name| name == wanted)?;
        let start = if at == 0 { 0 } else { *self.ends.get(at - 1)? as usize };
        self.block.get(start..*self.ends.get(at)? as usize)
    }

    /// All fields, ready to go into a response; room for `more` is left.
    pub fn to_map(&self, more: usize) -> HeaderMap {
        let mut map = HeaderMap::new();
        self.add_to(&mut map, more);
        map
    }

    /// Adds all fields to these; room for `more` is left.
    pub fn add_to(&self, map: &mut HeaderMap, more: usize) {
        map.reserve(self.shape.names.len() + more);
        for (name, value) in self.iter() {
            map.append(name, value);
        }
    }

    /// Bytes of heap that this head and its content take, names not counted (they are shared).
    pub fn heap_bytes(&self) -> usize {
        self.block.len() + self.ends.len() * size_of::<u32>()
    }
}

impl std::fmt::Debug for StoredHead {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

/// The one copy of these names, if there is room to share it.
fn share(names: Vec<HeaderName>) -> Shape {
    let mut shapes = SHAPES.lock();
    if let Some(shape) = shapes.get(names.as_slice()) {
        return shape.0.clone();
    }
    if shapes.len() >= SHAPES_MAX {
        // Shapes that no stored response uses any more make room; if all are in use, this one stays private.
        shapes.retain(|shape| Arc::strong_count(&shape.0) > 1);
    }
    let shape: Shape = Arc::new(Names::new(names));
    if shapes.len() < SHAPES_MAX {
        shapes.insert(ByNames(shape.clone()));
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_was_packed_comes_back_in_order_with_repeated_lines() {
        let mut given = fields(&[("content-type", "text/html"), ("x-empty", ""), ("link", "<a>")]);
        given.append("link", HeaderValue::from_static("<b>"));
        let packed = StoredHead::pack(&given, &[Bytes::from_static(b"con"), Bytes::from_static(b"tent")]);
        assert_eq!(packed.to_map(0), given);
        assert_eq!(packed.content(), "content");
        assert_eq!(packed.value(&HeaderName::from_static("link")), Some(&b"<a>"[..]));
        assert_eq!(packed.value(&HeaderName::from_static("x-empty")), Some(&b""[..]));
        assert_eq!(packed.value(&HeaderName::from_static("age")), None);
    }

    #[test]
    fn heads_of_one_shape_share_their_names() {
        let one = StoredHead::pack(&fields(&[("etag", "\"1\""), ("x-shape-test", "1")]), &[]);
        let two = StoredHead::pack(&fields(&[("etag", "\"2\""), ("x-shape-test", "2")]), &[]);
        assert!(Arc::ptr_eq(&one.shape, &two.shape));
    }

    #[test]
    fn lines_are_written_as_they_are_where_nothing_is_said_anew() {
        let date = ("date", "Sat, 21 Nov 2026 00:00:00 GMT");
        let plain = StoredHead::pack(&fields(&[date, ("etag", "\"1\"")]), &[Bytes::from_static(b"x")]);
        assert!(plain.is_plain());
        let mut out = Vec::new();
        plain.write_lines(&mut out);
        assert_eq!(out, b"date: Sat, 21 Nov 2026 00:00:00 GMT\r\netag: \"1\"\r\n");
        assert_eq!(plain.packed(), b"x");
        for other in
            [&[("etag", "1")][..], &[date, date], &[date, ("age", "1")], &[date, ("cache-status", "a")]]
        {
            assert!(!StoredHead::pack(&fields(other), &[]).is_plain(), "{other:?}");
        }
    }

    #[test]
    fn an_empty_head_has_only_content() {
        let packed = StoredHead::pack(&HeaderMap::new(), &[Bytes::from_static(b"x")]);
        assert_eq!(packed.content(), "x");
        assert!(packed.to_map(0).is_empty());
    }
}
