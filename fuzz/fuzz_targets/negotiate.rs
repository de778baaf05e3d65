//! Accept-Encoding and Accept-Language.
#![no_main]

use cache_semantics::negotiate::{AcceptEncoding, AcceptLanguage, Coding, mark_encoded, may_encode};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let accepted = AcceptEncoding::of(&weir_fuzz::field(ACCEPT_ENCODING, data));
    assert!(accepted.is_within(&accepted));
    match accepted.best_of(&Coding::ALL) {
        Some(best) => assert!(accepted.accepts(best) && accepted.is_best(best)),
        None => assert!(Coding::ALL.into_iter().all(|coding| !accepted.accepts(coding))),
    }
    let request = weir_fuzz::field(ACCEPT_LANGUAGE, data);
    let languages = AcceptLanguage::of(&request);
    if languages.prefers_alone("de") {
        assert!(languages.quality("de") > 0);
    }
    let _ = may_encode(StatusCode::OK, &weir_fuzz::field(CONTENT_TYPE, data));
    let mut response = weir_fuzz::headers(data);
    mark_encoded(&mut response, Coding::Brotli);
});
