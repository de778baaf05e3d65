//! The SDK as it stands in the repository, to be written beside a new plugin.

/// A file by its path below the SDK's directory.
pub(crate) type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../plugin-sdk/", $path)))),*]
    };
}

/// The crate for plugins in Rust.
pub(crate) const RUST: &[File] = files![
    "Cargo.toml",
    "src/arena.rs",
    "src/config.rs",
    "src/control.rs",
    "src/decision.rs",
    "src/digest.rs",
    "src/error.rs",
    "src/glob.rs",
    "src/guest/bindings.rs",
    "src/guest/calls.rs",
    "src/guest/mod.rs",
    "src/host.rs",
    "src/lib.rs",
    "src/manifest.rs",
    "src/path.rs",
    "src/query.rs",
    "src/request.rs",
    "src/state.rs",
    "src/testing.rs",
    "src/text.rs",
    "wit/policy.wit",
];

/// The generated bindings for plugins in C.
pub(crate) const C: &[File] = files!["c/cache_key.c", "c/cache_key.h", "c/cache_key_component_type.o"];

/// The interface, from which other languages' tools make their own bindings.
pub(crate) const WIT: &[File] = files!["wit/policy.wit"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn below(directory: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn the_whole_sdk_travels_along() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
        let mut there = BTreeSet::from(["Cargo.toml".to_owned()]);
        for directory in ["src", "wit", "c"] {
            below(&root.join(directory), &root, &mut there);
        }
        let embedded: BTreeSet<_> = RUST.iter().chain(C).map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(embedded, there);
    }
}
