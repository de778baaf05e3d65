//! Messages on a WebSocket: as many are found in pieces as in one go, and nothing is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::limit::Frames;

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    let count = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut messages) = (Frames::default(), 0_u64);
        for piece in pieces {
            let passed = frames.pass(piece, || {
                messages += 1;
                true
            });
            assert_eq!(passed, piece.len());
        }
        messages
    };
    assert_eq!(count(&mut data.chunks(usize::from(size).max(1))), count(&mut std::iter::once(data)));
});
