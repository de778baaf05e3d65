//! A time limit that moves often and is rarely reached.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set once and looked at when it fires: moving the limit further away costs nothing.
pub(super) struct Watch {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { sleep: None }
    }

    /// Whether the limit is past; if not, the task is woken when it is (or somewhat before).
    pub(super) fn is_past(&mut self, limit: Instant, context: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        if sleep.deadline() > limit {
            sleep.as_mut().reset(limit);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= limit {
                // Armed again, so that asking once more is allowed.
                sleep.as_mut().reset(limit + Duration::from_secs(1));
                return true;
            }
            sleep.as_mut().reset(limit);
        }
        false
    }
}
