//! The figures as tables for people and as JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::metric::{Metric, Sample};
use crate::scenario::Scenario;
use crate::server::Kind;

/// One run of the bench.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) cores: usize,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) versions: Vec<Version>,
    pub(crate) scenarios: Vec<Findings>,
}

#[derive(Serialize)]
pub(crate) struct Version {
    pub(crate) server: Kind,
    pub(crate) version: String,
}

/// What a scenario showed of each server.
#[derive(Serialize)]
pub(crate) struct Findings {
    pub(crate) scenario: Scenario,
    pub(crate) servers: Vec<Row>,
}

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) server: Kind,
    pub(crate) median: Sample,
    /// CPU time, or instructions, as a multiple of the bare library's.
    pub(crate) to_bare: Option<f64>,
    /// Likewise, of that of the peer which takes least.
    pub(crate) to_best_peer: Option<f64>,
    pub(crate) rounds: Vec<Sample>,
    pub(crate) failure: Option<String>,
}

impl Findings {
    /// Relates the rounds of each server to those of the baseline and of the best peer.
    pub(crate) fn new(scenario: Scenario, measured: Vec<(Kind, Vec<Sample>, Option<String>)>) -> Self {
        let cost = |rounds: &[Sample]| Sample::median(rounds).cost();
        let bare = measured.iter().find(|(kind, ..)| kind.is_baseline()).map(|(_, rounds, _)| rounds.clone());
        let peers = measured.iter().filter(|(kind, ..)| kind.is_peer());
        let best = peers
            .filter_map(|(_, rounds, _)| Some((cost(rounds)?, rounds)))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let best = best.map(|(_, rounds)| rounds.clone());
        let rows = measured.into_iter().map(|(server, rounds, failure)| Row {
            server,
            median: Sample::median(&rounds),
            to_bare: bare.as_ref().and_then(|bare| Sample::ratio(&rounds, bare)),
            to_best_peer: best.as_ref().and_then(|best| Sample::ratio(&rounds, best)),
            rounds,
            failure,
        });
        Self { scenario, servers: rows.collect() }
    }

    /// A table in Markdown whose columns are also aligned for a terminal.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let metrics: Vec<Metric> = Metric::ALL
            .into_iter()
            .filter(|metric| self.servers.iter().any(|row| row.median.value(*metric).is_some()))
            .collect();
        let has_ratio = self.servers.iter().any(|row| row.median.cost().is_some());
        let mut table = vec![vec![String::new()]];
        table[0].extend(metrics.iter().map(|metric| metric.column().0.to_owned()));
        if has_ratio {
            table[0].extend(["/ bare".to_owned(), "/ best peer".to_owned()]);
        }
        for row in &self.servers {
            let mut cells = vec![row.server.name().to_owned()];
            for metric in &metrics {
                let digits = metric.column().1;
                cells.push(
                    row.median.value(*metric).map(|value| format!("{value:.digits$}")).unwrap_or_default(),
                );
            }
            if has_ratio {
                let ratios = [row.to_bare, row.to_best_peer];
                cells
                    .extend(ratios.map(|ratio| ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()));
            }
            table.push(cells);
        }
        writeln!(out, "\n### {}\n", self.scenario.title())?;
        write_aligned(&table, out)?;
        for row in &self.servers {
            if let Some(failure) = &row.failure {
                writeln!(out, "\n{} FAILED: {failure}", row.server.name())?;
            }
        }
        out.flush()
    }

    /// Whether Weir failed. A peer that does is reported, and is not ours to mend.
    pub(crate) fn has_failed(&self) -> bool {
        self.servers.iter().any(|row| row.server == Kind::Weir && row.failure.is_some())
    }
}

fn write_aligned(table: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or_default().max(3))
        .collect();
    for (index, row) in table.iter().enumerate() {
        write!(out, "| {:<width$} |", row[0], width = widths[0])?;
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(out, " {cell:>width$} |")?;
        }
        writeln!(out)?;
        if index == 0 {
            write!(out, "| {} |", "-".repeat(widths[0]))?;
            for width in &widths[1..] {
                write!(out, " {}: |", "-".repeat(width - 1))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
