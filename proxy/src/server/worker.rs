//! A worker: one thread, one runtime, its own sockets, its own service.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::accept::{self, Gate};
use super::connection::{Order, Phase};
use super::listen::ListenSocket;
use super::watch;
use super::{ListenerState, Serve, Shared, Worker};
use crate::http1::batch;
use crate::metrics::WorkerMetrics;

/// What a worker is told.
pub(super) enum Command {
    /// Accept from this socket.
    Open { number: u64, socket: ListenSocket, state: Arc<ArcSwap<ListenerState>> },
    /// Stop accepting from it.
    Close(u64),
    /// Stop accepting, finish, end.
    Drain { within: Duration },
}

/// A worker that always has something to do looks for new events after so many turns of its tasks: often enough, for what comes has to
/// queue behind them anyway, and seldom enough for writes to leave in long rows.
const EVENT_INTERVAL: u32 = 256;

/// Starts the thread; returns when its runtime runs.
pub(super) fn start<S: Serve>(
    index: usize,
    shared: &Arc<Shared>,
    metrics: &Arc<WorkerMetrics>,
    serve: impl FnOnce() -> S + Send + 'static,
) -> io::Result<Worker> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .on_thread_park(batch::rests)
        .build()?;
    let (commands, inbox) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let metrics = Arc::clone(metrics);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        runtime.block_on(async move {
            let gate = Gate::new(serve(), shared, metrics);
            run(Arc::new(gate), inbox).await;
        });
        // Tasks that are left are dropped here, without waiting for what they wait for.
        drop(runtime);
        // Nobody may be waiting.
        let _ = end.send(());
    })?;
    Ok(Worker { commands, ended: Mutex::new(Some(ended)), thread: Mutex::new(Some(thread)) })
}

async fn run<S: Serve>(gate: Arc<Gate<S>>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut open: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    loop {
        let tick = watch::tick(&gate.shared.settings.load().limits);
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Open { number, socket, state }) => {
                    let (stop, stopped) = oneshot::channel();
                    tokio::spawn(accept::accept(socket, state, Arc::clone(&gate), stopped));
                    open.insert(number, stop);
                }
                Some(Command::Close(number)) => drop(open.remove(&number)),
                Some(Command::Drain { within }) => {
                    open.clear();
                    drain(&gate, within).await;
                    return;
                }
                None => return,
            },
            () = tokio::time::sleep(tick) => {
                gate.table.sweep(Instant::now(), &gate.shared.settings.load().limits);
            }
        }
    }
}

/// How long an idle connection may go on sending the request that was on its way when the server began to stop.
const CROSSING: Duration = Duration::from_millis(500);

/// How long before the end tunnels are told, so that their peers can say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is under way is finished: HTTP/1.1 answers say `Connection: close`, HTTP/2 gets a GOAWAY. Idle connections close a moment later, because a
/// request may be on its way on one of them (RFC 9112 §9.6). In the end tunnels are told, and what is left is cut.
async fn drain<S: Serve>(gate: &Gate<S>, within: Duration) {
    let table = &gate.table;
    let started = Instant::now();
    table.close_after_answers();
    table.order_all(Order::Finish, |connection| {
        connection.progress.phase() == Phase::Http2 || connection.progress.active() > 0
    });
    let crossing = CROSSING.min(within / 4);
    let farewell = within.saturating_sub(FAREWELL.min(within / 4));
    let (mut idle_told, mut tunnels_told) = (false, false);
    let limits = gate.shared.settings.load().limits.clone();
    loop {
        // Closed listeners hand over what waited in their queue before the table can be called empty.
        tokio::time::sleep(Duration::from_millis(10).min(within)).await;
        let elapsed = started.elapsed();
        if table.is_empty() && gate.accepting() == 0 {
            return;
        }
        if elapsed >= within {
            table.order_all(Order::End, |_| true);
            tokio::task::yield_now().await;
            return;
        }
        if elapsed >= crossing && !idle_told {
            idle_told = true;
            table.order_all(Order::Finish, |_| true);
        }
        if elapsed >= farewell && !tunnels_told {
            tunnels_told = true;
            table.order_all(Order::End, |connection| connection.progress.phase() == Phase::Tunnel);
        }
        table.sweep(Instant::now(), &limits);
    }
}
