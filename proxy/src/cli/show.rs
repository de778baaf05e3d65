//! `weir config show`: every value that holds, and where it comes from.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failed, in_brief};
use crate::config::show::{Line, Section};
use crate::config::{self, Unused};

/// Look at the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every value that holds, as a file would have it; defaults as comments, secrets not at all
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "weir.toml")]
    config: PathBuf,
    /// What `weir --to URL` stands for, in place of a file
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    to: Option<String>,
    /// As with `weir --to URL --listen ADDRESS`
    #[arg(long, value_name = "ADDRESS", requires = "to")]
    listen: Option<String>,
    /// Say of each where it comes from: file and line, variable, default
    #[arg(long)]
    origin: bool,
}

pub(super) fn config(what: &Config, out: &mut impl Write) -> Result<(), Failed> {
    let Config::Show(show) = what;
    let (sections, unused) = match &show.to {
        Some(url) => config::show_forwarding_to(url, show.listen.as_deref())
            .map_err(|mistakes| Failed::Text(in_brief(&mistakes)))?,
        None => (config::show(&show.config)?, Vec::new()),
    };
    Ok(print(&sections, &unused, show.origin, out)?)
}

fn print(
    sections: &[Section],
    unused: &[Unused],
    with_origin: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for (number, section) in sections.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        if !section.header.is_empty() {
            // A table of which nothing was written is a comment as a whole.
            let is_written = section.lines.iter().any(|line| line.origin.is_some());
            writeln!(out, "{}{}", if is_written { "" } else { "# " }, section.header)?;
        }
        let lines: Vec<String> = section.lines.iter().map(written).collect();
        const WIDE: usize = 60;
        let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= WIDE).max();
        let width = width.unwrap_or(0);
        for (line, section) in lines.iter().zip(&section.lines) {
            match section.origin.as_deref() {
                origin if with_origin => writeln!(out, "{line:width$}  # {}", origin.unwrap_or("default"))?,
                _ => writeln!(out, "{line}")?,
            }
        }
    }
    if !unused.is_empty() {
        writeln!(out, "\n# variables that are known, and of which nothing is made")?;
        let width = unused.iter().map(|unused| unused.variable.len()).max().unwrap_or(0);
        for Unused { variable, why } in unused {
            writeln!(out, "# {variable:width$}  {why}")?;
        }
    }
    Ok(())
}

/// A default is a comment: what nobody wrote may change with the next version.
fn written(line: &Line) -> String {
    let is_literal = line.value.starts_with(['"', '[', '{']) || line.value.parse::<f64>().is_ok();
    match (&line.origin, is_literal || matches!(&*line.value, "true" | "false")) {
        (Some(_), _) => format!("{} = {}", line.key, line.value),
        (None, true) => format!("# {} = {}", line.key, line.value),
        (None, false) => format!("# {}: {}", line.key, line.value),
    }
}
