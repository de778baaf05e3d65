//! Connections to a PostgreSQL: dialled, watched and given up in the background. No request ever waits for one.
//!
//! Each place in the pool has a task that dials, hands the connection out, and dials again when it has ended, 100 ms to 5 s apart. Requests share a connection: what they ask goes out
//! one behind the other, without waiting for answers. Whatever is doubtful about the server (answers that are late again and again, a shutdown, a standby) ends all connections, with their queues of
//! late answers; then nothing is asked until one has been dialled anew, which the server must answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::super::spec;
use super::super::store::Trouble;
use super::tls::Tls;
use super::url::Place;
use super::{SCHEMA, SCHEMA_VERSION, STATEMENTS};
use crate::origin::tls;
use crate::redis::breaker::{Ask, Breaker};
use crate::redis::error::Evidence;

/// Questions under way; beyond them nothing is asked.
const IN_FLIGHT_MAX: usize = 1_024;
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often the same trouble is told again.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The server ends by itself what nobody waits for any more.
const SETTINGS: &str =
    "SET statement_timeout = '5s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '10s'";

/// The connections, for as long as this lives.
pub(super) struct Pool {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    spec: Arc<spec::Postgres>,
    places: Vec<ArcSwapOption<Line>>,
    next: AtomicUsize,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
    told: Mutex<Option<Instant>>,
    counted: Counted,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) answered: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) skipped: AtomicU64,
}

/// A connection, with its statements.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) statements: Vec<Statement>,
    given_up: AtomicBool,
    end: Notify,
}

impl Line {
    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.end.notify_one();
    }

    fn is_usable(&self) -> bool {
        !self.given_up.load(Ordering::Acquire) && !self.client.is_closed()
    }
}

/// One question less, however it ends.
struct Asking<'s>(&'s AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection cannot be had.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Setup(String),
    #[error("there is no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("{}", whole(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("its tables are of version {0}, and this Weir knows version {SCHEMA_VERSION}")]
    Version(i32),
}

/// An error with its causes, which say what it is about.
fn whole(error: &tokio_postgres::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(error));
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

impl Pool {
    pub(super) fn start(spec: Arc<spec::Postgres>, background: &Runtime) -> Self {
        let shared = Arc::new(Shared {
            places: (0..spec.connections).map(|_| ArcSwapOption::empty()).collect(),
            next: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new(Instant::now())),
            told: Mutex::default(),
            counted: Counted::default(),
            spec,
        });
        let keep = |place| background.spawn(keep(shared.clone(), place)).abort_handle();
        let tasks = (0..shared.places.len()).map(keep).collect();
        Self { shared, tasks }
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.shared.counted
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.shared.places.iter().any(|place| place.load().as_ref().is_some_and(|line| line.is_usable()))
    }

    fn line(&self) -> Option<Arc<Line>> {
        let (places, first) = (&self.shared.places, self.shared.next.fetch_add(1, Ordering::Relaxed));
        let mut lines =
            (0..places.len()).map(|step| places[(first.wrapping_add(step)) % places.len()].load());
        lines.find_map(|line| line.as_ref().filter(|line| line.is_usable()).cloned())
    }

    /// Asks over a connection that is there, within the budget. What it says about the server is taken into account.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&Line) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Trouble> {
        let Shared { spec, in_flight, counted, .. } = &*self.shared;
        let before = in_flight.fetch_add(1, Ordering::Relaxed);
        let _asking = Asking(in_flight);
        let line = self.line().filter(|_| before < IN_FLIGHT_MAX);
        let Some(line) = line else {
            counted.skipped.fetch_add(1, Ordering::Relaxed);
            return Err(Trouble::Durable);
        };
        let (counter, evidence, answer) = match tokio::time::timeout(spec.budget, ask(&line)).await {
            Ok(Ok(answer)) => (&counted.answered, Evidence::Good, Ok(answer)),
            Ok(Err(error)) => {
                let evidence = evidence(&error);
                tracing::debug!(error = whole(&error), "PostgreSQL did not do what was asked");
                (&counted.failed, evidence, Err(Trouble::Durable))
            }
            Err(_) => (&counted.late, Evidence::Slow, Err(Trouble::Durable)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // What a connection says that was given up says nothing of the one after it.
        let opened =
            line.is_usable().then(|| self.shared.breaker.lock().note(Ask::Read, evidence, Instant::now()));
        if let Some(Some(why)) = opened {
            tracing::warn!(reason = ?why, "PostgreSQL is not asked until it answers again");
            self.shared.places.iter().filter_map(ArcSwapOption::load_full).for_each(|line| line.give_up());
        }
        answer
    }
}

