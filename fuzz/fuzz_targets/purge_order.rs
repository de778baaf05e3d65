//! What an operator asks to be purged: an order that is understood is understood again in the form in which it is repeated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::purge::order::{NAMED_MAX, Order};

fuzz_target!(|data: &[u8]| {
    let (query, body) = weir_fuzz::two(data);
    let Ok(order) = Order::parse(std::str::from_utf8(query).ok(), body) else { return };
    assert!(!order.named.is_empty() && order.named.len() <= NAMED_MAX);
    let told = order.to_json().to_string();
    let again = Order::parse(None, told.as_bytes()).expect("what is told can be asked for");
    assert_eq!(again.to_json().to_string(), told);
});
