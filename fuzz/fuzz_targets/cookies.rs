//! Declared cookies are forwarded and keyed, others are not.
#![no_main]

use cache_semantics::cookies::{CookieRule, Passing};
use cache_semantics::key::{KeyBuilder, KeyClass};
use http::HeaderValue;
use http::header::COOKIE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let rule = CookieRule::declaring(["a", "b", ""]);
    let presented = weir_fuzz::field(COOKIE, data);
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    let passing = Passing { rules: &[], route: Some(&rule) };
    passing.write(&presented, &mut once);
    let mut forwarded = presented.clone();
    forwarded.remove(COOKIE);
    if !once.is_empty() {
        forwarded.insert(COOKIE, HeaderValue::from_bytes(&once).expect("a part of a value is a value"));
    }
    passing.write(&forwarded, &mut twice);
    assert_eq!(once, twice);

    // The key of what is presented is the key of what is forwarded.
    let key = |headers| {
        let mut out = Vec::new();
        KeyBuilder::new(&mut out, KeyClass::Get, "http", "e", "/", None).cookies(&rule, headers);
        out
    };
    assert_eq!(key(&presented), key(&forwarded));
});
