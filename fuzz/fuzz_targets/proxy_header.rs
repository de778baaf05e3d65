//! The PROXY header: what is complete is a prefix, and complete at no shorter length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::server::proxy_protocol::{Parsed, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(Parsed::Complete { used, header }) = parse(data) else { return };
    assert!(used > 0 && used <= data.len());
    assert_eq!(parse(&data[..used]), Ok(Parsed::Complete { used, header }));
    assert_eq!(parse(&data[..used - 1]), Ok(Parsed::Incomplete));
});
