//! The command line: what a person types, and what it prints. Exit codes: 0 all is well; 1 it failed, or what was checked is wrong; 2 the
//! arguments make no sense.

mod check;
mod doctor;
mod drill;
mod init;
mod plugin;
mod purge;
mod session;
mod show;
mod store;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::clock::SystemClock;
use crate::config::mistake::{Mistakes, Warning};
use crate::config::{self, LoadError, Loaded};
use crate::demo::{self, DemoOrigin};
use crate::run::{self, ConfigSource, NewConfig, Running};
use crate::telemetry;

const EXAMPLES: &str = "\
Examples:
  weir demo                                   a small application behind Weir: see what is cached, and why
  weir --to http://127.0.0.1:8000             your application behind Weir, on http://127.0.0.1:8080
  weir --to http://127.0.0.1:8000 --listen :80
  weir init --preset django                   a weir.toml for your application, to begin with
  weir check                                  read weir.toml, run its tests, say all that is wrong
  weir run --config /etc/weir/weir.toml
  weir purge http://localhost:8080/news

Exit codes: 0 all is well; 1 it failed, or what was checked is wrong; 2 the arguments make no sense.";

/// A caching reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Forward everything to this application, without a configuration file
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Where clients connect, with --to [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", requires = "to")]
    listen: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy that a configuration file describes
    #[command(
        after_help = "SIGHUP reads the file again and swaps it in, connections and cache kept; a wrong file changes nothing.\n\
        SIGTERM and SIGINT end it once requests under way are answered; a second one ends it at once."
    )]
    Run(ConfigFile),
    /// Read a configuration file, run its [[test]]s, and say what it does and all that is wrong
    Check(ConfigFile),
    /// Run a small application behind Weir, to see what is cached and why
    Demo {
        /// Where clients connect [default: 127.0.0.1:8080, or a free port]
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
    },
    /// Write a configuration file for an application of a framework, to begin with
    Init(init::Arguments),
    #[command(subcommand)]
    Config(show::Config),
    /// Drop what is stored: for a URL, a tag, a path, or all of it
    Purge(Box<purge::Arguments>),
    /// Practise a fault at a running proxy, and see what becomes of its requests
    Drill(drill::Arguments),
    /// Look at sessions, and end them
    Session(session::Arguments),
    /// Look after the embedded store: check it, compact it, clear it
    Store(store::Arguments),
    /// Look whether what the proxy depends on is well
    #[command(subcommand)]
    Doctor(doctor::Doctor),
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Print the reference of the configuration file, as Markdown
    Reference,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "weir.toml")]
    config: PathBuf,
}

