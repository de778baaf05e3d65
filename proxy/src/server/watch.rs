//! The janitor: once a second it looks at every connection of its worker and ends those that have used up their time.
//!
//! Connections set no timers. They note what they do ([`Progress`]); [`Watch::judge`] compares that with what it saw before. So a limit of
//! ten seconds may take eleven, and the hit path pays for none of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

use super::connection::{Connection, Order, Phase, Progress};
use super::http2::WINDOW_SECONDS;
use crate::config::model::Limits;
use crate::metrics::{Limit, WorkerMetrics};

/// How long a client may go on sending after its answer, see [`Phase::Lingering`].
const LINGER: Duration = Duration::from_secs(5);

/// How long an HTTP/2 connection with tunnels on it may carry nothing.
const TUNNEL_IDLE: Duration = Duration::from_secs(3_600);

/// How often connections are looked at: often enough for the smallest limit, and never more often than every ten milliseconds.
pub(super) fn tick(limits: &Limits) -> Duration {
    [limits.head_timeout, limits.idle_timeout, limits.keep_alive, limits.handshake_timeout, limits.rate_after]
        .into_iter()
        .min()
        .map_or(Duration::from_secs(1), |least| least / 4)
        .clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// What the janitor saw of a connection so far.
#[derive(Debug)]
struct Watch {
    phase: Phase,
    phase_since: Instant,
    /// The head that has begun, and since when.
    head: Option<(u64, Instant)>,
    owing: Option<Owing>,
    /// Since when the connection has been idle, and after how much work.
    idle: Option<(u64, Instant)>,
    finishing_since: Option<Instant>,
}

/// The client should be reading.
#[derive(Debug, Clone, Copy)]
struct Owing {
    out: u64,
    moved_at: Instant,
    window_out: u64,
    window_since: Instant,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    order: Order,
    because: Limit,
}

impl Watch {
    const fn new(phase: Phase, now: Instant) -> Self {
        Self { phase, phase_since: now, head: None, owing: None, idle: None, finishing_since: None }
    }

    fn judge(&mut self, progress: &Progress, now: Instant, limits: &Limits) -> Option<Verdict> {
        let phase = progress.phase();
        if self.phase != phase {
            *self = Self::new(phase, now);
        }
        let in_phase = now - self.phase_since;
        let end_after =
            |limit, because| (in_phase >= limit).then_some(Verdict { order: Order::End, because });
        match phase {
            Phase::Handshake => end_after(limits.handshake_timeout, Limit::Handshake),
            Phase::Silent => end_after(limits.head_timeout, Limit::Head),
            Phase::Lingering => end_after(LINGER.min(limits.idle_timeout), Limit::BodyIdle),
            Phase::Tunnel => None,
            Phase::Http1 | Phase::Http2 => self
                .judge_head(progress, now, limits)
                .or_else(|| self.judge_reading(progress, now, limits))
                .or_else(|| self.judge_idle(progress, now, limits)),
        }
    }

    /// A head must be complete in time, however busily its bytes come in.
    fn judge_head(&mut self, progress: &Progress, now: Instant, limits: &Limits) -> Option<Verdict> {
        if !progress.head_begun.load(Ordering::Relaxed) {
            self.head = None;
            return None;
        }
        let number = match self.phase {
            Phase::Http2 => progress.head_number.count(),
            _ => progress.begun.count(),
        };
        let since = match self.head {
            Some((same, since)) if same == number => since,
            _ => {
                self.head = Some((number, now));
                now
            }
        };
        let order = if self.phase == Phase::Http1 { Order::EndWith408 } else { Order::End };
        (now - since >= limits.head_timeout).then_some(Verdict { order, because: Limit::Head })
    }

    /// A client that is being sent something must go on reading it, and not too slowly.
    fn judge_reading(&mut self, progress: &Progress, now: Instant, limits: &Limits) -> Option<Verdict> {
        let http2 = self.phase == Phase::Http2;
        // On HTTP/2 a window of zero blocks no write: the content waits in front of it.
        let blocked = progress.write_blocked.load(Ordering::Relaxed)
            || (http2 && progress.active() > u64::from(progress.waiting.level()));
        if !blocked {
            self.owing = None;
            return None;
        }
        let out = if http2 { progress.content_out.count() } else { progress.bytes_out.count() };
        let owing =
            self.owing.get_or_insert(Owing { out, moved_at: now, window_out: out, window_since: now });
        if owing.out != out {
            owing.out = out;
            owing.moved_at = now;
        }
        if now - owing.moved_at >= limits.idle_timeout {
            return Some(Verdict { order: Order::End, because: Limit::WriteIdle });
        }
        let window = now - owing.window_since;
        if window >= limits.rate_after {
            let least = u128::from(limits.rate_bytes_min) * window.as_millis() / 1_000;
            if u128::from(out - owing.window_out) < least {
                return Some(Verdict { order: Order::End, because: Limit::Rate });
            }
            owing.window_out = out;
            owing.window_since = now;
        }
        None
    }

    /// A kept connection without a request.
    fn judge_idle(&mut self, progress: &Progress, now: Instant, limits: &Limits) -> Option<Verdict> {
        if progress.active() > 0
            || progress.write_blocked.load(Ordering::Relaxed)
            || progress.head_begun.load(Ordering::Relaxed)
        {
            self.idle = None;
            return None;
        }
        let moved = [&progress.begun, &progress.content_out, &progress.content_in];
        let work = moved.iter().map(|counter| counter.count()).fold(0, u64::wrapping_add);
        // A tunnel's answer ended long ago, and hyper does not say when the tunnel does.
        let tunnelled = progress.tunnelled.load(Ordering::Relaxed);
        let keep_alive = if tunnelled { limits.keep_alive.max(TUNNEL_IDLE) } else { limits.keep_alive };
        let since = match self.idle {
            Some((same, since)) if same == work => since,
            _ => {
                self.idle = Some((work, now));
                now
            }
        };
        if let Some(finishing) = self.finishing_since
            && now - finishing >= limits.idle_timeout
        {
            return Some(Verdict { order: Order::End, because: Limit::KeepAlive });
        }
        if now - since < keep_alive {
            return None;
        }
        self.finishing_since.get_or_insert(now);
        Some(Verdict { order: Order::Finish, because: Limit::KeepAlive })
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Table {
    entries: Mutex<Slab<Entry>>,
    metrics: Arc<WorkerMetrics>,
    /// Counts the windows of HTTP/2 budgets.
    window: AtomicU64,
    window_since: Mutex<Instant>,
    closing: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    watch: Watch,
}

impl Table {
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            entries: Mutex::default(),
            metrics,
            window: AtomicU64::new(0),
            window_since: Mutex::new(Instant::now()),
            closing: AtomicBool::new(false),
        }
    }

    /// From now on each HTTP/1.1 answer is the last on its connection.
    pub(super) fn close_after_answers(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    /// Tells every connection something.
    pub(super) fn order_all(&self, order: Order, which: impl Fn(&Connection) -> bool) {
        for (_, entry) in self.entries.lock().iter() {
            if which(&entry.connection) {
                entry.connection.orders.give(order);
            }
        }
    }

    /// Ends what has used up its time, and brings the metrics of long connections up to date.
    pub(super) fn sweep(&self, now: Instant, limits: &Limits) {
        let mut window_since = self.window_since.lock();
        if now - *window_since >= Duration::from_secs(WINDOW_SECONDS) {
            *window_since = now;
            self.window.fetch_add(1, Ordering::Relaxed);
        }
        drop(window_since);
        for (_, entry) in self.entries.lock().iter_mut() {
            let connection = &entry.connection;
            meter(connection, &self.metrics);
            if let Some(verdict) = entry.watch.judge(&connection.progress, now, limits)
                && connection.orders.current() < verdict.order
            {
                self.metrics.limit(verdict.because);
                connection.orders.give(verdict.order);
            }
        }
    }
}

fn meter(connection: &Connection, metrics: &WorkerMetrics) {
    let progress = &connection.progress;
    let pairs = [
        (&progress.bytes_in, &progress.metered_in, &metrics.bytes_received),
        (&progress.bytes_out, &progress.metered_out, &metrics.bytes_sent),
    ];
    for (moved, metered, total) in pairs {
        let more = moved.count() - metered.count();
        metered.add(more);
        total.add(more);
    }
}

/// A connection's place in the limits and in its worker's table. Dropping it frees both, so it lives in what holds the socket.
#[derive(Debug)]
pub(super) struct Admission {
    table: Arc<Table>,
    slot: usize,
    census: Arc<Census>,
    address: Option<Address>,
}

impl Admission {
    /// Lets the connection in, or names the limit that forbids it.
    pub(super) fn of(
        connection: &Arc<Connection>,
        table: &Arc<Table>,
        census: &Arc<Census>,
        counted: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Self, Limit> {
        let address = counted.map(Address::of);
        census.enter(address, limits)?;
        let watch = Watch::new(connection.progress.phase(), Instant::now());
        let slot = table.entries.lock().insert(Entry { connection: Arc::clone(connection), watch });
        table.metrics.connections_opened.one();
        Ok(Self { table: Arc::clone(table), slot, census: Arc::clone(census), address })
    }

    /// The handshake has ended: from now on this is the connection.
    pub(super) fn replace(&self, connection: &Arc<Connection>) {
        let mut entries = self.table.entries.lock();
        let before = std::mem::replace(&mut entries[self.slot].connection, Arc::clone(connection));
        connection.orders.give(before.orders.current());
    }

    /// The number of the current window of HTTP/2 budgets.
    pub(super) fn window(&self) -> u64 {
        self.table.window.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let entry = self.table.entries.lock().remove(self.slot);
        meter(&entry.connection, &self.table.metrics);
        self.table.metrics.connections_closed.one();
        self.census.leave(self.address);
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64, which is what one household or machine gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    V4([u8; 4]),
    V6Network([u8; 8]),
}

impl Address {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6Network([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// How many connections there are, in all and from each address; shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Census {
    all: AtomicUsize,
    addresses: [Mutex<HashMap<Address, usize>>; 16],
}

impl Census {
    fn enter(&self, address: Option<Address>, limits: &Limits) -> Result<(), Limit> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Connections);
        }
        let Some(address) = address else {
            return Ok(());
        };
        let mut counts = self.shard(address).lock();
        let count = counts.entry(address).or_default();
        if *count >= limits.connections_per_address {
            drop(counts);
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(())
    }

    fn leave(&self, address: Option<Address>) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = address {
            let mut counts = self.shard(address).lock();
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        }
    }

    fn shard(&self, address: Address) -> &Mutex<HashMap<Address, usize>> {
        let last = match address {
            Address::V4(octets) => octets[3],
            Address::V6Network(octets) => octets[7],
        };
        &self.addresses[usize::from(last) % self.addresses.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { rate_bytes_min: 100, ..Limits::default() }
    }

    /// Looks once a second for so long; the second at which it judged, and how.
    fn watch(
        progress: &Progress,
        seconds: u64,
        mut meanwhile: impl FnMut(u64, &Progress),
    ) -> Option<(u64, Order, Limit)> {
        let start = Instant::now();
        let mut watch = Watch::new(progress.phase(), start);
        (0..=seconds).find_map(|second| {
            meanwhile(second, progress);
            let now = start + Duration::from_secs(second);
            watch.judge(progress, now, &limits()).map(|verdict| (second, verdict.order, verdict.because))
        })
    }

    fn in_phase(phase: Phase) -> Progress {
        let progress = Progress::default();
        progress.enter(phase);
        progress
    }

    #[test]
    fn each_phase_has_its_time() {
        let cases = [
            (Phase::Handshake, Some((10, Order::End, Limit::Handshake))),
            (Phase::Silent, Some((10, Order::End, Limit::Head))),
            (Phase::Http1, Some((60, Order::Finish, Limit::KeepAlive))),
            (Phase::Http2, Some((60, Order::Finish, Limit::KeepAlive))),
            (Phase::Tunnel, None),
            (Phase::Lingering, Some((5, Order::End, Limit::BodyIdle))),
        ];
        for (phase, expected) in cases {
            assert_eq!(watch(&in_phase(phase), 1_000, |_, _| ()), expected, "{phase:?}");
        }
    }

    #[test]
    fn a_head_has_its_time_as_a_whole_and_the_next_one_its_own() {
        let dripping = |_, progress: &Progress| {
            progress.bytes_in.one();
            progress.head_begun.store(true, Ordering::Relaxed);
        };
        let expected = Some((10, Order::EndWith408, Limit::Head));
        assert_eq!(watch(&in_phase(Phase::Http1), 100, dripping), expected);
        let complete_in_time = |second, progress: &Progress| {
            progress.head_begun.store(true, Ordering::Relaxed);
            if second % 9 == 8 {
                progress.begun.one();
                progress.ended.one();
            }
        };
        assert_eq!(watch(&in_phase(Phase::Http1), 100, complete_in_time), None);
    }

    #[test]
    fn a_client_may_wait_for_ever_but_must_read_what_is_sent() {
        let progress = in_phase(Phase::Http1);
        progress.begun.one();
        progress.waiting.up();
        assert_eq!(watch(&progress, 10_000, |_, _| ()), None, "the origin takes its time");
        progress.write_blocked.store(true, Ordering::Relaxed);
        assert_eq!(watch(&progress, 100, |_, _| ()), Some((10, Order::End, Limit::WriteIdle)));
        let slowly = |bytes| move |_, progress: &Progress| progress.bytes_out.add(bytes);
        assert_eq!(watch(&progress, 1_000, slowly(99)), Some((30, Order::End, Limit::Rate)));
        assert_eq!(watch(&progress, 1_000, slowly(100)), None);
    }

    #[test]
    fn on_http2_content_must_move_whatever_else_does() {
        let progress = in_phase(Phase::Http2);
        progress.begun.one();
        let control_frames = |_, progress: &Progress| progress.bytes_out.add(17);
        assert_eq!(watch(&progress, 100, control_frames), Some((10, Order::End, Limit::WriteIdle)));
        progress.waiting.up();
        assert_eq!(watch(&progress, 1_000, control_frames), None, "nothing is there to be sent");
    }

    #[test]
    fn an_idle_connection_is_finished_and_then_ended_and_tunnels_are_not_idle() {
        let progress = in_phase(Phase::Http2);
        let start = Instant::now();
        let mut watch = Watch::new(Phase::Http2, start);
        let mut judge = |second| {
            let verdict = watch.judge(&progress, start + Duration::from_secs(second), &limits());
            verdict.map(|verdict| verdict.order)
        };
        assert_eq!(
            [0, 59, 60, 69, 70].map(&mut judge),
            [None, None, Some(Order::Finish), Some(Order::Finish), Some(Order::End)]
        );
        progress.tunnelled.store(true, Ordering::Relaxed);
        assert_eq!(super::tests::watch(&progress, 3_599, |_, _| ()), None);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client_and_mapped_addresses_as_what_they_are() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
