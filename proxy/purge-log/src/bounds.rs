//! Purges without end in one process: what it holds of them stays within bounds.

use std::sync::Arc;

use crate::facts::{Facts, RECORDS_MAX, Sizes};
use crate::instance::{Instance, Server};
use crate::position::Position;
use crate::target::{Mode, Record, Target};

/// The table of exact names at its largest, and the sketch.
const BYTES_MAX: usize = (13 << 20) + (17 << 20);
/// Own records that are kept for another publication.
const OWN_MAX: usize = 100_000;

/// A thousand a second for ten minutes, each of another URL, each sent, and read back.
#[test]
fn ten_minutes_of_a_thousand_writes_a_second_leave_no_more_than_the_tables_hold() {
    let facts = Arc::new(Facts::default());
    facts.keep_for_others();
    let mut instance = Instance::new("one", facts.clone());
    let start = Position::START;
    let server = Server { history: "one history".into(), head: start, deleted: start, now_ms: 1 };
    instance.connected(server, 0);
    instance.heard([], 0);
    assert!(instance.is_open());
    let (mut most, mut most_kept) = (Sizes::default(), 0);
    for now in 1..=600_000_u64 {
        let target = Target::parse("url", &format!("http://a.example/written-{now}")).unwrap();
        let number = instance.enlist(Record { target, mode: Mode::Hard, at_ms: now });
        instance.journaled(number);
        let (after, at) = (instance.reads_after(), Position { ms: now, seq: 0 });
        for send in instance.sends() {
            instance.sent(send.number, at, now);
            instance.read(after, [(at, &send.published)], start, now);
        }
        assert_eq!(instance.unpublished(), 0);
        if now % 1_000 == 0 {
            let sizes = facts.sizes();
            most.exact = most.exact.max(sizes.exact);
            most.bytes = most.bytes.max(sizes.bytes);
            most_kept = most_kept.max(instance.kept());
        }
    }
    let last = facts.sizes();
    assert_eq!(last.exact + last.folded, 600_000, "none is lost");
    assert!((RECORDS_MAX / 2..=RECORDS_MAX).contains(&most.exact), "{most:?}");
    assert!((1 << 20..=BYTES_MAX).contains(&most.bytes), "{most:?}");
    assert!((OWN_MAX / 2..=OWN_MAX).contains(&most_kept), "{most_kept}");
}
