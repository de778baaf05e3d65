//! From what a person wrote (`schema.rs`) to what the proxy reads (`model.rs`): defaults, names, files, and every check across fields.

mod caches;
mod models;
mod origins;
mod plugins;
mod redis;
mod routes;
mod server;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::decode::{At, ByteSize, Field, Lifetime, Named, OneOrMany, Reader, Text, Whole};
use super::expect::Expectation;
use super::mistake::{Mistake, Source, Span, nearest};
use super::model::{Config, Redis};
use super::schema;
use crate::routes::template::Template;

pub(super) use self::redis::is_prefix;
pub(super) use self::warnings::show_warnings;

/// What resolving yields: the model, what `[[test]]` expects of it, and warnings.
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) expectations: Vec<Expectation>,
    pub(super) warnings: Vec<Mistake>,
}

/// Turns the file into the model; mistakes go to the reader, and what is wrong is replaced by its default so that the rest can be checked.
pub(super) fn resolve(file: &schema::File, reader: &Reader<'_>, source: &Source, folder: &Path) -> Resolved {
    let mut resolver = Resolver {
        reader,
        source,
        folder,
        lifetimes: named(&file.ttl).map(|(name, at)| (name.value.clone(), at.value)).collect(),
        warnings: Vec::new(),
        puzzling_redis: BTreeSet::new(),
    };
    resolver.config(file)
}

pub(super) struct Resolver<'r> {
    reader: &'r Reader<'r>,
    source: &'r Source,
    folder: &'r Path,
    lifetimes: BTreeMap<String, Duration>,
    warnings: Vec<Mistake>,
    /// Names of Redis servers that are there and wrong.
    pub(super) puzzling_redis: BTreeSet<String>,
}

type RedisServers = BTreeMap<Arc<str>, Arc<Redis>>;
type RouteLimits = BTreeMap<Arc<str>, Arc<crate::limit::spec::Limit>>;

pub(super) fn named<T>(field: &Field<Named<T>>) -> impl Iterator<Item = &(At<String>, At<T>)> {
    field.value().into_iter().flat_map(|named| &named.0)
}

pub(super) fn many<T>(field: &Field<OneOrMany<T>>) -> impl Iterator<Item = &At<T>> {
    field.value().into_iter().flat_map(|many| &many.0)
}

