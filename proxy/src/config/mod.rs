//! The configuration: loading, checking, and the checked model.
//!
//! A file goes through four hands: `decode.rs` walks the parsed document into the tables of `schema.rs`; `resolve.rs` gives defaults,
//! finds names and files, and makes the [`model`]; `expect.rs` runs its `[[test]]`s. All of them report to one list, so that a person
//! sees every mistake at once ([`mistake`]). Nothing is opened for requests before all of it is right.

mod certificate;
mod cookies;
mod decode;
mod environment;
mod expect;
mod limits;
pub mod mistake;
pub mod model;
pub mod reference;
mod resolve;
mod schema;
mod sessions;
pub mod show;
pub mod units;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use self::decode::{Decode, Node, Reader, Surroundings};
pub use self::environment::Unused;
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

/// What `weir --to URL` stands for.
#[derive(Debug)]
pub struct Forwarding {
    /// The configuration.
    pub loaded: Loaded,
    /// Variables of the environment that it was made of.
    pub used: Vec<&'static str>,
    /// Variables that are known and not used.
    pub unused: Vec<Unused>,
}

/// What the command line says, as a file would; and what was found in the environment.
struct ShortForm {
    text: String,
    environment: environment::Environment,
}

const COMMAND_LINE: &str = "<command line>";

/// The configuration of `weir --to URL`: everything to one origin, websockets included, with the Redis that the environment names. A port alone, or an address without scheme,
/// is taken for what it surely means.
pub fn forwarding_to(url: &str, listen: Option<&str>) -> Result<Forwarding, Mistakes> {
    let ShortForm { text, environment } = short_form(url, listen, &Machine);
    let environment::Environment { used, unused, .. } = environment;
    let read = parse(COMMAND_LINE, &text, Path::new(""), &Machine);
    let loaded = read.map_err(|mistakes| mistakes.with_note(&used))?;
    Ok(Forwarding { loaded, used, unused })
}

fn short_form(url: &str, listen: Option<&str>, surroundings: &dyn Surroundings) -> ShortForm {
    use std::fmt::Write as _;
    let mut text = String::new();
    if let Some(listen) = listen {
        let listen =
            if listen.parse::<u16>().is_ok() { format!("127.0.0.1:{listen}") } else { listen.to_owned() };
        writeln!(text, "[server]\nlisten = {}\n", toml::Value::from(listen)).expect("a string takes all");
    }
    let is_whole = url.contains("://") || url.starts_with("unix:");
    let origin = match url.parse::<u16>() {
        Ok(port) => format!("http://127.0.0.1:{port}"),
        Err(_) if is_whole => url.to_owned(),
        Err(_) => format!("http://{url}"),
    };
    let environment = environment::of(surroundings, &origin);
    let origin = toml::Value::from(origin);
    // Port 0: the short form must not fail because another Weir has its admin listener already.
    write!(
        text,
        "[admin]\nlisten = \"127.0.0.1:0\"\n\n{}\n[[route]]\nname = \"everything\"\norigin = {origin}\nwebsocket = true\n",
        environment.tables
    )
    .expect("a string takes all");
    ShortForm { text, environment }
}

/// Every value of a file that holds, and where it comes from; and variables that are known and not used.
pub fn show(path: &Path) -> Result<Vec<show::Section>, LoadError> {
    let in_file = |source| LoadError::Read { path: path.to_owned(), source };
    let text = read_bounded(path, FILE_BYTES_MAX).map_err(in_file)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(show_text(&path.display().to_string(), &text, folder, &Machine)?)
}

/// Likewise of what `weir --to URL` stands for.
pub fn show_forwarding_to(
    url: &str,
    listen: Option<&str>,
) -> Result<(Vec<show::Section>, Vec<Unused>), Mistakes> {
    let ShortForm { text, environment } = short_form(url, listen, &Machine);
    let shown = show_text(COMMAND_LINE, &text, Path::new(""), &Machine);
    Ok((shown.map_err(|mistakes| mistakes.with_note(&environment.used))?, environment.unused))
}

fn show_text(
    file: &str,
    text: &str,
    folder: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Vec<show::Section>, Mistakes> {
    let mut sections = Vec::new();
    parse_and(file, text, folder, surroundings, |root, reader, source| {
        sections = show::sections(root, reader, source);
    })?;
    Ok(sections)
}

/// Checks a text as [`load`] does; relative paths begin at `folder`.
pub fn check_text(file: &str, text: &str, folder: &Path) -> Result<Loaded, Mistakes> {
    parse(file, text, folder, &Machine)
}

fn parse(file: &str, text: &str, folder: &Path, surroundings: &dyn Surroundings) -> Result<Loaded, Mistakes> {
    parse_and(file, text, folder, surroundings, |_, _, _| {})
}

/// Likewise; `look` sees the document, if it is right.
fn parse_and(
    file: &str,
    text: &str,
    folder: &Path,
    surroundings: &dyn Surroundings,
    look: impl FnOnce(&Node<'_>, &Reader<'_>, &Source),
) -> Result<Loaded, Mistakes> {
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
    look(&root, &reader, &source);
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
