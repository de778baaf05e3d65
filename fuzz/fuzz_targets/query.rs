//! What of a query is forwarded and keyed.
#![no_main]

use cache_semantics::query::QueryRule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (pattern, query) = weir_fuzz::two(data);
    let (Ok(pattern), Ok(query)) = (std::str::from_utf8(pattern), std::str::from_utf8(query)) else { return };
    if pattern.len() > 64 {
        return;
    }
    for sort in [false, true] {
        let rule = QueryRule { ignore: [pattern].into_iter().collect(), sort };
        let (mut first, mut second) = (String::new(), String::new());
        let once = rule.filter(Some(query), &mut first).map(str::to_owned);
        let twice = rule.filter(once.as_deref(), &mut second).map(str::to_owned);
        assert_eq!(once, twice);
        // Nothing is invented: each parameter that is left was there.
        for parameter in once.as_deref().unwrap_or_default().split('&') {
            assert!(query.split('&').any(|given| given == parameter) || once.is_none());
        }
    }
});
