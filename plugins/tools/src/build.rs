//! Builds the bundled plugins into components, and locks them: `built.json` has the hash of each component, of what it was made of, and the toolchain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use wit_component::ComponentEncoder;

use crate::{sources, wrapper};

const TARGET: &str = "wasm32-unknown-unknown";
/// Where what is committed is built.
const BUILT: &str = "target/committed";

/// Builds all; with `check` only compares them with what is there, and says whether they are the same.
pub(crate) fn run(check: bool) -> anyhow::Result<bool> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let root = plugins.parent().context("the plugins lie in the repository")?;
    let toolchain = output(Command::new("rustc").arg("--version"))?;
    cargo(&plugins, root)?;

    let lock_path = plugins.join("built.json");
    let mut lock: BTreeMap<String, Value> = match std::fs::read(&lock_path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => BTreeMap::new(),
    };
    let mut same = true;
    for name in sources::PLUGINS {
        let core =
            plugins.join(BUILT).join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
        let component = component(&core)?;
        let path = component_of(&plugins, name);
        if check {
            let locked = &lock.get(name).with_context(|| format!("{name} is not locked"))?;
            let bytes_are_the_same = locked["wasm"] == sources::sha256(&component);
            match (bytes_are_the_same, locked["toolchain"] == toolchain.as_str()) {
                (true, _) => println!("{name}: the same, {} bytes", component.len()),
                (false, false) => println!("{name}: differs, and so does the toolchain: {toolchain}"),
                (false, true) => {
                    let (built, locked) = (component.len(), std::fs::metadata(&path)?.len());
                    println!("{name}: NOT THE SAME PLUGIN: {built} bytes, and {locked} are locked");
                    same = false;
                }
            }
            continue;
        }
        std::fs::write(&path, &component)?;
        println!("{name}: {} bytes", component.len());
        let entry = json!({ "wasm": sources::sha256(&component), "sources": sources::hash(root, name)?, "toolchain": toolchain });
        lock.insert(name.to_owned(), entry);
    }
    if !check {
        let c = component_of(&plugins, sources::IN_C);
        if let Ok(component) = std::fs::read(&c) {
            let toolchain = lock
                .get(sources::IN_C)
                .map_or_else(|| json!("ziglang 0.17.1"), |entry| entry["toolchain"].clone());
            let entry = json!({ "wasm": sources::sha256(&component), "sources": sources::hash(root, sources::IN_C)?, "toolchain": toolchain });
            lock.insert(sources::IN_C.to_owned(), entry);
        }
        let mut text = serde_json::to_string_pretty(&lock)?;
        text.push('\n');
        std::fs::write(&lock_path, text)?;
    }
    Ok(same)
}

/// Makes a component of a module.
pub(crate) fn encode(module: &Path, to: &Path) -> anyhow::Result<bool> {
    let component = component(module)?;
    std::fs::write(to, &component)?;
    println!("{}: {} bytes", to.display(), component.len());
    Ok(true)
}

fn component(module: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(module).with_context(|| module.display().to_string())?;
    ComponentEncoder::default().validate(true).module(&bytes)?.encode()
}

fn component_of(plugins: &Path, name: &str) -> PathBuf {
    plugins.join(name).join(format!("{name}.wasm"))
}

/// Paths of this machine are in messages of panics and in the names of symbols: they are replaced, so that the bytes are the same everywhere.
fn cargo(plugins: &Path, root: &Path) -> anyhow::Result<()> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    // The registry's directory has a name of its own for each source.
    let mut remaps =
        vec![(root.to_path_buf(), "/weir"), (PathBuf::from(sysroot), "/rust"), (home.clone(), "/cargo")];
    if let Ok(sources) = std::fs::read_dir(home.join("registry/src")) {
        remaps.extend(sources.flatten().map(|entry| (entry.path(), "/registry")));
    }
    // The last one that matches counts.
    let flags: Vec<String> =
        remaps.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let mut command = Command::new("cargo");
    command.current_dir(plugins).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // What somebody has set for their own builds changes what comes out.
    command.env("CARGO_INCREMENTAL", "0");
    command.env("RUSTC_WRAPPER", std::env::current_exe()?).env(wrapper::VARIABLE, "1");
    // A directory of its own: what was built without the wrapper is not taken for what is built with it.
    command.args(["build", "--quiet", "--locked", "--release", "--target", TARGET, "--target-dir", BUILT]);
    for name in sources::PLUGINS {
        command.args(["--package", name]);
    }
    let status = command.status().context("cargo")?;
    if !status.success() {
        bail!("the plugins do not build; is the target there? rustup target add {TARGET}");
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?} failed");
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
