//! The engine: one in a process, never rebuilt. A reload loads plugins anew, and drops the old ones with their code.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{Config, Engine};

use crate::bindings::weir::policy;
use crate::compiled::CompiledCode;
use crate::error::{HostError, LoadError};
use crate::guest::Guest;
use crate::inspect::{Inspection, SPOKEN};
use crate::plugin::{Plugin, PluginSpec};
use crate::ticker::Ticker;

/// What a guest may take of its thread's stack.
const STACK_BYTES_MAX: usize = 512 * 1024;

/// What a host is set up with.
#[derive(Debug, Clone, Default)]
pub struct HostOptions {
    /// Where compiled code is kept; `None`: it is compiled anew in each process.
    pub compiled: Option<PathBuf>,
}

/// Loads plugins and runs them.
pub struct Host {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    linker: Linker<Guest>,
    compiled: Option<CompiledCode>,
    known: Mutex<Known>,
    compilations: AtomicU64,
}

type SourceDigest = [u8; 32];

/// Code that is in memory anyway, by the digest of its source, so that another configuration of a plugin needs no compiler.
#[derive(Default)]
struct Known {
    /// What was asked for last: it may be loaded next, several times.
    last: Option<(SourceDigest, Component)>,
    /// What runs, and for as long as it does: there are as many of these as plugins.
    running: Vec<(SourceDigest, Weak<Plugin>)>,
}

impl Known {
    fn find(&self, digest: &SourceDigest) -> Option<Component> {
        let last = self.last.iter().find(|(of, _)| of == digest).map(|(_, component)| component.clone());
        last.or_else(|| {
            let mut of_it = self.running.iter().filter(|(of, _)| of == digest);
            of_it.find_map(|(_, plugin)| Some(plugin.upgrade()?.component().clone()))
        })
    }

    fn runs(&mut self, digest: SourceDigest, plugin: &Arc<Plugin>) {
        self.running.retain(|(_, plugin)| plugin.strong_count() > 0);
        self.running.push((digest, Arc::downgrade(plugin)));
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("compiled", &self.compiled).finish_non_exhaustive()
    }
}

impl Host {
    /// Sets up the engine and its ticker.
    pub fn start(options: HostOptions) -> Result<Arc<Self>, HostError> {
        let wrong = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(STACK_BYTES_MAX);
        let engine = Engine::new(&config).map_err(wrong)?;
        let mut linker = Linker::new(&engine);
        policy::host::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(wrong)?;
        policy::state::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(wrong)?;
        policy::control::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(wrong)?;
        policy::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(wrong)?;
        let ticker = Ticker::start(engine.clone()).map_err(HostError::Ticker)?;
        let compiled = options.compiled.and_then(CompiledCode::at);
        let (known, compilations) = Default::default();
        Ok(Arc::new(Self { engine, ticker, linker, compiled, known, compilations }))
    }

    /// Whether compiled code is kept on disk.
    #[must_use]
    pub fn keeps_compiled_code(&self) -> bool {
        self.compiled.is_some()
    }

    /// How often a component was compiled: neither found on disk, nor known from what runs.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.compilations.load(Ordering::Relaxed)
    }

    /// What a component has and wants. It is compiled, and not run.
    pub fn inspect(&self, wasm: &[u8]) -> Result<Inspection, LoadError> {
        let (_, component) = self.compile(wasm)?;
        Ok(Inspection::of(&self.engine, &component, wasm.len()))
    }

    /// Compiles a plugin, configures it and checks what it declares. Takes tens of milliseconds to seconds: not for a thread that serves.
    pub fn load(self: &Arc<Self>, wasm: &[u8], spec: PluginSpec) -> Result<Arc<Plugin>, LoadError> {
        let (digest, component) = self.compile(wasm)?;
        let inspection = Inspection::of(&self.engine, &component, wasm.len());
        inspection.check()?;
        let plugin = Arc::new(Plugin::load(self.clone(), &component, &inspection, spec)?);
        self.known.lock().runs(digest, &plugin);
        Ok(plugin)
    }

    pub(crate) fn pre(&self, component: &Component) -> Result<InstancePre<Guest>, LoadError> {
        let pre = self.linker.instantiate_pre(component);
        pre.map_err(|error| LoadError::Shape { spoken: SPOKEN, detail: format!("{error:#}") })
    }

    fn compile(&self, wasm: &[u8]) -> Result<(SourceDigest, Component), LoadError> {
        // Magic, then a version whose upper half tells modules from components.
        match wasm.get(..8) {
            Some([0, b'a', b's', b'm', _, _, 0, 0]) => return Err(LoadError::CoreModule),
            Some([0, b'a', b's', b'm', ..]) => {}
            Some(_) | None => return Err(LoadError::NotWasm),
        }
        let digest: SourceDigest = Sha256::digest(wasm).into();
        if let Some(known) = self.known.lock().find(&digest) {
            return Ok((digest, known));
        }
        let component = match self.compiled.as_ref().and_then(|code| code.find(&self.engine, wasm)) {
            Some(found) => found,
            None => {
                let component = Component::from_binary(&self.engine, wasm);
                let component = component.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
                self.compilations.fetch_add(1, Ordering::Relaxed);
                if let Some(code) = &self.compiled {
                    code.keep(&self.engine, wasm, &component);
                }
                component
            }
        };
        self.known.lock().last = Some((digest, component.clone()));
        Ok((digest, component))
    }
}
