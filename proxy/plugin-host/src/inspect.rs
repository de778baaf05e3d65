//! What a file says of itself before it is loaded.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::LoadError;
use crate::plugin::Hooks;

/// The version of the interface that is spoken here; any `0.1.x` is understood.
pub(crate) const SPOKEN: &str = "0.1";
const PACKAGE: &str = "weir:policy/";
/// What a plugin may import.
const IMPORTS: [&str; 4] = ["types", "host", "state", "control"];

/// What a component has and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The size of the file.
    pub bytes: usize,
    /// The versions of `weir:policy` that it speaks.
    pub versions: Vec<String>,
    /// Its hooks.
    pub hooks: Hooks,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

impl Inspection {
    pub(crate) fn of(engine: &Engine, component: &Component, bytes: usize) -> Self {
        let shape = component.component_type();
        let imports: Vec<String> = shape.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let exports: Vec<String> = shape.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let mut versions: Vec<String> =
            imports.iter().chain(&exports).filter_map(|name| version_of(name)).collect();
        versions.sort();
        versions.dedup();
        let has = |interface: &str| exports.iter().any(|name| interface_of(name) == Some(interface));
        let hooks = Hooks {
            plan: has("plan-hook"),
            request: has("request-hook"),
            response: has("response-hook"),
            invalidate: has("invalidate-hook"),
            rate: has("rate-hook"),
        };
        Self { bytes, versions, hooks, imports, exports }
    }

    /// Whether it imports this interface of ours.
    #[must_use]
    pub fn imports_interface(&self, interface: &str) -> bool {
        self.imports.iter().any(|name| interface_of(name) == Some(interface))
    }

    /// Whether it can be a plugin at all.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        if let Some(found) = self.versions.iter().find(|version| !is_spoken(version)) {
            return Err(LoadError::Version { found: format!("weir:policy@{found}"), spoken: SPOKEN });
        }
        for import in &self.imports {
            if import.starts_with("wasi:") {
                return Err(LoadError::Wasi { import: import.clone() });
            }
            if !interface_of(import).is_some_and(|interface| IMPORTS.contains(&interface)) {
                return Err(LoadError::UnknownImport { import: import.clone() });
            }
        }
        if !self.exports.iter().any(|name| interface_of(name) == Some("lifecycle")) {
            return Err(LoadError::NotAPlugin);
        }
        let Hooks { plan, request, response, invalidate, rate } = self.hooks;
        if !(plan || request || response || invalidate || rate) {
            return Err(LoadError::NoHooks);
        }
        Ok(())
    }
}

fn interface_of(name: &str) -> Option<&str> {
    name.strip_prefix(PACKAGE)?.split('@').next()
}

fn version_of(name: &str) -> Option<String> {
    Some(name.strip_prefix(PACKAGE)?.split_once('@')?.1.to_owned())
}

fn is_spoken(version: &str) -> bool {
    version.strip_prefix(SPOKEN).is_some_and(|rest| rest.starts_with('.'))
}
