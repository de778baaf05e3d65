//! Compiled code on disk, so that a start does not compile what was compiled before.
//!
//! Compiled code is run as it stands. So only what this user wrote into a directory of its own is taken: both are checked each time, and
//! the bytes against a digest that stands before them. Any doubt means compiling again.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The most files that are kept; the oldest go.
const FILES_MAX: usize = 64;
/// The largest that is read.
const BYTES_MAX: u64 = 256 << 20;
const DIGEST_BYTES: usize = 32;

#[derive(Debug)]
pub(crate) struct CompiledCode {
    directory: PathBuf,
}

impl CompiledCode {
    /// The directory is made where it is missing; `None` where it is not ours alone.
    pub(crate) fn at(directory: PathBuf) -> Option<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
        let this = Self { directory };
        this.is_ours().then_some(this)
    }

    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.directory).is_ok_and(|found| {
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
        })
    }

    /// What was compiled of this before, by this engine.
    pub(crate) fn find(&self, engine: &Engine, wasm: &[u8]) -> Option<Component> {
        let code = self.read(&self.path(engine, wasm)).ok()?;
        #[expect(unsafe_code, reason = "the only way to load compiled code")]
        // SAFETY: the file lies in a directory that only this user may write into, belongs to this user, and its content is what was
        // written there by `keep`, as the digest says: the output of `Component::serialize`. wasmtime itself checks version and settings.
        unsafe {
            Component::deserialize(engine, code).ok()
        }
    }

    /// Keeps it. Trouble means compiling again the next time.
    pub(crate) fn keep(&self, engine: &Engine, wasm: &[u8], component: &Component) {
        if let Ok(code) = component.serialize() {
            let _ = self.write(&self.path(engine, wasm), &code);
            self.thin_out();
        }
    }

    fn path(&self, engine: &Engine, wasm: &[u8]) -> PathBuf {
        let mut name = String::with_capacity(96);
        HEXLOWER.encode_append(&Sha256::digest(wasm), &mut name);
        // The same in each process that is built from the same sources.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let _ = write!(name, "-{:016x}.cwasm", hasher.finish());
        self.directory.join(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        if !self.is_ours() {
            return Err(refused());
        }
        // The directory is ours alone: nobody changes the file between this look and the next.
        let found = fs::symlink_metadata(path)?;
        let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        if !found.is_file() || !ours || found.len() > BYTES_MAX {
            return Err(refused());
        }
        let mut bytes = fs::read(path)?;
        let digest = bytes.get(..DIGEST_BYTES).ok_or_else(refused)?;
        if Sha256::digest(&bytes[DIGEST_BYTES..]).as_slice() != digest {
            return Err(refused());
        }
        bytes.drain(..DIGEST_BYTES);
        Ok(bytes)
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        // Whole or not at all, also where two processes write at once.
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        let mut file: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        fs::rename(&unfinished, path)
    }

    fn thin_out(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let files = entries.flatten().filter_map(|entry| {
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some((changed, entry.path()))
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (_, path) in &files[..surplus] {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_this_user_wrote_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("compiled");
        let engine = Engine::default();
        let wasm = wat::parse_str("(component)").unwrap();
        let code = CompiledCode::at(directory.clone()).unwrap();
        assert!(code.find(&engine, &wasm).is_none());
        code.keep(&engine, &wasm, &Component::new(&engine, &wasm).unwrap());
        assert!(code.find(&engine, &wasm).is_some());
        let path = code.path(&engine, &wasm);
        let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        // Somebody else could have written it.
        permit(&path, 0o660);
        assert!(code.find(&engine, &wasm).is_none());
        permit(&path, 0o600);
        permit(&directory, 0o770);
        assert!(code.find(&engine, &wasm).is_none() && CompiledCode::at(directory.clone()).is_none());
        permit(&directory, 0o700);
        assert!(code.find(&engine, &wasm).is_some());
        // A link leads elsewhere.
        let elsewhere = home.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(code.find(&engine, &wasm).is_none());
        fs::remove_file(&path).unwrap();
        // A disk may err.
        let mut bytes = fs::read(&elsewhere).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        permit(&path, 0o600);
        assert!(code.find(&engine, &wasm).is_none());
    }

    #[test]
    fn the_oldest_files_go() {
        let home = tempfile::tempdir().unwrap();
        let code = CompiledCode::at(home.path().join("compiled")).unwrap();
        for number in 0..FILES_MAX + 10 {
            fs::write(code.directory.join(number.to_string()), "x").unwrap();
        }
        code.thin_out();
        assert_eq!(fs::read_dir(&code.directory).unwrap().count(), FILES_MAX);
    }
}
