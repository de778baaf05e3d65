//! The thread that enforces deadlines: while a call is under way, it moves the engine's epoch on each millisecond.
//!
//! Nearly every call is over after some microseconds, and a thread that wakes for each millisecond takes more of a core than it is worth. So it looks now and then
//! whether a call is under way, and ticks by the millisecond from there on, until none is. A call never ends early, and later than it should by one look at most.
//!
//! It sleeps while nothing runs. A call is counted before the ticker looks whether to sleep, and looks whether it sleeps after it was
//! counted, both in one order for all threads: so one of the two always sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// Between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Between two looks, as long as none finds a call under way.
const LOOK: Duration = Duration::from_millis(5);
/// Looks without a call before it sleeps.
const IDLE_LOOKS: u32 = 6;

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    asleep: AtomicBool,
    end: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A call under way.
pub(crate) struct Running<'t>(&'t Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread =
            thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || tick(&engine, &seen))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has deadlines enforced until the guard is dropped. `None`: the thread is gone, and nothing would be.
    pub(crate) fn run(&self) -> Option<Running<'_>> {
        let thread = self.thread.as_ref().filter(|thread| !thread.is_finished())?;
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            thread.thread().unpark();
        }
        Some(Running(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    // How many looks have found no call.
    let mut idle = 1;
    while !shared.end.load(Ordering::SeqCst) {
        thread::sleep(if idle == 0 { TICK } else { LOOK });
        if shared.calls.load(Ordering::SeqCst) > 0 {
            engine.increment_epoch();
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_LOOKS {
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.calls.load(Ordering::SeqCst) == 0 && !shared.end.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 1;
        }
    }
}
