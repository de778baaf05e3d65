//! Makes what is built independent of where it is built: Cargo hashes the path of each package that does not come from a registry into the names of
//! its symbols (`-C metadata`), and the order of functions follows these names. As `RUSTC_WRAPPER` this puts a hash in its place that knows nothing of paths.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::sources;

/// Cargo runs this program in place of the compiler while this is set.
pub(crate) const VARIABLE: &str = "WEIR_TOOLS_WRAPS_RUSTC";

/// Runs the compiler that the first argument names. Only comes back when that cannot be started.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(rustc) = arguments.next() else { return ExitCode::from(2) };
    let given: Vec<OsString> = arguments.collect();
    let error = Command::new(&rustc).args(without_paths(given)).exec();
    eprintln!("error: {}: {error}", rustc.display());
    ExitCode::FAILURE
}

/// The same arguments, with another hash of the package.
fn without_paths(given: Vec<OsString>) -> Vec<OsString> {
    let texts: Vec<_> = given.iter().map(|argument| argument.to_string_lossy()).collect();
    let of = |flag: &str| {
        let at = texts.iter().position(|text| text == flag)?;
        texts.get(at + 1)
    };
    let Some(name) = of("--crate-name") else { return given };
    // What tells two builds of one package apart, and two packages of one name: no path is among it.
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let target = of("--target").map_or("host", |target| target);
    let features: Vec<&str> =
        texts.iter().map(|text| &**text).filter(|text| text.starts_with("feature=")).collect();
    let kind = of("--crate-type").map_or("", |kind| kind);
    let identity = format!("{name} {version} {target} {kind} {features:?}");
    let digest = sources::sha256(identity.as_bytes());
    let metadata = format!("metadata={}", &digest[..16]);
    let replaced = texts
        .iter()
        .map(|text| if text.starts_with("metadata=") { Some(OsString::from(&metadata)) } else { None });
    replaced.zip(&given).map(|(replaced, given)| replaced.unwrap_or_else(|| given.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_package_is_replaced_and_nothing_else() {
        let given = |hash: &str, feature: &str| -> Vec<OsString> {
            ["--crate-name", "a", "--cfg", feature, "-C", hash, "-C", "extra-filename=-17"]
                .map(OsString::from)
                .into()
        };
        let (here, there) = (given("metadata=1", "feature=\"x\""), given("metadata=2", "feature=\"x\""));
        let wrapped = without_paths(here.clone());
        assert_eq!(wrapped, without_paths(there));
        assert_ne!(wrapped, without_paths(given("metadata=1", "feature=\"y\"")));
        let changed: Vec<usize> = (0..here.len()).filter(|at| here[*at] != wrapped[*at]).collect();
        assert_eq!(changed, [5]);
        let plain = vec![OsString::from("--version")];
        assert_eq!(without_paths(plain.clone()), plain);
    }
}
