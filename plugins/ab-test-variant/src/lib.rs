//! A variant for each bucket of an A/B test, told by a cookie. Only known buckets make variants: nobody can fill the cache with invented ones.

use serde::Deserialize;
use weir_plugin::{Error, Manifest, Plugin, Request, RequestDecision, RequestHook, host};

struct AbTest {
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The cookie that tells the bucket.
    #[serde(default = "ab")]
    cookie: String,
    /// The values it may have.
    buckets: Vec<String>,
    /// The bucket of visitors without the cookie. Without this they pass the cache, and the origin gives them one.
    default: Option<String>,
}

fn ab() -> String {
    "ab".to_owned()
}

impl Plugin for AbTest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.buckets.is_empty() {
            return Err("config: `buckets` names none".into());
        }
        if let Some(default) = config.default.as_ref().filter(|default| !config.buckets.contains(default)) {
            return Err(Error::new(format!("config: `default`: `{default}` is none of the `buckets`")));
        }
        Ok(Self { config })
    }

    fn manifest(&self) -> Manifest {
        Manifest::new().cookie(&self.config.cookie).pure()
    }
}

impl RequestHook for AbTest {
    fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
        let bucket = match request.cookie(&self.config.cookie) {
            None => self.config.default.as_deref(),
            // The origin would see this value, whatever it makes of it: what it answers is for this visitor.
            Some(given) => self.config.buckets.iter().map(String::as_str).find(|bucket| *bucket == given),
        };
        let Some(bucket) = bucket else {
            host::count("without_bucket", 1);
            return Ok(RequestDecision::bypass());
        };
        // All other cookies are the route's: this plugin does not know whom they stand for.
        Ok(RequestDecision::lookup().variant(format!("{}={bucket}", self.config.cookie)))
    }
}

weir_plugin::export!(AbTest: request);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_plugin::testing::{self, Tested};
    use weir_plugin::{CacheMode, ForwardCookies};

    use super::*;

    fn decide(config: serde_json::Value, cookie: Option<&str>) -> RequestDecision {
        let request = testing::get("/prices").cookie("_ga", "1");
        let request = match cookie {
            Some(value) => request.cookie("ab", value),
            None => request,
        };
        Tested::<AbTest>::new(config).unwrap().on_request(&request).unwrap()
    }

    #[test]
    fn each_bucket_is_a_variant() {
        let config = json!({ "buckets": ["a", "b"] });
        assert_eq!(decide(config.clone(), Some("a")).variants, ["ab=a"]);
        let b = decide(config, Some("b"));
        assert_eq!((b.mode, b.variants), (CacheMode::Lookup, vec!["ab=b".to_owned()]));
        assert_eq!(b.cookies, ForwardCookies::AsRouted, "the route knows its other cookies");
    }

    #[test]
    fn a_visitor_without_a_bucket_goes_to_the_origin_for_one() {
        assert_eq!(decide(json!({ "buckets": ["a"] }), None).mode, CacheMode::Bypass);
        assert_eq!(testing::counter("without_bucket"), 1);
    }

    #[test]
    fn a_default_is_for_who_has_none_never_for_who_invents_one() {
        let config = json!({ "buckets": ["a", "b"], "default": "a" });
        assert_eq!(decide(config.clone(), None).variants, ["ab=a"]);
        assert_eq!(decide(config.clone(), Some("c")).mode, CacheMode::Bypass);
        assert_eq!(decide(config, Some("")).mode, CacheMode::Bypass);
    }

    #[test]
    fn mistakes_are_refused() {
        let error = |config| Tested::<AbTest>::new(config).unwrap_err().to_string();
        assert_eq!(error(json!({})), "config: missing field `buckets`");
        assert_eq!(error(json!({ "buckets": [] })), "config: `buckets` names none");
        assert_eq!(
            error(json!({ "buckets": ["a"], "default": "b" })),
            "config: `default`: `b` is none of the `buckets`"
        );
    }
}
