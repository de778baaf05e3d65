//! Durations, sizes and shares: nothing panics, and what is shown is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::units::{parse_duration, parse_share, parse_size, show_duration, show_size};

fuzz_target!(|text: &str| {
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
    if let Ok(bytes) = parse_size(text) {
        assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
    }
    if let Ok(share) = parse_share(text) {
        assert!((0.0..=1.0).contains(&share));
    }
});
