//! A configuration file: no text makes it panic, and whatever is wrong is told.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Regular files may be read, and these are not what they seem.
    if text.contains("/proc") || text.contains("/sys") {
        return;
    }
    match weir::config::check_text("fuzz", text, Path::new("/nonexistent")) {
        Ok(loaded) => {
            assert!(!loaded.config.routes.is_empty());
            for warning in &loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
        }
        Err(mistakes) => {
            assert!(mistakes.count() > 0);
            assert!(mistakes.to_string().contains("error: "));
        }
    }
});
