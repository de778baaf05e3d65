//! `weir plugin inspect`, `test` and `bench`: a plugin in the real host, without a proxy around it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use plugin_cases::record;
use plugin_host::LoadError;
use plugin_trial::{Trial, TrialError};

use super::{Failed, with_causes, wrong};

/// Rounds over all requests of the tests.
const ROUNDS: usize = 10_000;

/// Prints what a component has and wants. One that would be refused is an error, after all that is known of it.
pub(super) fn inspect(file: &Path, config: Option<&Path>, out: &mut impl Write) -> Result<(), Failed> {
    let component = if file.is_dir() { component_of(file)? } else { file.to_owned() };
    let wasm = read_component(&component)?;
    let trial = trial(&wasm)?;
    let refused = |error: &TrialError| about(&component, error);
    let found = trial.host().inspect(&wasm).map_err(|error| refused(&TrialError::Load(error)))?;
    writeln!(out, "size      {} KB", found.bytes.div_ceil(1024))?;
    let versions = if found.versions.is_empty() {
        "none: it is no policy plugin".to_owned()
    } else {
        found.versions.join(", ")
    };
    writeln!(out, "speaks    weir:policy {versions}")?;
    writeln!(out, "hooks     {}", or_none(&found.hooks.names()))?;
    writeln!(out, "imports   {}", or_none(&found.imports))?;
    match trial.declared(&configuration(config)?) {
        Ok(said) => {
            writeln!(out, "is        {} {}", said.name, said.version)?;
            writeln!(out, "reads     {}", or_none(&said.reads))?;
            writeln!(out, "grants    {:?}", said.grants)?;
            Ok(())
        }
        // Most need a configuration before they say what they read.
        Err(TrialError::Load(error @ LoadError::Call { .. })) if config.is_none() => {
            writeln!(
                out,
                "reads     unknown without its configuration, as `--config FILE` (without it: {})",
                with_causes(&error)
            )?;
            Ok(())
        }
        Err(error) => Err(refused(&error)),
    }
}

fn or_none<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Runs `tests.toml` beside a plugin.
pub(super) fn test(directory: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let started = Instant::now();
    let plugin = plugin_of(directory)?;
    let outcomes =
        trial(&plugin.wasm)?.run(&plugin.tests).map_err(|error| about(&plugin.file_of_tests, &error))?;
    if outcomes.is_empty() {
        let what = format!("`{}` has no `[[test]]`", plugin.file_of_tests.display());
        return Err(wrong(what, HOW_TO_TEST));
    }
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
    let plugin = plugin_of(directory)?;
    let cost = trial(&plugin.wasm)?.cost(&plugin.tests, ROUNDS);
    let cost = cost.map_err(|error| about(&plugin.file_of_tests, &error))?;
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
        let text = String::from_utf8_lossy(&read(file, HOW_TO_RECORD)?).into_owned();
        for (number, line) in text.lines().enumerate() {
            let recorded = record::parse(line, number + 1);
            requests.push(
                recorded.map_err(|error| wrong(format!("`{}`: {error}", file.display()), HOW_TO_RECORD))?,
            );
        }
    }
    if requests.is_empty() {
        return Err(wrong(format!("`{}` holds no request", log.display()), HOW_TO_RECORD));
    }
    let (old_wasm, new_wasm) = (read_component(old)?, read_component(new)?);
    let old_config = configuration(config)?;
    let new_config = configuration(new_config.or(config))?;
    let (of_old, of_new) = (trial(&old_wasm)?, trial(&new_wasm)?);
    // Of two, it matters which is refused.
    for (file, trial, config) in [(old, &of_old, &old_config), (new, &of_new, &new_config)] {
        trial.declared(config).map_err(|error| about(file, &error))?;
    }
    let replayed =
        plugin_trial::replay(of_old.version(&old_config), of_new.version(&new_config), requests.iter())
            .map_err(|error| about(new, &TrialError::Load(error)))?;
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

const HOW_TO_BUILD: &str = "`weir plugin build` makes a component of a plugin's directory";
const HOW_TO_TEST: &str =
    "`weir plugin new` writes one; docs/plugins.md says under \"Test it\" what may stand there";
const HOW_TO_RECORD: &str = "it is what a proxy with `[record]` writes: a request in each line, as JSON";

fn trial(wasm: &[u8]) -> Result<Trial<'_>, Failed> {
    Trial::new(wasm).map_err(|error| Failed::Text(with_causes(&error)))
}

/// A plugin's configuration as JSON.
fn configuration(file: Option<&Path>) -> Result<String, Failed> {
    let Some(file) = file else { return Ok("{}".to_owned()) };
    let help = "it holds what stands in `config` of the plugin's table, as TOML";
    let text = String::from_utf8_lossy(&read(file, help)?).into_owned();
    let wrong = |error: &dyn std::fmt::Display| wrong(format!("`{}`: {error}", file.display()), help);
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(&error))?;
    serde_json::to_string(&table).map_err(|error| wrong(&error))
}

/// A plugin in its directory.
struct Plugin {
    wasm: Vec<u8>,
    tests: String,
    file_of_tests: PathBuf,
}

fn plugin_of(directory: &Path) -> Result<Plugin, Failed> {
    if !directory.is_dir() {
        let what = format!("`{}` is no directory", directory.display());
        return Err(wrong(what, "name that of the plugin, in which its `tests.toml` lies"));
    }
    let file_of_tests = directory.join("tests.toml");
    let tests = String::from_utf8_lossy(&read(&file_of_tests, HOW_TO_TEST)?).into_owned();
    Ok(Plugin { wasm: read_component(&component_of(directory)?)?, tests, file_of_tests })
}

/// The component of a directory: it has its name, or is the only one there.
fn component_of(directory: &Path) -> Result<PathBuf, Failed> {
    let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let named = absolute.file_name().map(|name| absolute.join(Path::new(name).with_extension("wasm")));
    if let Some(named) = named.as_ref().filter(|named| named.exists()) {
        return Ok(named.clone());
    }
    let found = std::fs::read_dir(&absolute).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        found.filter(|path| path.extension().is_some_and(|is| is == "wasm")).collect();
    found.sort();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(wrong(format!("there is no component in `{}`", directory.display()), HOW_TO_BUILD)),
        several => {
            let names: Vec<String> = several.iter().map(name).collect();
            let what =
                format!("there are several components in `{}`: {}", directory.display(), names.join(", "));
            let wanted = named.as_ref().map(name).unwrap_or_default();
            Err(wrong(what, &format!("one of them has to be alone, or to be called `{wanted}`")))
        }
    }
}

fn read_component(file: &Path) -> Result<Vec<u8>, Failed> {
    read(file, HOW_TO_BUILD)
}

fn read(file: &Path, help: &str) -> Result<Vec<u8>, Failed> {
    std::fs::read(file).map_err(|error| wrong(format!("cannot read `{}`: {error}", file.display()), help))
}

/// What is wrong with this file.
fn about(file: &Path, error: &TrialError) -> Failed {
    let text = format!("`{}`: {}", file.display(), with_causes(error));
    match error {
        TrialError::Load(load) => wrong(text, &load.help()),
        TrialError::Tests(_) => wrong(text, HOW_TO_TEST),
        TrialError::NoRequest => wrong(text, "add a `[[test]]` that has no `config` of its own"),
        TrialError::Host(_) => Failed::Text(text),
    }
}
