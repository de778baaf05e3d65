//! Directives of responses and requests, targeted fields too.
#![no_main]

use cache_semantics::cache_control::{CDN_CACHE_CONTROL, CacheControl, RequestDirectives};
use http::header::CACHE_CONTROL;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let headers = weir_fuzz::field(CACHE_CONTROL, data);
    let parsed = CacheControl::of_response(&headers);
    let _ = (parsed.forbids_stale(), parsed.is_explicitly_shared());
    let _ = RequestDirectives::of(&headers);
    let targeted = CacheControl::of_response(&weir_fuzz::field(CDN_CACHE_CONTROL, data));
    let _ = (targeted.forbids_stale(), targeted.is_explicitly_shared());

    // Whatever stands on one line, a line of its own that restricts is obeyed, and one that permits lengthens nothing that was said.
    let mut stricter = headers.clone();
    stricter.append(CACHE_CONTROL, "no-store, private, no-cache".parse().expect("a value"));
    let strict = CacheControl::of_response(&stricter);
    assert!(strict.no_store && strict.private.is_whole() && strict.no_cache.is_whole());
    let mut longer = headers;
    longer.append(CACHE_CONTROL, "max-age=2147483648, s-maxage=2147483648".parse().expect("a value"));
    let long = CacheControl::of_response(&longer);
    assert!(parsed.max_age.is_none_or(|before| long.max_age == Some(before)));
    assert!(parsed.s_maxage.is_none_or(|before| long.s_maxage == Some(before)));
});
