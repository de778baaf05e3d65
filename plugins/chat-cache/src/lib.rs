//! Shares answers of language models among equal conversations of a tenant: the key is the canonical JSON of the whole request, never the last question alone.
//!
//! What is stored is decided narrowly: only what repeats (temperature 0, unless the operator allows more), without tools, and only answers with status 200. That
//! a stream was cut off, the host sees, and stores nothing.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use weir_plugin::config::Ttl;
use weir_plugin::{
    Error, Manifest, Plugin, Request, RequestDecision, RequestHook, Response, ResponseDecision, ResponseHook,
    StorePolicy, digest, host, state,
};

struct ChatCache {
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Who shares.
    tenant: Tenant,
    /// For how long an answer is fresh.
    #[serde(default = "an_hour")]
    ttl: Ttl,
    /// Answers to requests with a higher temperature are not shared: who asks for chance shall have it.
    #[serde(default)]
    temperature_max: f64,
    /// The origin's temperature where a request names none.
    #[serde(default = "one")]
    temperature_default: f64,
    /// Members of the request that the answer does not depend on: `user`, `metadata`.
    #[serde(default)]
    ignore: Vec<String>,
    /// Whether answers to requests with tools are shared.
    #[serde(default)]
    tools: bool,
    /// An answer is stored when it is asked for so often within an hour.
    #[serde(default = "once")]
    admit: u32,
}

/// Who shares answers: those with the same value of one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Tenant {
    /// An attribute of Weir's session.
    Session(String),
    /// A field or a cookie whose value lets in whoever knows it.
    Credential(String),
    Cookie(String),
    /// A field that something in front of Weir sets, and takes away from clients.
    Trusted(String),
    /// Everybody.
    Everybody,
}

fn an_hour() -> Ttl {
    Ttl(Duration::from_secs(3_600))
}

fn one() -> f64 {
    1.0
}

fn once() -> u32 {
    1
}

impl Plugin for ChatCache {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.admit == 0 {
            return Err("config: `admit` is 0: 1 stores at once".into());
        }
        if let Some(needed) = config
            .ignore
            .iter()
            .find(|name| ["model", "messages", "input", "prompt", "stream"].contains(&name.as_str()))
        {
            return Err(Error::new(format!("config: `ignore`: answers depend on `{needed}`")));
        }
        Ok(Self { config })
    }

    fn manifest(&self) -> Manifest {
        let manifest = Manifest::new()
            .method()
            .body_json("")
            .response_header("content-type")
            .response_header("set-cookie");
        match &self.config.tenant {
            Tenant::Session(name) => manifest.session(name),
            Tenant::Credential(name) | Tenant::Trusted(name) => manifest.header(name),
            Tenant::Cookie(name) => manifest.cookie(name),
            Tenant::Everybody => manifest,
        }
    }
}

impl ChatCache {
    /// Why the answer is not shared, or what it depends on and the model's name.
    fn conversation(&self, request: &Request) -> Result<(String, String), &'static str> {
        if !matches!(request.method(), "POST" | "QUERY") {
            return Err("neither POST nor QUERY");
        }
        let body = request.body_json("").ok_or("content that is no JSON")?;
        let mut body: Map<String, Value> =
            serde_json::from_str(body).map_err(|_| "content that is no object")?;
        let model = body.get("model").and_then(Value::as_str).ok_or("no model")?.to_owned();
        if !["messages", "input", "prompt"].iter().any(|name| body.contains_key(*name)) {
            return Err("no conversation");
        }
        let temperature = match body.get("temperature") {
            None | Some(Value::Null) => self.config.temperature_default,
            Some(given) => given.as_f64().ok_or("a temperature that is no number")?,
        };
        // Written so that what is no number passes too.
        let is_steady = temperature <= self.config.temperature_max;
        if !is_steady {
            return Err("too high a temperature");
        }
        if !self.config.tools
            && ["tools", "functions"].iter().any(|name| body.get(*name).is_some_and(is_something))
        {
            return Err("tools");
        }
        for name in &self.config.ignore {
            body.remove(name);
        }
        // The host sorts members by name and leaves out spaces, and so does this.
        let canonical = serde_json::to_string(&body).map_err(|_| "content that cannot be written")?;
        Ok((canonical, model))
    }

    fn tenant(&self, request: &Request) -> Option<String> {
        let (kind, value) = match &self.config.tenant {
            Tenant::Session(name) => ("session", request.session(name)?),
            Tenant::Credential(name) => ("credential", request.header(name)?),
            Tenant::Cookie(name) => ("cookie", request.cookie(name)?),
            // Two lines: one of them may be the client's.
            Tenant::Trusted(name) => ("trusted", request.header(name).filter(|value| !value.contains(','))?),
            Tenant::Everybody => ("everybody", ""),
        };
        Some(format!("{kind}:{}", digest::sha256_hex(value.as_bytes())))
    }
}

fn is_something(value: &Value) -> bool {
    !(value.is_null() || value.as_array().is_some_and(Vec::is_empty))
}

impl RequestHook for ChatCache {
    fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
        let Some(tenant) = self.tenant(request) else {
            host::count("without_tenant", 1);
            return Ok(RequestDecision::bypass());
        };
        match self.conversation(request) {
            Ok((canonical, model)) => {
                let key = digest::sha256_hex(format!("{tenant}\n{canonical}").as_bytes());
                Ok(RequestDecision::lookup().carry(format!("{key} {model}")).key(key))
            }
            Err(why) => {
                weir_plugin::debug!("bypass: {why}");
                host::count("bypassed", 1);
                Ok(RequestDecision::bypass())
            }
        }
    }
}

impl ResponseHook for ChatCache {
    fn on_response(
        &self,
        _: &Request,
        carry: Option<&str>,
        response: &Response,
    ) -> Result<ResponseDecision, Error> {
        let Some((key, model)) = carry.and_then(|carry| carry.split_once(' ')) else {
            return Ok(ResponseDecision::no_store());
        };
        let content_type = response.header("content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_answer = response.status() == 200
            && matches!(essence.as_str(), "application/json" | "text/event-stream")
            && response.header("set-cookie").is_none();
        if !is_answer {
            return Ok(ResponseDecision::no_store());
        }
        if self.config.admit > 1 {
            let seen = state::add(key, 1, Some(Duration::from_secs(3_600)));
            if seen < i64::from(self.config.admit) {
                return Ok(ResponseDecision::no_store());
            }
        }
        Ok(ResponseDecision::store(
            StorePolicy::new().ttl(*self.config.ttl).tag("chat").tag(format!("model:{model}")),
        ))
    }
}

weir_plugin::export!(ChatCache: request, response);

#[cfg(test)]
mod tests;
