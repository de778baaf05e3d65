//! `weir plugin inspect`, `test` and `bench`: a plugin in the real host, without a proxy around it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use plugin_cases::record;
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
    for (what, each) in &cost.calls {
        writeln!(out, "{each:>8.0} ns  {what}")?;
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

/// Shows recorded requests to two versions of a plugin.
pub(super) fn replay(
    log: &Path,
    (old, new): (&Path, &Path),
    (config, new_config): (Option<&Path>, Option<&Path>),
    out: &mut impl Write,
) -> Result<(), Failed> {
    let mut requests = Vec::new();
    let before = crate::recording::before(log);
    for file in [before.as_path()].into_iter().filter(|file| file.exists()).chain([log]) {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        for (number, line) in text.lines().enumerate() {
            let recorded = record::parse(line, number + 1);
            requests.push(recorded.map_err(|error| Failed::Text(format!("{}: {error}", file.display())))?);
        }
    }
    let (old, new) = (read(old)?, read(new)?);
    let old_config = configuration(config)?;
    let new_config = configuration(new_config.or(config))?;
    let (old, new) = (trial(&old)?, trial(&new)?);
    let replayed = plugin_trial::replay(old.version(&old_config), new.version(&new_config), requests.iter())
        .map_err(|error| failed(&TrialError::Load(error)))?;
    for (what, (count, changes)) in
        [("key", &replayed.keys), ("lifetime", &replayed.lifetimes), ("purge", &replayed.purges)]
    {
        for change in changes {
            writeln!(out, "{what:<9} {}\n  old: {}\n  new: {}", change.request, change.old, change.new)?;
        }
        if *count > changes.len() {
            writeln!(out, "{what:<9} and {} more", count - changes.len())?;
        }
    }
    for met in &replayed.meet.1 {
        writeln!(out, "MEET      {}\n          {}\n  both: {}", met.old, met.new, met.request)?;
    }
    writeln!(
        out,
        "{} requests: {} change their key, {} how they are stored, {} what they purge; {} would share what they did not, {} would not share what they did",
        replayed.requests,
        replayed.keys.0,
        replayed.lifetimes.0,
        replayed.purges.0,
        replayed.meet.0,
        replayed.part
    )?;
    if replayed.meet.0 > 0 {
        return Err(Failed::Text(format!(
            "{} would share an answer with requests that had another key",
            replayed.meet.0
        )));
    }
    Ok(())
}

fn trial(wasm: &[u8]) -> Result<Trial<'_>, Failed> {
    Trial::new(wasm).map_err(|error| failed(&error))
}

/// A plugin's configuration as JSON.
fn configuration(file: Option<&Path>) -> Result<String, Failed> {
    let Some(file) = file else { return Ok("{}".to_owned()) };
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let wrong = |error: &dyn std::fmt::Display| Failed::Text(format!("`{}`: {error}", file.display()));
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(&error))?;
    serde_json::to_string(&table).map_err(|error| wrong(&error))
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
        TrialError::Tests(_) | TrialError::NoRequest | TrialError::Host(_) => text,
    })
}
