//! Content as a key: what is canonical stays as it is, and means the same.
#![no_main]

use cache_semantics::json::Json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (pointer, text) = weir_fuzz::two(data);
    let Ok(json) = Json::parse(text) else { return };
    let canonical = json.canonical();
    let again = Json::parse(canonical.as_bytes()).expect("what is canonical is JSON");
    assert_eq!(again, json);
    assert_eq!(again.canonical(), canonical);
    if let Ok(pointer) = std::str::from_utf8(pointer) {
        assert_eq!(json.at(pointer), again.at(pointer));
    }
});
