//! What goes wrong with Redis and with the disk, under load: nobody gets a wrong answer, or an error because of it.
//!
//! Short here. `scripts/faults.sh` runs the same at full length, by these variables, prints how long things took, and holds them to limits; no test depends on that otherwise.
//!
//! - `WEIR_FAULT_LIMITS`: what things may take is checked too: for a machine that does nothing else meanwhile
//! - `WEIR_FAULT_SECONDS`: how long each fault lasts (1)
//! - `WEIR_KILLS`: how often the proxy is killed under load (5)
//! - `WEIR_WRITE_SECONDS`: how long a thousand unsafe requests a second come (2)
//! - `WEIR_SESSION_KILLS`: how many sessions are ended by an operator (5); the limit for each is 100 ms until it is over everywhere
//! - `WEIR_CHURN`: how many pages are stored and purged while nothing may grow (20,000); from 300,000 on the log of purges reaches its bound

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Conn, Origin, RedisServer, Reply, Weir, eventually};

fn from_environment(name: &str, short: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// Whether what things take is checked, and not only told.
fn has_limits() -> bool {
    std::env::var_os("WEIR_FAULT_LIMITS").is_some_and(|value| !value.is_empty() && value != "0")
}

/// For whoever runs this at full length.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn page(path: &str) -> String {
    format!("this is {path}, and nothing else\n").repeat(30)
}

fn origin() -> Origin {
    // Longer than any of this takes.
    Origin::start(|request| Reply::ok(page(request.path())).header("Cache-Control", "max-age=86400"))
}

fn with_redis(origin: &Origin, redis: &RedisServer, more: &str) -> Weir {
    Weir::with(&format!(
        "[redis.main]\nurl = \"{}\"\n[cache.default]\nredis = \"main\"\nprefix = \"test\"\n{more}\n[[route]]\norigin = \"{}\"\n",
        redis.url(),
        origin.url()
    ))
}

fn is_open(weir: &Weir) -> bool {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["purges"]["state"] == "open"
}

// ---------------------------------------------------------------- Redis

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What memory has.
    Known,
    /// What nobody has: Redis is asked, then the origin.
    New,
    /// What is never stored: Redis has no part in it.
    Uncached,
}

/// What one answer took, and when it was asked for.
struct Taken {
    kind: Kind,
    asked: Instant,
    took: Duration,
}

