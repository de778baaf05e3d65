//! What a Redis answers: nothing panics, nothing is read twice, and what is cut anywhere is never taken for whole and then for something else.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use weir::redis::resp::{Taken, take};

fuzz_target!(|received: &[u8]| {
    let mut whole = BytesMut::from(received);
    let first = take(&mut whole);
    let used = received.len() - whole.len();
    match first {
        Ok(Taken::Whole(answer)) => {
            // The same, however it comes in pieces.
            for cut in [used / 2, used - 1] {
                let mut part = BytesMut::from(&received[..cut]);
                assert!(matches!(take(&mut part), Ok(Taken::More(1..))));
            }
            let mut alone = BytesMut::from(&received[..used]);
            assert_eq!(take(&mut alone), Ok(Taken::Whole(answer)));
        }
        Ok(Taken::More(missing)) => assert!(missing > 0 && used == 0),
        Err(_) => assert_eq!(used, 0),
    }
});