/// Why a command failed. Its text is for the person who typed it.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Text(String),
    /// It works, and is set up so that it loses what must not be lost.
    #[error("{0}")]
    Unfit(String),
    #[error("cannot write what was asked for")]
    Write(#[from] io::Error),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.command, arguments.to) {
        (Some(Command::Run(file)), _) => run_file(&file.config),
        (Some(Command::Check(file)), _) => check::check(&file.config, &mut io::stdout().lock()),
        (Some(Command::Demo { listen }), _) => run_demo(listen),
        (Some(Command::Init(arguments)), _) => init::init(&arguments, &mut io::stdout().lock()),
        (Some(Command::Config(what)), _) => show::config(&what, &mut io::stdout().lock()),
        (Some(Command::Purge(arguments)), _) => purge::purge(&arguments, &mut io::stdout().lock()),
        (Some(Command::Doctor(what)), _) => doctor::doctor(&what, &mut io::stdout().lock()),
        (Some(Command::Drill(arguments)), _) => drill::drill(&arguments, &mut io::stdout().lock()),
        (Some(Command::Session(arguments)), _) => session::session(&arguments, &mut io::stdout().lock()),
        (Some(Command::Store(arguments)), _) => store::store(&arguments, &mut io::stdout().lock()),
        (Some(Command::Plugin(what)), _) => plugin::plugin(&what, &mut io::stdout().lock()),
        (Some(Command::Reference), _) => print(&config::reference::markdown()),
        (None, Some(url)) => run_to(&url, arguments.listen.as_deref()),
        (None, None) => {
            // Nothing was asked for: say what can be.
            let help = Arguments::command().render_help();
            let _ = write!(io::stderr(), "{help}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has had enough of it (`weir reference | head`).
        Err(Failed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failed) => {
            let _ = writeln!(io::stderr(), "{}", explained(&failed));
            if matches!(failed, Failed::Unfit(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// An error with its causes, and for the most frequent ones what to do.
fn explained(failed: &Failed) -> String {
    if let Failed::Load(LoadError::Wrong(mistakes)) = failed {
        return mistakes.to_string();
    }
    let mut text = format!("error: {failed}");
    let mut cause = std::error::Error::source(failed);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if let Failed::Load(LoadError::Read { source, .. }) = failed
        && source.kind() == io::ErrorKind::NotFound
    {
        text.push_str(
            "\n help: name a file with `--config FILE`, or do without one: `weir --to http://127.0.0.1:8000`, `weir demo`",
        );
    }
    text
}

fn print(text: &str) -> Result<(), Failed> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn run_file(path: &Path) -> Result<(), Failed> {
    let loaded = config::load(path)?;
    let path = path.to_owned();
    let source: ConfigSource = Arc::new(move || {
        let loaded = config::load(&path).map_err(|error| match error {
            LoadError::Wrong(mistakes) => mistakes.in_lines(),
            error @ LoadError::Read { .. } => explained(&error.into()),
        })?;
        let warnings = loaded.warnings.iter().map(in_one_line).collect();
        Ok(NewConfig { config: loaded.config, warnings })
    });
    let running = start(loaded, source)?;
    running.announce(&mut io::stdout().lock())?;
    Ok(running.run_until_stopped()?)
}

fn run_to(url: &str, listen: Option<&str>) -> Result<(), Failed> {
    let forwarding =
        config::forwarding_to(url, listen).map_err(|mistakes| Failed::Text(in_brief(&mistakes)))?;
    let shared = forwarding.loaded.config.redis.values().next().map(|redis| redis.url.to_string());
    let running =
        start(forwarding.loaded, nothing_to_reload("there is no configuration file to read again"))?;
    let mut out = io::stdout().lock();
    running.announce(&mut out)?;
    if !forwarding.used.is_empty() {
        let names = forwarding.used.join(", ");
        let what = match shared {
            Some(redis) => format!("shared with other proxies at {redis}"),
            None => "single node: nothing is shared with other proxies".to_owned(),
        };
        writeln!(
            out,
            "{what} (from the environment: {names}; `weir config show --origin --to {url}` tells more)"
        )?;
    }
    writeln!(out, "forwarding to {url}; each request is written below, with what the cache did")?;
    out.flush()?;
    drop(out);
    Ok(running.run_until_stopped()?)
}

/// Mistakes of somebody who wrote no file: without places in it.
fn in_brief(mistakes: &Mistakes) -> String {
    let mut text = String::new();
    for mistake in mistakes.iter() {
        if !text.is_empty() {
            text.push_str("\nerror: ");
        }
        text.push_str(&mistake.message);
        if let Some(help) = &mistake.help {
            text.push_str("\n help: ");
            text.push_str(help);
        }
    }
    text
}

fn run_demo(listen: Option<std::net::SocketAddr>) -> Result<(), Failed> {
    let origin = DemoOrigin::start()
        .map_err(|error| Failed::Text(format!("cannot start the demo's application: {error}")))?;
    let listen = listen.unwrap_or_else(|| demo::free_port(8080));
    // Whoever asks for any port wants no fixed one for the admin listener either.
    let admin = if listen.port() == 0 { demo::free_port(0) } else { demo::free_port(9180) };
    let loaded = demo::load(&origin, listen, admin);
    let running = start(loaded, nothing_to_reload("the demo has no configuration file to read again"))?;
    let mut out = io::stdout().lock();
    running.announce(&mut out)?;
    let address = running.addresses().first().copied().unwrap_or(listen);
    demo::introduce(&mut out, address, running.admin())?;
    drop(out);
    Ok(running.run_until_stopped()?)
}

fn nothing_to_reload(why: &'static str) -> ConfigSource {
    Arc::new(move || Err(why.to_owned()))
}

fn start(loaded: Loaded, source: ConfigSource) -> Result<Running, Failed> {
    telemetry::install(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!(warning = in_one_line(warning), "the configuration has a doubtful point");
    }
    run::start(loaded.config, source, Arc::new(SystemClock)).map_err(|error| {
        let mut text = format!("error: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Failed::Text(text.trim_start_matches("error: ").to_owned())
    })
}

fn in_one_line(warning: &Warning) -> String {
    let place = warning.place();
    format!("{}:{}: {}", place.file, place.line, warning.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_mean_what_they_say() {
        let read = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert_eq!(read("weir --to http://a").unwrap().to.as_deref(), Some("http://a"));
        assert_eq!(read("weir --to http://a --listen :80").unwrap().listen.as_deref(), Some(":80"));
        assert!(
            matches!(read("weir run").unwrap().command, Some(Command::Run(file)) if file.config == Path::new("weir.toml"))
        );
        assert!(
            matches!(read("weir check -c x.toml").unwrap().command, Some(Command::Check(file)) if file.config == Path::new("x.toml"))
        );
        for wrong in ["weir --listen :80", "weir --to http://a run", "weir bogus", "weir purge --wait soon"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
