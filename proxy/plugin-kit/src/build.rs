//! Makes a component of a plugin's sources, with the toolchain that is there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The component.
    pub path: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// What built it, for a person.
    pub with: String,
}

/// Why nothing was built. [`BuildError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The directory holds no plugin.
    #[error("`{}` holds no plugin: no Cargo.toml, package.json, app.py or src/*.c", .0.display())]
    NoPlugin(PathBuf),
    /// A toolchain is missing.
    #[error("there is no {what} here")]
    NoToolchain {
        /// What is missing.
        what: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// A tool could not be started.
    #[error("cannot start `{0}`")]
    Start(String, #[source] io::Error),
    /// A tool failed, and has said why.
    #[error("`{0}` failed")]
    Tool(String),
    /// A file could not be read or written.
    #[error("cannot read or write `{}`", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// What was built is no plugin.
    #[error("what was built is no component for Weir: {0}")]
    Encode(String),
}

impl BuildError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoPlugin(_) => Some("`weir plugin new NAME` makes one"),
            Self::NoToolchain { help, .. } => Some(help),
            Self::Encode(_) => {
                Some("a plugin in Rust ends with `weir_plugin::export!(…)`, and is a `cdylib`")
            }
            Self::Start(..) | Self::Tool(_) | Self::File(..) => None,
        }
    }
}

/// Builds the plugin in a directory into `NAME.wasm` beside its sources. What the tools say goes to standard error.
pub fn build(directory: &Path) -> Result<Built, BuildError> {
    // An absolute path: each tool runs in the directory.
    let directory = &directory.canonicalize().map_err(|_| BuildError::NoPlugin(directory.to_owned()))?;
    if directory.join("Cargo.toml").is_file() {
        return rust(directory);
    }
    let name =
        directory.file_name().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned());
    let to = directory.join(format!("{name}.wasm"));
    if directory.join("package.json").is_file() {
        return javascript(directory, &name, to);
    }
    if directory.join("app.py").is_file() {
        return python(directory, to);
    }
    let sources = c_sources(directory);
    if sources.is_empty() {
        return Err(BuildError::NoPlugin(directory.clone()));
    }
    c(directory, sources, to)
}

/// How a plugin in Rust can be built.
enum RustToolchain {
    /// The compiler has a library for the target.
    Target,
    /// Debian's `rustc-web` is there, which builds the library along.
    Debian { rustc: PathBuf, linker: PathBuf },
}

fn rust(directory: &Path) -> Result<Built, BuildError> {
    let toolchain = rust_toolchain()?;
    let metadata = output(Command::new("cargo").current_dir(directory).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|_| BuildError::Tool("cargo metadata".to_owned()))?;
    let manifest = directory.join("Cargo.toml");
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages
        .iter()
        .find(|package| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest));
    let name = package
        .and_then(|package| package["name"].as_str())
        .ok_or_else(|| BuildError::NoPlugin(directory.to_owned()))?;
    let target = PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target"));

    let mut command = Command::new("cargo");
    command.current_dir(directory).args(["build", "--release", "--target", TARGET, "--package", name]);
    // Without the paths of this machine the same sources give the same bytes everywhere.
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/plugin", directory.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let with = match toolchain {
        RustToolchain::Target => format!("the compiler's target {TARGET}"),
        RustToolchain::Debian { rustc, linker } => {
            // For this command alone: elsewhere they would unlock what is unstable.
            command.env("RUSTC", &rustc).env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
            let mut path = linker.into_os_string();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            command.env("PATH", path);
            "Debian's rustc-web".to_owned()
        }
    };
    run(&mut command)?;
    let module = target.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
    encode(&module, directory.join(format!("{name}.wasm")), with)
}

fn rust_toolchain() -> Result<RustToolchain, BuildError> {
    const HELP: &str = "`rustup target add wasm32-unknown-unknown`; on Debian, where rustup cannot bring that: `apt install --no-install-recommends rustc-web rust-web-src`, beside it";
    let sysroot =
        output(Command::new("rustc").args(["--print", "sysroot"])).map_err(|_| BuildError::NoToolchain {
            what: "Rust compiler",
            help: "install Rust: https://rustup.rs; then `rustup target add wasm32-unknown-unknown`",
        })?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    if libraries.join(TARGET).join("lib").is_dir() {
        return Ok(RustToolchain::Target);
    }
    let files = output(Command::new("dpkg").args(["-L", "rustc-web"])).unwrap_or_default();
    let debian = files.lines().find(|file| file.ends_with("/bin/rustc")).map(PathBuf::from);
    // rustup brings the linker that Debian's compiler calls.
    let linker = std::fs::read_dir(&libraries).ok().and_then(|hosts| {
        hosts.flatten().map(|host| host.path().join("bin")).find(|folder| folder.join("rust-lld").is_file())
    });
    match debian {
        Some(rustc) => Ok(RustToolchain::Debian { rustc, linker: linker.unwrap_or_default() }),
        None => Err(BuildError::NoToolchain { what: "Rust library for WebAssembly", help: HELP }),
    }
}

