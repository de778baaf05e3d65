//! Keys: different parts, different keys; what is written can be read.
#![no_main]

use cache_semantics::authority::normal_authority;
use cache_semantics::key::{KeyBuilder, KeyClass, parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = parts(data);
    let mut texts = data.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let mut text = || texts.next().unwrap_or_default();
    let (authority, path, query, name, value) = (text(), text(), text(), text(), text());
    let mut key = Vec::new();
    KeyBuilder::new(&mut key, KeyClass::Get, "https", &authority, &path, Some(&query))
        .part(&name, value.as_bytes());
    let read: Vec<&[u8]> = parts(&key).expect("what was written").iter().map(|part| part.bytes).collect();
    let written = ["https", &authority, &path, &query, &name, &value];
    assert_eq!(read, written.map(str::as_bytes));
    if let Some(normal) = normal_authority("https", &authority) {
        assert_eq!(normal_authority("https", &normal).as_deref(), Some(&*normal));
    }
});
