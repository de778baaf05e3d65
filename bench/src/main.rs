//! Weir side by side with its peers and with the bare library, in one run: see `README.md`.

mod baseline;
mod configs;
mod content;
mod counting;
mod load;
mod metric;
mod origin;
mod process;
mod redis;
mod report;
mod scenario;
mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::metric::{Metric, Sample};
use crate::origin::Origin;
use crate::report::{Findings, Report, Version};
use crate::scenario::{Bench, Scenario, wait_until_ready};
use crate::server::{Behind, Kind, Server, Setup};

/// Above this share of strangers on the server's core, a round is measured once more.
const DISTURBED_PERCENT_MAX: f64 = 10.0;

/// Measures Weir beside nginx, HAProxy, Varnish and Traffic Server, where installed, and beside bare hyper.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these scenarios (repeatable, or separated by commas).
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Only these servers (repeatable, or separated by commas).
    #[arg(long, value_delimiter = ',')]
    server: Vec<Kind>,
    /// Rounds, in each of which the servers take turns; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of a measured window.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds in all: checks that every scenario works and every answer is right, not how fast.
    #[arg(long)]
    smoke: bool,
    /// Counts the instructions of a request (with valgrind) instead of its time: of Weir and of bare hyper, in scenarios that keep asking.
    #[arg(long)]
    instructions: bool,
    /// The load generator sleeps when it has nothing to do, as clients and applications on a server's own machine do, and the server pays for
    /// waking it.
    #[arg(long)]
    sleep: bool,
    /// A Weir that is already built, instead of building one.
    #[arg(long)]
    weir: Option<PathBuf>,
    /// Writes every round and every figure to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The parts that the bench starts by itself; they are of use by hand too.
