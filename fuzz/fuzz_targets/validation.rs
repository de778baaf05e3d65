//! Conditions of clients, and what a 304 is about.
#![no_main]

use cache_semantics::invalidation::Target;
use cache_semantics::policy::Policy;
use cache_semantics::storable::{self, Exchange, RequestFacts};
use cache_semantics::validation::{
    Conditional, HeadEffect, Precondition, Selected, Validators, evaluate, freshen, head_effect, select,
};
use http::{HeaderMap, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (request, response, update) = weir_fuzz::three(data);
    let (request, response, update) =
        (weir_fuzz::headers(request), weir_fuzz::headers(response), weir_fuzz::headers(update));
    let now = weir_fuzz::now();
    let facts = RequestFacts::of(&Method::GET, &HeaderMap::new(), false);
    let plain = weir_fuzz::headers(b"cache-control: max-age=60");
    let exchange = Exchange {
        request: &facts,
        target: Target { scheme: "http", authority: "e", path_and_query: "/" },
        status: StatusCode::OK,
        headers: &plain,
        requested: now,
        received: now,
    };
    let terms = storable::decide(&exchange, &Policy::default()).expect("it has a lifetime");
    let stored = Validators::of(&response);
    let _ = evaluate(&Method::GET, &request, StatusCode::OK, &stored, &terms);
    let _ = (stored.if_range(), stored.is_same_strong(&Validators::of(&update)));

    // Asking about what is stored, with what is stored: it has not been modified, and a 304 that says so is about it.
    let mut asking = request;
    let conditional = Conditional::for_stored([&stored]);
    conditional.apply(&mut asking);
    if let Some(etag) = &stored.etag
        && etag.is_strong()
    {
        assert_eq!(
            evaluate(&Method::GET, &asking, StatusCode::OK, &stored, &terms),
            Precondition::NotModified
        );
        assert_eq!(select([&stored], &response), Selected::Stored(0));
    }
    let merged = freshen(&response, &update, &Policy::default(), now.wall);
    assert_eq!(merged.get(header::ETAG), response.get(header::ETAG));
    if let Selected::Stored(at) = select([&stored, &Validators::of(&update)], &update) {
        assert!(at < 2);
    }
    let effect = head_effect(StatusCode::OK, &response, 5, StatusCode::OK, &response);
    assert!(effect != HeadEffect::Nothing);
});
