//! Templates: what a new plugin begins with. It builds and passes its tests before its author has changed a line.

use std::io;
use std::path::{Path, PathBuf};

use crate::sdk::{self, File};

/// The language of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust, with the SDK: the smallest effort, and native tests.
    Rust,
    /// C, with generated bindings: the smallest and fastest plugins.
    C,
    /// JavaScript: 12 MB and 90 µs a call; for decisions that are remembered.
    JavaScript,
    /// Python: 18 MB and 25 µs a call; likewise.
    Python,
}

/// Why no plugin was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot be that of a crate, a file and a plugin.
    #[error("`{0}` is no name for a plugin: lower-case letters, digits and `-`, a letter first")]
    Name(String),
    /// There is something already.
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write `{}`", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

impl CreateError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("as in `weir plugin new by-language`"),
            Self::Exists(_) => Some("give it another name, or remove what is there"),
            Self::Write(..) => None,
        }
    }
}

macro_rules! template {
    ($($to:literal <- $from:literal),* $(,)?) => {
        &[$(($to, include_bytes!(concat!("../templates/", $from)))),*]
    };
}

/// `NAME` stands for the plugin's name in paths and texts, `NAME_` for the same with `_` instead of `-`.
const RUST: &[File] = template![
    "Cargo.toml" <- "rust/Cargo.toml.in",
    "src/lib.rs" <- "rust/lib.rs.in",
];
const C: &[File] = template!["src/NAME_.c" <- "c/plugin.c"];
const JAVASCRIPT: &[File] = template!["package.json" <- "js/package.json", "NAME.js" <- "js/plugin.js"];
const PYTHON: &[File] =
    template!["requirements.txt" <- "python/requirements.txt", "app.py" <- "python/app.py"];
const ALL: &[File] = template![
    "tests.toml" <- "tests.toml",
    "weir.toml" <- "weir.toml",
    ".gitignore" <- "gitignore",
];

/// Writes a plugin of this name into a new directory below `parent`. Returns the directory.
pub fn create(parent: &Path, name: &str, language: Language) -> Result<PathBuf, CreateError> {
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.ends_with('-');
    if !is_name || name.len() > 64 {
        return Err(CreateError::Name(name.to_owned()));
    }
    let directory = parent.join(name);
    if directory.exists() {
        return Err(CreateError::Exists(directory));
    }
    let (own, below, sdk): (&[File], &str, &[File]) = match language {
        Language::Rust => (RUST, "sdk", sdk::RUST),
        Language::C => (C, "", sdk::C),
        Language::JavaScript => (JAVASCRIPT, "", sdk::WIT),
        Language::Python => (PYTHON, "", sdk::WIT),
    };
    // What a small plugin gets is too little for a whole interpreter.
    let memory = match language {
        Language::Rust | Language::C => "",
        Language::JavaScript => "limits = { memory = \"64MiB\" }\n",
        Language::Python => "limits = { memory = \"128MiB\" }\n",
    };
    let filled = |text: &str| {
        text.replace("MEMORY\n", memory).replace("NAME_", &name.replace('-', "_")).replace("NAME", name)
    };
    for (path, content) in own.iter().chain(ALL) {
        let (path, text) = (filled(path), filled(&String::from_utf8_lossy(content)));
        write(&directory.join(path), text.as_bytes())?;
    }
    for (path, content) in sdk {
        write(&directory.join(below).join(path), content)?;
    }
    Ok(directory)
}

fn write(path: &Path, content: &[u8]) -> Result<(), CreateError> {
    let failed = |error| CreateError::Write(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_gets_what_it_needs() {
        let parent = tempfile::tempdir().unwrap();
        #[rustfmt::skip]
        let cases = [
            ("in-rust", Language::Rust, &["Cargo.toml", "src/lib.rs", "sdk/Cargo.toml", "sdk/src/lib.rs", "sdk/wit/policy.wit"][..]),
            ("in-c", Language::C, &["src/in_c.c", "c/cache_key.c", "c/cache_key.h", "c/cache_key_component_type.o"]),
            ("in-js", Language::JavaScript, &["package.json", "in-js.js", "wit/policy.wit"]),
            ("in-python", Language::Python, &["requirements.txt", "app.py", "wit/policy.wit"]),
        ];
        for (name, language, expected) in cases {
            let directory = create(parent.path(), name, language).unwrap();
            for path in expected.iter().chain(&["tests.toml", "weir.toml", ".gitignore"]) {
                let content = std::fs::read(directory.join(path))
                    .unwrap_or_else(|error| panic!("{name}/{path}: {error}"));
                if !path.starts_with("sdk") && !path.starts_with("c/") && !path.starts_with("wit") {
                    assert!(!String::from_utf8(content).unwrap().contains("NAME"), "{name}/{path}");
                }
            }
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join("mine")).unwrap();
        let error = create(parent.path(), "mine", Language::Rust).unwrap_err();
        assert!(matches!(error, CreateError::Exists(_)));
        assert_eq!(std::fs::read_dir(parent.path().join("mine")).unwrap().count(), 0);
    }

    #[test]
    fn a_name_is_one_for_a_crate_and_a_file() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "Upper", "a b", "../x", "-a", "a-", "7a", "ä", &"a".repeat(65)] {
            assert!(matches!(create(parent.path(), name, Language::C), Err(CreateError::Name(_))), "{name}");
        }
    }
}
