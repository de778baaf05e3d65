//! The configuration: loading, checking, and the checked model.
//!
//! A file goes through four hands: `decode.rs` walks the parsed document into the tables of `schema.rs`; `resolve.rs` gives defaults,
//! finds names and files, and makes the [`model`]; `expect.rs` runs its `[[test]]`s. All of them report to one list, so that a person
//! sees every mistake at once ([`mistake`]). Nothing is opened for requests before all of it is right.

mod certificate;
mod cookies;
mod decode;
mod expect;
mod limits;
pub mod mistake;
pub mod model;
pub mod reference;
mod resolve;
mod schema;
mod sessions;
pub mod units;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use self::decode::{Decode, Reader, Surroundings};
use self::mistake::{Mistake, Mistakes, Source, Warning};
use self::model::Config;
use crate::routes::Routes;

/// A configuration that is right.
#[derive(Debug)]
pub struct Loaded {
    /// What the proxy reads.
    pub config: Config,
    /// What is allowed and hardly meant.
    pub warnings: Vec<Warning>,
    /// How many `[[test]]`s were run.
    pub tests: usize,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error(transparent)]
    Wrong(#[from] Mistakes),
}

/// Nobody writes a configuration this long.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file, checks all of it (names, files, certificates, its own tests), and gives what the proxy needs. Used at the start, by
/// `weir check`, and at a reload.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let in_file = |source| LoadError::Read { path: path.to_owned(), source };
    let text = read_bounded(path, FILE_BYTES_MAX).map_err(in_file)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(parse(&path.display().to_string(), &text, folder, &Machine)?)
}

/// The configuration of `weir --to URL`: everything to one origin, websockets included. A port alone, or an address without scheme,
/// is taken for what it surely means.
pub fn forwarding_to(url: &str, listen: Option<&str>) -> Result<Loaded, Mistakes> {
    use std::fmt::Write as _;
    let mut text = String::new();
    if let Some(listen) = listen {
        let listen =
            if listen.parse::<u16>().is_ok() { format!("127.0.0.1:{listen}") } else { listen.to_owned() };
        writeln!(text, "[server]\nlisten = {}\n", toml::Value::from(listen)).expect("a string takes all");
    }
    let is_whole = url.contains("://") || url.starts_with("unix:");
    let origin = toml::Value::from(match url.parse::<u16>() {
        Ok(port) => format!("http://127.0.0.1:{port}"),
        Err(_) if is_whole => url.to_owned(),
        Err(_) => format!("http://{url}"),
    });
    // Port 0: the short form must not fail because another Weir has its admin listener already.
    write!(text, "[admin]\nlisten = \"127.0.0.1:0\"\n\n[[route]]\nname = \"everything\"\norigin = {origin}\nwebsocket = true\n")
        .expect("a string takes all");
    parse("<command line>", &text, Path::new(""), &Machine)
}

/// Checks a text as [`load`] does; relative paths begin at `folder`.
pub fn check_text(file: &str, text: &str, folder: &Path) -> Result<Loaded, Mistakes> {
    parse(file, text, folder, &Machine)
}

fn parse(file: &str, text: &str, folder: &Path, surroundings: &dyn Surroundings) -> Result<Loaded, Mistakes> {
    let file: Arc<str> = file.into();
    let (document, errors) = DeTable::parse_recoverable(text);
    let reader = Reader::new(surroundings);
    if !errors.is_empty() {
        // What a broken file says is a guess, and mistakes found in a guess would mislead: what is no TOML is told alone.
        let mistakes = errors.iter().map(|error| syntax_mistake(error, text)).collect();
        return Err(Mistakes::new(Source::of_broken(file, text), mistakes));
    }
    let root = toml::Spanned::new(0..0, DeValue::Table(document.into_inner()));
    let Some(tables) = schema::File::decode(&root, &reader) else { unreachable!("a document is a table") };
    // Places are of the text as it is; what is shown of it comes from a second source, once all secrets are known.
    let source = Source::new(Arc::clone(&file), text, &[]);
    let resolved = resolve::resolve(&tables, &reader, &source, folder);
    let source = Source::new(file, text, &reader.secrets());
    let mut mistakes = reader.take_mistakes();
    if mistakes.is_empty() {
        let routes = Routes::new(resolved.config.routes.clone());
        for expectation in &resolved.expectations {
            expectation.check(&resolved.config, &routes, &mut mistakes);
        }
    }
    reader.mask(&mut mistakes);
    if !mistakes.is_empty() {
        return Err(Mistakes::new(source, mistakes));
    }
    let mut warnings = resolved.warnings;
    reader.mask(&mut warnings);
    Ok(Loaded {
        tests: resolved.expectations.len(),
        warnings: resolve::show_warnings(&source, warnings),
        config: resolved.config,
    })
}

fn syntax_mistake(error: &toml::de::Error, text: &str) -> Mistake {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = error.message().trim();
    let from = text.get(..span.start).unwrap_or(text).rfind('\n').map_or(0, |at| at + 1);
    let line = text[from..].lines().next().unwrap_or_default();
    if message.contains("duplicate key") {
        let key = text.get(span.clone()).unwrap_or_default();
        return Mistake::new(span, format!("`{key}` stands here a second time"))
            .help("a key or a table stands in a file once; `[[route]]`, in two brackets, adds one more");
    }
    // The most frequent slip of all, which TOML's own words do not make clear.
    if let Some((key, value)) = line.split_once('=') {
        let value_at = from + line.len() - value.trim_start().len();
        let value = value.split('#').next().unwrap_or_default().trim();
        let is_bare =
            value.starts_with(|char: char| char.is_ascii_alphanumeric() || matches!(char, ':' | '/' | '$'));
        if is_bare && span.start >= from + key.len() {
            return Mistake::new(value_at..value_at + value.len(), format!("`{value}` is no value of TOML"))
                .help(format!("texts stand in quotes: `{} = \"{value}\"`", key.trim()));
        }
    }
    Mistake::new(span, format!("this is not TOML: {message}"))
}

/// All of a file, unless it is longer than it should be.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if read as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is larger than {}", units::show_size(bytes_max))));
    }
    Ok(text)
}

/// The machine's own environment and files.
struct Machine;

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        const SECRET_BYTES_MAX: u64 = 1 << 20;
        // Opening a pipe would wait for whoever writes to it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        read_bounded(path, SECRET_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests;
