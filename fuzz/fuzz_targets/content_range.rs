//! Parts: what a 206 says it brings, what it answers, how two grow together.
#![no_main]

use cache_semantics::range::{ContentRange, Part, RangeSet};
use cache_semantics::validation::Validators;
use http::header::CONTENT_RANGE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (first, second, range) = weir_fuzz::three(data);
    if let Some(read) = ContentRange::parse(first) {
        assert_eq!(ContentRange::parse(read.value().as_bytes()), Some(read));
        assert!(read.complete.is_none_or(|complete| read.range.last < complete));
    }
    let part = |value: &[u8], received| Part::of(&weir_fuzz::field(CONTENT_RANGE, value), received);
    let (Some(mine), Some(theirs)) = (part(first, 7), part(second, 5)) else { return };
    let strong = Validators::of(&weir_fuzz::headers(b"etag: \"a\""));
    if let Some(combined) = mine.combine(&strong, &theirs, &strong) {
        let length = combined.before + theirs.range.length() + combined.behind;
        assert_eq!(length, combined.part.range.length());
        assert!(combined.part.range.contains(&mine.range) && combined.part.range.contains(&theirs.range));
    }
    if let Some(set) = RangeSet::parse(range)
        && let Some(served) = mine.satisfy(&set)
    {
        assert!(mine.range.contains(&served) && mine.offset_of(&served).is_some());
    }
    let _ = (mine.missing().map(|spec| spec.value()), mine.is_whole());
});
