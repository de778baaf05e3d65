//! A stored response at rest, its checksum made right: nothing panics, and nothing becomes larger than it may.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::store::wire::{Limits, read};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { body_bytes: 1 << 20, head_bytes: 64 << 10, fields: 128, variants: 64 };
    let checksum = xxhash_rust::xxh3::xxh3_64(data);
    let value = Bytes::from([data, &checksum.to_le_bytes()[..]].concat());
    // The key that stands in it: another one is refused at once.
    let key = data.get(6..10).and_then(|length| {
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        data.get(10..)?.get(..length)
    });
    let Ok(variants) = read(&value, key.unwrap_or_default(), &limits, weir_fuzz::now()) else { return };
    for variant in variants {
        let pieces = match variant.content.pieces() {
            Some(_) => continue,
            None => variant.content.unpack(Vec::new()),
        };
        if let Ok(pieces) = pieces {
            assert!(pieces.iter().map(Bytes::len).sum::<usize>() <= 1 << 20);
        }
    }
});
