//! References that responses make, resolved.
#![no_main]

use cache_semantics::invalidation::{Target, invalidated};
use cache_semantics::storable::MethodClass;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (base, reference) = weir_fuzz::two(data);
    let (Ok(base), Ok(reference)) = (std::str::from_utf8(base), std::str::from_utf8(reference)) else {
        return;
    };
    if !base.starts_with('/') || !base.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) || base.contains('#') {
        return;
    }
    let target = Target { scheme: "https", authority: "example.com", path_and_query: base };
    if let Some(resolved) = target.resolve(reference) {
        assert!(resolved.path_and_query.starts_with('/'));
        assert!(resolved.path_and_query.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#'));
        assert!(!resolved.authority.is_empty() && !resolved.authority.contains(['/', '?', '#', '@']));
        assert!(!resolved.authority.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
    let response =
        weir_fuzz::headers(format!("location: {reference}\ncontent-location: {reference}").as_bytes());
    for stale in invalidated(MethodClass::Post, &target, StatusCode::OK, &response) {
        assert!(stale.as_target().is_same_origin(&target));
    }
});
