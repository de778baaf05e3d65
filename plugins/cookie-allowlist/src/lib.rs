//! Shares pages among visitors whose cookies do not matter: analytics, consent, CSRF. Whoever carries any other cookie passes the cache.
//!
//! Only names are looked at, so a million visitors with different values are one remembered decision. What is ignored is not forwarded on a lookup or fill: the
//! origin answers as it would to somebody on their first visit, and cannot put into a shared page what it would know from a cookie.

use std::time::Duration;

use serde::Deserialize;
use weir_plugin::config::Ttl;
use weir_plugin::{
    Error, Manifest, NameFilter, Plugin, Request, RequestDecision, RequestHook, Response, ResponseDecision,
    ResponseHook, StorePolicy, host,
};

/// What scripts in the page read, and no application does.
const ANALYTICS: [&str; 38] = [
    "_ga",
    "_ga_*",
    "_gid",
    "_gat",
    "_gat_*",
    "_gcl_*",
    "_dc_gtm_*",
    "__utma",
    "__utmb",
    "__utmc",
    "__utmt*",
    "__utmv",
    "__utmz",
    "__gads",
    "__gpi",
    "_fbp",
    "_fbc",
    "_hj*",
    "_pk_id*",
    "_pk_ses*",
    "_pk_ref*",
    "_clck",
    "_clsk",
    "_uetsid",
    "_uetvid",
    "__hstc",
    "__hssc",
    "__hssrc",
    "hubspotutk",
    "ajs_anonymous_id",
    "mp_*_mixpanel",
    "amp_*",
    "_ttp",
    "_pin_unauth",
    "_scid",
    "sbjs_*",
    "tk_ai",
    "__cf_bm",
];

/// What asks for consent keeps the answer here, for its own script.
const CONSENT: [&str; 7] = [
    "CookieConsent",
    "OptanonConsent",
    "OptanonAlertBoxClosed",
    "cookieconsent_status",
    "cookielawinfo-*",
    "euconsent-v2",
    "cmplz_*",
];

struct CookieAllowlist {
    others: NameFilter,
    vary: Vec<String>,
    ttl: Option<Duration>,
    pass_for: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The frameworks of the application.
    preset: Presets,
    /// Further cookies that do not matter. `*` stands for any text.
    ignore: Vec<String>,
    /// Cookies whose values tell pages apart; they are forwarded.
    vary: Vec<String>,
    /// Whether the known cookies of analytics and consent are ignored.
    analytics: bool,
    /// For how long pages are fresh that do not say so themselves.
    ttl: Option<Ttl>,
    /// For how long nobody waits for a page that set a cookie.
    pass_for: Ttl,
}

impl Default for Config {
    fn default() -> Self {
        let pass_for = Ttl(Duration::from_secs(60));
        Self { preset: Presets::None, ignore: vec![], vary: vec![], analytics: true, ttl: None, pass_for }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a preset, or a list of them: `django`, `rails`, `laravel`, `wordpress`")]
enum Presets {
    None,
    One(Preset),
    Many(Vec<Preset>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Preset {
    Django,
    Rails,
    Laravel,
    Wordpress,
}

impl Preset {
    /// What an anonymous visitor may carry. A CSRF cookie is worth nothing without the token in a form, and a page with a form sets the cookie
    /// anew, since the fill carried none: it is not stored.
    fn ignored(self) -> &'static [&'static str] {
        match self {
            Self::Django => &["csrftoken"],
            // The token of Rails lies in the session: whoever has one passes the cache.
            Self::Rails => &[],
            Self::Laravel => &["XSRF-TOKEN"],
            // What remains after logging out: settings of the dashboard, which visitors do not see.
            Self::Wordpress => &["wordpress_test_cookie", "wp-settings-*", "wp_lang"],
        }
    }

    /// What changes pages for everybody alike.
    fn varied(self) -> &'static [&'static str] {
        match self {
            Self::Django => &["django_language"],
            Self::Rails | Self::Laravel => &[],
            Self::Wordpress => &["pll_language"],
        }
    }
}

impl Plugin for CookieAllowlist {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let presets = match config.preset {
            Presets::None => vec![],
            Presets::One(preset) => vec![preset],
            Presets::Many(presets) => presets,
        };
        let mut ignored = config.ignore;
        let mut vary = config.vary;
        if let Some(wrong) = vary.iter().find(|name| name.is_empty() || name.contains(['*', '=', ';'])) {
            return Err(Error::new(format!("config: `vary`: `{wrong}` is no name of a cookie")));
        }
        if ignored.iter().any(|pattern| pattern == "*") {
            return Err("config: `ignore = [\"*\"]` shares pages with everybody who has logged in".into());
        }
        for preset in presets {
            ignored.extend(preset.ignored().iter().map(|&name| name.to_owned()));
            vary.extend(preset.varied().iter().map(|&name| name.to_owned()));
        }
        if config.analytics {
            ignored.extend(ANALYTICS.iter().chain(&CONSENT).map(|&name| name.to_owned()));
        }
        vary.sort();
        vary.dedup();
        let others = NameFilter::all().except(ignored.into_iter().chain(vary.iter().cloned()));
        Ok(Self { others, vary, ttl: config.ttl.map(|ttl| *ttl), pass_for: *config.pass_for })
    }

    fn manifest(&self) -> Manifest {
        let manifest = Manifest::new().method().cookie_names(self.others.clone());
        let manifest = self.vary.iter().fold(manifest, |manifest, name| manifest.cookie(name));
        manifest
            .header("authorization")
            .response_header("set-cookie")
            .response_header("cache-control")
            .response_header("expires")
            .pure()
    }
}

impl RequestHook for CookieAllowlist {
    fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
        let personal =
            request.cookie_names(&self.others).next().is_some() || request.header("authorization").is_some();
        if personal || !matches!(request.method(), "GET" | "HEAD") {
            return Ok(RequestDecision::bypass());
        }
        let mut decision = RequestDecision::lookup().forward_cookies(&self.vary).carry("shared");
        for name in &self.vary {
            if let Some(value) = request.cookie(name) {
                decision = decision.variant(format!("{name}={value}"));
            }
        }
        Ok(decision)
    }
}

impl ResponseHook for CookieAllowlist {
    fn on_response(
        &self,
        _: &Request,
        carry: Option<&str>,
        response: &Response,
    ) -> Result<ResponseDecision, Error> {
        if carry != Some("shared") {
            return Ok(ResponseDecision::no_store());
        }
        // A token in the page is bound to a cookie, and the fill carried none: the page sets one. Neither is for anybody else.
        if response.header("set-cookie").is_some() {
            host::count("pages_that_set_cookies", 1);
            return Ok(ResponseDecision::hit_for_pass(self.pass_for));
        }
        let says_nothing = response.header("cache-control").is_none() && response.header("expires").is_none();
        Ok(match self.ttl {
            Some(ttl) if says_nothing && response.status() == 200 => {
                ResponseDecision::store(StorePolicy::new().ttl(ttl))
            }
            _ => ResponseDecision::default(),
        })
    }
}

weir_plugin::export!(CookieAllowlist: request, response);

#[cfg(test)]
mod tests;
