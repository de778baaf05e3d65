//! `weir session`: looks at the sessions of a running proxy, and ends them.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::Failed;
use super::purge::{admin_of, ask_and_wait};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The admin listener
    #[arg(long, value_name = "ADDRESS", global = true)]
    admin: Option<String>,
    /// The configuration file that names it
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List sessions: all, or those of somebody
    Ls {
        /// Whose
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Show one: whether it can be used, and why not; when it was begun and used, whose it is, which attributes it has. No value is shown
    Show {
        /// As `ls` shows it
        handle: String,
    },
    /// End one
    Kill {
        /// As `ls` shows it
        handle: String,
    },
    /// End all sessions of somebody, on all proxies
    KillUser {
        /// Whose
        user: String,
    },
}

pub(super) fn session(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let (address, token) = admin_of(arguments.admin.as_deref(), arguments.config.as_deref())?;
    let (method, target) = match &arguments.what {
        What::Ls { user: None } => (Method::GET, "/sessions".to_owned()),
        What::Ls { user: Some(user) } => (Method::GET, format!("/sessions?user={}", encoded(user))),
        What::Show { handle } => (Method::GET, format!("/sessions?handle={}", encoded(handle))),
        What::Kill { handle } => (Method::POST, format!("/sessions/kill?handle={}", encoded(handle))),
        What::KillUser { user } => (Method::POST, format!("/sessions/kill?user={}", encoded(user))),
    };
    let answer = ask_and_wait(&address, token.as_deref(), method, &target, None)?;
    if let Some(list) = answer.get("sessions").and_then(Value::as_array) {
        for session in list {
            show(session, out)?;
        }
        writeln!(out, "{} sessions", list.len())?;
        return Ok(());
    }
    match (answer.get("session"), answer.get("ended").and_then(Value::as_bool)) {
        (Some(session), _) if session.is_object() => show(session, out)?,
        (_, Some(true)) => writeln!(out, "ended")?,
        _ => return Err(Failed::Text("there is no such session".to_owned())),
    }
    Ok(())
}

fn show(session: &Value, out: &mut impl Write) -> Result<(), Failed> {
    let text = |name: &str| session.get(name).and_then(Value::as_str).unwrap_or("-");
    let date = |name: &str| {
        let seconds = session.get(name).and_then(Value::as_u64).unwrap_or_default();
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let standing = match session.get("over").and_then(Value::as_str) {
        None => "live".to_owned(),
        Some(why) => format!("over ({why})"),
    };
    writeln!(out, "{}  {standing}", text("handle"))?;
    writeln!(
        out,
        "  user {}, begun {}, used {}, ends {}",
        text("user"),
        date("begun"),
        date("used"),
        date("ends")
    )?;
    for attribute in session.get("attributes").and_then(Value::as_array).into_iter().flatten() {
        let name = attribute.get(0).and_then(Value::as_str).unwrap_or("-");
        writeln!(out, "  {name}: {} bytes", attribute.get(1).and_then(Value::as_u64).unwrap_or_default())?;
    }
    Ok(())
}

/// As a value of a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