/// Three visitors with a hundred requests a second each, for pages that memory has, for pages that nobody has, and for pages that no cache may have, until told to stop.
fn visitors<T>(weir: &Weir, meanwhile: impl FnOnce() -> T) -> (T, Vec<Taken>) {
    let (stop, taken) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    // Never the same one twice in a test, or what nobody has would be what memory has.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let outcome = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = weir.client();
                let mut turn = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    turn += Duration::from_millis(10);
                    std::thread::sleep(turn.saturating_duration_since(Instant::now()));
                    let next = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let (kind, path) = match next % 3 {
                        0 => (Kind::Known, format!("/known-{}", next % 20)),
                        1 => (Kind::New, format!("/new-{next}")),
                        _ => (Kind::Uncached, format!("/uncached/{next}")),
                    };
                    let asked = Instant::now();
                    let answer = client.get(&path);
                    assert_eq!(answer.status, 200, "{path}");
                    assert_eq!(answer.text(), page(&path));
                    taken.lock().unwrap().push(Taken { kind, asked, took: asked.elapsed() });
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    match outcome {
        Ok(outcome) => (outcome, taken.into_inner().unwrap()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The 99th percentile of what was asked for in a time, in milliseconds.
fn p99(taken: &[Taken], kind: Kind, from: Instant, to: Instant) -> f64 {
    let of = taken.iter().filter(|taken| taken.kind == kind && (from..to).contains(&taken.asked));
    let mut took: Vec<Duration> = of.map(|taken| taken.took).collect();
    took.sort();
    took.get(took.len() * 99 / 100).map_or(0.0, Duration::as_secs_f64) * 1e3
}

/// What a fault may add to the 99th percentile in its first second, in milliseconds; and after that, when Redis is not asked any more.
const ADDED_FIRST: f64 = 60.0;
const ADDED_AFTER: f64 = 3.0;
/// By then it is used again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

struct Fault {
    what: &'static str,
    /// Whether it is one in which Redis is not read.
    is_away: bool,
    begin: fn(&mut RedisServer, Duration),
    end: fn(&mut RedisServer),
}

/// Says it to a server that may be unwilling to answer.
fn tell(redis: &RedisServer, parts: &[&str]) {
    let _ = redis.says(parts);
}

const FAULTS: [Fault; 7] = [
    Fault { what: "killed", is_away: true, begin: |redis, _| redis.kill(), end: RedisServer::restart },
    Fault { what: "silent", is_away: true, begin: |redis, _| redis.freeze(), end: |redis| redis.thaw() },
    Fault {
        what: "paused",
        is_away: true,
        begin: |redis, lasts| {
            let millis = lasts.as_millis().max(2_000).to_string();
            tell(redis, &["CLIENT", "PAUSE", &millis, "ALL"]);
        },
        // It ends by itself, and takes no word until then.
        end: |redis| tell(redis, &["PING"]),
    },
    Fault {
        what: "busy with a script",
        is_away: true,
        begin: |redis, _| {
            let mut client = redis.client();
            // Its answer never comes: it is killed at the end.
            std::thread::spawn(move || client.ask(&[b"EVAL", b"while true do end", b"0"]));
        },
        end: |redis| eventually("the script ends", || redis.says(&["SCRIPT", "KILL"]).contains("OK")),
    },
    Fault {
        what: "full",
        is_away: false,
        begin: |redis, _| tell(redis, &["CONFIG", "SET", "maxmemory", "1"]),
        end: |redis| tell(redis, &["CONFIG", "SET", "maxmemory", "0"]),
    },
    Fault {
        what: "a replica",
        is_away: true,
        begin: |redis, _| tell(redis, &["REPLICAOF", "127.0.0.1", "1"]),
        end: |redis| tell(redis, &["REPLICAOF", "NO", "ONE"]),
    },
    Fault {
        what: "locked",
        is_away: true,
        begin: |redis, _| {
            // On one connection: whoever comes later is not let in.
            let mut client = Conn2::to(redis.port());
            client.say(&["CONFIG", "SET", "requirepass", "other"]);
            client.say(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        },
        end: |redis| {
            let mut client = Conn2::to(redis.port());
            client.say(&["AUTH", "other"]);
            client.say(&["CONFIG", "SET", "requirepass", ""]);
        },
    },
];

/// A connection that says several things.
struct Conn2(harness::redis::Client);

impl Conn2 {
    fn to(port: u16) -> Self {
        Self(harness::redis::Client::to(port).unwrap())
    }

    fn say(&mut self, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.0.ask(&parts).unwrap();
    }
}

/// How often a fault is tried before it counts as one that costs too much: what strangers on the machine do to one attempt they do not do to all.
const ATTEMPTS: u32 = 5;

/// What visitors felt of a fault: 99th percentiles of each kind of page, in milliseconds.
struct Row {
    what: &'static str,
    usual: [f64; 3],
    first: [f64; 3],
    after: [f64; 3],
    back: Duration,
}

impl Row {
    fn is_over(&self) -> bool {
        let added =
            |now: &[f64; 3], most| now.iter().zip(&self.usual).any(|(now, usual)| now - usual >= most);
        added(&self.first, ADDED_FIRST) || added(&self.after, ADDED_AFTER) || self.back >= BACK_WITHIN
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "| {} |", self.what)?;
        for figures in [self.usual, self.first, self.after] {
            let [known, new, uncached] = figures;
            write!(out, " {known:.1} / {new:.1} / {uncached:.1} |")?;
        }
        write!(out, " {:.1} s |", self.back.as_secs_f64())
    }
}

/// One fault, under visitors.
fn row(fault: &Fault, redis: &mut RedisServer, (weir, other): (&Weir, &Weir), lasts: Duration) -> Row {
    let Fault { what, is_away, begin, end } = *fault;
    let ((before, began, ended, back), taken) = visitors(weir, || {
        let before = Instant::now();
        std::thread::park_timeout(lasts);
        let began = Instant::now();
        begin(redis, lasts);
        if is_away {
            eventually("it is noticed", || !is_open(weir) || weir.metric("redis_up", &["main"]) == 0.0);
        }
        std::thread::park_timeout(lasts.saturating_sub(began.elapsed()));
        let ended = Instant::now();
        end(redis);
        eventually("it is used again", || {
            is_open(weir) && is_open(other) && weir.metric("redis_writable", &["main"]) == 1.0
        });
        (before, began, ended, ended.elapsed())
    });
    assert!(taken.len() > 20, "{what}: {} answers", taken.len());
    let second = began + Duration::from_secs(1);
    let of = |from, to| [Kind::Known, Kind::New, Kind::Uncached].map(|kind| p99(&taken, kind, from, to));
    Row {
        what,
        usual: of(before, began),
        first: of(began, second),
        after: of(second.min(ended), ended),
        back,
    }
}

#[test]
fn no_fault_of_redis_reaches_a_visitor_and_it_is_used_again_when_it_is_over() {
    let lasts = Duration::from_secs(from_environment("WEIR_FAULT_SECONDS", 1));
    let (origin, mut redis) = (origin(), RedisServer::start());
    let uncached = format!(
        "[[route]]\nmatch = {{ path = \"/uncached/**\" }}\norigin = \"{}\"\ncache = \"off\"",
        origin.url()
    );
    let (weir, other) = (with_redis(&origin, &redis, &uncached), with_redis(&origin, &redis, ""));
    eventually("a log that is trusted", || is_open(&weir) && is_open(&other));
    for number in 0..20 {
        weir.get(&format!("/known-{number}"));
    }
    print("p99 of what memory has / of what nobody has / of what is never stored, in ms");
    print("| fault | before | in its first second | after that | used again after |");
    let mut over = Vec::new();
    for fault in &FAULTS {
        let mut over_each_time = Vec::new();
        for attempt in 1..=ATTEMPTS {
            let row = row(fault, &mut redis, (&weir, &other), lasts);
            print(&row.to_string());
            if !has_limits() || !row.is_over() {
                break;
            }
            over_each_time.push(row);
            if attempt == ATTEMPTS {
                over.append(&mut over_each_time);
            }
        }
    }
    let over: Vec<String> = over.iter().map(Row::to_string).collect();
    assert!(over.is_empty(), "beyond the limits, each time:\n{}", over.join("\n"));
}

#[test]
fn slots_of_a_cluster_that_move_cost_hits_only() {
    let origin = origin();
    let nodes = RedisServer::cluster();
    let url = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect::<Vec<_>>().join(",");
    let weir = Weir::with(&format!(
        "[redis.main]\nurl = \"redis://{url}\"\n[cache.default]\nredis = \"main\"\nprefix = \"test\"\nmax_entries = 50\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    eventually("a log that is trusted", || is_open(&weir));
    let id_of = |node: &RedisServer| node.says(&["CLUSTER", "MYID"]);
    // Whoever has the log of purges keeps it.
    let log = nodes.iter().position(|node| node.keys().iter().any(|key| key.starts_with('{'))).unwrap();
    let (from, to) = ((log + 1) % 3, (log + 2) % 3);
    let (first, _) = [(0, 5460), (5461, 10_922), (10_923, 16_383)][from];
    let ((), taken) = visitors(&weir, || {
        for slot in first..first + 200 {
            for node in [&nodes[to], &nodes[from], &nodes[log]] {
                // Keys that stay behind are dropped by their old node: those are misses.
                node.says(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id_of(&nodes[to])]);
            }
        }
        let hits = || weir.metric("cache_redis_total", &["written"]);
        let before = hits();
        eventually("what is stored goes to all of them", || hits() > before + 20.0);
    });
    assert!(taken.len() > 20);
    assert_eq!(weir.metric("redis_up", &["main"]), 1.0);
}

// ---------------------------------------------------------------- the process, and the disk

fn with_data(origin: &Origin, folder: &std::path::Path) -> String {
    format!(
        "[data]\npath = \"{}\"\ncache_size = \"64MiB\"\n[cache.default]\nmax_entries = 100\n[[route]]\norigin = \"{}\"\n",
        folder.display(),
        origin.url()
    )
}

#[test]
fn a_proxy_that_is_killed_under_load_answers_right_when_it_is_back() {
    let kills = from_environment("WEIR_KILLS", 5);
    let (folder, origin) = (tempfile::tempdir().unwrap(), origin());
    let config = with_data(&origin, folder.path());
    let mut random = harness::random::Random::new(9);
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        let began = Instant::now();
        let weir = Weir::with(&config);
        assert_eq!(weir.get("/page-1").text(), page("/page-1"));
        slowest = slowest.max(began.elapsed());
        let until = Instant::now() + Duration::from_millis(100 + random.below(900) as u64);
        let mut client = weir.client();
        while Instant::now() < until {
            let path = format!("/page-{}", random.below(2_000));
            let answer = client.get(&path);
            assert_eq!((answer.status, answer.text()), (200, page(&path)));
            if random.once_in(50) {
                let receipt = weir.admin("POST", &format!("/purge?prefix={path}"));
                assert!(receipt.text().contains("\"journaled\":true"), "{}", receipt.text());
            }
        }
        // Dropped, it is killed, with whatever it was writing.
    }
    print(&format!("{kills} kills: the slowest answered {:.2} s after its start", slowest.as_secs_f64()));
    let damaged = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(damaged.count(), 0);
    let folder = folder.path().display().to_string();
    assert!(harness::weir::run(&["store", "check", "--data", &folder]).status.success());
}

/// Why the store is not written, as the status has it.
fn store_trouble(weir: &Weir) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["data"]["trouble"].as_str().map(str::to_owned)
}

#[test]
fn a_disk_that_is_full_switches_the_store_off_and_nothing_else() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), origin());
    // No file may grow beyond this: as on a full disk, the write fails and the process goes on.
    let weir = Weir::with_small_files(&with_data(&origin, folder.path()), 512);
    let mut number = 0;
    eventually("the disk is full", || {
        for _ in 0..100 {
            number += 1;
            let path = format!("/page-{number}");
            assert_eq!(weir.get(&path).text(), page(&path));
        }
        weir.metric("store_failures_total", &["cache"]) > 0.0
    });
    weir.wait_for_line("bodies cannot be written to disk");
    eventually("the status says why", || store_trouble(&weir).is_some_and(|why| !why.is_empty()));
    let mut receipt = String::new();
    eventually("the journal is full as well, or goes on", || {
        receipt = weir.admin("POST", &format!("/purge?tag={}", "x".repeat(4_000))).text();
        receipt.contains("\"journaled\":false") || number > 20_000
    });
    let path = "/after";
    assert_eq!(weir.get(path).text(), page(path));
    assert!(weir.get(path).is_hit());
}