impl Resolver<'_> {
    pub(super) fn wrong(&self, span: &Span, message: impl Into<String>) {
        self.reader.report(Mistake::new(span.clone(), message));
    }

    pub(super) fn wrong_with_help(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.reader.report(Mistake::new(span.clone(), message).help(help));
    }

    fn config(&mut self, file: &schema::File) -> Resolved {
        let default_server = schema::Server::default();
        let server = self.server(file.server.value().unwrap_or(&default_server));
        let default_admin = schema::Admin::default();
        let admin = self.admin(file.admin.value().unwrap_or(&default_admin), &server);
        let log = self.log(file.log.value());
        let mut redis = self.redis_servers(file);
        let caches = self.caches(file, &redis);
        let mut origins = BTreeMap::new();
        for (name, at) in named(&file.origin) {
            let name: Arc<str> = name.value.as_str().into();
            origins.insert(Arc::clone(&name), self.origin(name, &at.value));
        }
        let limits = self.limits_of_file(file, &redis);
        let vault = self.vault(file);
        let session = self.session(file, &redis, vault.as_deref());
        let cookies = self.cookies(&file.cookie);
        redis::note_what_they_hold(&mut redis, session.as_deref());
        let routes = self.routes(file, &caches, &limits, &mut origins);
        let expectations = many(&file.test).map(|test| Expectation::of(&test.value, self.reader)).collect();
        let models = named(&file.model).filter_map(|(name, at)| self.model(&name.value, &at.value)).collect();
        let data = file.data.value().map(|data| self.data(data));
        let plugins = self.plugins(file);
        let record = file.record.value().map(|record| Arc::new(self.record(record)));
        let config = Config {
            server,
            admin,
            log,
            redis,
            caches,
            origins,
            routes,
            models,
            data,
            limits,
            plugins,
            session,
            cookies,
            vault,
            record,
        };
        self.warn(file, &config);
        Resolved {
            config,
            expectations: Vec::into_iter(expectations).flatten().collect(),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    fn duration(&self, field: &Field<Lifetime>, default: Duration) -> Duration {
        self.maybe_duration(field).unwrap_or(default)
    }

    fn maybe_duration(&self, field: &Field<Lifetime>) -> Option<Duration> {
        let at = field.get()?;
        match &at.value {
            Lifetime::Exact(duration) => Some(*duration),
            Lifetime::Named(name) => {
                let known = self.lifetimes.get(&name.value).copied();
                if known.is_none() {
                    let help = match nearest(&name.value, self.lifetimes.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "write a duration such as \"5m\", or add the name to `[ttl]`".to_owned(),
                    };
                    self.wrong_with_help(
                        &at.span,
                        format!("`{}` is neither a duration nor a name in `[ttl]`", name.shown),
                        help,
                    );
                }
                known
            }
        }
    }

    /// As [`Self::duration`], for limits where zero would mean that nothing ever succeeds.
    pub(super) fn limit_duration(&self, field: &Field<Lifetime>, default: Duration) -> Duration {
        let duration = self.duration(field, default);
        if let (true, Some(at)) = (duration.is_zero(), field.get()) {
            self.wrong_with_help(
                &at.span,
                "a limit of no time at all lets nothing pass",
                "write a longer one",
            );
            return default;
        }
        duration
    }

    fn size(&self, field: &Field<ByteSize>, default: u64, at_least: u64) -> u64 {
        let Some(at) = field.get() else { return default };
        if at.value.0 < at_least {
            let help = format!("write at least {}", super::units::show_size(at_least));
            self.wrong_with_help(&at.span, "this is too little to work with", help);
            return default;
        }
        at.value.0
    }

    fn size_usize(&self, field: &Field<ByteSize>, default: usize, at_least: u64) -> usize {
        usize::try_from(self.size(field, default as u64, at_least)).unwrap_or(usize::MAX)
    }

    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A path to a file that can be read now.
    fn readable(&self, at: &At<PathBuf>) -> PathBuf {
        let path = self.path(&at.value);
        // Asked before it is opened: opening a pipe would wait for whoever writes to it.
        let checked = std::fs::metadata(&path).and_then(|data| {
            if !data.is_file() {
                return Err(std::io::Error::other("it is not a file"));
            }
            std::fs::File::open(&path)
        });
        if let Err(error) = checked {
            self.wrong(&at.span, format!("cannot read `{}`: {error}", path.display()));
        }
        path
    }

    fn template(
        &self,
        at: &At<Text>,
        names: &BTreeSet<String>,
        also: &[&str],
        what: &str,
    ) -> Option<Template> {
        let template = match Template::parse(&at.value.value) {
            Ok(template) => template,
            Err(error) => {
                self.wrong(&at.span, error.to_string());
                return None;
            }
        };
        for name in template.names() {
            if !names.contains(name) && !also.contains(&name) {
                let known = names.iter().map(String::as_str).chain(also.iter().copied());
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{{{near}}}`?"),
                    None => format!("a path pattern such as `/posts/{{{name}}}` in `match` would bind it"),
                };
                self.wrong_with_help(&at.span, format!("nothing binds the `{name}` of this {what}"), help);
                return None;
            }
        }
        Some(template)
    }
}

pub(super) fn to_usize<const MIN: u64, const MAX: u64>(
    field: &Field<Whole<MIN, MAX>>,
    default: usize,
) -> usize {
    field.value().map_or(default, |number| usize::try_from(number.0).unwrap_or(usize::MAX))
}

fn to_u32<const MIN: u64, const MAX: u64>(field: &Field<Whole<MIN, MAX>>, default: u32) -> u32 {
    field.value().map_or(default, |number| u32::try_from(number.0).unwrap_or(u32::MAX))
}
