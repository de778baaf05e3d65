//! Entries of the log of purges, what proxies say of themselves, and what applications say they have changed. All of it comes from outside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use purge_log::{Announcement, Mode, Position, Published, Target, field};

fuzz_target!(|data: &[u8]| {
    // Fields as they come: name and value by turns, with a zero byte between them.
    let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).take(32).collect();
    let pairs = parts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let published = Published::from_fields(pairs);
    let fields = published.to_fields();
    let again =
        Published::from_fields(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    assert_eq!(again, published, "what is written is read as it was meant");
    if let Ok(text) = std::str::from_utf8(data) {
        if let Some(said) = Announcement::parse(text) {
            assert_eq!(Announcement::parse(&said.to_text()), Some(said));
        }
        if let Ok(position) = text.parse::<Position>() {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        let _ = Mode::parse(text);
        for kind in Target::KINDS {
            if let Ok(target) = Target::parse(kind, text) {
                assert_eq!(Target::parse(target.kind(), &target.value()), Ok(target));
            }
        }
    }
    if let Ok((changed, _)) = field::parse(data) {
        assert!(changed.len() <= field::CHANGED_MAX);
    }
});
