//! Answers of an origin: what passes has one length and no field of one connection; trailers hold no framing.
#![no_main]

use http::{Response, StatusCode, Version};
use libfuzzer_sys::fuzz_target;
use weir::config::model::Limits;
use weir::gate::{Asked, check_response, check_trailers};

fuzz_target!(|data: &[u8]| {
    let [first, second, asked, fields @ ..] = data else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([*first, *second])) else { return };
    let mut parts = Response::new(()).into_parts().0;
    parts.status = status;
    parts.version = if asked & 16 == 0 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = weir_fuzz::headers(fields);
    let mut trailers = parts.headers.clone();
    let asked = Asked {
        head: asked & 1 != 0,
        conditional: asked & 2 != 0,
        range: asked & 4 != 0,
        upgrade: asked & 8 != 0,
    };
    if check_response(&mut parts, &asked, &Limits::default()).is_ok() {
        assert!((100..=599).contains(&parts.status.as_u16()));
        assert!(parts.headers.get_all("content-length").iter().count() <= 1);
        for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "te"] {
            assert!(!parts.headers.contains_key(name), "{name}");
        }
        assert!(parts.headers.contains_key("via"));
    }
    check_trailers(&mut trailers, 100);
    for name in ["content-length", "transfer-encoding", "host", "set-cookie", "authorization", "connection"] {
        assert!(!trailers.contains_key(name), "{name}");
    }
});
