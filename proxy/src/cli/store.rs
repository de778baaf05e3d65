//! `weir store`: looks after the embedded store.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Failed;
use crate::config;
use crate::durable::tools;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The folder of the store
    #[arg(long, value_name = "FOLDER", global = true)]
    data: Option<PathBuf>,
    /// The configuration file that names it [default: weir.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Look whether both files are whole, and say what is in them
    Check,
    /// Give room that is not needed any more back to the disk
    Compact,
    /// Drop the bodies; what was purged stays known. Not while a proxy runs on them
    Clear,
}

pub(super) fn store(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let folder = folder(arguments)?;
    let failed = |error: crate::durable::StoreError| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Failed::Text(format!("{error}{cause}"))
    };
    match arguments.what {
        What::Check => {
            let mut all_whole = true;
            for file in tools::check(&folder).map_err(failed)? {
                let state = if file.is_whole { "whole" } else { "damaged" };
                all_whole &= file.is_whole;
                writeln!(out, "{}: {state}, {} bytes, {} {}", file.name, file.bytes, file.rows, file.of)?;
            }
            if all_whole {
                Ok(())
            } else {
                Err(Failed::Text("what is damaged is moved aside at the next start".to_owned()))
            }
        }
        What::Compact => {
            let (before, after) = tools::compact(&folder).map_err(failed)?;
            Ok(writeln!(out, "{before} bytes before, {after} after")?)
        }
        What::Clear => {
            let bodies = tools::clear(&folder).map_err(failed)?;
            Ok(writeln!(out, "{bodies} bodies dropped")?)
        }
    }
}

fn folder(arguments: &Arguments) -> Result<PathBuf, Failed> {
    if let Some(folder) = &arguments.data {
        return Ok(folder.clone());
    }
    let path = arguments.config.as_deref().unwrap_or(Path::new("weir.toml"));
    match config::load(path)?.config.data {
        Some(data) => Ok(data.path),
        None => Err(Failed::Text(format!("`{}` has no `[data]`: nothing is kept", path.display()))),
    }
}
