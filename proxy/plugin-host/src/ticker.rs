//! The thread that enforces deadlines: while a call is under way, it moves the engine's epoch on each millisecond.
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
/// Ticks without a call before it sleeps.
const IDLE_TICKS: u32 = 32;

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
    let mut idle = 0;
    while !shared.end.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        idle = if shared.calls.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
        if idle >= IDLE_TICKS {
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.calls.load(Ordering::SeqCst) == 0 && !shared.end.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}
