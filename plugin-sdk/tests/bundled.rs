//! What is built and committed was built from what is committed. Needs no WebAssembly toolchain; `.ci/run plugins` builds them again where there is one.

use std::path::{Path, PathBuf};

#[path = "../../plugins/tools/src/sources.rs"]
mod sources;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_committed_components_are_those_of_the_committed_sources() {
    let lock = std::fs::read(root().join("plugins/built.json")).unwrap();
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    for plugin in sources::PLUGINS.iter().copied().chain([sources::IN_C]) {
        let component = root().join("plugins").join(plugin).join(format!("{plugin}.wasm"));
        let component =
            std::fs::read(&component).unwrap_or_else(|error| panic!("{}: {error}", component.display()));
        let locked = &lock[plugin];
        let what_to_do = "build the plugins again: cd plugins && cargo run -p tools -- build";
        assert_eq!(
            locked["wasm"],
            sources::sha256(&component),
            "{plugin}.wasm is not what was locked; {what_to_do}"
        );
        let hash = sources::hash(&root(), plugin).unwrap();
        assert_eq!(
            locked["sources"], hash,
            "the sources of {plugin} have changed since it was built; {what_to_do}"
        );
        assert!(locked["toolchain"].is_string(), "{plugin}");
    }
}

#[test]
fn the_committed_bindings_are_those_of_the_committed_interface() {
    let wit = std::fs::read(root().join("plugin-sdk/wit/policy.wit")).unwrap();
    let bindings = std::fs::read_to_string(root().join("plugin-sdk/src/guest/bindings.rs")).unwrap();
    assert_eq!(
        bindings.lines().next(),
        Some(format!("// The interface: sha256 {}", sources::sha256(&wit)).as_str()),
        "generate them again: cd plugins && cargo run -p tools -- bindings"
    );
}
