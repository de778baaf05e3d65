//! `[limit.NAME]`, and a route's `limits`: their shape in the file, and their checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use rate_limit::{Policy, PolicyError, Quota};
use toml::de::DeValue;

use super::decode::{At, Decode, Field, Lifetime, Node, OneOrMany, Reader, Text, Whole, table, words};
use super::mistake::{Mistake, nearest};
use super::model::Redis;
use super::resolve::{Resolver, is_prefix, many, named, to_usize};
use super::schema;
use super::units::{parse_duration, show_duration};
use crate::limit::spec::{Charge, Fields, KeyPart, Limit, Queue, Rate, RouteLimit, Shared, WhenDown};

table! {
    /// A limit, that routes name in `limits`: how many requests in which time, how many at once, or both. Clients are told in `RateLimit` fields; who
    /// comes too much gets 429 with `Retry-After`.
    ///
    /// ```toml
    /// [limit.api]
    /// key = "client-ip"
    /// rate = "100/1m"
    /// ```
    LimitTable in "[limit.NAME]" {
        /// Who shares a quota: `"client-ip"` (of IPv6 the first 64 bits), `"session"`, `"user"`, `"header:NAME"`, `"cookie:NAME"`, `"route"`, `"plugin"`. Several make a
        /// quota for each combination. Where what is named is not there, the client's address takes its place.
        key: OneOrMany<Text> = "\"client-ip\"",
        /// `"100/1m"`; several, as `["10/1s", "100/1m"]`, must all have room. The whole of it may come at once, unless `burst` says less; then it comes back evenly, so
        /// that no edge of a window lets twice as many pass.
        rate: OneOrMany<RateValue> = "none",
        /// How many may come at once, for a limit with one rate.
        burst: Whole<1, 1_000_000_000> = "the quota itself",
        /// What a request costs. Routes may say otherwise.
        cost: Whole<1, 1_000_000> = "1",
        /// `"all"` requests, or `"miss"`: only those for which the origin is asked. What comes out of the cache, or of another request's fill, costs nothing then.
        charge: Charge = "\"all\"",
        /// Requests under way for one key, on each proxy; more: 503. What is answered from memory is not counted.
        in_flight: Whole<1, 1_000_000> = "none",
        /// Open WebSockets of one key, on each proxy; more: 503.
        websockets: Whole<1, 1_000_000> = "none",
        /// Messages that a client may send on one WebSocket, as `"20/1s"`; faster ones are held back.
        messages: RateValue = "none",
        /// Where a request waits that finds all places taken. Without it, it is refused at once.
        queue: QueueTable = "none",
        /// The `[redis.NAME]` where all proxies count together, or `"off"`: each counts alone.
        redis: Text = "`main`, or the only one",
        /// What its keys in Redis begin with.
        prefix: Text = "\"weir\"",
        /// What a request may wait for Redis, before it is decided without.
        redis_budget: Lifetime = "\"10ms\"",
        /// Without Redis: `"share"`, each proxy lets through its part; `"full"`, each the whole quota; `"open"`, all passes; `"closed"`, nothing passes (503).
        when_redis_is_down: WhenDown = "\"share\"",
        /// How many proxies there are at least. Redis tells, as long as it is there.
        proxies: Whole<1, 10_000> = "1",
        /// Refuse nothing and say nothing; only count what would be refused.
        shadow: bool = "false",
        /// Networks that are never limited.
        allow: OneOrMany<IpNet> = "none",
        /// Networks that are always refused, with 403; what `allow` names excepted.
        deny: OneOrMany<IpNet> = "none",
        /// What clients are told: `"draft"` (`RateLimit` and `RateLimit-Policy`), `"legacy"` (`X-RateLimit-*`), `"both"`, or `"off"`.
        headers: Fields = "\"draft\"",
        /// Keys that a proxy remembers, a hundred bytes each. When there are more, those who have used least are forgotten first, and counted.
        keys: Whole<64, 100_000_000> = "65536",
    }
}

table! {
    /// A rate, where one text does not say enough.
    RateTable in "rate = { … }" {
        /// `"100/1m"`.
        quota: RateValue = "required",
        /// How many may come at once.
        burst: Whole<1, 1_000_000_000> = "the quota itself",
    }
}

table! {
    /// Where a request waits that finds all places taken.
    QueueTable in "queue = { … }" {
        /// Requests of one key that may wait; more: 503.
        length: Whole<1, 1_000_000> = "16",
        /// How long one waits; longer: 503.
        time: Lifetime = "\"1s\"",
    }
}