#[test]
fn a_folder_that_cannot_be_made_is_done_without() {
    let origin = origin();
    let weir = Weir::with(&with_data(&origin, std::path::Path::new("/proc/weir-data")));
    weir.wait_for_line("there is no embedded store");
    let why = store_trouble(&weir).unwrap_or_default();
    assert!(why.contains("cannot use the folder `/proc/weir-data`"), "{why}");
    assert_eq!(weir.get("/page").text(), page("/page"));
    assert!(weir.get("/page").is_hit());
    assert!(weir.admin("POST", "/purge?everything=true").text().contains("\"journaled\":false"));
}

#[test]
fn files_that_are_damaged_while_they_are_used_are_moved_aside() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), origin());
    let weir = Weir::with(&with_data(&origin, folder.path()));
    let status = |name: &str| {
        let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
        status["data"][name].as_u64().unwrap_or_default()
    };
    for number in 0..300 {
        weir.get(&format!("/page-{number}"));
    }
    eventually("bodies are on disk", || status("written") >= 300);
    for name in ["cache.db", "cache.db-wal"] {
        let path = folder.path().join(name);
        let length = std::fs::metadata(&path).map_or(0, |file| file.len());
        let garbage = vec![0x55; usize::try_from(length).unwrap()];
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        // In place: whoever has it open sees it.
        file.and_then(|mut file| file.write_all(&garbage)).unwrap();
    }
    let mut number = 1_000;
    eventually("the damaged file is moved aside", || {
        number += 1;
        for path in [format!("/page-{number}"), format!("/page-{}", number % 300)] {
            assert_eq!(weir.get(&path).text(), page(&path));
        }
        folder.path().join("cache.db.damaged-0").exists()
    });
    let before = status("written");
    eventually("bodies are written to a new one", || {
        number += 1;
        weir.get(&format!("/page-{number}"));
        status("written") > before + 3
    });
}

