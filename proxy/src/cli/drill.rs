//! `weir drill`: practises a fault at a running proxy, and tells what became of its requests.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::Failed;
use super::purge::{admin_of, ask_and_wait};

/// How often is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "redis-down   connections to Redis end, and new ones are refused\n\
    redis-slow   what Redis answers comes two seconds late\n\
    redis-oom    Redis is read, and takes no writes\n\
    origin-down  origins refuse connections\n\
    stop         ends the one that is under way\n\n\
    The fault is on this proxy's own links: nothing is done to Redis or to an origin. It ends by itself, also if this command is interrupted.")]
pub(super) struct Arguments {
    /// What is practised
    #[arg(value_parser = ["redis-down", "redis-slow", "redis-oom", "origin-down", "stop"])]
    fault: String,
    /// How long, from 1s to 10m
    #[arg(long = "for", value_name = "DURATION", default_value = "30s")]
    lasts: String,
    /// The admin listener
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The configuration file that names it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn drill(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let (address, token) = admin_of(arguments.admin.as_deref(), arguments.config.as_deref())?;
    let ask = |method: Method, target: &str| ask_and_wait(&address, token.as_deref(), method, target, None);
    let target = format!("/drill?fault={}&for={}", arguments.fault, arguments.lasts);
    let begun = ask(Method::POST, &target)?;
    let mut told = begun.clone();
    if is_running(&begun) {
        writeln!(out, "{} for {}; `weir drill stop` ends it before", arguments.fault, arguments.lasts)?;
        out.flush()?;
    }
    // Another one may have been begun since.
    while is_running(&told) && told.get("drill") == begun.get("drill") {
        std::thread::sleep(LOOK_EVERY);
        told = ask(Method::GET, "/drill")?;
    }
    Ok(print(&told, out)?)
}

fn is_running(told: &Value) -> bool {
    told.get("running").and_then(Value::as_bool).unwrap_or(false)
}

fn print(told: &Value, out: &mut impl Write) -> std::io::Result<()> {
    if told.get("drill").is_some_and(Value::is_null) {
        return writeln!(out, "there has been no drill");
    }
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    writeln!(out, "{}: {:.1} s", text(told, "fault"), number(told, "seconds"))?;
    let routes = told.get("routes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if routes.is_empty() {
        return writeln!(out, "nobody asked for anything");
    }
    let width = routes.iter().map(|route| text(route, "route").chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "{:width$}  {:>9}  {:>10}  {:>7}  {:>9}  {:>9}  {:>9}",
        "route", "answers", "from cache", "5xx", "p50 ms", "p99 ms", "slowest"
    )?;
    for route in routes {
        let of = |name| number(route, name);
        writeln!(
            out,
            "{:width$}  {:>9}  {:>10}  {:>7}  {:>9.1}  {:>9.1}  {:>9.1}",
            text(route, "route"),
            of("answers"),
            of("from_cache"),
            of("errors"),
            of("p50_ms"),
            of("p99_ms"),
            of("slowest_ms")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_a_row_for_each_route() {
        let told = json!({ "fault": "redis-down", "seconds": 30.0, "routes": [
            { "route": "pages", "answers": 120, "from_cache": 100, "errors": 0, "p50_ms": 0.2, "p99_ms": 12.0, "slowest_ms": 30.5 },
        ] });
        let mut out = Vec::new();
        print(&told, &mut out).unwrap();
        let expected = "redis-down: 30.0 s\n\
                        route    answers  from cache      5xx     p50 ms     p99 ms    slowest\n\
                        pages        120         100        0        0.2       12.0       30.5\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
