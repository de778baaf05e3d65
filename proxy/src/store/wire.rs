//! A stored response as bytes, for tiers that others write or that outlive the process.
//!
//! **One value per key**, with all the variants that the writer knows, the newest first. The choice among variants is a function of all of them
//! (`vary.rs`), so one read must bring them all; one write replaces them all, so nothing can refer to what is gone. Two proxies that store different
//! variants at the same moment cost one of them a miss. (An index with a value per variant needs two round trips, and a script to be kept right.)
//! A body beyond [`PIECE_BYTES`] lies beside the value in pieces that carry a random generation: pieces of two writers never mix.
//!
//! ```text
//! value    = "WEIR" version:1 count:1 key:bytes32 variant… checksum:8      checksum: XXH3-64 of all before it
//! variant  = length:4 kind:1 coding:1 status:2 position:16 terms:43 [part:25] vary labels epoch head
//!            raw_length:8 content_checksum:8 ( stored:bytes32 | generation:8 stored_length:8 )
//! ```
//!
//! Reading trusts nothing: every length is checked against what is there and against a limit before anything is allocated, the whole key must be the
//! one that was asked for, and whatever is wrong is a [`Corrupt`], which costs a miss. Numbers are little-endian.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::range::{ByteRange, Part};
use cache_semantics::storable::{Terms, TermsAtRest};
use cache_semantics::vary::{FieldAtRest, Variant};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Encodings, StoredResponse};
use crate::http1::spare;
use crate::purge::{Labels, Position};

const MAGIC: &[u8; 4] = b"WEIR";
/// Raised whenever the form changes: what an older or newer proxy wrote is a miss.
const VERSION: u8 = 2;
/// A body up to this many bytes lies in the value; a larger one in pieces of this many.
pub const PIECE_BYTES: usize = 256 << 10;
/// Content below this is not worth compressing: it would cost each reader more than it saves, about a tenth of a whole hit for a page of 1 KiB.
const COMPRESS_MIN: usize = 4096;

/// What is read at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A body, uncompressed.
    pub body_bytes: u64,
    /// A head: all names and values.
    pub head_bytes: usize,
    /// Fields of a head, or of a `Vary`.
    pub fields: usize,
    /// Variants of a value.
    pub variants: usize,
}

/// How content is compressed at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// zstd, level 1.
    #[default]
    Zstd,
    /// LZ4, one block.
    Lz4,
    /// zlib, level 1.
    Zlib,
}

/// What a response is written as: a value, and the pieces beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: Vec<u8>,
    /// Bodies that are beside it.
    pub beside: Vec<Beside>,
}

/// A body in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// What is part of each piece's name.
    pub generation: u64,
    /// The content, compressed or not, in pieces of [`PIECE_BYTES`]; the last may be shorter.
    pub content: Bytes,
}

/// A variant as it was read.
#[derive(Debug)]
pub struct Read {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Which part it is.
    pub part: Option<Part>,
    /// Its terms, for this process.
    pub terms: Terms,
    /// What it varies on.
    pub variant: Variant,
    /// What purges know it by.
    pub labels: Labels,
    /// Where its fetch began.
    pub position: Position,
    /// Whether encodings may be made of it.
    pub compressible: bool,
    /// Its content.
    pub content: Content,
}

/// Content as it was read: not yet uncompressed.
#[derive(Debug, Clone)]
pub struct Content {
    coding: Compression,
    raw_length: u64,
    checksum: u64,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Here(Bytes),
    Beside { generation: u64, length: u64 },
}

/// The value is not one of ours, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// It does not begin as it must.
    #[error("it is not one of our values")]
    Magic,
    /// Another version wrote it.
    #[error("it is of another version")]
    Version,
    /// It ends too early, or too late.
    #[error("its length is wrong")]
    Length,
    /// It was changed.
    #[error("its checksum is wrong")]
    Checksum,
    /// It belongs to another key.
    #[error("it belongs to another key")]
    Key,
    /// Something in it exceeds a limit.
    #[error("it exceeds a limit")]
    TooLarge,
    /// Something in it has no meaning.
    #[error("something in it has no meaning")]
    Meaning,
    /// Its content does not uncompress to what it says.
    #[error("its content cannot be uncompressed")]
    Content,
    /// A piece of its body is gone.
    #[error("a piece of its content is missing")]
    Missing,
}

