//! `Forwarded` and `X-Forwarded-For`: nobody to the left of an untrusted entry is believed.
#![no_main]

use std::net::IpAddr;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use weir::identity;
use weir::server::connection::Connection;

fuzz_target!(|data: &[u8]| {
    let (forwarded, x_forwarded) = weir_fuzz::two(data);
    let connection = |peer: &str| Connection::cleartext(peer.parse().ok(), None, Default::default());
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let mut fields = weir_fuzz::field(http::header::FORWARDED, forwarded);
    let x_forwarded_for = http::HeaderName::from_static("x-forwarded-for");
    fields.extend(weir_fuzz::field(x_forwarded_for.clone(), x_forwarded));
    let _ = identity::parse_forwarded(&fields);
    let of = |peer: &str, fields: &HeaderMap| identity::of(&connection(peer), fields, &trusted).address();
    let untrusted: Option<IpAddr> = "192.0.2.1".parse().ok();
    assert_eq!(of("192.0.2.1:1", &fields), untrusted);
    let _ = (of("10.0.0.1:1", &fields), identity::of(&connection("10.0.0.1:1"), &fields, &trusted).host());
    // What a trusted proxy appended counts, whatever stands before it.
    fields.append(x_forwarded_for, http::HeaderValue::from_static("192.0.2.1"));
    assert_eq!(of("10.0.0.1:1", &fields), untrusted);
});
