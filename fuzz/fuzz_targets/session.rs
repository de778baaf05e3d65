//! Sessions: what is decoded encodes to something that decodes alike; what an origin says never panics, and what was understood can be told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use session_state::Session;
use session_state::protocol::{Wish, tell};

fuzz_target!(|data: &[u8]| {
    if let Ok(session) = Session::decode(data) {
        assert_eq!(Session::decode(&session.encode()).as_ref(), Ok(&session));
        let mut twice = session.clone();
        twice.merge(&session);
        let mut once = Session::default();
        once.merge(&session);
        once.merge(&twice);
        assert_eq!(once.version(), twice.version());
    }
    let (set, control) = weir_fuzz::two(data);
    if let Ok(wish) = Wish::parse(Some(set), None, (!control.is_empty()).then_some(control)) {
        let begun = Session { created_ms: 1, ends_ms: u64::MAX, ..Session::default() };
        let mut session = begun.clone();
        session.merge(&wish.change(&begun, 7, 1));
        let (_, told) = tell(&session, "aWQ=", false, 1);
        if let Some(told) = told {
            assert!(Wish::parse(Some(told.as_bytes()), None, None).is_ok());
        }
    }
});
