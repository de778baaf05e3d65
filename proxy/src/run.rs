//! A running proxy: everything started in order, reloaded as one, stopped in order.
//!
//! Workers serve; one more thread, the background, does what is not a request: admin, sweeping, name look-ups and health checks of
//! origins. [`Running`] is what `main` holds, and what tests in the same process use.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::access_log::AccessLog;
use crate::admin::{Admin, Reload, Reloaded};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::proxy::{Proxy, SetupError};
use crate::server::shutdown::{Asked, Signals};
use crate::server::{Listening, Server, ServerError};
use crate::telemetry;

/// Reads the configuration anew: the same file again, or for a test whatever it likes. The error is for people, places and reasons in it.
pub type ConfigSource = Arc<dyn Fn() -> Result<NewConfig, String> + Send + Sync>;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct NewConfig {
    /// What it says.
    pub config: Config,
    /// What is allowed and hardly meant.
    pub warnings: Vec<String>,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Listeners, certificates, threads: all that is wrong with them.
    #[error("{}", in_lines(.0))]
    Server(Vec<ServerError>),
    /// Origins.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The admin listener.
    #[error("cannot listen on {address} for the admin interface")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operating system gave no thread, or no runtime.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Each with its causes, one a line.
fn in_lines<E: std::error::Error>(errors: &[E]) -> String {
    errors.iter().map(|error| with_causes(error)).collect::<Vec<_>>().join("\n")
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// How often what is of no use any more is removed from memory.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How long lines that wait may take to be written when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// A proxy that runs.
pub struct Running {
    inner: Arc<Inner>,
    admin: Option<SocketAddr>,
    background: Handle,
    signals: Mutex<Option<Signals>>,
    end_background: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Inner {
    server: Server,
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    admin: Mutex<Option<Arc<Admin>>>,
    source: ConfigSource,
    /// What is in force; locked for as long as a reload takes, so that two of them do not mix.
    config: Mutex<Arc<Config>>,
}

/// Starts a proxy. When this returns, it accepts connections.
pub fn start(config: Config, source: ConfigSource, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    let config = Arc::new(config);
    let workers = config.server.workers.max(1);
    let metrics = Arc::new(Metrics::new(workers));
    let access_log =
        AccessLog::to_stdout(&metrics, workers, config.log.access).map_err(StartError::Thread)?;
    let (background, end_background, thread) = start_background().map_err(StartError::Thread)?;
    let proxy = Proxy::new(Arc::clone(&config), clock, Arc::clone(&metrics), background.clone())?;
    let listener = config.admin.as_ref().map(|admin| listen_admin(admin.listen)).transpose()?;
    let server = {
        let proxy = Arc::clone(&proxy);
        let sinks: Vec<_> = (0..workers).map(|index| access_log.sink(index)).collect();
        Server::start(&config.server, &metrics, move |index| {
            Pipeline::new(index, Arc::clone(&proxy), sinks[index].clone())
        })
        .map_err(StartError::Server)?
    };
    let inner = Arc::new(Inner {
        server,
        proxy,
        metrics,
        access_log,
        admin: Mutex::default(),
        source,
        config: Mutex::new(Arc::clone(&config)),
    });
    let mut address = None;
    if let (Some(listener), Some(spec)) = (listener, &config.admin) {
        address = listener.local_addr().ok();
        let reload: Reload = {
            let inner = Arc::downgrade(&inner);
            Arc::new(move || match inner.upgrade() {
                Some(inner) => inner.reload(),
                None => Err("the server is stopping".to_owned()),
            })
        };
        let control = Arc::clone(&inner.proxy);
        let admin = Arc::new(Admin::new(control, Arc::clone(&inner.metrics), reload, spec.token.as_ref()));
        *inner.admin.lock() = Some(Arc::clone(&admin));
        background.spawn(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => admin.serve(listener).await,
                Err(error) => tracing::error!(%error, "the admin listener cannot be used"),
            }
        });
    }
    let sweeping = Arc::clone(&inner.proxy);
    background.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let sweeping = Arc::clone(&sweeping);
            // It walks all that is stored. A panic there is logged by the hook; the next round tries again.
            let _ = tokio::task::spawn_blocking(move || sweeping.sweep()).await;
        }
    });
    Ok(Running {
        inner,
        admin: address,
        background,
        signals: Mutex::default(),
        end_background: Some(end_background),
        thread: Some(thread),
    })
}

type Background = (Handle, oneshot::Sender<()>, std::thread::JoinHandle<()>);

/// The background thread and its runtime, which lives until it is told to end.
fn start_background() -> io::Result<Background> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("background".to_owned()).spawn(move || {
        // An error: whoever could have said so is gone, which says the same.
        let _ = runtime.block_on(ended);
        runtime.shutdown_timeout(FLUSH_WITHIN);
    })?;
    Ok((handle, end, thread))
}

