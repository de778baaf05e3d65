//! Range and If-Range against a complete response.
#![no_main]

use cache_semantics::range::{Multipart, RangePlan, RangeSet, plan};
use cache_semantics::validation::Validators;
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (range, if_range) = weir_fuzz::two(rest);
    let length = u64::from(*length);
    if let Some(set) = RangeSet::parse(range) {
        for byte in 0..length {
            let holds = |first, last| first <= byte && byte <= last;
            let asked = set.specs().iter().filter_map(|spec| spec.resolve(length));
            let served = set.resolve(length);
            assert_eq!(
                asked.into_iter().any(|range| holds(range.first, range.last)),
                served.iter().any(|range| holds(range.first, range.last))
            );
        }
        let _ = set.resolve(u64::MAX);
        let served = set.resolve(length);
        if let Some(framed) = Multipart::new(&served, length, None, "x") {
            let heads: usize = framed.parts.iter().map(|(head, _)| head.len()).sum();
            let bytes: u64 = framed.parts.iter().map(|(_, range)| range.length()).sum();
            assert_eq!(framed.content_length, (heads + framed.end.len()) as u64 + bytes);
        }
    }
    let mut request = weir_fuzz::field(http::header::RANGE, range);
    request.extend(weir_fuzz::field(http::header::IF_RANGE, if_range));
    let stored = Validators::of(&weir_fuzz::headers(b"etag: \"a\""));
    match plan(&Method::GET, &request, StatusCode::OK, &stored, length) {
        RangePlan::Single(range) => assert!(range.last < length),
        RangePlan::Multiple(ranges) => {
            assert!(ranges.iter().all(|range| range.last < length) && ranges.len() > 1)
        }
        RangePlan::Whole | RangePlan::Unsatisfiable => {}
    }
});
