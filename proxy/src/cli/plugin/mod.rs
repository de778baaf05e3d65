//! `weir plugin`: the loop of somebody who writes plugins.

#[cfg(feature = "plugins")]
mod trying;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use plugin_kit::Language;

use super::Failed;

/// Write, build and try plugins: docs/plugins.md
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Write a new plugin that builds and passes its tests, into a directory of its name
    New {
        /// Its name: lower-case letters, digits and `-`
        name: String,
        /// The language to write it in
        #[arg(long, value_enum, default_value = "rust")]
        lang: Lang,
    },
    /// Say what a component has and wants: hooks, imports, versions, what it reads and has to be granted
    #[cfg(feature = "plugins")]
    Inspect {
        /// The component, or the plugin's directory
        file: PathBuf,
        /// A TOML file with the plugin's configuration; without it, it has none
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run tests.toml beside a plugin in the real host, with a clock and a state of its own
    #[cfg(feature = "plugins")]
    Test {
        /// The plugin's directory
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Measure what calls cost, with the requests of tests.toml
    #[cfg(feature = "plugins")]
    Bench {
        /// The plugin's directory
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Show recorded requests to two versions of a plugin: which keys, lifetimes and purges change, and which requests would newly meet
    ///
    /// Ends with 1 where requests that shared nothing would share an answer.
    #[cfg(feature = "plugins")]
    Replay {
        /// What `[record]` has written
        log: PathBuf,
        /// The component that serves
        old: PathBuf,
        /// The one that is to
        new: PathBuf,
        /// A TOML file with the plugin's configuration; without it, it has none
        #[arg(long)]
        config: Option<PathBuf>,
        /// The configuration of the new one, if it is another
        #[arg(long)]
        new_config: Option<PathBuf>,
    },
    /// Make a component of a plugin's sources: NAME.wasm beside them
    Build {
        /// The plugin's directory
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Lang {
    Rust,
    C,
    Js,
    Python,
}

/// Does what was asked for.
pub(super) fn plugin(what: &Plugin, out: &mut impl Write) -> Result<(), Failed> {
    match what {
        Plugin::New { name, lang } => new(name, *lang, out),
        Plugin::Build { directory } => build(directory, out),
        #[cfg(feature = "plugins")]
        Plugin::Inspect { file, config } => trying::inspect(file, config.as_deref(), out),
        #[cfg(feature = "plugins")]
        Plugin::Test { directory } => trying::test(directory, out),
        #[cfg(feature = "plugins")]
        Plugin::Bench { directory } => trying::bench(directory, out),
        #[cfg(feature = "plugins")]
        Plugin::Replay { log, old, new, config, new_config } => {
            trying::replay(log, (old, new), (config.as_deref(), new_config.as_deref()), out)
        }
    }
}

fn new(name: &str, lang: Lang, out: &mut impl Write) -> Result<(), Failed> {
    let language = match lang {
        Lang::Rust => Language::Rust,
        Lang::C => Language::C,
        Lang::Js => Language::JavaScript,
        Lang::Python => Language::Python,
    };
    plugin_kit::create(Path::new("."), name, language).map_err(|error| advised(&error, error.help()))?;
    let (source, before) = match lang {
        Lang::Rust => ("src/lib.rs".to_owned(), "  cargo test\n"),
        Lang::C => (format!("src/{}.c", name.replace('-', "_")), ""),
        Lang::Js => (format!("{name}.js"), "  npm install --ignore-scripts\n"),
        Lang::Python => {
            ("app.py".to_owned(), "  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\n")
        }
    };
    write!(
        out,
        "{name}/{source} is the plugin, tests.toml what is expected of it, weir.toml puts it in front of an application.\n\n  cd {name}\n{before}  weir plugin build\n  weir plugin test\n  weir run\n"
    )?;
    Ok(())
}

fn build(directory: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let built = plugin_kit::build(directory).map_err(|error| advised(&error, error.help()))?;
    let name = built.path.file_name().unwrap_or(built.path.as_os_str()).to_string_lossy();
    writeln!(out, "{name}: {} KB, built with {}", built.bytes.div_ceil(1024), built.with)?;
    Ok(())
}

/// What is wrong, and what to do about it.
fn wrong(what: impl std::fmt::Display, help: &str) -> Failed {
    Failed::Text(format!("{what}\n help: {help}"))
}

fn advised(error: &dyn std::error::Error, help: Option<&str>) -> Failed {
    let text = with_causes(error);
    help.map_or_else(|| Failed::Text(text.clone()), |help| wrong(&text, help))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
