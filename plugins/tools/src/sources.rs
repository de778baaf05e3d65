//! What a built component was made of, as one hash. The test of the SDK that compares it with the lock reads this file too.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The plugins that are built from Rust.
pub(crate) const PLUGINS: [&str; 7] = [
    "ab-test-variant",
    "chat-cache",
    "cookie-allowlist",
    "cost-rate",
    "model-invalidation",
    "query-normalize",
    "user-or-tenant-key",
];

/// The one in C, built by its own script.
pub(crate) const IN_C: &str = "device-class";

/// A hash of all that decides what a plugin is built into: its sources, the SDK, the interface, the lock file and the profiles.
/// `root`: of the repository.
pub(crate) fn hash(root: &Path, plugin: &str) -> io::Result<String> {
    let shared: &[&str] = if plugin == IN_C {
        &["plugin-sdk/c", "plugin-sdk/wit"]
    } else {
        &[
            "plugins/Cargo.toml",
            "plugins/Cargo.lock",
            "plugin-sdk/Cargo.toml",
            "plugin-sdk/src",
            "plugin-sdk/wit",
        ]
    };
    let mut files = Vec::new();
    for shared in shared {
        collect(&root.join(shared), &mut files)?;
    }
    let own = root.join("plugins").join(plugin);
    for part in ["Cargo.toml", "src", "build.sh"] {
        collect(&own.join(part), &mut files)?;
    }
    // Tests decide nothing of what is built.
    files.retain(|path| path.file_name().is_none_or(|name| name != "tests.rs"));
    let mut names: Vec<(String, PathBuf)> = Vec::with_capacity(files.len());
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        names.push((name, path));
    }
    names.sort();
    let mut digest = Sha256::new();
    for (name, path) in names {
        let content = std::fs::read(path)?;
        digest.update(format!("{name}\n{}\n", content.len()));
        digest.update(content);
    }
    Ok(hex(&digest.finalize()))
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() {
        files.push(path.to_owned());
    }
    Ok(())
}
