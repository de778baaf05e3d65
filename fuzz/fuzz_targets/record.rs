//! Recorded requests: what is read is written as it was, and whatever a proxy records can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugin_cases::record::{self, Answered, Hider, Recorded};

fuzz_target!(|data: &[u8]| {
    let (line, query, fields) = weir_fuzz::three(data);
    if let Ok(line) = std::str::from_utf8(line)
        && let Ok(recorded) = record::parse(line, 1)
    {
        assert_eq!(record::parse(&recorded.line(), 2).as_ref(), Ok(&recorded));
        recorded.presented().expect("it was looked at when it was read");
        let _ = recorded.answer.map(|answer| answer.fields());
    }
    let plain = ["cookie:ab", "header:x-tenant", "query:code"].map(str::to_owned);
    let hider = Hider::new([7; 32], plain);
    let headers = weir_fuzz::headers(fields);
    let query = hider.query(&String::from_utf8_lossy(query));
    let written = hider.fields(&headers);
    let recorded = Recorded {
        request: format!("GET http://a.test/?{query}"),
        headers: written.clone(),
        answer: Some(Answered { status: 200, headers: written, content_length: None }),
        ..Recorded::default()
    };
    let read = record::parse(&recorded.line(), 1).expect("what a proxy writes");
    assert_eq!(read, recorded);
    let presented = read.presented().expect("it was looked at when it was read");
    assert_eq!(presented.query.as_deref(), Some(&*query));
    assert_eq!(presented.headers.len(), headers.len(), "no line is lost");
});
