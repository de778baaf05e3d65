//! No-Vary-Search: reading it, and that its equivalence is one.
#![no_main]

use cache_semantics::query::{NO_VARY_SEARCH, NoVarySearch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (field, a, b) = weir_fuzz::three(data);
    let rule = NoVarySearch::of(&weir_fuzz::field(NO_VARY_SEARCH, field));
    let (Ok(a), Ok(b)) = (std::str::from_utf8(a), std::str::from_utf8(b)) else { return };
    assert!(rule.is_equivalent(Some(a), Some(a)));
    assert_eq!(rule.is_equivalent(Some(a), Some(b)), rule.is_equivalent(Some(b), Some(a)));
    let canonical = |query| {
        let mut out = Vec::new();
        rule.canonical(query, &mut out);
        out
    };
    assert_eq!(canonical(Some(a)) == canonical(Some(b)), rule.is_equivalent(Some(a), Some(b)));
    assert_eq!(canonical(Some(a)) == canonical(None), rule.is_equivalent(Some(a), None));
});