#[derive(Subcommand)]
enum Command {
    /// The origin.
    Origin { address: SocketAddr },
    /// A bare hyper server that answers from memory.
    Hyper { http1: SocketAddr, http2: SocketAddr },
    /// A bare hyper proxy that stores nothing.
    HyperProxy { http1: SocketAddr, origin: SocketAddr },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Origin { address }) => origin::run(address).map(|()| true),
        Some(Command::Hyper { http1, http2 }) => baseline::run_server(http1, http2).map(|()| true),
        Some(Command::HyperProxy { http1, origin }) => baseline::run_proxy(http1, origin).map(|()| true),
        None => measure(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every server answered every scenario right.
fn measure(arguments: &Arguments) -> io::Result<bool> {
    let mut out = io::stdout();
    let counted = arguments.instructions;
    if counted {
        server::installed("valgrind")?;
        server::installed("callgrind_control")?;
    }
    let can_count = |kind: &Kind| !counted || !kind.is_peer();
    if let Some(kind) = arguments.server.iter().find(|kind| !can_count(kind)) {
        return Err(io::Error::other(format!("the instructions of {} are not counted", kind.name())));
    }
    let can_be_counted = |scenario: &Scenario| !counted || scenario.can_be_counted();
    if let Some(scenario) = arguments.scenario.iter().find(|scenario| !can_be_counted(scenario)) {
        return Err(io::Error::other(format!("instructions are not counted in `{}`", scenario.title())));
    }
    let mut asked: Vec<Kind> =
        if arguments.server.is_empty() { Kind::ALL.into() } else { arguments.server.clone() };
    asked.retain(can_count);
    let weir = match &arguments.weir {
        Some(path) => fs::canonicalize(path)?,
        None if asked.contains(&Kind::Weir) => server::build_weir()?,
        None => PathBuf::new(),
    };
    let mut versions = Vec::new();
    for kind in asked {
        match kind.version() {
            Some(version) => versions.push(Version { server: kind, version }),
            None => writeln!(out, "{} is not installed and left out", kind.name())?,
        }
    }
    let cores = std::thread::available_parallelism()?.get();
    let pin = cores > 1;
    if pin {
        process::pin_to(process::LOAD_CORE)?;
    } else {
        writeln!(
            out,
            "one core only: servers, origin and load generator share it, so nothing here compares"
        )?;
    }
    let origin = RefCell::new(Origin::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?);
    let origin_address = origin.borrow().address()?;
    let (rounds, window) = match (arguments.smoke, counted) {
        (true, _) => (1, Duration::from_millis(200)),
        // Another count would say the same.
        (false, true) => (1, Duration::from_secs_f64(arguments.seconds)),
        (false, false) => (arguments.rounds, Duration::from_secs_f64(arguments.seconds)),
    };
    let bench = |scenario: Scenario| Bench {
        origin: &origin,
        setup: Setup {
            origin: origin_address,
            budget: scenario.budget(),
            behind: scenario.behind(),
            weir: &weir,
            pin,
            counted,
        },
        window,
        smoke: arguments.smoke,
        sleep: arguments.sleep,
    };
    let mut scenarios: Vec<Scenario> =
        if arguments.scenario.is_empty() { Scenario::ALL.into() } else { arguments.scenario.clone() };
    scenarios.retain(can_be_counted);
    let machine = processor();
    if counted {
        writeln!(out, "{machine}, {cores} cores; instructions, counted by valgrind")?;
    } else {
        writeln!(out, "{machine}, {cores} cores; {rounds} rounds of {:.1} s", window.as_secs_f64())?;
    }
    for version in versions.iter().filter(|version| !version.version.is_empty()) {
        writeln!(out, "{}: {}", version.server.name(), version.version)?;
    }
    let kinds: Vec<Kind> = versions.iter().map(|version| version.server).collect();
    let mut running = Running { servers: BTreeMap::new() };
    let mut findings = Vec::new();
    let group = |scenario: &Scenario| scenario.compared_with().unwrap_or(*scenario);
    for together in scenarios.chunk_by(|a, b| group(a) == group(b)) {
        let asked: Vec<(Scenario, Bench<'_>)> =
            together.iter().map(|scenario| (*scenario, bench(*scenario))).collect();
        for found in run_together(&asked, &kinds, &mut running, rounds) {
            found.write(&mut out)?;
            findings.push(found);
        }
    }
    let all_right = !findings.iter().any(Findings::has_failed);
    if let Some(path) = &arguments.json {
        let seconds = window.as_secs_f64();
        let report = Report { machine, cores, rounds, seconds, versions, scenarios: findings };
        fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(all_right)
}

/// Servers that stay up from one scenario to the next; idle ones cost the others nothing.
struct Running {
    servers: BTreeMap<(Kind, Behind), Server>,
}

impl Running {
    fn get(&mut self, kind: Kind, bench: &Bench<'_>) -> io::Result<&Server> {
        match self.servers.entry((kind, bench.setup.behind)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(start(kind, bench)?)),
        }
    }
}

fn start(kind: Kind, bench: &Bench<'_>) -> io::Result<Server> {
    let mut server = Server::start(kind, &bench.setup)?;
    wait_until_ready(&mut server, bench.origin)?;
    Ok(server)
}

/// What one server did in one scenario, or why nothing can be told of it.
struct Measured {
    scenario: Scenario,
    kind: Kind,
    samples: Vec<Sample>,
    failure: Option<String>,
}

/// Servers take turns, and scenarios that are compared do, so that what disturbs the machine disturbs all of them.
fn run_together(
    scenarios: &[(Scenario, Bench<'_>)],
    kinds: &[Kind],
    running: &mut Running,
    rounds: u32,
) -> Vec<Findings> {
    let concerned = |scenario: Scenario| kinds.iter().filter(move |kind| scenario.concerns(**kind));
    let mut measured: Vec<Measured> = scenarios
        .iter()
        .flat_map(|(scenario, _)| concerned(*scenario).map(|kind| (*scenario, *kind)))
        .map(|(scenario, kind)| Measured { scenario, kind, samples: Vec::new(), failure: None })
        .collect();
    let mut serial = 0;
    let repeats = scenarios.iter().all(|(scenario, _)| scenario.repeats());
    for round in 0..if repeats { rounds as usize } else { 1 } {
        for index in 0..measured.len() {
            let (before, from_here) = measured.split_at_mut(index);
            let Measured { scenario, kind, samples, failure } = &mut from_here[0];
            let bench = scenarios.iter().find(|(other, _)| other == scenario).map(|(_, bench)| bench);
            let Some(bench) = bench.filter(|_| failure.is_none()) else { continue };
            match measure_once(*scenario, *kind, bench, running, &mut serial) {
                Ok(mut sample) => {
                    let base = before
                        .iter()
                        .find(|base| Some(base.scenario) == scenario.compared_with() && base.kind == *kind)
                        .and_then(|base| base.samples.get(round));
                    if let Some(base) = base {
                        sample.compare(base);
                    }
                    samples.push(sample);
                }
                Err(error) => *failure = Some(error.to_string()),
            }
        }
    }
    let found = scenarios.iter().map(|(scenario, _)| {
        let rows = measured.extract_if(.., |measured| measured.scenario == *scenario);
        Findings::new(*scenario, rows.map(|row| (row.kind, row.samples, row.failure)).collect())
    });
    found.collect()
}

fn measure_once(
    scenario: Scenario,
    kind: Kind,
    bench: &Bench<'_>,
    running: &mut Running,
    serial: &mut u64,
) -> io::Result<Sample> {
    if scenario.wants_fresh_server() {
        return scenario.measure(bench, &start(kind, bench)?, 0);
    }
    let server = running.get(kind, bench)?;
    let mut best: Option<Sample> = None;
    for _ in 0..if bench.smoke { 1 } else { 3 } {
        *serial += 1;
        let mut sample = scenario.measure(bench, server, *serial)?;
        if server.counting.is_some() {
            // The memory is valgrind's.
            sample = sample.only(&[Metric::Instructions]);
        }
        let disturbed = |sample: &Sample| sample.value(Metric::Disturbed).unwrap_or_default();
        // Where CPU time is not the question, the core is idle most of the time and others may have it.
        let calm = sample.value(Metric::Cpu).is_none() || disturbed(&sample) <= DISTURBED_PERCENT_MAX;
        if best.as_ref().is_none_or(|best| disturbed(&sample) < disturbed(best)) {
            best = Some(sample);
        }
        if calm {
            break;
        }
    }
    best.ok_or_else(|| io::Error::other("nothing was measured"))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}
