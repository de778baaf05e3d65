//! Files of tests for plugins: whatever stands in one is read or refused, and what changes nothing changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugin_cases::case::{self, Case, File};

fn look(case: &Case, depth: usize) {
    let presented = case.presented();
    assert_eq!(case.changed_by(&Case::default()).presented(), presented);
    let others = [&case.same_key_as, &case.different_key_from].into_iter().flatten();
    for (_, other) in others.filter_map(|said| case.others(said).ok()).flatten() {
        // What names another request names it whole.
        if let Some(request) = &other.request {
            assert!(other.presented().is_err() || request.contains(' '));
        }
    }
    if let Some(answer) = &case.response {
        let _ = case::headers(Some(&answer.headers));
    }
    for text in [&case.after, &case.remember].into_iter().flatten() {
        if let Ok(duration) = case::duration(text) {
            assert_eq!(case::duration(&format!("{}ms", duration.as_millis())), Ok(duration));
        }
    }
    if depth > 0 {
        for then in &case.then {
            look(&case.changed_by(then), depth - 1);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = File::parse(text) else { return };
    for case in &file.test {
        look(case, 3);
    }
});