fn listen_admin(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let failed = |source| StartError::Admin { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Running {
    /// Where clients connect.
    pub fn listening(&self) -> Vec<Listening> {
        self.inner.server.listening()
    }

    /// The addresses of the TCP listeners, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listening = self.listening();
        listening.iter().filter_map(Listening::tcp).collect()
    }

    /// Where the admin interface is.
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// The proxy itself.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.inner.proxy
    }

    /// A line for each listener and one for the admin interface. Whoever reads them may send a signal at once, so from here on signals are
    /// taken, and answered by [`Running::run_until_stopped`].
    pub fn announce(&self, to: &mut impl Write) -> io::Result<()> {
        self.take_signals()?;
        for listening in self.listening() {
            writeln!(to, "listening on {listening}")?;
        }
        if let Some(admin) = self.admin {
            writeln!(to, "admin on http://{admin}")?;
        }
        to.flush()
    }

    /// Reads the configuration again and swaps it in. After an error nothing has changed.
    pub fn reload(&self) -> Result<Reloaded, String> {
        self.inner.reload()
    }

    /// Serves until SIGTERM or SIGINT, then drains; SIGHUP reloads. A second SIGTERM or SIGINT ends at once.
    pub fn run_until_stopped(self) -> io::Result<()> {
        self.take_signals()?;
        let Some(mut signals) = self.signals.lock().take() else {
            unreachable!("just taken");
        };
        self.background.block_on(async {
            loop {
                match signals.next().await {
                    Asked::Stop => return,
                    Asked::Reload => {
                        let inner = Arc::clone(&self.inner);
                        // What comes of it is logged where it is known.
                        let _ = tokio::task::spawn_blocking(move || inner.reload()).await;
                    }
                }
            }
        });
        let within = self.inner.config.lock().server.drain;
        tracing::info!(
            within.seconds = within.as_secs(),
            "stopping: no new connections, requests under way may end"
        );
        self.begin_draining();
        let background = self.background.clone();
        let ended_well = background.block_on(async {
            let draining = self.inner.server.drain(within);
            tokio::pin!(draining);
            loop {
                tokio::select! {
                    () = &mut draining => return true,
                    asked = signals.next() => if asked == Asked::Stop { return false },
                }
            }
        });
        if !ended_well {
            tracing::warn!("stopped at once, because told a second time");
        }
        background.block_on(self.inner.proxy.leave());
        drop(self);
        Ok(())
    }

    fn take_signals(&self) -> io::Result<()> {
        let mut signals = self.signals.lock();
        if signals.is_none() {
            let _inside = self.background.enter();
            *signals = Some(Signals::install()?);
        }
        Ok(())
    }

    fn begin_draining(&self) {
        if let Some(admin) = &*self.inner.admin.lock() {
            admin.begin_draining();
        }
    }

    /// Stops as SIGTERM does; returns when nothing is left or the time is over.
    pub fn shutdown(self) {
        let within = self.inner.config.lock().server.drain;
        self.begin_draining();
        let background = self.background.clone();
        background.block_on(self.inner.server.drain(within));
        background.block_on(self.inner.proxy.leave());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.server.stop();
        if let Some(end) = self.end_background.take() {
            // An error: it has ended already.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.inner.access_log.finish(FLUSH_WITHIN);
        telemetry::flush(FLUSH_WITHIN);
    }
}

impl Inner {
    /// Builds the new world beside the old one; whatever is wrong with it, the old one stays.
    fn reload(&self) -> Result<Reloaded, String> {
        let began = Instant::now();
        let mut current = self.config.lock();
        match self.try_reload(&current) {
            Ok((config, reloaded)) => {
                *current = config;
                drop(current);
                self.metrics.background().reloads.one();
                tracing::info!(
                    duration.ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "reloaded"
                );
                for warning in &reloaded.warnings {
                    tracing::warn!(warning, "the configuration has a doubtful point");
                }
                Ok(reloaded)
            }
            Err(mistakes) => {
                drop(current);
                self.metrics.background().reloads_refused.one();
                for mistake in mistakes.lines().filter(|line| !line.trim().is_empty()) {
                    tracing::error!(mistake, "the configuration is wrong; the old one stays in force");
                }
                Err(mistakes)
            }
        }
    }

    fn try_reload(&self, current: &Config) -> Result<(Arc<Config>, Reloaded), String> {
        let NewConfig { config, mut warnings } = (self.source)()?;
        if config.server.workers != current.server.workers {
            warnings.push(format!(
                "`workers` stays {}: only a new start changes it",
                current.server.workers.max(1)
            ));
        }
        if config.admin.as_ref().map(|admin| admin.listen) != current.admin.as_ref().map(|admin| admin.listen)
        {
            warnings.push("`listen` of `[admin]` stays as it is: only a new start changes it".to_owned());
        }
        let mut config = config;
        config.server.workers = current.server.workers;
        let config = Arc::new(config);
        // First everything that can fail; the listeners change last, with what serves them already in place.
        let prepared = self.server.prepare(&config.server).map_err(|errors| in_lines(&errors))?;
        self.proxy.reload(Arc::clone(&config)).map_err(|error| with_causes(&error))?;
        self.server.apply(prepared);
        self.access_log.set_format(config.log.access);
        telemetry::apply(&config.log);
        if let Some(admin) = &*self.admin.lock() {
            admin.set_token(config.admin.as_ref().and_then(|admin| admin.token.as_ref()));
        }
        Ok((config, Reloaded { warnings }))
    }
}
