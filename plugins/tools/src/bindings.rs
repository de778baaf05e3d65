//! Generates what is derived from `plugin-sdk/wit/policy.wit` and committed:
//!
//! - `plugin-sdk/src/guest/bindings.rs`: the Rust side of the boundary, so that a plugin's first build needs no bindings generator (30 s of it);
//! - `plugin-sdk/c/`: the C side, for `weir plugin new --lang c` and the example in C.
//!

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wit_bindgen_core::wit_parser::{PackageId, Resolve, WorldId};
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_component::StringEncoding;

/// Each interface that a plugin may export, and the constant that holds its type.
const EXPORTS: [&str; 6] =
    ["lifecycle", "plan-hook", "request-hook", "response-hook", "invalidate-hook", "rate-hook"];

/// The worlds that are generated for C.
const C_WORLDS: [&str; 1] = ["cache-key"];

/// Writes them; with `check` only says whether they are as they would be.
pub(crate) fn run(check: bool) -> anyhow::Result<bool> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
    let wit = std::fs::read_to_string(sdk.join("wit/policy.wit")).context("reading the interface")?;
    let digest: String = Sha256::digest(&wit).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        vec![(sdk.join("src/guest/bindings.rs"), rust(&wit, &digest)?.into_bytes())];
    for world in C_WORLDS {
        for (name, content) in c(&wit, world)? {
            files.push((sdk.join("c").join(name), content));
        }
    }
    let mut same = true;
    for (path, content) in files {
        if std::fs::read(&path).is_ok_and(|there| there == content) {
            continue;
        }
        same = false;
        println!("{} {}", if check { "differs:" } else { "written:" }, path.display());
        if !check {
            std::fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
            std::fs::write(&path, content)?;
        }
    }
    Ok(same || !check)
}

fn world(wit: &str, extra: &str, name: &str) -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let mut package: PackageId = resolve.push_str("policy.wit", wit)?;
    if !extra.is_empty() {
        package = resolve.push_str("sdk.wit", extra)?;
    }
    let world = resolve.select_world(&[package], Some(name))?;
    Ok((resolve, world))
}

fn rust(wit: &str, digest: &str) -> anyhow::Result<String> {
    let imports =
        "import weir:policy/host@0.1.0; import weir:policy/state@0.1.0; import weir:policy/control@0.1.0;";
    let exports: String = EXPORTS.iter().map(|name| format!("export weir:policy/{name}@0.1.0; ")).collect();
    let (mut resolve, id) =
        world(wit, &format!("package weir:sdk; world sdk {{ {imports} {exports} }}"), "sdk")?;
    let mut files = Files::default();
    let options = wit_bindgen_rust::Opts { generate_all: true, pub_export_macro: true, ..Default::default() };
    options.build().generate(&mut resolve, id, &mut files)?;
    let (_, generated) = files.iter().next().context("one file is generated")?;
    let generated = std::str::from_utf8(generated)?;

    // The macro that exports all hooks at once is of no use here: `export!` of the SDK exports those that are listed.
    let begin = generated
        .find("/// Generates `#[unsafe(no_mangle)]` functions")
        .context("the macro for all exports")?;
    let marker = "pub use __export_sdk_impl as export;";
    let end = generated.find(marker).context("the end of the macro for all exports")? + marker.len();
    let mut text = format!("// The interface: sha256 {digest}\n{}{}", &generated[..begin], &generated[end..]);

    text.push_str("\n/// The types of each interface that a plugin exports, as the component encoder reads them.\npub mod sections {\n");
    for name in EXPORTS {
        let (resolve, id) = world(
            wit,
            &format!("package weir:sdk; world {name} {{ export weir:policy/{name}@0.1.0; }}"),
            name,
        )?;
        let bytes = wit_component::metadata::encode(&resolve, id, StringEncoding::UTF8, None)?;
        let literal: String =
            bytes.iter().map(|byte| std::ascii::escape_default(*byte).to_string()).collect();
        let constant = name.to_uppercase().replace('-', "_");
        text.push_str(&format!("    pub const {constant}: &[u8; {}] = b\"{literal}\";\n", bytes.len()));
    }
    text.push_str("}\n");
    Ok(text.lines().map(str::trim_end).fold(String::new(), |all, line| all + line + "\n"))
}

fn c(wit: &str, name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let (mut resolve, id) = world(wit, "", name)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, id, &mut files)?;
    Ok(files.iter().map(|(name, content)| (name.to_owned(), content.to_vec())).collect())
}
