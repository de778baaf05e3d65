//! Purges: what is fetched before one is given to nobody who asks after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::wire::request_bytes;
use harness::{Gate, Origin, Reply, Weir};

/// Answers with the number of the request. The first answer waits for the gate.
fn first_held_by(gate: &Gate) -> Origin {
    let (gate, count) = (gate.clone(), AtomicUsize::new(0));
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        if number == 1 {
            gate.wait();
        }
        Reply::ok(number.to_string()).header("Cache-Control", "max-age=60")
    })
}

#[test]
fn who_asks_after_a_purge_is_not_given_what_was_asked_for_before_it() {
    let gate = Gate::new();
    let origin = first_held_by(&gate);
    let weir = Weir::before(&origin);
    let mut before = weir.client();
    before.send(request_bytes("GET", "/page", &[], b""));
    origin.wait_for(1);

    let purged = weir.admin("POST", "/purge?everything=true");
    assert!((200..300).contains(&purged.status), "{} {}", purged.status, purged.text());
    let mut after = weir.client();
    after.send(request_bytes("GET", "/page", &[], b""));
    gate.open();

    assert_eq!(before.expect_response("GET").text(), "1", "asked before the purge");
    assert_eq!(after.expect_response("GET").text(), "2", "asked after it");
    let stored = weir.get("/page").text();
    assert_ne!(stored, "1", "and what was asked for before it is never a hit");
}
