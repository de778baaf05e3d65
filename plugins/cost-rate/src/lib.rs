//! Charges each API key what an endpoint costs: a report is not a look-up, and an answer of a language model is not either.

use serde::Deserialize;
use weir_plugin::path::Rule;
use weir_plugin::{Charge, Error, Manifest, Plugin, RateHook, Request, digest};

struct CostRate {
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The field with the key of a client.
    #[serde(default = "x_api_key")]
    header: String,
    /// The bucket of what no cost names.
    #[serde(default = "api")]
    bucket: String,
    /// What no cost names costs so much.
    #[serde(default = "one")]
    cost: u32,
    /// The first that matches counts.
    #[serde(default)]
    costs: Vec<Cost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    #[serde(rename = "match")]
    rule: Rule,
    #[serde(default = "one")]
    cost: u32,
    bucket: Option<String>,
    /// And so much more for a number in the request's content.
    #[serde(default)]
    and: Option<Measured>,
}

/// A number in the request, such as the tokens that it allows an answer to have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    /// Where it stands: a JSON Pointer.
    json: String,
    /// One more for each so many, begun ones too.
    per: u32,
    /// What is taken where the request does not say. A client that asks for no bound must not be cheaper than one that does.
    without: u32,
}

fn x_api_key() -> String {
    "x-api-key".to_owned()
}

fn api() -> String {
    "api".to_owned()
}

fn one() -> u32 {
    1
}

impl Plugin for CostRate {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        for (n, cost) in config.costs.iter().enumerate() {
            if cost.and.as_ref().is_some_and(|measured| measured.per == 0) {
                return Err(Error::new(format!("config: `costs[{n}].and.per` is 0")));
            }
        }
        Ok(Self { config })
    }

    fn manifest(&self) -> Manifest {
        let mut manifest =
            Manifest::new().header(&self.config.header).client_ip().bucket(&self.config.bucket).pure();
        if !self.config.costs.is_empty() {
            manifest = manifest.method().path();
        }
        for cost in &self.config.costs {
            if let Some(bucket) = &cost.bucket {
                manifest = manifest.bucket(bucket);
            }
            if let Some(measured) = &cost.and {
                manifest = manifest.body_json(&measured.json);
            }
        }
        manifest
    }
}

impl Measured {
    fn cost(&self, request: &Request) -> u32 {
        // What is no whole number, or below zero, is not what the operator meant: it costs as much as not saying anything.
        let number = request
            .body_json(&self.json)
            .and_then(|json| json.parse().ok())
            .unwrap_or(u64::from(self.without));
        u32::try_from(number.div_ceil(u64::from(self.per))).unwrap_or(u32::MAX)
    }
}

impl RateHook for CostRate {
    fn charge(&self, request: &Request) -> Result<Vec<Charge>, Error> {
        // Whoever counts need not know the keys.
        let whose = match request.header(&self.config.header) {
            Some(key) => format!("key:{}", &digest::sha256_hex(key.as_bytes())[..32]),
            None => format!("ip:{}", request.client_ip().unwrap_or("unknown")),
        };
        let costs = self.config.costs.iter();
        let cost =
            costs.into_iter().find(|cost| cost.rule.matches(request.method(), request.path()).is_some());
        let (bucket, much) = match cost {
            Some(cost) => {
                let measured = cost.and.as_ref().map_or(0, |measured| measured.cost(request));
                (cost.bucket.as_ref().unwrap_or(&self.config.bucket), cost.cost.saturating_add(measured))
            }
            None => (&self.config.bucket, self.config.cost),
        };
        // Nothing is charged for what is free.
        Ok(if much == 0 { Vec::new() } else { vec![Charge::new(bucket, whose).cost(much)] })
    }
}

weir_plugin::export!(CostRate: rate);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use weir_plugin::testing::{self, TestRequest, Tested};

    use super::*;

    fn plugin() -> Tested<CostRate> {
        Tested::new(json!({
            "costs": [
                { "match": "GET /health", "cost": 0 },
                { "match": "POST /v1/chat/**", "cost": 2, "bucket": "chat", "and": { "json": "/max_tokens", "per": 1000, "without": 4096 } },
                { "match": "/reports/**", "cost": 20 },
            ],
        }))
        .unwrap()
    }

    fn charged(request: &TestRequest) -> (String, u32) {
        let charges = plugin().charge(request).unwrap();
        let [charge] = charges.as_slice() else { panic!("{charges:?}") };
        (charge.bucket.clone(), charge.cost)
    }

    #[test]
    fn the_first_rule_that_matches_says_the_cost() {
        assert_eq!(charged(&testing::get("/reports/2026")), ("api".to_owned(), 20));
        assert_eq!(charged(&testing::get("/anything")), ("api".to_owned(), 1));
        assert_eq!(plugin().charge(&testing::get("/health")).unwrap(), []);
    }

    #[test]
    fn what_a_request_asks_for_costs() {
        let cost = |body: Value| charged(&testing::post("/v1/chat/completions").json(body)).1;
        assert_eq!(cost(json!({ "max_tokens": 1 })), 3);
        assert_eq!(cost(json!({ "max_tokens": 1000 })), 3);
        assert_eq!(cost(json!({ "max_tokens": 1001 })), 4);
        assert_eq!(cost(json!({ "max_tokens": u64::MAX })), u32::MAX, "it never wraps to something cheap");
        for nothing in [
            json!({}),
            json!({ "max_tokens": -5 }),
            json!({ "max_tokens": "1" }),
            json!({ "max_tokens": 0.5 }),
        ] {
            assert_eq!(cost(nothing.clone()), 2 + 5, "{nothing}");
        }
        assert_eq!(charged(&testing::post("/v1/chat/x").body(b"no JSON")).1, 2 + 5);
    }

    #[test]
    fn keys_are_counted_apart_and_not_shown() {
        let whose = |request: TestRequest| plugin().charge(&request).unwrap()[0].key.clone();
        let one = whose(testing::get("/").header("X-Api-Key", "secret 1"));
        assert_ne!(one, whose(testing::get("/").header("X-Api-Key", "secret 2")));
        assert!(one.starts_with("key:") && !one.contains("secret"), "{one}");
        assert_eq!(whose(testing::get("/").client("203.0.113.7")), "ip:203.0.113.7");
        assert_ne!(
            whose(testing::get("/").header("x-api-key", "")),
            whose(testing::get("/")),
            "an empty key is one"
        );
    }

    #[test]
    fn every_bucket_is_named() {
        assert_eq!(plugin().charge(&testing::post("/v1/chat/x")).unwrap()[0].bucket, "chat");
    }

    #[test]
    fn mistakes_are_refused() {
        let error = |config| Tested::<CostRate>::new(config).unwrap_err().to_string();
        assert_eq!(
            error(json!({ "costs": [{ "match": "/a", "and": { "json": "/n", "per": 0, "without": 1 } }] })),
            "config: `costs[0].and.per` is 0"
        );
        assert_eq!(
            error(json!({ "costs": [{ "match": "a" }] })),
            "config: `costs[0].match`: `a` is not a path: it begins with `/`"
        );
    }
}