// ---------------------------------------------------------------- nothing grows

/// Redis' memory for data, in bytes.
fn dataset(redis: &RedisServer) -> u64 {
    let info = redis.ask(&["INFO", "memory"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap();
    line.trim().parse().unwrap()
}

fn records_in_log(redis: &RedisServer) -> u64 {
    redis.ask(&["XLEN", "{test}:inv"]).text().parse().unwrap()
}

/// An origin for so many requests that none is kept.
fn busy_origin(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Origin {
    Origin::start_counting(move |request| reply(request.path()))
}

/// What Weir holds of purges, by what `GET /status` calls it.
fn held(weir: &Weir, what: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["purges"]["held"][what].as_u64().unwrap_or_else(|| panic!("{what}: {status}"))
}

/// Records about exact names that it holds at most, own ones, and what all of them take: 13 MiB for the table, and 16 for those that are folded together.
const EXACT_MAX: u64 = 229_376;
const OWN_MAX: u64 = 100_000;
const HELD_BYTES_MAX: u64 = 30 << 20;

/// Clients that write at the same time, together a thousand times a second.
const WRITERS: u32 = 16;
const WRITES_A_SECOND: u32 = 1_000;
/// Every so often a client takes another connection: the harness keeps what came over one.
const A_CONNECTION: u64 = 5_000;

#[test]
fn a_thousand_writes_a_second_elsewhere_cost_no_hit() {
    let lasts = Duration::from_secs(from_environment("WEIR_WRITE_SECONDS", 2));
    let origin = busy_origin(|path| Reply::ok(page(path)).header("Cache-Control", "max-age=86400"));
    let redis = RedisServer::start();
    let weir = with_redis(&origin, &redis, "");
    eventually("a log that is trusted", || is_open(&weir));
    for number in 0..100 {
        weir.get(&format!("/page-{number}"));
    }
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let (mut asked, mut misses, mut halfway): (usize, usize, Option<(u64, usize)>) = (0, 0, None);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stop, writes, weir) = (&stop, &writes, &weir);
            scope.spawn(move || {
                let mut client = weir.client();
                // One that is late catches up.
                let mut turn = began;
                for number in 1_u64.. {
                    turn += Duration::from_secs(1) * WRITERS / WRITES_A_SECOND;
                    std::thread::sleep(turn.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if number % A_CONNECTION == 0 {
                        client = weir.client();
                    }
                    let answer = client.ask("POST", &format!("/written-{writer}-{number}"), &[], b"x");
                    assert_eq!(answer.status, 200);
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // However it ends, the writers end.
        let reading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut client = weir.client();
            let mut turn = began;
            while began.elapsed() < lasts || asked < 200 {
                turn += Duration::from_millis(5);
                std::thread::sleep(turn.saturating_duration_since(Instant::now()));
                if asked.is_multiple_of(5_000) {
                    client = weir.client();
                }
                if halfway.is_none() && began.elapsed() > lasts / 2 {
                    halfway = Some((dataset(&redis), weir.resident_bytes()));
                }
                misses += usize::from(!client.get(&format!("/page-{}", asked % 100)).is_hit());
                asked += 1;
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = reading {
            std::panic::resume_unwind(panic);
        }
    });
    let took = began.elapsed().as_secs_f64();
    let (written, records) = (writes.load(Ordering::Relaxed), records_in_log(&redis));
    let (redis_before, weir_before) = halfway.unwrap_or_else(|| (dataset(&redis), weir.resident_bytes()));
    let each_second = f64::from(u32::try_from(written).unwrap_or(u32::MAX)) / took;
    print(&format!(
        "{written} writes in {took:.0} s, {each_second:.0} each second; {misses} of {asked} others were no hits; {records} records in the log; \
         redis: {redis_before} bytes at half-time, then {}; weir: {weir_before}, then {}",
        dataset(&redis),
        weir.resident_bytes()
    ));
    assert_eq!(misses, 0, "what is not written to is a hit as before");
    assert!(records < 110_000, "{records} records in the log");
    let [exact, folded, own, bytes] = ["exact", "folded", "own", "bytes"].map(|what| held(&weir, what));
    assert!(exact + folded <= written, "a write is one record: {exact} and {folded} of {written}");
    assert!(exact <= EXACT_MAX && own <= OWN_MAX.min(written), "{exact} records, {own} own ones");
    assert!(bytes <= HELD_BYTES_MAX, "{bytes} bytes of records");
    // What comes on top of that are own records; the table and the sketch may all have been taken in the second half.
    let grown = weir.resident_bytes().saturating_sub(weir_before);
    assert!(grown < 48 << 20, "{weir_before} bytes, and {grown} more at the end");
    let enough = f64::from(WRITES_A_SECOND) * 0.98;
    assert!(!has_limits() || each_second > enough, "{each_second:.0} writes a second");
}

/// Records that the log of purges keeps.
const LOG_LEN: u64 = 100_000;
/// Clients that ask for pages and purge them.
const CHURNING: usize = 4;

#[test]
fn pages_that_come_and_go_leave_nothing_behind() {
    let pages = from_environment("WEIR_CHURN", 20_000);
    let redis = RedisServer::start();
    let origin = busy_origin(|path| {
        Reply::ok("a page that lives for a second")
            .header("Cache-Control", "max-age=1")
            .header("Surrogate-Key", path.trim_start_matches('/'))
    });
    let weir = with_redis(&origin, &redis, "redis_max_ttl = \"1s\"\nmax_entries = 1000\n");
    eventually("a log that is trusted", || is_open(&weir));
    let host = weir.admin_address().to_string();
    let next = AtomicU64::new(0);
    let began = Instant::now();
    // Pages that were asked for, in a range, by several at once.
    let go_on_to = |end: u64| {
        std::thread::scope(|scope| {
            for _ in 0..CHURNING {
                scope.spawn(|| {
                    let (mut client, mut admin) = (weir.client(), Conn::connect(weir.admin_address()));
                    // A number too many is given back by nobody: the next range begins where it is.
                    for turn in 1_u64.. {
                        let taken = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| {
                            (number < end).then_some(number + 1)
                        });
                        let Ok(number) = taken else { return };
                        if turn % A_CONNECTION == 0 {
                            client = weir.client();
                        }
                        assert_eq!(client.get(&format!("/page-{number}")).status, 200);
                        if number % 3 != 0 {
                            continue;
                        }
                        // The same targets again and again, as in a day of an application.
                        let target = format!("/purge?tag=page-{}", number % 1_000);
                        if turn % 1_000 == 0 {
                            // The admin listener ends a connection after a while.
                            admin = Conn::connect(weir.admin_address());
                        }
                        let receipt =
                            admin.ask("POST", &target, &[("Host", &host), ("Weir-Admin", "1")], b"");
                        assert!(matches!(receipt.status, 200 | 202));
                    }
                });
            }
        });
    };
    // Half of them; or as many as it takes until the log is as long as it may be.
    go_on_to(pages / 2);
    let (redis_before, weir_before) = (dataset(&redis), weir.resident_bytes());
    let of_full = records_in_log(&redis) >= LOG_LEN;
    go_on_to(pages);
    let took = began.elapsed().as_secs_f64();
    eventually("nothing but the log is left", || redis.keys().iter().all(|key| key.starts_with('{')));
    let (records, redis_after, weir_after) = (records_in_log(&redis), dataset(&redis), weir.resident_bytes());
    print(&format!(
        "{pages} pages in {took:.0} s; redis: {redis_before} bytes at half-time, then {redis_after}; weir: {weir_before}, then {weir_after}; \
         {records} records in the log, which was full at half-time: {of_full}"
    ));
    // About so many: whole nodes of them are dropped.
    assert!(records <= LOG_LEN + 1_000, "{records} records");
    if of_full || pages < 100_000 {
        assert!(redis_after < redis_before + (4 << 20), "{redis_before} then {redis_after}");
    }
    assert!(weir_after < weir_before + (32 << 20), "{weir_before} then {weir_after}");
}

// ---------------------------------------------------------------- sessions

/// An operator ends a session: the next request is anonymous, at whichever proxy it arrives.
#[test]
fn a_session_that_is_ended_is_over_on_all_proxies_at_the_next_request() {
    let kills = from_environment("WEIR_SESSION_KILLS", 5);
    let (origin, redis) = (crate::sessions::application(), RedisServer::start());
    let text = format!(
        "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n[data]\npath = \"{{DIR}}/data\"\n\
         [session]\nredis_budget = \"10s\"\n[[route]]\norigin = \"{}\"\nsession = \"write\"\n",
        redis.url(),
        origin.url()
    );
    let proxies = [Weir::with(&text), Weir::with(&text), Weir::with(&text)];
    for weir in &proxies {
        eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
    }
    let mut clients: Vec<Conn> = proxies.iter().map(Weir::client).collect();
    let mut took = Vec::new();
    // The first is not among those that count: a Redis that was empty a moment ago is first told what had been ended before.
    for number in 0..=kills {
        let user = format!("user {number}");
        let mut browser = crate::sessions::Browser::new();
        browser.ask(&proxies[0], "/", &[("X-Set", "n=1"), ("X-Control", &format!("sub=\"{user}\""))]);
        let request = browser.request("/", &[]);
        let mut is_known = || {
            let asked = clients.iter_mut().map(|client| {
                client.send(&request);
                client.expect_response("GET").text().contains(&user)
            });
            asked.collect::<Vec<_>>()
        };
        assert_eq!(is_known(), [true; 3]);
        let operator = proxies[1].admin_address().to_string();
        let run = |arguments: &[&str]| {
            let all = [&["session"], arguments, &["--admin", &operator]].concat();
            String::from_utf8(harness::weir::run(&all).stdout).unwrap()
        };
        // The operator's own proxy has it on no disk; another one's Redis and disk do.
        let shown = proxies[0].admin("GET", &format!("/sessions?user={}", user.replace(' ', "%20"))).text();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let handle = shown["sessions"][0]["handle"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
        let begun = Instant::now();
        assert_eq!(run(&["kill", &handle]), "ended\n");
        let killed = Instant::now();
        assert_eq!(is_known(), [false; 3], "at the next request, without waiting for anything");
        took.push((begun.elapsed(), killed.elapsed()));
    }
    took.remove(0);
    took.sort();
    let (worst, after) = took.last().copied().unwrap_or_default();
    print(&format!(
        "{kills} sessions ended: over on three proxies {:.1} ms after the command was begun at most (median {:.1} ms); {:.1} ms of that were their requests",
        worst.as_secs_f64() * 1e3,
        took[took.len() / 2].0.as_secs_f64() * 1e3,
        after.as_secs_f64() * 1e3
    ));
    assert!(!has_limits() || worst < Duration::from_millis(100), "{worst:?}");
}