table! {
    /// A limit of a route, where its name does not say enough.
    RouteLimitTable in "limits = [{ … }]" {
        /// Which.
        name: Text = "required",
        /// What a request of this route costs.
        cost: Whole<1, 1_000_000> = "that of the limit",
    }
}

words!(Charge {
    "all" => Charge::All,
    "miss" => Charge::Miss,
});

words!(WhenDown {
    "share" => WhenDown::Share,
    "full" => WhenDown::Full,
    "open" => WhenDown::Open,
    "closed" => WhenDown::Closed,
});

words!(Fields {
    "draft" => Fields::Draft,
    "legacy" => Fields::Legacy,
    "both" => Fields::Both,
    "off" => Fields::Off,
});

/// A rate: `"100/1m"`, or a table.
#[derive(Debug, Clone)]
pub(super) struct RateValue {
    units: u64,
    window: Duration,
    burst: Option<u64>,
}

impl Decode for RateValue {
    const EXPECTS: &'static str = "a rate, as \"100/1m\" or \"10/1s\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let DeValue::Table(table) = node.get_ref() {
            let table = RateTable::from_table(table, node.span(), reader);
            let Some(at) = table.quota.get() else {
                if table.quota.is_absent() && !table.puzzling {
                    let mistake = Mistake::new(node.span(), "this rate says no quota");
                    reader.report(mistake.help("add `quota = \"100/1m\"`"));
                }
                return None;
            };
            return Some(Self { burst: table.burst.value().map(|burst| burst.0), ..at.value.clone() });
        }
        let text = reader.text(node, Self::EXPECTS)?;
        let read = text.value.split_once('/').and_then(|(units, window)| {
            let window = window.trim();
            // `100/m` and `100/minute` are what people write.
            let window = match window {
                "s" | "second" => "1s",
                "m" | "minute" => "1m",
                "h" | "hour" => "1h",
                "d" | "day" => "1d",
                other => other,
            };
            Some((units.trim().parse().ok()?, parse_duration(window).ok()?))
        });
        let Some((units, window)) = read else {
            let message = format!("`{}` is not a rate", text.shown);
            let help = "write a number, a slash and a duration, as \"100/1m\"";
            reader.report(Mistake::new(node.span(), message).help(help));
            return None;
        };
        Some(Self { units, window, burst: None })
    }
}

/// A limit of a route: its name, or a table.
#[derive(Debug, Clone)]
pub(super) struct RouteLimitValue(RouteLimitTable);

impl Decode for RouteLimitValue {
    const EXPECTS: &'static str =
        "the name of a limit, or a table: `limits = [{ name = \"api\", cost = 5 }]`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let DeValue::Table(table) = node.get_ref() {
            return Some(Self(RouteLimitTable::from_table(table, node.span(), reader)));
        }
        let value = reader.text(node, Self::EXPECTS)?;
        let name = Field::Given(At { value, span: node.span() });
        Some(Self(RouteLimitTable { span: node.span(), name, ..RouteLimitTable::default() }))
    }
}

const QUEUE_LENGTH: usize = 16;
const QUEUE_TIME: Duration = Duration::from_secs(1);
const KEYS: usize = 65_536;
const BUDGET: Duration = Duration::from_millis(10);

