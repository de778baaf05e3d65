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
const WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "The admin listener is found in the configuration file (weir.toml, if there is one), its token too;\n\
    otherwise it is 127.0.0.1:9180. --admin and the variable WEIR_ADMIN_TOKEN stand above that."
)]
pub(super) struct Arguments {
    /// What clients ask for, with scheme and host
    #[arg(required_unless_present = "everything")]
    url: Option<String>,
    /// Drop all that is stored
    #[arg(long, conflicts_with = "url")]
    everything: bool,
    /// The admin listener
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The configuration file that names it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn purge(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let configured = configured_admin(arguments)?;
    let address = arguments
        .admin
        .as_deref()
        .map(|address| address.trim_start_matches("http://").trim_end_matches('/').to_owned())
        .or_else(|| configured.as_ref().map(|admin| admin.listen.to_string()))
        .unwrap_or_else(|| "127.0.0.1:9180".to_owned());
    let token = std::env::var("WEIR_ADMIN_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
        .or_else(|| configured.and_then(|admin| admin.token).map(|token| token.0));
    let what = match &arguments.url {
        Some(url) => json!({ "url": url }),
        None => json!({ "everything": true }),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(WITHIN, ask(&address, token.as_deref(), &what)).await };
    let answer = match runtime.block_on(asked) {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(Failed::Text(format!("no answer from `{address}` within {} s", WITHIN.as_secs())));
        }
    };
    let shown = arguments.url.as_deref().unwrap_or("everything");
    match answer.get("responses").and_then(serde_json::Value::as_u64) {
        Some(1) => writeln!(out, "purged {shown}: 1 stored response")?,
        Some(count) => writeln!(out, "purged {shown}: {count} stored responses")?,
        None => writeln!(out, "purged {shown}")?,
    }
    Ok(())
}

fn configured_admin(arguments: &Arguments) -> Result<Option<Admin>, Failed> {
    let path = match &arguments.config {
        Some(path) => path.as_path(),
        // A file that happens to lie here helps; one that is not there, or wrong, does not hinder.
        None => return Ok(config::load(Path::new("weir.toml")).ok().and_then(|loaded| loaded.config.admin)),
    };
    match config::load(path)?.config.admin {
        Some(admin) => Ok(Some(admin)),
        None => Err(Failed::Text(format!("`{}` switches the admin listener off", path.display()))),
    }
}

async fn ask(
    address: &str,
    token: Option<&str>,
    what: &serde_json::Value,
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
        .method(Method::POST)
        .uri("/purge")
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from(what.to_string()))).map_err(|error| failed(&error))?;
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
