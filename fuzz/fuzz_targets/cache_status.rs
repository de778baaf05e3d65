//! Our member appended to what other caches have written.
#![no_main]

use cache_semantics::cache_status::{CACHE_STATUS, CacheStatus, Fwd, Reason};
use libfuzzer_sys::fuzz_target;
use sfv::{List, Parser};

fuzz_target!(|data: &[u8]| {
    let Some((choice, lines)) = data.split_first() else { return };
    let mut headers = weir_fuzz::field(CACHE_STATUS, lines);
    let reason = Reason::ALL[usize::from(*choice) % Reason::ALL.len()];
    let status = CacheStatus {
        fwd_status: Some(599),
        ttl: Some(-1),
        stored: true,
        ..CacheStatus::forwarded(Fwd::Stale)
    };
    status.because(reason).append("weir", &mut headers);
    assert_eq!(headers.get_all(CACHE_STATUS).iter().count(), 1);
    let list = Parser::new(headers[CACHE_STATUS].as_bytes()).parse::<List>().expect("a structured list");
    assert!(!list.is_empty());
});
