//! `weir init`: a configuration file to begin with, for an application of a framework.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Failed;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the application is made with
    #[arg(long, value_enum)]
    preset: Preset,
    /// The file to write; one that is there is left as it is
    #[arg(short, long, value_name = "FILE", default_value = "weir.toml")]
    config: PathBuf,
    /// Print it instead
    #[arg(long, conflicts_with = "config")]
    print: bool,
}

/// What an application is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// A site of Django's, with its admin
    Django,
    /// An API with Django REST framework
    Drf,
    /// Ruby on Rails
    Rails,
    /// Laravel
    Laravel,
    /// WordPress, with or without `WooCommerce`
    Wordpress,
    /// A JSON API of any kind, for one or several tenants
    Api,
    /// Files that seldom change
    Static,
    /// The least that works
    Minimal,
}

impl Preset {
    /// Each is one of the sample files, which are checked and run as tests.
    const fn text(self) -> &'static str {
        match self {
            Self::Django => include_str!("../../../config/django.toml"),
            Self::Drf => include_str!("../../../config/drf.toml"),
            Self::Rails => include_str!("../../../config/rails.toml"),
            Self::Laravel => include_str!("../../../config/laravel.toml"),
            Self::Wordpress => include_str!("../../../config/wordpress.toml"),
            Self::Api => include_str!("../../../config/api.toml"),
            Self::Static => include_str!("../../../config/static.toml"),
            Self::Minimal => include_str!("../../../config/minimal.toml"),
        }
    }
}

pub(super) fn init(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failed> {
    let text = arguments.preset.text();
    if arguments.print {
        return Ok(out.write_all(text.as_bytes())?);
    }
    let path = &arguments.config;
    let failed = |error: std::io::Error| {
        let why = if error.kind() == ErrorKind::AlreadyExists {
            "it is there already, and may be somebody's work\n help: name another with `--config FILE`, or look with `--print`".to_owned()
        } else {
            error.to_string()
        };
        Failed::Text(format!("cannot write `{}`: {why}", path.display()))
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let named =
        if path.as_os_str() == "weir.toml" { String::new() } else { format!(" --config {}", path.display()) };
    writeln!(out, "wrote {}: read it, set where your application is, and then", path.display())?;
    writeln!(out, "  weir check{named}\n  weir run{named}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_preset_is_right_and_passes_its_own_tests() {
        let folder = tempfile::tempdir().unwrap();
        for preset in Preset::value_variants() {
            let path = folder.path().join(format!("{preset:?}.toml"));
            let arguments = Arguments { preset: *preset, config: path.clone(), print: false };
            init(&arguments, &mut Vec::new()).unwrap();
            let loaded = config::load(&path).unwrap_or_else(|error| panic!("{preset:?}: {error}"));
            let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            assert!(shown.is_empty(), "{preset:?}: {}", shown.join("\n"));
            assert!(loaded.tests > 0 || *preset == Preset::Minimal, "{preset:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.toml");
        std::fs::write(&path, "mine").unwrap();
        let arguments = Arguments { preset: Preset::Django, config: path.clone(), print: false };
        let failed = init(&arguments, &mut Vec::new()).unwrap_err().to_string();
        assert!(failed.contains("it is there already"), "{failed}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
