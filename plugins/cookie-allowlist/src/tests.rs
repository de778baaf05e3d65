use serde_json::{Value, json};
use weir_plugin::testing::{self, TestRequest, Tested};
use weir_plugin::{CacheMode, ForwardCookies, StoreDecision};

use super::*;

fn plugin(config: Value) -> Tested<CookieAllowlist> {
    Tested::new(config).unwrap()
}

fn page(cookies: &[&str]) -> TestRequest {
    cookies.iter().fold(testing::get("/"), |request, name| request.cookie(name, "some value"))
}

#[test]
fn who_is_logged_in_never_shares() {
    #[rustfmt::skip]
    let cases = [
        // preset      what an anonymous visitor carries                         what marks one who is not
        ("django",    &["csrftoken", "_ga", "_ga_1X2Y3Z"][..],                    &["sessionid", "messages"][..]),
        ("rails",     &["_ga", "_fbp"],                                           &["_shop_session", "remember_user_token"]),
        ("laravel",   &["XSRF-TOKEN", "_gid"],                                    &["laravel_session", "remember_web_59ba36addc2b2f94"]),
        ("wordpress", &["wordpress_test_cookie", "wp-settings-1", "sbjs_first"],  &["wordpress_logged_in_5f4d", "wp-postpass_5f4d", "comment_author_5f4d", "woocommerce_cart_hash"]),
    ];
    for (preset, anonymous, personal) in cases {
        let plugin = plugin(json!({ "preset": preset }));
        let shared = plugin.on_request(&page(anonymous)).unwrap();
        assert_eq!(shared.mode, CacheMode::Lookup, "{preset}");
        assert_eq!(shared, plugin.on_request(&page(&[])).unwrap(), "{preset}: as on a first visit");
        for cookie in personal {
            let both: Vec<_> = anonymous.iter().chain([cookie]).copied().collect();
            assert_eq!(
                plugin.on_request(&page(&both)).unwrap(),
                RequestDecision::bypass(),
                "{preset} {cookie}"
            );
        }
    }
}

#[test]
fn what_is_ignored_is_not_forwarded() {
    let decision = plugin(json!({ "preset": "rails" })).on_request(&page(&["_ga"])).unwrap();
    assert_eq!(decision.cookies, ForwardCookies::Only(vec![]));
    let decision = plugin(json!({ "preset": "django" })).on_request(&page(&["_ga"])).unwrap();
    assert_eq!(decision.cookies, ForwardCookies::Only(vec!["django_language".to_owned()]));
}

#[test]
fn a_cookie_that_tells_pages_apart_does() {
    let plugin = plugin(json!({ "preset": "django", "vary": ["theme"] }));
    let variants = |request: TestRequest| plugin.on_request(&request).unwrap().variants;
    assert_eq!(variants(testing::get("/").cookie("django_language", "de")), ["django_language=de"]);
    assert_eq!(
        variants(testing::get("/").cookie("theme", "dark").cookie("django_language", "de")),
        ["django_language=de", "theme=dark"]
    );
    assert_eq!(variants(testing::get("/").cookie("_ga", "1")), Vec::<String>::new());
}

#[test]
fn credentials_and_writes_pass() {
    let plugin = plugin(json!({ "preset": "django" }));
    for request in [testing::get("/").header("authorization", "Bearer x"), testing::post("/")] {
        assert_eq!(plugin.on_request(&request).unwrap().mode, CacheMode::Bypass);
    }
    let unnamed = testing::get("/").header("cookie", "secret");
    assert_eq!(
        plugin.on_request(&unnamed).unwrap().mode,
        CacheMode::Bypass,
        "a cookie without a name is one"
    );
}

#[test]
fn a_page_that_sets_a_cookie_is_not_shared_and_not_waited_for() {
    let plugin = plugin(json!({ "preset": "django", "ttl": "10s" }));
    let login = testing::response(200).header("Set-Cookie", "csrftoken=x; Path=/");
    let decision = plugin.on_response(&page(&[]), Some("shared"), &login).unwrap();
    assert_eq!(decision.store, StoreDecision::HitForPass(Duration::from_secs(60)));
    assert_eq!(testing::counter("pages_that_set_cookies"), 1);
}

#[test]
fn pages_that_say_nothing_get_the_lifetime_given_here() {
    let plugin = plugin(json!({ "ttl": "10s" }));
    let store = |response| plugin.on_response(&page(&[]), Some("shared"), &response).unwrap().store;
    assert_eq!(
        store(testing::response(200)),
        StoreDecision::Store(StorePolicy::new().ttl(Duration::from_secs(10)))
    );
    for other in [
        testing::response(500),
        testing::response(200).header("cache-control", "max-age=5"),
        testing::response(200).header("expires", "0"),
    ] {
        assert_eq!(store(other), StoreDecision::Default);
    }
    let passed = plugin.on_response(&page(&["sessionid"]), None, &testing::response(200)).unwrap();
    assert_eq!(passed.store, StoreDecision::NoStore);
}

#[test]
fn mistakes_are_refused() {
    let error = |config| Tested::<CookieAllowlist>::new(config).unwrap_err().to_string();
    assert_eq!(
        error(json!({ "preset": "djnago" })),
        "config: `preset`: a preset, or a list of them: `django`, `rails`, `laravel`, `wordpress`"
    );
    assert!(error(json!({ "ignore": ["*"] })).contains("everybody who has logged in"));
    assert_eq!(error(json!({ "vary": ["a*"] })), "config: `vary`: `a*` is no name of a cookie");
}
