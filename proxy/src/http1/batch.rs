//! Writes of one worker, in a row.
//!
//! Where a worker has several requests at hand, whatever is ready to be written waits once until the others have come as far; then all of
//! them are written, one after the other. A client or an application on the same machine that sleeps is woken by the first write and is
//! still awake for the others, and waking it takes the writer longer than writing; and code that sends does not throw code that answers out
//! of the processor's first-level cache for each request anew. No timer is involved, and a worker that has next to nothing else to do
//! writes at once.

use std::cell::Cell;
use std::task::Poll;

/// From so many writes between two rests on, it pays to let one wait for the others.
const MANY: u32 = 4;

thread_local! {
    /// Writes since this worker has last been out of work.
    static SINCE_REST: Cell<u32> = const { Cell::new(0) };
    /// Those between that time and the one before.
    static BEFORE_REST: Cell<u32> = const { Cell::new(0) };
}

/// Notes that this worker is out of work.
pub(crate) fn rests() {
    BEFORE_REST.set(SINCE_REST.replace(0));
}

/// Returns when the tasks that are ready to run have run, if there are likely to be several; else at once. To be awaited right before a
/// write. Whoever polls this must not mind being polled again for no reason.
pub(crate) async fn wait() {
    let writes = SINCE_REST.get().saturating_add(1);
    SINCE_REST.set(writes);
    if writes.max(BEFORE_REST.get()) < MANY {
        return;
    }
    let mut waited = false;
    std::future::poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        // To the end of the queue.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    /// What happens when so many tasks that are ready each get a write ready, and write.
    async fn order(tasks: usize) -> Vec<&'static str> {
        let events = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        for _ in 0..tasks {
            let events = Rc::clone(&events);
            local.spawn_local(async move {
                events.borrow_mut().push("ready");
                wait().await;
                events.borrow_mut().push("written");
            });
        }
        local.await;
        Rc::into_inner(events).unwrap().into_inner()
    }

    #[tokio::test]
    async fn a_busy_worker_writes_in_a_row_and_an_idle_one_at_once() {
        (0..2).for_each(|_| rests());
        assert_eq!(order(1).await, ["ready", "written"]);
        rests();
        assert_eq!(order(2).await, ["ready", "written", "ready", "written"]);
        rests();
        // That there are many shows with the last of them; from then on it is known.
        order(MANY as usize).await;
        rests();
        assert_eq!(order(3).await, ["ready", "ready", "ready", "written", "written", "written"]);
        // Three are not many.
        rests();
        assert_eq!(order(1).await, ["ready", "written"]);
    }
}
