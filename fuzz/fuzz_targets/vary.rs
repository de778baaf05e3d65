//! Vary: a request matches what was stored for it, and what is stored is told apart.
#![no_main]

use cache_semantics::vary::{Fields, Variant, VaryRule, select};
use http::header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (response, mine, theirs) = weir_fuzz::three(data);
    let (response, mine, theirs) =
        (weir_fuzz::headers(response), weir_fuzz::headers(mine), weir_fuzz::headers(theirs));
    let rule = VaryRule::of_response(&response);
    let now = weir_fuzz::now();
    let stored = Variant::capture(&rule, Fields::of(&mine), &response, now.wall);
    assert_eq!(stored.matches(Fields::of(&mine)), !rule.is_star());
    let other = Variant::capture(&rule, Fields::of(&theirs), &response, now.wall);
    if let Some(at) = select([&stored, &other], Fields::of(&theirs)) {
        assert!([&stored, &other][at].matches(Fields::of(&theirs)));
    }
    let _ = stored.heap_bytes();

    // A field that no meaning is known of: presence decides first.
    for name in rule.names() {
        let known = [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE].contains(name);
        if !known && mine.contains_key(name) != theirs.contains_key(name) {
            assert!(!stored.matches(Fields::of(&theirs)));
        }
    }
});