const KIND_PART: u8 = 1;
const KIND_COMPRESSIBLE: u8 = 1 << 1;
const KIND_BESIDE: u8 = 1 << 2;
const KIND_STAR: u8 = 1 << 3;

// ---------------------------------------------------------------- writing

/// Writes variants, the newest first; those for which there is no room any more are left out. `generation`: a random number.
pub fn write(
    key: &[u8],
    variants: &[impl AsRef<StoredResponse>],
    compression: Compression,
    value_bytes_max: usize,
    mut generation: impl FnMut() -> u64,
) -> Option<Written> {
    let mut value = Vec::with_capacity(1024);
    value.extend_from_slice(MAGIC);
    value.push(VERSION);
    value.push(0);
    put_bytes(&mut value, key)?;
    let (mut count, mut beside) = (0_u8, Vec::new());
    for variant in variants.iter().take(usize::from(u8::MAX)) {
        let start = value.len();
        let body = write_variant(&mut value, variant.as_ref(), compression, &mut generation)?;
        if count > 0 && value.len() > value_bytes_max {
            value.truncate(start);
            break;
        }
        beside.extend(body);
        count += 1;
    }
    value[5] = count;
    let checksum = xxh3_64(&value);
    value.extend_from_slice(&checksum.to_le_bytes());
    (count > 0).then_some(Written { value, beside })
}

