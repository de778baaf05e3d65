//! The gate: what passes has one host, one length, one target, and no field of one connection.
#![no_main]

use http::{Method, Request, Version};
use libfuzzer_sys::fuzz_target;
use weir::config::model::Limits;
use weir::gate::{Authority, RequestFacts, check_request, is_hop_by_hop};

fuzz_target!(|data: &[u8]| {
    let (line, rest) = weir_fuzz::two(data);
    let (framed, fields) = weir_fuzz::two(rest);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(target)) = (Method::from_bytes(method), http::Uri::try_from(target)) else { return };
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.uri = target;
    parts.version = match words.next() {
        Some(b"2") => Version::HTTP_2,
        Some(b"0") => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    parts.headers = weir_fuzz::headers(fields);
    let facts =
        RequestFacts { tls: framed.len() % 2 == 0, body_len: framed.first().map(|byte| u64::from(*byte)) };
    let Ok(gated) = check_request(&mut parts, &facts, &Limits::default()) else { return };

    assert!(parts.uri.scheme().is_none() && parts.uri.authority().is_none());
    let target = parts.uri.path_and_query().expect("a target is left").as_str();
    assert!(target.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#'));
    assert!(target.starts_with('/') || target == "*");
    for name in parts.headers.keys() {
        assert!(!is_hop_by_hop(name) || name == "host" || name == "content-length", "{name}");
    }
    assert!(parts.headers.get_all("host").iter().count() <= 1);
    assert!(parts.headers.get_all("content-length").iter().count() <= 1);
    let again = Authority::from_field(&gated.authority.to_value(), facts.tls).expect("an authority is one");
    assert_eq!(again.as_str(), gated.authority.as_str());
});
