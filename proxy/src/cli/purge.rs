//! `weir purge`: asks the admin listener of a running proxy.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::Failed;
use crate::config;
use crate::config::model::Admin;

/// How long the admin listener may take.
const WITHIN: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "The admin listener is found in the configuration file (weir.toml, if there is one), its token too;\n\
    otherwise it is 127.0.0.1:9180. --admin and the variable WEIR_ADMIN_TOKEN stand above that."
)]
pub(super) struct Arguments {
    /// What clients ask for, with scheme and host
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Likewise
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// What carries this surrogate tag; with `*` in it, what carries one that fits
    #[arg(long)]
    tag: Vec<String>,
    /// What carries a tag that fits this pattern
    #[arg(long, value_name = "PATTERN")]
    glob: Vec<String>,
    /// This path and all below it, on one host (with scheme and host) or on every one
    #[arg(long, value_name = "PATH")]
    prefix: Vec<String>,
    /// What is stored for this host
    #[arg(long)]
    host: Vec<String>,
    /// What this route has stored
    #[arg(long)]
    route: Vec<String>,
    /// What is in this named cache
    #[arg(long)]
    cache: Vec<String>,
    /// What was stored under a version of a named cache, or under that version of every cache
    #[arg(long, value_name = "[CACHE:]NUMBER")]
    version: Vec<String>,
    /// What was stored under this epoch of its cache
    #[arg(long)]
    epoch: Vec<String>,
    /// What `[model.NAME]` says
    #[arg(long)]
    model: Vec<String>,
    /// What is stored under this key, in hexadecimal digits
    #[arg(long)]
    key: Vec<String>,
    /// Drop all that is stored
    #[arg(long)]
    everything: bool,
    /// Do not drop it: it is stale, to be validated before it is used
    #[arg(long)]
    soft: bool,
    /// Do not drop it: serve it for so long at most while it is fetched anew
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "60s", conflicts_with = "soft")]
    refresh: Option<String>,
    /// Until when to wait: `local`, until the other proxies will hear of it; `replica`, until a replica of Redis has it too; `all`, until all have applied it
    #[arg(long, value_parser = ["local", "replica", "all"], default_value = "local")]
    wait: String,
    /// The admin listener
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The configuration file that names it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn purge(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let (address, token) = admin_of(arguments.admin.as_deref(), arguments.config.as_deref())?;
    let what = arguments.order()?;
    let answer = ask_and_wait(&address, token.as_deref(), Method::POST, "/purge", Some(&what))?;
    writeln!(out, "{}", said(&answer))?;
    let not_by = answer.get("not_applied_by").and_then(serde_json::Value::as_array);
    if not_by.is_some_and(|not_by| !not_by.is_empty()) {
        return Err(Failed::Text(
            "not all proxies have applied it in time; they will, or validate first what they have".to_owned(),
        ));
    }
    Ok(())
}

/// The receipt, for people.
fn said(receipt: &serde_json::Value) -> String {
    let purged = receipt.get("purged").and_then(serde_json::Value::as_object).map(named).unwrap_or_default();
    let id = receipt.get("id").and_then(serde_json::Value::as_str).unwrap_or("?");
    let mut text = format!("purged {purged} ({id})");
    match receipt.get("position").and_then(serde_json::Value::as_str) {
        Some(position) => text.push_str(&format!(" at {position}")),
        None => text.push_str(", here only: the other proxies hear of it when the log is back"),
    }
    let list = |name: &str| {
        let ids = receipt.get(name).and_then(serde_json::Value::as_array)?;
        let ids: Vec<&str> = ids.iter().filter_map(serde_json::Value::as_str).collect();
        (!ids.is_empty()).then(|| ids.join(", "))
    };
    if let Some(ids) = list("applied_by") {
        text.push_str(&format!("\napplied by {ids}"));
    }
    if let Some(ids) = list("not_applied_by") {
        text.push_str(&format!("\nnot yet applied by {ids}"));
    }
    text
}

/// What was purged: URLs as they are, everything else after its kind.
fn named(purged: &serde_json::Map<String, serde_json::Value>) -> String {
    let mut names = Vec::new();
    for (kind, value) in purged.iter().filter(|(kind, _)| !matches!(&***kind, "soft" | "refresh" | "wait")) {
        let one = |value: &serde_json::Value| match (kind.as_str(), value.as_str()) {
            ("url", Some(url)) => url.to_owned(),
            (kind, Some(text)) => format!("{kind} {text}"),
            (kind, None) => kind.to_owned(),
        };
        match value.as_array() {
            Some(several) => names.extend(several.iter().map(one)),
            None => names.push(one(value)),
        }
    }
    names.join(", ")
}