fn write_variant(
    value: &mut Vec<u8>,
    response: &StoredResponse,
    compression: Compression,
    generation: &mut impl FnMut() -> u64,
) -> Option<Option<Beside>> {
    let headers = response.head.to_map(0);
    let (star, fields) = response.variant.at_rest();
    let (coding, content, checksum) = compressed(response, &headers, compression);
    let raw_length = response.content_len();
    let is_beside = content.len() > PIECE_BYTES;
    let mut kind = 0;
    for (bit, set) in [
        (KIND_PART, response.part.is_some()),
        (KIND_COMPRESSIBLE, matches!(response.encoded, Encodings::Made(_))),
        (KIND_BESIDE, is_beside),
        (KIND_STAR, star),
    ] {
        kind |= if set { bit } else { 0 };
    }

    let start = value.len();
    value.extend_from_slice(&[0; 4]);
    value.push(kind);
    value.push(coding as u8);
    value.extend_from_slice(&response.status.as_u16().to_le_bytes());
    value.extend_from_slice(&response.position.to_bytes());
    let terms = response.terms.at_rest();
    for number in [
        terms.received_ms,
        terms.initial_age_ns,
        terms.lifetime_ns,
        terms.stale_while_revalidate_ns,
        terms.stale_if_error_ns,
    ] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    value.extend_from_slice(&terms.flags.to_le_bytes());
    value.push(terms.source);
    if let Some(part) = &response.part {
        value.extend_from_slice(&part.range.first.to_le_bytes());
        value.extend_from_slice(&part.range.last.to_le_bytes());
        value.push(part.complete.is_some().into());
        value.extend_from_slice(&part.complete.unwrap_or(0).to_le_bytes());
    }
    let date = response.variant.date().duration_since(UNIX_EPOCH).unwrap_or_default();
    value.extend_from_slice(&u64::try_from(date.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    put_count(value, fields.len())?;
    for field in &fields {
        put_bytes(value, field.name.as_str().as_bytes())?;
        for text in [&field.value, &field.spelled] {
            value.push(text.is_some().into());
            put_bytes(value, text.as_deref().unwrap_or_default())?;
        }
    }
    put_bytes(value, response.labels.route().as_bytes())?;
    put_count(value, response.labels.tags().count())?;
    for tag in response.labels.tags() {
        put_bytes(value, tag.as_bytes())?;
    }
    // No epoch is an empty one.
    put_bytes(value, response.labels.epoch().unwrap_or_default().as_bytes())?;
    put_count(value, headers.len())?;
    for (name, line) in &headers {
        put_bytes(value, name.as_str().as_bytes())?;
        put_bytes(value, line.as_bytes())?;
    }
    value.extend_from_slice(&raw_length.to_le_bytes());
    value.extend_from_slice(&checksum.to_le_bytes());
    let beside = if is_beside {
        let generation = generation();
        value.extend_from_slice(&generation.to_le_bytes());
        value.extend_from_slice(&(content.len() as u64).to_le_bytes());
        Some(Beside { generation, content })
    } else {
        put_bytes(value, &content)?;
        None
    };
    let length = u32::try_from(value.len() - start - 4).ok()?;
    value[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Some(beside)
}

fn put_bytes(value: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    value.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    value.extend_from_slice(bytes);
    Some(())
}

fn put_count(value: &mut Vec<u8>, count: usize) -> Option<()> {
    value.extend_from_slice(&u16::try_from(count).ok()?.to_le_bytes());
    Some(())
}

/// The content as it will lie there, and its checksum then. What is encoded already, or gets no smaller, stays as it is.
fn compressed(
    response: &StoredResponse,
    headers: &HeaderMap,
    with: Compression,
) -> (Compression, Bytes, u64) {
    let pieces = response.pieces();
    let raw = match pieces.as_slice() {
        [one] => one.clone(),
        several => several.concat().into(),
    };
    let is_encoded = headers.contains_key(http::header::CONTENT_ENCODING);
    let pays = raw.len() >= COMPRESS_MIN && !is_encoded && response.part.is_none();
    let made = match with {
        _ if !pays => None,
        Compression::None => None,
        Compression::Zstd => zstd::bulk::compress(&raw, 1).ok(),
        Compression::Lz4 => Some(lz4_flex::block::compress(&raw)),
        Compression::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &raw).and_then(|()| encoder.finish()).ok()
        }
    };
    let (coding, content) = match made {
        // Less than an eighth saved is not worth the reader's time.
        Some(made) if made.len() + raw.len() / 8 < raw.len() => (with, made.into()),
        Some(_) | None => (Compression::None, raw),
    };
    let checksum = xxh3_64(&content);
    (coding, content, checksum)
}

// ---------------------------------------------------------------- reading

/// Reads the value of this key.
pub fn read(value: &Bytes, key: &[u8], limits: &Limits, now: Now) -> Result<Vec<Read>, Corrupt> {
    let end = value.len().saturating_sub(8);
    let mut cursor = Cursor { value, at: 0 };
    if cursor.take(4).map_err(|_| Corrupt::Magic)? != MAGIC {
        return Err(Corrupt::Magic);
    }
    if cursor.byte()? != VERSION {
        return Err(Corrupt::Version);
    }
    if end <= cursor.at {
        return Err(Corrupt::Length);
    }
    // Before anything is believed. A value that was cut has another checksum, or none.
    if xxh3_64(&value[..end]).to_le_bytes() != value[end..] {
        return Err(Corrupt::Checksum);
    }
    // What is read from here on ends before the checksum.
    let value = value.slice(..end);
    let mut cursor = Cursor { value: &value, at: cursor.at };
    let count = usize::from(cursor.byte()?);
    if cursor.bytes(usize::MAX)? != key {
        return Err(Corrupt::Key);
    }
    if count > limits.variants {
        return Err(Corrupt::TooLarge);
    }
    let mut variants = Vec::with_capacity(count);
    for _ in 0..count {
        let length = cursor.u32()?;
        let start = cursor.at;
        variants.push(read_variant(&mut cursor, limits, now)?);
        if cursor.at - start != length {
            return Err(Corrupt::Length);
        }
    }
    if cursor.at == end { Ok(variants) } else { Err(Corrupt::Length) }
}

fn read_variant(cursor: &mut Cursor<'_>, limits: &Limits, now: Now) -> Result<Read, Corrupt> {
    let kind = cursor.byte()?;
    if kind & !(KIND_PART | KIND_COMPRESSIBLE | KIND_BESIDE | KIND_STAR) != 0 {
        return Err(Corrupt::Meaning);
    }
    let coding = match cursor.byte()? {
        0 => Compression::None,
        1 => Compression::Zstd,
        2 => Compression::Lz4,
        3 => Compression::Zlib,
        _ => return Err(Corrupt::Meaning),
    };
    let status = StatusCode::from_u16(cursor.u16()?).map_err(|_| Corrupt::Meaning)?;
    let position = Position::from_bytes(cursor.array()?);
    let terms = TermsAtRest {
        received_ms: cursor.u64()?,
        initial_age_ns: cursor.u64()?,
        lifetime_ns: cursor.u64()?,
        stale_while_revalidate_ns: cursor.u64()?,
        stale_if_error_ns: cursor.u64()?,
        flags: cursor.u16()?,
        source: cursor.byte()?,
    };
    let terms = terms.revive(now).ok_or(Corrupt::Meaning)?;
    let part = if kind & KIND_PART == 0 {
        None
    } else {
        let range = ByteRange::new(cursor.u64()?, cursor.u64()?).ok_or(Corrupt::Meaning)?;
        let complete = (cursor.byte()? == 1, cursor.u64()?);
        Some(Part { range, complete: complete.0.then_some(complete.1) })
    };
    let date = UNIX_EPOCH.checked_add(Duration::from_millis(cursor.u64()?)).ok_or(Corrupt::Meaning)?;
    let mut room = limits.head_bytes;
    let mut fields = Vec::new();
    for _ in 0..cursor.count(limits.fields)? {
        let name = HeaderName::from_bytes(cursor.spend(&mut room)?).map_err(|_| Corrupt::Meaning)?;
        let mut text = || -> Result<Option<Box<[u8]>>, Corrupt> {
            let is_some = cursor.byte()? == 1;
            let bytes = cursor.spend(&mut room)?;
            Ok(is_some.then(|| bytes.into()))
        };
        fields.push(FieldAtRest { name, value: text()?, spelled: text()? });
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Corrupt::Meaning);
    let route = text(cursor.spend(&mut room)?)?;
    let mut tags = Vec::new();
    for _ in 0..cursor.count(usize::from(u16::MAX))? {
        tags.push(text(cursor.spend(&mut room)?)?);
    }
    let epoch = text(cursor.spend(&mut room)?)?;
    let mut headers = spare::take();
    for _ in 0..cursor.count(limits.fields)? {
        let name = HeaderName::from_bytes(cursor.spend(&mut room)?).map_err(|_| Corrupt::Meaning)?;
        // They are copied when they are packed.
        let line = cursor.value.slice_ref(cursor.spend(&mut room)?);
        let line = HeaderValue::from_maybe_shared(line).map_err(|_| Corrupt::Meaning)?;
        headers.append(name, line);
    }
    let raw_length = cursor.u64()?;
    if raw_length > limits.body_bytes {
        return Err(Corrupt::TooLarge);
    }
    let checksum = cursor.u64()?;
    let place = if kind & KIND_BESIDE == 0 {
        let start = cursor.at + 4;
        let bytes = cursor.bytes(usize::MAX)?;
        Place::Here(cursor.value.slice(start..start + bytes.len()))
    } else {
        let (generation, length) = (cursor.u64()?, cursor.u64()?);
        if length > limits.body_bytes {
            return Err(Corrupt::TooLarge);
        }
        Place::Beside { generation, length }
    };
    let stored = match &place {
        Place::Here(bytes) => bytes.len() as u64,
        Place::Beside { length, .. } => *length,
    };
    if coding == Compression::None && stored != raw_length {
        return Err(Corrupt::Length);
    }
    let variant = Variant::revive(kind & KIND_STAR != 0, fields, date, &headers);
    let epoch = (!epoch.is_empty()).then(|| epoch.into());
    let labels = Labels::new(route.into(), tags).of_epoch(epoch);
    let compressible = kind & KIND_COMPRESSIBLE != 0;
    let content = Content { coding, raw_length, checksum, place };
    Ok(Read { status, headers, part, terms, variant, labels, position, compressible, content })
}

impl Content {
    /// Its length.
    pub const fn raw_length(&self) -> u64 {
        self.raw_length
    }

    /// The generation of its pieces and how many there are, if it is not in the value.
    pub fn pieces(&self) -> Option<(u64, u64)> {
        match &self.place {
            Place::Here(_) => None,
            Place::Beside { generation, length } => Some((*generation, length.div_ceil(PIECE_BYTES as u64))),
        }
    }

    /// The content, in pieces. `beside`: the pieces in order, where it is not in the value.
    pub fn unpack(self, beside: Vec<Bytes>) -> Result<Vec<Bytes>, Corrupt> {
        let (coding, raw_length) = (self.coding, self.raw_length);
        let stored = self.checked(beside)?;
        if coding == Compression::None {
            return Ok(stored);
        }
        let mut raw = Vec::new();
        uncompress(coding, &stored, raw_length, &mut raw)?;
        Ok(vec![raw.into()])
    }

    /// Likewise, appended to `block`: made where it is to lie.
    pub fn unpack_behind(self, beside: Vec<Bytes>, block: &mut Vec<u8>) -> Result<(), Corrupt> {
        let (coding, raw_length) = (self.coding, self.raw_length);
        let stored = self.checked(beside)?;
        if coding == Compression::None {
            stored.iter().for_each(|piece| block.extend_from_slice(piece));
            return Ok(());
        }
        uncompress(coding, &stored, raw_length, block)
    }

    /// What is stored, as it is stored.
    fn checked(self, beside: Vec<Bytes>) -> Result<Vec<Bytes>, Corrupt> {
        let length = match self.place {
            // The checksum of the value is over its content too.
            Place::Here(bytes) => return Ok(vec![bytes]),
            Place::Beside { length, .. } => length,
        };
        let all: u64 = beside.iter().map(|piece| piece.len() as u64).sum();
        if all != length {
            return Err(Corrupt::Length);
        }
        let mut checksum = Xxh3::new();
        beside.iter().for_each(|piece| checksum.update(piece));
        if checksum.digest() == self.checksum { Ok(beside) } else { Err(Corrupt::Checksum) }
    }
}

/// Appends what was compressed: exactly so many bytes, or it is not what it says.
fn uncompress(
    coding: Compression,
    stored: &[Bytes],
    raw_length: u64,
    out: &mut Vec<u8>,
) -> Result<(), Corrupt> {
    let length = usize::try_from(raw_length).map_err(|_| Corrupt::TooLarge)?;
    let together = match stored {
        [one] => one.clone(),
        several => several.concat().into(),
    };
    let start = out.len();
    out.reserve_exact(length);
    let made = match coding {
        Compression::None => None,
        Compression::Zstd => unzstd(&together, out),
        Compression::Lz4 => {
            out.resize(start + length, 0);
            lz4_flex::block::decompress_into(&together, &mut out[start..]).ok()
        }
        Compression::Zlib => {
            let decoder = flate2::read::ZlibDecoder::new(&together[..]);
            // One byte more than there should be is enough to see that it is too long.
            let mut bounded = std::io::Read::take(decoder, raw_length + 1);
            std::io::Read::read_to_end(&mut bounded, out).ok()
        }
    };
    if made == Some(length) && out.len() == start + length { Ok(()) } else { Err(Corrupt::Content) }
}

thread_local! {
    /// Making a context costs more than uncompressing a page with it.
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends what was compressed, as far as there is room. How much it was.
fn unzstd(compressed: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    UNZSTD.with_borrow_mut(|context| {
        if context.is_none() {
            *context = zstd::bulk::Decompressor::new().ok();
        }
        let mut behind = std::io::Cursor::new(std::mem::take(out));
        behind.set_position(behind.get_ref().len() as u64);
        let made = context.as_mut()?.decompress_to_buffer(compressed, &mut behind).ok();
        *out = behind.into_inner();
        made
    })
}

struct Cursor<'v> {
    value: &'v Bytes,
    at: usize,
}

impl<'v> Cursor<'v> {
    fn take(&mut self, length: usize) -> Result<&'v [u8], Corrupt> {
        let end = self.at.checked_add(length).ok_or(Corrupt::Length)?;
        let bytes = self.value.get(self.at..end).ok_or(Corrupt::Length)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.take(N)?.try_into().map_err(|_| Corrupt::Length)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Corrupt> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<usize, Corrupt> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Corrupt::Length)
    }

    fn u64(&mut self) -> Result<u64, Corrupt> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, max: usize) -> Result<usize, Corrupt> {
        let count = usize::from(self.u16()?);
        if count > max { Err(Corrupt::TooLarge) } else { Ok(count) }
    }

    fn bytes(&mut self, max: usize) -> Result<&'v [u8], Corrupt> {
        let length = self.u32()?;
        if length > max { Err(Corrupt::TooLarge) } else { self.take(length) }
    }

    /// Bytes out of what all of a head may have.
    fn spend(&mut self, room: &mut usize) -> Result<&'v [u8], Corrupt> {
        let bytes = self.bytes(*room)?;
        *room -= bytes.len();
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::purge::Stamp;
    use crate::store::{Origins, pack};
    use cache_semantics::invalidation::Target;
    use cache_semantics::policy::Policy;
    use cache_semantics::storable::{self, RequestFacts};
    use cache_semantics::vary::{Fields, VaryRule};
    use http::Method;
    use proptest::prelude::*;

    const KEY: &[u8] = b"G the whole key";
    const LIMITS: Limits = Limits { body_bytes: 4 << 20, head_bytes: 64 << 10, fields: 128, variants: 64 };

    fn now() -> Now {
        Now { wall: UNIX_EPOCH + Duration::from_secs(1_767_225_600), mono: Instant::now() }
    }

    fn response(vary_on: &'static str, body: &[u8], content_type: &'static str) -> Arc<StoredResponse> {
        let now = now();
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("max-age=60, stale-if-error=30"));
        headers.insert("content-type", HeaderValue::from_static(content_type));
        headers.insert("vary", HeaderValue::from_static("x-variant"));
        headers.append("link", HeaderValue::from_static("<a>"));
        headers.append("link", HeaderValue::from_bytes(b"<\xff>").unwrap());
        let mut request = HeaderMap::new();
        request.insert("x-variant", HeaderValue::from_static(vary_on));
        let facts = RequestFacts::of(&Method::GET, &request, false);
        let target = Target { scheme: "http", authority: "a.example", path_and_query: "/" };
        let exchange = storable::Exchange {
            request: &facts,
            target,
            status: StatusCode::OK,
            headers: &headers,
            requested: now,
            received: now,
        };
        let terms = storable::decide(&exchange, &Policy::default()).unwrap();
        let rule = VaryRule::of_response(&headers);
        let variant = Variant::capture(&rule, Fields::of(&request), &headers, now.wall);
        let labels =
            Arc::new(Labels::new("route 1".into(), ["posts", "post:1"]).of_epoch(Some("abc".into())));
        let stamp = Stamp { position: Position { ms: 77, seq: 3 }, number: 5 };
        let (head, content) = pack(&headers, &[Bytes::copy_from_slice(body)]);
        let encodings = Encodings::Made(Box::default());
        Arc::new(StoredResponse::new(
            StatusCode::OK,
            head,
            content,
            None,
            terms,
            Origins { variant, labels, stamp },
            encodings,
        ))
    }

    fn written(responses: &[Arc<StoredResponse>], compression: Compression) -> Written {
        write(KEY, responses, compression, usize::MAX, || 9).unwrap()
    }

    fn pieces(beside: &Beside) -> Vec<Bytes> {
        beside.content.chunks(PIECE_BYTES).map(Bytes::copy_from_slice).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        b"all work and no play makes a dull proxy; ".iter().copied().cycle().take(length).collect()
    }

    /// Bytes that cannot be compressed.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_written_is_read_back_however_it_was_compressed() {
        let noise = noise(700_000);
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4, Compression::Zlib] {
            for body in [&b""[..], b"small", &text(5_000), &text(900_000), &noise] {
                let (one, two) = (response("1", body, "text/plain"), response("2", b"two", "image/png"));
                let written = written(&[one.clone(), two], compression);
                let value = Bytes::from(written.value);
                let mut read = read(&value, KEY, &LIMITS, now()).unwrap();
                assert_eq!(read.len(), 2);
                let first = read.remove(0);
                assert_eq!(first.headers, one.head.to_map(0));
                assert_eq!(first.variant, one.variant);
                assert_eq!(first.labels, *one.labels);
                assert_eq!(first.position, one.position);
                assert_eq!(first.terms.at_rest(), one.terms.at_rest());
                assert!(first.compressible && first.part.is_none());
                let beside: Vec<Bytes> = match first.content.pieces() {
                    None => Vec::new(),
                    Some((generation, count)) => {
                        assert_eq!(generation, 9);
                        let pieces = pieces(&written.beside[0]);
                        assert_eq!(pieces.len() as u64, count);
                        pieces
                    }
                };
                assert_eq!(first.content.unpack(beside).unwrap().concat(), body);
                if compression != Compression::None && body.len() == 5_000 {
                    assert!(value.len() < 2_000, "{compression:?}: {}", value.len());
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_leaves_the_oldest_out() {
        let responses: Vec<_> =
            ["1", "2", "3"].iter().map(|name| response(name, &[7; 900], "image/png")).collect();
        let written = write(KEY, &responses, Compression::Zstd, 2_500, || 9).unwrap();
        let read = read(&written.value.into(), KEY, &LIMITS, now()).unwrap();
        assert_eq!(
            read.iter().map(|read| &read.variant).collect::<Vec<_>>(),
            [&responses[0].variant, &responses[1].variant]
        );
    }

    /// A value whose checksum is right again after `change`: what a mistake of ours, or malice, could write.
    fn changed(value: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut value = value[..value.len() - 8].to_vec();
        change(&mut value);
        let checksum = xxh3_64(&value);
        value.extend_from_slice(&checksum.to_le_bytes());
        value.into()
    }

    #[test]
    fn twelve_kinds_of_corruption_are_told_apart_and_none_is_served() {
        let good = written(&[response("1", b"content", "text/plain")], Compression::Zstd).value;
        let huge =
            |at: usize| changed(&good, |value| value[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()));
        let variant_at = 4 + 2 + 4 + KEY.len();
        let mut flipped = good.clone();
        flipped[variant_at + 60] ^= 1;
        let mut other_version = good.clone();
        other_version[4] = 99;
        #[rustfmt::skip]
        let cases: [(&str, Bytes, Corrupt); 14] = [
            ("empty",                  Bytes::new(),                                             Corrupt::Magic),
            ("one byte",               Bytes::from_static(b"W"),                                 Corrupt::Magic),
            ("all 0xff",               vec![0xff; 300].into(),                                   Corrupt::Magic),
            ("the old form",           Bytes::from_static(b"\x80\x04pickled by somebody else"),  Corrupt::Magic),
            ("another version",        other_version.into(),                                     Corrupt::Version),
            ("cut",                    good[..good.len() - 20].to_vec().into(),                  Corrupt::Checksum),
            ("one bit",                flipped.into(),                                           Corrupt::Checksum),
            ("longer",                 [&good[..], b"more"].concat().into(),                     Corrupt::Checksum),
            ("another key's",          written_for(b"another key"),                              Corrupt::Key),
            ("a huge key",             huge(6),                                                  Corrupt::Length),
            ("a huge variant",         huge(variant_at),                                         Corrupt::Length),
            ("an unknown coding",      changed(&good, |value| value[variant_at + 5] = 7),        Corrupt::Meaning),
            ("more variants",          changed(&good, |value| value[5] = 2),                     Corrupt::Length),
            ("too many variants",      changed(&good, |value| value[5] = 200),                   Corrupt::TooLarge),
        ];
        for (what, value, expected) in cases {
            assert_eq!(read(&value, KEY, &LIMITS, now()).map(|_| ()), Err(expected), "{what}");
        }
        for cut in 0..good.len() {
            assert!(read(&good[..cut].to_vec().into(), KEY, &LIMITS, now()).is_err(), "cut at {cut}");
        }
        let small = Limits { body_bytes: 3, ..LIMITS };
        assert_eq!(read(&good.clone().into(), KEY, &small, now()).map(|_| ()), Err(Corrupt::TooLarge));
        let small = Limits { head_bytes: 20, ..LIMITS };
        assert_eq!(read(&good.into(), KEY, &small, now()).map(|_| ()), Err(Corrupt::TooLarge));
    }

    fn written_for(key: &[u8]) -> Bytes {
        write(key, &[response("1", b"content", "text/plain")], Compression::Zstd, usize::MAX, || 9)
            .unwrap()
            .value
            .into()
    }

    #[test]
    fn pieces_that_are_not_those_of_the_body_are_refused() {
        let noise = noise(600_000);
        let written = written(&[response("1", &noise, "image/png")], Compression::Zstd);
        let value = Bytes::from(written.value);
        let content = || read(&value, KEY, &LIMITS, now()).unwrap().remove(0).content;
        let good = pieces(&written.beside[0]);
        assert_eq!(good.len(), 3);
        let mut swapped = good.clone();
        swapped.swap(0, 1);
        assert_eq!(content().unpack(swapped).unwrap_err(), Corrupt::Checksum);
        assert_eq!(content().unpack(good[..2].to_vec()).unwrap_err(), Corrupt::Length);
        assert_eq!(content().unpack(good).unwrap().concat(), noise);
    }

    #[test]
    fn what_the_fuzzer_begins_with_is_of_this_version() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/wire");
        let bodies = [("small", &b"content"[..], "image/png"), ("text", &text(3_000), "text/plain")];
        for (name, body, content_type) in bodies {
            if std::env::var_os("WEIR_BLESS").is_some() {
                let responses = [response("1", body, content_type), response("2", b"two", content_type)];
                let value = written(&responses, Compression::Zlib).value;
                // Without the checksum, which the target adds.
                std::fs::write(folder.join(name), &value[..value.len() - 8]).unwrap();
            }
            let seed = std::fs::read(folder.join(name)).unwrap();
            let value = changed(&[&seed[..], &[0; 8]].concat(), |_| {});
            assert_eq!(read(&value, KEY, &LIMITS, now()).unwrap().len(), 2, "{name}");
        }
    }

    proptest! {
        /// Any change to a value is noticed, or where its checksum was made right again, harmless.
        #[test]
        fn nothing_panics(at in 0_usize..1000, bytes in prop::collection::vec(any::<u8>(), 0..40), mend: bool) {
            let good = written(&[response("1", &text(3000), "text/plain")], Compression::Zlib).value;
            let splice = |value: &mut Vec<u8>| {
                let at = at % value.len();
                let end = (at + bytes.len()).min(value.len());
                value.splice(at..end, bytes.iter().copied());
            };
            let value = if mend { changed(&good, splice) } else { let mut value = good.clone(); splice(&mut value); value.into() };
            match read(&value, KEY, &LIMITS, now()) {
                Ok(variants) => for variant in variants {
                    if let Ok(content) = variant.content.unpack(Vec::new()) {
                        prop_assert!(content.iter().map(Bytes::len).sum::<usize>() as u64 <= LIMITS.body_bytes);
                    }
                },
                Err(_) => prop_assert!(value != good),
            }
        }
    }
}