fn c_sources(directory: &Path) -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for folder in ["src", "c"] {
        let entries = std::fs::read_dir(directory.join(folder)).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        sources.extend(files.filter(|file| file.extension().is_some_and(|end| end == "c" || end == "o")));
    }
    sources.sort();
    if sources.iter().any(|file| file.extension().is_some_and(|end| end == "c")) {
        sources
    } else {
        Vec::new()
    }
}

fn c(directory: &Path, sources: Vec<PathBuf>, to: PathBuf) -> Result<Built, BuildError> {
    let candidates: [&[&str]; 3] = [&["zig"], &["python3", "-m", "ziglang"], &["python", "-m", "ziglang"]];
    let zig = candidates
        .into_iter()
        .find(|zig| output(Command::new(zig[0]).args(&zig[1..]).arg("version")).is_ok());
    let Some(zig) = zig else {
        return Err(BuildError::NoToolchain {
            what: "C compiler for WebAssembly",
            help: "zig has one: `pip install ziglang==0.17.1`, or https://ziglang.org",
        });
    };
    let module = to.with_extension("module.wasm");
    let mut command = Command::new(zig[0]);
    command.args(&zig[1..]).current_dir(directory);
    command.args([
        "cc",
        "-target",
        "wasm32-wasi",
        "-mexec-model=reactor",
        "-O2",
        "-Wall",
        "-g0",
        "-Wl,--strip-debug",
        // The usual 16 MiB alone are more than Weir gives an instance.
        "-Wl,-z,stack-size=65536",
        "-I",
        "c",
    ]);
    command.args(sources).arg("-o").arg(&module);
    run(&mut command)?;
    let built = encode(&module, to, zig.join(" ") + " cc");
    // It is of no use to anybody, built or not.
    let _ = std::fs::remove_file(&module);
    built
}

fn javascript(directory: &Path, name: &str, to: PathBuf) -> Result<Built, BuildError> {
    let tool = directory.join("node_modules/.bin/componentize-js");
    if !tool.is_file() {
        return Err(BuildError::NoToolchain {
            what: "componentize-js",
            help: "`npm install --ignore-scripts` in the plugin's directory (490 MB)",
        });
    }
    let mut command = Command::new(tool);
    command.current_dir(directory).arg(format!("{name}.js"));
    command.args(["--wit", "wit", "--world-name", "cache-key", "--out"]).arg(&to);
    // Without them a component imports nothing but Weir's interface.
    command.args(["--disable", "stdio", "random", "clocks", "http", "fetch-event"]);
    run(&mut command)?;
    finished(to, "componentize-js".to_owned())
}

fn python(directory: &Path, to: PathBuf) -> Result<Built, BuildError> {
    let own = directory.join(".venv/bin/componentize-py");
    let tool = if own.is_file() { own } else { PathBuf::from("componentize-py") };
    if output(Command::new(&tool).arg("--version")).is_err() {
        return Err(BuildError::NoToolchain {
            what: "componentize-py",
            help: "`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in the plugin's directory",
        });
    }
    let mut command = Command::new(tool);
    command
        .current_dir(directory)
        .args(["-d", "wit", "-w", "cache-key", "componentize", "-s", "app", "-o"])
        .arg(&to);
    run(&mut command)?;
    finished(to, "componentize-py".to_owned())
}

fn encode(module: &Path, to: PathBuf, with: String) -> Result<Built, BuildError> {
    let bytes = std::fs::read(module).map_err(|error| BuildError::File(module.to_owned(), error))?;
    let encoded =
        ComponentEncoder::default().validate(true).module(&bytes).and_then(|mut encoder| encoder.encode());
    let component = encoded.map_err(|error| BuildError::Encode(format!("{error:#}")))?;
    std::fs::write(&to, component).map_err(|error| BuildError::File(to.clone(), error))?;
    finished(to, with)
}

fn finished(path: PathBuf, with: String) -> Result<Built, BuildError> {
    let length = std::fs::metadata(&path).map_err(|error| BuildError::File(path.clone(), error))?.len();
    Ok(Built { path, bytes: usize::try_from(length).unwrap_or(usize::MAX), with })
}

fn run(command: &mut Command) -> Result<(), BuildError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| BuildError::Start(name.clone(), error))?;
    if status.success() { Ok(()) } else { Err(BuildError::Tool(name)) }
}

fn output(command: &mut Command) -> Result<String, BuildError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| BuildError::Start(name.clone(), error))?;
    if !output.status.success() {
        return Err(BuildError::Tool(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_plugin_says_how_to_make_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = build(directory.path()).unwrap_err();
        assert!(
            error.to_string().ends_with("holds no plugin: no Cargo.toml, package.json, app.py or src/*.c"),
            "{error}"
        );
        assert_eq!(error.help(), Some("`weir plugin new NAME` makes one"));
    }

    #[test]
    fn a_module_that_is_no_plugin_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let module = directory.path().join("empty.wasm");
        std::fs::write(&module, b"not WebAssembly").unwrap();
        let to = directory.path().join("plugin.wasm");
        assert!(matches!(encode(&module, to.clone(), String::new()), Err(BuildError::Encode(_))));
        assert!(!to.exists());
    }
}