impl Resolver<'_> {
    pub(super) fn limits_of_file(
        &mut self,
        file: &schema::File,
        redis: &BTreeMap<Arc<str>, Arc<Redis>>,
    ) -> BTreeMap<Arc<str>, Arc<Limit>> {
        let mut limits = BTreeMap::new();
        for (name, at) in named(&file.limit) {
            if !is_prefix(&name.value) {
                let help = "write up to 64 letters, digits, `-`, `_`, `.` and `:`";
                self.wrong_with_help(&name.span, format!("`{}` cannot name a limit", name.value), help);
                continue;
            }
            let name: Arc<str> = name.value.as_str().into();
            if let Some(limit) = self.one_limit(&name, &at.value, redis) {
                limits.insert(name, Arc::new(limit));
            }
        }
        limits
    }

    fn one_limit(
        &mut self,
        name: &Arc<str>,
        table: &LimitTable,
        redis: &BTreeMap<Arc<str>, Arc<Redis>>,
    ) -> Option<Limit> {
        let nothing = table.rate.is_absent()
            && table.in_flight.is_absent()
            && table.websockets.is_absent()
            && table.messages.is_absent();
        if nothing && table.deny.is_absent() && !table.puzzling {
            let help = "add `rate = \"100/1m\"`, or `in_flight = 10`";
            self.wrong_with_help(&table.span, format!("the limit `{name}` limits nothing"), help);
            return None;
        }
        if let (Some(at), true) =
            (table.queue.get(), table.in_flight.is_absent() && table.websockets.is_absent())
        {
            let help = "requests wait for a place: add `in_flight = 10`, or leave `queue` out";
            self.wrong_with_help(&at.span, "nothing waits in this queue", help);
        }
        let parts: Option<Vec<KeyPart>> = match table.key.value() {
            None => Some(vec![KeyPart::ClientIp]),
            Some(parts) => {
                parts.0.iter().map(|at| self.key_part(at)).collect::<Vec<_>>().into_iter().collect()
            }
        };
        let rate = self.rate(name, table);
        let cost = table.cost.value().map_or(1, |cost| cost.0);
        if let (Some(rate), Some(at)) = (&rate, table.cost.get()) {
            self.affordable(rate, cost, at);
        }
        let messages = table.messages.get().and_then(|at| self.quota(at, None));
        let queue = table.queue.value().map(|queue| Queue {
            length: to_usize(&queue.length, QUEUE_LENGTH),
            time: self.limit_duration(&queue.time, QUEUE_TIME),
        });
        let keys = table.keys.value().map_or(KEYS, |keys| usize::try_from(keys.0).unwrap_or(KEYS));
        Some(Limit {
            name: name.clone(),
            key: parts?,
            rate,
            cost,
            charge: table.charge.or(Charge::All),
            in_flight: table.in_flight.value().map(|_| to_usize(&table.in_flight, 1)),
            websockets: table.websockets.value().map(|_| to_usize(&table.websockets, 1)),
            messages,
            queue,
            shared: self.shared_count(table, redis),
            proxies: table.proxies.value().map_or(1, |proxies| proxies.0),
            shadow: table.shadow.or(false),
            allow: many(&table.allow).map(|at| at.value).collect(),
            deny: many(&table.deny).map(|at| at.value).collect(),
            fields: table.headers.or(Fields::Draft),
            keys,
        })
    }

    fn key_part(&self, at: &At<Text>) -> Option<KeyPart> {
        let text = &at.value.value;
        let wrong = |message: String, help: &str| {
            self.wrong_with_help(&at.span, message, help);
            None
        };
        if let Some(name) = text.strip_prefix("header:") {
            return match HeaderName::try_from(name.trim()) {
                Ok(name) => Some(KeyPart::Header(name)),
                Err(_) => wrong(format!("`{name}` is not the name of a field"), "as in \"header:X-Api-Key\""),
            };
        }
        if let Some(name) = text.strip_prefix("cookie:") {
            return match HeaderName::from_bytes(name.trim().as_bytes()) {
                Ok(_) => Some(KeyPart::Cookie(name.trim().into())),
                Err(_) => {
                    wrong(format!("`{name}` is not the name of a cookie"), "as in \"cookie:sessionid\"")
                }
            };
        }
        const WORDS: [&str; 5] = ["client-ip", "session", "user", "route", "plugin"];
        match text.as_str() {
            "client-ip" => Some(KeyPart::ClientIp),
            "session" => Some(KeyPart::Session),
            "user" => Some(KeyPart::User),
            "route" => Some(KeyPart::Route),
            "plugin" => Some(KeyPart::Plugin),
            _ => {
                let help = match nearest(text, WORDS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write \"client-ip\", \"session\", \"user\", \"header:NAME\", \"cookie:NAME\", \"route\" or \"plugin\""
                        .to_owned(),
                };
                wrong(format!("`{}` is not a key", at.value.shown), &help)
            }
        }
    }

    fn rate(&self, name: &Arc<str>, table: &LimitTable) -> Option<Rate> {
        let rates = &table.rate.value()?.0;
        if let (Some(at), true) = (table.burst.get(), rates.len() > 1) {
            let help = "write `rate = [{ quota = \"10/1s\", burst = 20 }, \"100/1m\"]`";
            self.wrong_with_help(&at.span, "it is not said which of the rates this burst belongs to", help);
        }
        let burst = table.burst.value().map(|burst| burst.0);
        let quotas: Option<Vec<Quota>> =
            rates.iter().map(|at| self.quota(at, burst)).collect::<Vec<_>>().into_iter().collect();
        let quotas = quotas?;
        let names = match &quotas[..] {
            [_] => vec![name.clone()],
            several => several
                .iter()
                .map(|quota| format!("{name}-{}", show_duration(quota.window())).into())
                .collect(),
        };
        match Policy::new(quotas) {
            Ok(policy) => Some(Rate { policy, names }),
            Err(error) => {
                let span = table.rate.span().unwrap_or_else(|| table.span.clone());
                self.wrong(&span, error.to_string());
                None
            }
        }
    }

    fn quota(&self, at: &At<RateValue>, burst: Option<u64>) -> Option<Quota> {
        let RateValue { units, window, burst: own } = at.value;
        match Quota::new(units, window, own.or(burst)) {
            Ok(quota) => Some(quota),
            Err(error) => {
                let help = match error {
                    PolicyError::Nothing => "write at least 1, and a window that is not 0",
                    PolicyError::TooFast => "leave the limit out, or write at most \"1000000/1s\"",
                    PolicyError::TooLong | PolicyError::Count => {
                        "write a shorter window, or a smaller burst: all of it must come back within a year"
                    }
                };
                self.wrong_with_help(&at.span, error.to_string(), help);
                None
            }
        }
    }

    fn affordable<const MIN: u64, const MAX: u64>(&self, rate: &Rate, cost: u64, at: &At<Whole<MIN, MAX>>) {
        let most = rate.policy.cost_max();
        if cost > most {
            let message =
                format!("no request that costs {cost} would ever pass: at most {most} may come at once");
            self.wrong_with_help(&at.span, message, "lower the cost, or raise the `burst`");
        }
    }

    fn shared_count(&mut self, table: &LimitTable, redis: &BTreeMap<Arc<str>, Arc<Redis>>) -> Option<Shared> {
        let server = match table.redis.get() {
            Some(at) if at.value.value == "off" => return None,
            Some(at) => self.redis_named(at, redis)?,
            None => {
                let only = redis.keys().next().filter(|_| redis.len() == 1);
                redis.keys().find(|name| &***name == "main").or(only)?.clone()
            }
        };
        let prefix = match table.prefix.get() {
            Some(at) if !is_prefix(&at.value.value) => {
                let help = "write up to 64 letters, digits, `-`, `_`, `.` and `:`";
                self.wrong_with_help(&at.span, format!("`{}` cannot begin a key", at.value.shown), help);
                "weir".into()
            }
            Some(at) => at.value.value.as_str().into(),
            None => "weir".into(),
        };
        Some(Shared {
            redis: server,
            prefix,
            budget: self.limit_duration(&table.redis_budget, BUDGET),
            when_down: table.when_redis_is_down.or(WhenDown::Share),
        })
    }

    pub(super) fn redis_named(
        &self,
        at: &At<Text>,
        redis: &BTreeMap<Arc<str>, Arc<Redis>>,
    ) -> Option<Arc<str>> {
        let known = redis.keys().find(|name| ***name == *at.value.value).cloned();
        // One whose URL is wrong has been reported.
        if known.is_none() && !self.puzzling_redis.contains(&at.value.value) {
            let help = match nearest(&at.value.value, redis.keys().map(|name| &**name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `[redis.{}]` with its `url`", at.value.shown),
            };
            self.wrong_with_help(&at.span, format!("there is no Redis `{}`", at.value.shown), help);
        }
        known
    }

    pub(super) fn limits_of_route(
        &self,
        field: &Field<OneOrMany<RouteLimitValue>>,
        file: &schema::File,
        limits: &BTreeMap<Arc<str>, Arc<Limit>>,
    ) -> Vec<RouteLimit> {
        let mut used: Vec<RouteLimit> = Vec::new();
        for at in many(field) {
            let table = &at.value.0;
            let Some(name) = table.name.get() else {
                if table.name.is_absent() && !table.puzzling {
                    self.wrong_with_help(&at.span, "this limit has no name", "add `name = \"…\"`");
                }
                continue;
            };
            let Some(limit) = limits.get(&*name.value.value) else {
                // One that is wrong in itself has been reported.
                let written = named(&file.limit).any(|(known, _)| known.value == name.value.value);
                if !written && !matches!(file.limit, Field::Wrong(_)) {
                    let help = match nearest(&name.value.value, limits.keys().map(|name| &**name)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `[limit.{}]` with a `rate`", name.value.shown),
                    };
                    self.wrong_with_help(
                        &name.span,
                        format!("there is no limit `{}`", name.value.shown),
                        help,
                    );
                }
                continue;
            };
            if used.iter().any(|known| known.name == limit.name) {
                self.wrong_with_help(&name.span, "this limit stands here a second time", "leave it out");
                continue;
            }
            let cost = table.cost.value().map_or(limit.cost, |cost| cost.0);
            if let (Some(rate), Some(at)) = (&limit.rate, table.cost.get()) {
                self.affordable(rate, cost, at);
            }
            used.push(RouteLimit { name: limit.name.clone(), cost });
        }
        used
    }
}
