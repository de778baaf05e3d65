//! `weir doctor redis`: connects as the proxy would, and says what it finds.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::{ConfigFile, Failed};
use crate::config;
use crate::redis::Redis;

#[derive(Debug, Subcommand)]
pub(super) enum Doctor {
    /// Connect to each [redis.NAME], and say how it is and which of its settings lose data; exit code 2 if sessions would be lost
    Redis(ConfigFile),
}

/// Nothing a server does may keep this from ending.
const GRACE: Duration = Duration::from_secs(1);
/// How often replicas are looked at that are not connected yet.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) fn doctor(doctor: &Doctor, out: &mut impl Write) -> Result<(), Failed> {
    let Doctor::Redis(file) = doctor;
    let config = config::load(&file.config)?.config;
    if config.redis.is_empty() {
        return Err(Failed::Text(format!("{} names no [redis.NAME]", file.config.display())));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut ill, mut loses_sessions) = (0, false);
    for (name, spec) in &config.redis {
        let redis = Redis::start(Arc::clone(spec), runtime.handle());
        let within = spec.connect_timeout + GRACE;
        // Over: its trouble is told below.
        let connected = runtime.block_on(async {
            let until = tokio::time::Instant::now() + within;
            let connected = tokio::time::timeout_at(until, redis.next_link(0)).await;
            while connected.is_ok()
                && tokio::time::Instant::now() < until
                && !redis.status().replicas.iter().all(|replica| replica.is_read)
            {
                tokio::time::sleep(AGAIN).await;
            }
            connected
        });
        let status = redis.status();
        write!(out, "{name}  {}  ", spec.url)?;
        if connected.is_err() {
            ill += 1;
            let trouble = status.trouble.unwrap_or_else(|| "it does not answer".to_owned());
            writeln!(out, "not connected: {trouble}")?;
            continue;
        }
        let writable = if status.writable { "takes writes" } else { "takes no writes" };
        writeln!(out, "connected, {} server(s), {writable}", status.shards)?;
        for replica in &status.replicas {
            let trouble = replica.trouble.as_deref();
            let how =
                trouble.map_or_else(|| "is read".to_owned(), |trouble| format!("is not read: {trouble}"));
            writeln!(out, "    replica {}  {how}", replica.url)?;
        }
        for advice in status.advice {
            loses_sessions |= advice.loses_sessions();
            writeln!(out, "    {}\n    in redis.conf: {}", advice.message(), advice.line())?;
        }
    }
    if ill == 0 && loses_sessions {
        Err(Failed::Unfit("sessions would be lost: mend the settings above".to_owned()))
    } else if ill == 0 {
        Ok(())
    } else {
        Err(Failed::Text(format!("{ill} of {} cannot be used", config.redis.len())))
    }
}
