//! In what ways a plugin fails, each by a name of its own.

use std::time::Duration;

use plugin_inputs::grants::Grant;

/// The host itself cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine does not take this machine.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
    /// There is no thread for the ticker.
    #[error("cannot start the thread that enforces deadlines")]
    Ticker(#[source] std::io::Error),
}

/// A plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no WebAssembly at all.
    #[error("this is no WebAssembly file")]
    NotWasm,
    /// It is a core module.
    #[error("this is a WebAssembly module, and not a component")]
    CoreModule,
    /// The compiler refuses it.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// It has nothing to do with policies.
    #[error("it exports no `weir:policy/lifecycle`, so it is no policy plugin")]
    NotAPlugin,
    /// It was built for another interface.
    #[error("it speaks `{found}`, and this proxy speaks `weir:policy@{spoken}`")]
    Version {
        /// What it speaks.
        found: String,
        /// What is spoken here.
        spoken: &'static str,
    },
    /// It wants a system around it.
    #[error("it imports `{import}`, and plugins have no system around them")]
    Wasi {
        /// The import.
        import: String,
    },
    /// It wants something that nobody has.
    #[error("it imports `{import}`, which this proxy does not have")]
    UnknownImport {
        /// The import.
        import: String,
    },
    /// It exports no hook.
    #[error("it has no hook: nothing would ever call it")]
    NoHooks,
    /// An interface has another shape than it should.
    #[error("its interfaces are not those of `weir:policy@{spoken}`: {detail}")]
    Shape {
        /// What is spoken here.
        spoken: &'static str,
        /// Which one.
        detail: String,
    },
    /// It imports `control`, which is not granted.
    #[error("it wants to purge by itself, which is not granted")]
    ControlNotGranted,
    /// It declares inputs that the operator does not grant.
    #[error("it reads {}, which {} not granted", list(.0), if .0.len() == 1 { "is" } else { "are" })]
    NotGranted(Vec<Grant>),
    /// Its manifest is not to be used.
    #[error("its manifest is not valid: {0}")]
    Manifest(String),
    /// A first call has failed.
    #[error("`{hook}` failed")]
    Call {
        /// Which.
        hook: &'static str,
        /// How.
        #[source]
        source: CallError,
    },
}

fn list(grants: &[Grant]) -> String {
    let grants: Vec<String> = grants.iter().map(|grant| format!("`{grant}`")).collect();
    grants.join(", ")
}

impl LoadError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NotWasm => "`weir plugin build` makes a plugin of a source directory".to_owned(),
            Self::CoreModule => "`weir plugin build` makes a component of it".to_owned(),
            Self::Compile(_) => "build it again, with the toolchain that `weir plugin build` finds".to_owned(),
            Self::NotAPlugin => "implement a world of `weir:policy`, as `weir plugin new` writes it".to_owned(),
            Self::Version { spoken, .. } | Self::Shape { spoken, .. } => {
                format!("build it again with an SDK for `weir:policy@{spoken}`")
            }
            Self::Wasi { .. } => "build it for `wasm32-unknown-unknown` (Rust), without the features that need a system (JavaScript), or with `-s` (Python)".to_owned(),
            Self::UnknownImport { .. } => {
                "a plugin may import `host`, `state` and, where it is granted, `control`, all of `weir:policy`".to_owned()
            }
            Self::NoHooks => "export one of `plan-hook`, `request-hook`, `response-hook`, `invalidate-hook` and `rate-hook`".to_owned(),
            Self::ControlNotGranted => "add \"control\" to its `grants`".to_owned(),
            Self::NotGranted(missing) => {
                let missing: Vec<String> = missing.iter().map(|grant| format!("\"{grant}\"")).collect();
                format!("add {} to its `grants`, if it may", missing.join(", "))
            }
            Self::Manifest(_) => "this is a mistake in the plugin".to_owned(),
            Self::Call { source: CallError::Memory { .. }, .. } => "give it more with `limits = { memory = \"64MiB\" }`".to_owned(),
            Self::Call { source: CallError::Deadline { .. }, .. } => "give it longer with `limits = { configure = \"5s\" }`, if it needs that".to_owned(),
            Self::Call { .. } => "look at its `config`, and try it with `weir plugin test`".to_owned(),
        }
    }
}

/// A call has given no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It trapped: a panic, an access outside of its memory, too deep a recursion.
    #[error("it trapped: {message}")]
    Trap {
        /// What it said last, or what the engine says.
        message: String,
        /// Where, innermost first.
        backtrace: Vec<String>,
    },
    /// It took too long.
    #[error("it took longer than {} ms", .limit.as_millis())]
    Deadline {
        /// The longest it may take.
        limit: Duration,
    },
    /// The plugins of the request have taken all the time that they may take together.
    #[error("the plugins of this request have taken all the time they may take together")]
    Allowance,
    /// It wanted more memory than it may have.
    #[error("it wanted more than {limit} bytes of memory")]
    Memory {
        /// The most it may have.
        limit: usize,
    },
    /// It said more than is listened to.
    #[error("it handed over more than {limit} bytes")]
    TooMuch {
        /// The most that is taken.
        limit: usize,
    },
    /// What it said is not valid.
    #[error("its answer is not valid: {0}")]
    Invalid(String),
    /// It said itself that it failed.
    #[error("it says: {0}")]
    Refused(String),
    /// It failed so often that it is not asked for a while.
    #[error("it has failed too often, and is not asked at the moment")]
    Open,
    /// It has no such hook.
    #[error("it has no such hook")]
    NoHook,
    /// Nobody would enforce a deadline.
    #[error("the thread that enforces deadlines is gone")]
    NoTicker,
}

impl CallError {
    /// Every reason, as [`CallError::reason`] says it.
    pub const REASONS: [&'static str; 9] =
        ["trap", "deadline", "memory", "too-much", "invalid", "error", "breaker-open", "host", "allowance"];

    /// One stable word for it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        Self::REASONS[self.index()]
    }

    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Trap { .. } => 0,
            Self::Deadline { .. } => 1,
            Self::Memory { .. } => 2,
            Self::TooMuch { .. } => 3,
            Self::Invalid(_) => 4,
            Self::Refused(_) => 5,
            Self::Open => 6,
            Self::NoHook | Self::NoTicker => 7,
            Self::Allowance => 8,
        }
    }
}