impl Arguments {
    /// What is asked of the admin listener.
    fn order(&self) -> Result<serde_json::Value, Failed> {
        let mut object = serde_json::Map::new();
        let urls: Vec<&String> = self.urls.iter().chain(&self.url).collect();
        if !urls.is_empty() {
            object.insert("url".to_owned(), json!(urls));
        }
        let named = [
            ("tag", &self.tag),
            ("glob", &self.glob),
            ("prefix", &self.prefix),
            ("host", &self.host),
            ("route", &self.route),
            ("cache", &self.cache),
            ("version", &self.version),
            ("epoch", &self.epoch),
            ("model", &self.model),
            ("key", &self.key),
        ];
        for (kind, values) in named.into_iter().filter(|(_, values)| !values.is_empty()) {
            object.insert(kind.to_owned(), json!(values));
        }
        if self.everything {
            object.insert("everything".to_owned(), true.into());
        }
        if object.is_empty() {
            return Err(Failed::Text(
                "nothing is named\n help: name a URL, or --tag, --glob, --prefix, --host, --route, --cache, --version, --epoch, --model, --key or --everything"
                    .to_owned(),
            ));
        }
        if self.soft {
            object.insert("soft".to_owned(), true.into());
        }
        if let Some(refresh) = &self.refresh {
            object.insert("refresh".to_owned(), refresh.clone().into());
        }
        object.insert("wait".to_owned(), self.wait.clone().into());
        Ok(object.into())
    }
}

/// Where the admin listener is, and its token: as given, else as configured, else where it is by default.
pub(super) fn admin_of(
    given: Option<&str>,
    config: Option<&Path>,
) -> Result<(String, Option<String>), Failed> {
    let configured = configured_admin(config)?;
    let address = given
        .map(|address| address.trim_start_matches("http://").trim_end_matches('/').to_owned())
        .or_else(|| configured.as_ref().map(|admin| admin.listen.to_string()))
        .unwrap_or_else(|| "127.0.0.1:9180".to_owned());
    let token = std::env::var("WEIR_ADMIN_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
        .or_else(|| configured.and_then(|admin| admin.token).map(|token| token.0));
    Ok((address, token))
}

fn configured_admin(config: Option<&Path>) -> Result<Option<Admin>, Failed> {
    let Some(path) = config else {
        // A file that happens to lie here helps; one that is not there, or wrong, does not hinder.
        return Ok(config::load(Path::new("weir.toml")).ok().and_then(|loaded| loaded.config.admin));
    };
    match config::load(path)?.config.admin {
        Some(admin) => Ok(Some(admin)),
        None => Err(Failed::Text(format!("`{}` switches the admin listener off", path.display()))),
    }
}

/// Asks the admin listener.
pub(super) fn ask_and_wait(
    address: &str,
    token: Option<&str>,
    method: Method,
    target: &str,
    what: Option<&serde_json::Value>,
) -> Result<serde_json::Value, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(WITHIN, ask(address, token, method, target, what)).await };
    match runtime.block_on(asked) {
        Ok(answer) => answer,
        Err(_) => Err(Failed::Text(format!("no answer from `{address}` within {} s", WITHIN.as_secs()))),
    }
}

async fn ask(
    address: &str,
    token: Option<&str>,
    method: Method,
    target: &str,
    what: Option<&serde_json::Value>,
) -> Result<serde_json::Value, Failed> {
    let failed = |error: &dyn std::fmt::Display| {
        Failed::Text(format!(
            "cannot ask the admin listener at `{address}`: {error}\n help: does Weir run? `--admin ADDRESS` names another one"
        ))
    };
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let content = what.map(ToString::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(content))).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| failed(&error))?;
    let answer: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let detail = ["detail", "title"].iter().find_map(|key| answer.get(key)?.as_str()).unwrap_or_default();
    let help = match status.as_u16() {
        401 | 403 => "\n help: set WEIR_ADMIN_TOKEN, or name the configuration with `--config FILE`",
        _ => "",
    };
    Err(Failed::Text(format!("the admin listener at `{address}` answers {status}: {detail}{help}")))
}
