//! Whole exchanges: may the response be stored, on what terms, and may it answer the next request?
#![no_main]

use std::time::Duration;

use cache_semantics::invalidation::Target;
use cache_semantics::policy::Policy;
use cache_semantics::reuse::{self, Disposition, OriginFailure};
use cache_semantics::storable::{self, Exchange, RequestFacts};
use cache_semantics::validation;
use http::{Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, status_low, rest @ ..] = data else { return };
    let (request, response, next) = weir_fuzz::three(rest);
    let (request, response) = (weir_fuzz::headers(request), weir_fuzz::headers(response));
    let method = if choice & 1 == 0 { Method::GET } else { Method::POST };
    let status = StatusCode::from_u16(200 + u16::from(*status_low) % 400).expect("a status");
    let facts = RequestFacts::of(&method, &request, choice & 2 != 0);
    let policy = Policy { ttl: (choice & 4 != 0).then_some(Duration::from_secs(60)), ..Policy::default() };
    let now = weir_fuzz::now();
    let exchange = Exchange {
        request: &facts,
        target: Target { scheme: "http", authority: "e", path_and_query: "/" },
        status,
        headers: &response,
        requested: now,
        received: now.after(Duration::from_millis(u64::from(*choice))),
    };
    let merged = validation::freshen(&response, &request, &policy, now.wall);
    let _ = storable::stored_headers(&merged, &policy);
    let Ok(terms) = storable::decide(&exchange, &policy) else { return };

    // The rules that protect users, whatever else is said.
    let says = |word: &str| {
        ["cache-control", "cdn-cache-control", "weir-cache-control"].iter().any(|name| {
            response
                .get_all(*name)
                .iter()
                .any(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase().contains(word))
        })
    };
    let targeted = response.contains_key("cdn-cache-control") || response.contains_key("weir-cache-control");
    let shared = says("public") || says("s-maxage") || targeted;
    assert!(!facts.authorization || shared || says("must-revalidate"));
    assert!(!facts.undeclared_cookies || shared || response.contains_key(header::VARY));
    assert!(!response.contains_key(header::SET_COOKIE) || says("set-cookie"));
    assert!(!matches!(status.as_u16(), 304 | 413 | 431));

    // Ages rise, and what is fresh was not stale before.
    let next = RequestFacts::of(&Method::GET, &weir_fuzz::headers(next), false);
    let mut age = Duration::ZERO;
    let mut stale = false;
    for seconds in [0, 1, 59, 60, 61, 3600, 1 << 31, 1 << 33] {
        let later = now.after(Duration::from_secs(seconds));
        let current = terms.current_age(later);
        assert!(current >= age);
        age = current;
        match reuse::decide(&terms, &next, &policy, later) {
            Disposition::Fresh { .. } => assert!(!stale && !terms.is_no_cache()),
            Disposition::StaleWhileRevalidate { .. } | Disposition::StaleAllowed { .. } => {
                assert!(!terms.forbids_stale());
                stale = true;
            }
            Disposition::MustValidate { .. } | Disposition::NotAllowed { .. } => {}
        }
        let _ = reuse::on_error(&terms, &next, &policy, OriginFailure::NoAnswer, later);
        let revived = terms.at_rest().revive(later).expect("what was written");
        assert!(revived.current_age(later) >= terms.initial_age());
    }
    let _ = terms.keep_for();
});
