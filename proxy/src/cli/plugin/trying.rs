//! `weir plugin inspect`, `test` and `bench`: a plugin in the real host, without a proxy around it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use plugin_trial::{Trial, TrialError};

use super::{Failed, with_causes};

/// Rounds over all requests of the tests.
const ROUNDS: usize = 10_000;

/// Prints what a component has and wants.
pub(super) fn inspect(file: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let wasm = read(file)?;
    let trial = Trial::new(&wasm).map_err(|error| failed(&error))?;
    let found = trial.host().inspect(&wasm).map_err(|error| failed(&TrialError::Load(error)))?;
    writeln!(out, "size      {} KB", found.bytes.div_ceil(1024))?;
    let versions = if found.versions.is_empty() {
        "none: it is no policy plugin".to_owned()
    } else {
        found.versions.join(", ")
    };
    writeln!(out, "speaks    weir:policy {versions}")?;
    writeln!(out, "hooks     {}", found.hooks.names().join(", "))?;
    writeln!(out, "imports   {}", found.imports.join(", "))?;
    match trial.manifest("{}") {
        Ok((name, version, inputs)) => {
            writeln!(out, "is        {name} {version}")?;
            writeln!(out, "reads     {inputs}")?;
        }
        // Most need a configuration before they say what they read.
        Err(error) => writeln!(out, "reads     unknown without its configuration ({})", with_causes(&error))?,
    }
    Ok(())
}

/// Runs `tests.toml` beside a plugin.
pub(super) fn test(directory: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let started = Instant::now();
    let (wasm, tests) = plugin_of(directory)?;
    let trial = Trial::new(&wasm).map_err(|error| failed(&error))?;
    let outcomes = trial.run(&tests).map_err(|error| failed(&error))?;
    let wrong = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).count();
    for outcome in &outcomes {
        let mark = if outcome.differences.is_empty() { "ok    " } else { "FAILED" };
        writeln!(out, "{mark} {}", outcome.name)?;
        for difference in &outcome.differences {
            writeln!(out, "       {difference}")?;
        }
    }
    writeln!(out, "{} tests, {wrong} failed, {} ms", outcomes.len(), started.elapsed().as_millis())?;
    if wrong > 0 { Err(Failed::Text(format!("{wrong} of {} tests failed", outcomes.len()))) } else { Ok(()) }
}

/// Measures what calls cost, with the requests of `tests.toml`.
pub(super) fn bench(directory: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let (wasm, tests) = plugin_of(directory)?;
    let trial = Trial::new(&wasm).map_err(|error| failed(&error))?;
    let cost = trial.cost(&tests, ROUNDS).map_err(|error| failed(&error))?;
    writeln!(
        out,
        "{} requests, {ROUNDS} rounds; memory of an instance {} KB",
        cost.requests,
        cost.stats.memory_bytes / 1024
    )?;
    for (what, each) in
        [("plan", cost.plan), ("request hook", cost.request), ("request hook, remembered", cost.remembered)]
    {
        if let Some(each) = each {
            writeln!(out, "{each:>8.0} ns  {what}")?;
        }
    }
    let (hits, misses) = (cost.stats.memo_hits, cost.stats.memo_misses);
    if hits + misses > 0 {
        writeln!(
            out,
            "{hits} of {} decisions were remembered, {} not repeated when asked again",
            hits + misses,
            cost.stats.memo_mismatches
        )?;
    }
    Ok(())
}

/// The component of a directory and its tests: the component has its name, or is the only one there.
fn plugin_of(directory: &Path) -> Result<(Vec<u8>, String), Failed> {
    let tests = directory.join("tests.toml");
    let text = std::fs::read_to_string(&tests)
        .map_err(|error| Failed::Text(format!("cannot read `{}`: {error}", tests.display())))?;
    Ok((read(&component_of(directory)?)?, text))
}

fn component_of(directory: &Path) -> Result<PathBuf, Failed> {
    let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    if let Some(name) = absolute.file_name() {
        let named = absolute.join(Path::new(name).with_extension("wasm"));
        if named.exists() {
            return Ok(named);
        }
    }
    let found = std::fs::read_dir(&absolute).into_iter().flatten().flatten().map(|entry| entry.path());
    let found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|is| is == "wasm")).collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failed::Text(format!(
            "there is no component in `{}`; `weir plugin build` makes one",
            directory.display()
        ))),
        _ => Err(Failed::Text(format!("there are several components in `{}`", directory.display()))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failed> {
    std::fs::read(file).map_err(|error| Failed::Text(format!("cannot read `{}`: {error}", file.display())))
}

fn failed(error: &TrialError) -> Failed {
    let text = with_causes(error);
    Failed::Text(match error {
        TrialError::Load(load) => format!("{text}\n help: {}", load.help()),
        TrialError::Tests(_) | TrialError::Host(_) => text,
    })
}