/// What an error says about the server.
fn evidence(error: &tokio_postgres::Error) -> Evidence {
    let Some(code) = error.code() else {
        return if error.is_closed() { Evidence::Neutral } else { Evidence::Down };
    };
    match code {
        &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => Evidence::Slow,
        // A standby, or a primary that became one.
        &SqlState::READ_ONLY_SQL_TRANSACTION => Evidence::Down,
        // Shutting down, starting, out of everything: classes 57P, 53 and 08.
        code if ["57P", "53", "08"].iter().any(|class| code.code().starts_with(class)) => Evidence::Down,
        _ => Evidence::Neutral,
    }
}

async fn keep(shared: Arc<Shared>, place: usize) {
    let mut wait = WAIT_MIN;
    loop {
        let begun = Instant::now();
        match dial(&shared.spec).await {
            Ok((line, driver)) => {
                wait = WAIT_MIN;
                shared.breaker.lock().close(Instant::now());
                if shared.told.lock().take().is_some() {
                    tracing::info!(postgres = %shared.spec.url, "PostgreSQL is there again");
                }
                shared.places[place].store(Some(line.clone()));
                tokio::select! {
                    () = line.end.notified() => {}
                    () = driver.0 => {}
                }
                line.give_up();
                shared.places[place].store(None);
            }
            Err(error) => {
                let mut told = shared.told.lock();
                if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                    *told = Some(Instant::now());
                    tracing::warn!(postgres = %shared.spec.url, %error, "PostgreSQL cannot be reached");
                }
            }
        }
        // Not all places at once.
        let spread = u32::try_from(place % 8).unwrap_or_default();
        tokio::time::sleep(wait + WAIT_MIN / 8 * spread).await;
        wait = if begun.elapsed() > WAIT_MAX { WAIT_MIN } else { (wait * 2).min(WAIT_MAX) };
    }
}

/// What moves the bytes of a connection. Dropping it ends the connection.
struct Driver(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

async fn dial(spec: &spec::Postgres) -> Result<(Arc<Line>, Driver), DialError> {
    let dialled = tokio::time::timeout(spec.connect_timeout, dial_in_time(spec)).await;
    dialled.map_err(|_| DialError::Late(spec.connect_timeout))?
}

async fn dial_in_time(spec: &spec::Postgres) -> Result<(Arc<Line>, Driver), DialError> {
    let config = config(spec);
    let (client, mut driver) = if spec.url.tls {
        let tls = tls::towards_store(spec.tls.ca.as_deref(), spec.tls.client.as_ref());
        let tls = Tls(Arc::new(tls.map_err(|error| DialError::Setup(error.to_string()))?));
        let (client, connection) = config.connect(tls).await?;
        (client, driver(connection))
    } else {
        let (client, connection) = config.connect(NoTls).await?;
        (client, driver(connection))
    };
    // Its driver must run while it is asked for the first time.
    let line = tokio::select! {
        prepared = prepared(client) => prepared?,
        () = &mut driver.0 => return Err(DialError::Setup("the connection was closed".to_owned())),
    };
    Ok((Arc::new(line), driver))
}

fn driver<S, T>(connection: tokio_postgres::Connection<S, T>) -> Driver
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    Driver(Box::pin(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = whole(&error), "a connection to PostgreSQL has ended");
        }
    }))
}

fn config(spec: &spec::Postgres) -> Config {
    let mut config = Config::new();
    match &spec.url.place {
        Place::Servers(servers) => {
            for server in servers {
                config.host(&server.host).port(server.port);
            }
        }
        Place::Unix(folder, port) => {
            config.host_path(folder).port(*port);
        }
    }
    if let Some(user) = &spec.url.user {
        config.user(user);
    }
    if let Some(password) = &spec.url.password {
        config.password(&password.0);
    }
    if let Some(database) = &spec.url.database {
        config.dbname(database);
    }
    config
        .application_name("weir")
        .ssl_mode(if spec.url.tls { SslMode::Require } else { SslMode::Disable })
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(spec.connect_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(5));
    config
}

/// A connection on which everything is ready: settings, tables, statements.
async fn prepared(client: Client) -> Result<Line, DialError> {
    client.batch_execute(SETTINGS).await?;
    let version = async || -> Result<i32, tokio_postgres::Error> {
        let row = client.query_one("SELECT max(version) FROM weir_session_schema", &[]).await?;
        Ok(row.get::<_, Option<i32>>(0).unwrap_or_default())
    };
    let found = match version().await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            client.batch_execute(SCHEMA).await?;
            version().await?
        }
        found => found?,
    };
    if found != SCHEMA_VERSION {
        return Err(DialError::Version(found));
    }
    let mut statements = Vec::with_capacity(STATEMENTS.len());
    for text in STATEMENTS {
        statements.push(client.prepare(text).await?);
    }
    Ok(Line { client, statements, given_up: AtomicBool::new(false), end: Notify::new() })
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.places.iter().for_each(|place| place.store(None));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pool").field("url", &self.shared.spec.url).finish_non_exhaustive()
    }
}
