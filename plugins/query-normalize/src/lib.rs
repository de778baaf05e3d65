//! Drops, keeps and sorts query parameters, in the key and on the way to the origin. A plan: the host does it, and the plugin is never called.

use serde::Deserialize;
use weir_plugin::{Error, KeyPlan, Manifest, PlanHook, Plugin};

/// What advertisements and newsletters add to links. No origin should answer differently for it; those that do lose it.
const TRACKING: [&str; 30] = [
    "utm_*",
    "gclid",
    "gclsrc",
    "gbraid",
    "wbraid",
    "dclid",
    "gad_source",
    "gad_campaignid",
    "srsltid",
    "fbclid",
    "igshid",
    "igsh",
    "msclkid",
    "twclid",
    "ttclid",
    "li_fat_id",
    "yclid",
    "ysclid",
    "epik",
    "rdt_cid",
    "mc_cid",
    "mc_eid",
    "_hsenc",
    "_hsmi",
    "hsa_*",
    "mkt_tok",
    "vero_id",
    "oly_*",
    "s_kwcid",
    "_openstat",
];

struct QueryNormalize {
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Only these parameters.
    keep: Option<Vec<String>>,
    /// Not these.
    drop: Vec<String>,
    /// Nor what is known to be for tracking.
    tracking: bool,
    sort: bool,
    lower_path: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { keep: None, drop: Vec::new(), tracking: true, sort: true, lower_path: false }
    }
}

impl Plugin for QueryNormalize {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let all = config.keep.iter().flatten().chain(&config.drop);
        if let Some(wrong) = all.clone().find(|name| name.is_empty() || name.contains(['=', '&', '?'])) {
            return Err(Error::new(format!("config: `{wrong}` is no name of a parameter")));
        }
        if config.drop.iter().any(|name| name == "*") && config.keep.is_some() {
            return Err(
                "config: `drop = [\"*\"]` drops what `keep` keeps; `keep` alone drops all else".into()
            );
        }
        Ok(Self { config })
    }

    fn manifest(&self) -> Manifest {
        Manifest::new().pure()
    }
}

impl PlanHook for QueryNormalize {
    fn plan(&self) -> Result<Option<KeyPlan>, Error> {
        let Config { keep, drop, tracking, sort, lower_path } = &self.config;
        let mut plan = KeyPlan::new().drop_params(drop);
        if let Some(keep) = keep {
            plan = plan.keep_params(keep);
            plan.keep.get_or_insert_default();
        } else if *tracking {
            plan = plan.drop_params(TRACKING);
        }
        plan.sort = *sort;
        plan.lower_path = *lower_path;
        Ok(Some(plan))
    }
}

weir_plugin::export!(QueryNormalize: plan);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_plugin::testing::Tested;

    use super::*;

    fn plan(config: serde_json::Value) -> KeyPlan {
        Tested::<QueryNormalize>::new(config).unwrap().plan().unwrap().unwrap()
    }

    #[test]
    fn without_a_configuration_it_drops_tracking_and_sorts() {
        let plan = plan(json!({}));
        assert!(plan.sort);
        assert_eq!(plan.keep, None);
        for name in ["utm_source", "gclid", "fbclid", "mc_eid"] {
            assert!(weir_plugin::glob::any(&plan.drop, name), "{name}");
        }
        for name in ["q", "page", "utm", "id", "ref"] {
            assert!(!weir_plugin::glob::any(&plan.drop, name), "{name}");
        }
        assert_eq!(plan.cookies, None, "cookies are the route's");
    }

    #[test]
    fn keep_leaves_nothing_to_drop() {
        let plan = plan(json!({ "keep": ["page"] }));
        assert_eq!((plan.keep, plan.drop), (Some(vec!["page".to_owned()]), vec![]));
    }

    #[test]
    fn keeping_nothing_is_not_keeping_everything() {
        assert_eq!(plan(json!({ "keep": [] })).keep, Some(vec![]));
    }

    #[test]
    fn tracking_and_sorting_can_be_turned_off() {
        let plan = plan(json!({ "tracking": false, "sort": false, "drop": ["sid"] }));
        assert_eq!((plan.drop, plan.sort), (vec!["sid".to_owned()], false));
    }

    #[test]
    fn mistakes_are_refused() {
        let error = |config| Tested::<QueryNormalize>::new(config).unwrap_err().to_string();
        assert_eq!(error(json!({ "drop": ["a=b"] })), "config: `a=b` is no name of a parameter");
        assert_eq!(
            error(json!({ "drop": "a" })),
            "config: `drop`: invalid type: string \"a\", expected a sequence"
        );
        assert!(error(json!({ "drop": ["*"], "keep": ["a"] })).contains("`keep` alone"));
    }
}
