use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use weir_plugin::testing::{self, TestRequest, Tested};
use weir_plugin::{CacheMode, ForwardCookies};

use super::*;

const SECRET: &str = "an example of a secret, 32 bytes";
/// The start of 2026, where the clock of tests stands, in seconds.
const NOW: u64 = 1_767_225_600;

fn signed_with(secret: &str, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mac = digest::hmac_sha256(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(mac))
}

fn token(claims: &Value) -> String {
    signed_with(SECRET, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

fn bearer(token: &str) -> TestRequest {
    testing::get("/").header("authorization", &format!("Bearer {token}"))
}

fn decide(by: Value, request: &TestRequest) -> RequestDecision {
    Tested::<UserOrTenantKey>::new(json!({ "by": by })).unwrap().on_request(request).unwrap()
}

fn verifying() -> Value {
    json!([{ "jwt": "tenant", "secrets": [SECRET] }])
}

#[test]
fn attributes_of_the_session_make_keys() {
    let by = json!([{ "session": "tenant" }, { "session": "role" }]);
    let both = decide(by.clone(), &testing::get("/").session("tenant", "7").session("role", "admin"));
    assert_eq!(both.variants, ["session:tenant=7", "session:role=admin"]);
    assert_eq!(both.cookies, ForwardCookies::AsRouted);
    let role_alone = decide(by.clone(), &testing::get("/").session("role", "admin"));
    assert_eq!(role_alone.variants, ["-", "session:role=admin"]);
    assert_eq!(decide(by, &testing::get("/")), RequestDecision::lookup());
}

#[test]
fn no_value_can_look_like_another_identity() {
    let by = json!([{ "session": "a" }, { "session": "b" }]);
    let with =
        |a: &str, b: &str| decide(by.clone(), &testing::get("/").session("a", a).session("b", b)).variants;
    assert_ne!(with("1", "2"), with("1\", \"session:b=2", ""));
    assert_ne!(with("-", ""), decide(by.clone(), &testing::get("/").session("b", "")).variants);
}

#[test]
fn a_field_that_clients_can_send_is_refused_unless_somebody_vouches_for_it() {
    let error =
        Tested::<UserOrTenantKey>::new(json!({ "by": [{ "header": "x-tenant" }] })).unwrap_err().to_string();
    assert!(error.starts_with("config: `by[0]`: a client can send any `x-tenant`"), "{error}");
    let by = json!([{ "header": "x-tenant", "trusted": true }]);
    assert_eq!(
        decide(by.clone(), &testing::get("/").header("x-tenant", "7")).variants,
        ["header:x-tenant=7"]
    );
    let twice = testing::get("/").header("x-tenant", "8").header("x-tenant", "7");
    assert_eq!(decide(by, &twice).mode, CacheMode::Bypass, "one of the two is the client's");
}

#[test]
fn a_credential_is_its_own_key_and_shown_to_nobody() {
    let by = json!([{ "credential": "x-api-key" }]);
    let variant =
        |key: &str| decide(by.clone(), &testing::get("/").header("x-api-key", key)).variants[0].clone();
    assert_ne!(variant("one"), variant("two"));
    assert!(!variant("very secret").contains("very secret"));
}

#[test]
fn users_of_a_tenant_share_when_their_tokens_are_verified() {
    let one = decide(verifying(), &bearer(&token(&json!({ "sub": "anna", "tenant": "7" }))));
    let other = decide(verifying(), &bearer(&token(&json!({ "sub": "ben", "tenant": "7" }))));
    assert_eq!(one.variants, ["jwt:tenant=7"]);
    assert_eq!(one, other);
    let number = decide(verifying(), &bearer(&token(&json!({ "tenant": 7 }))));
    assert_eq!(number.variants, ["jwt:tenant=#7"]);
}

#[test]
fn whatever_proves_nothing_passes_the_cache() {
    let hs256 = json!({ "alg": "HS256" });
    let claims = json!({ "tenant": "7" });
    let good = token(&claims);
    let (head, rest) = good.split_once('.').unwrap();
    let none = BASE64URL.encode(json!({ "alg": "none" }).to_string());
    let cases = [
        ("another secret", signed_with("another secret that is long enough", &hs256, &claims)),
        ("no signature", format!("{head}.{}.", rest.split_once('.').unwrap().0)),
        ("a signature cut short", good[..good.len() - 4].to_owned()),
        ("no algorithm", signed_with(SECRET, &json!({}), &claims)),
        ("the algorithm none", format!("{none}.{}.", rest.split_once('.').unwrap().0)),
        ("an algorithm that is not ours", signed_with(SECRET, &json!({ "alg": "HS512" }), &claims)),
        ("a critical extension", signed_with(SECRET, &json!({ "alg": "HS256", "crit": ["b64"] }), &claims)),
        ("claims changed afterwards", {
            let forged = BASE64URL.encode(json!({ "tenant": "8" }).to_string());
            format!("{head}.{forged}.{}", rest.split_once('.').unwrap().1)
        }),
        ("expired", token(&json!({ "tenant": "7", "exp": NOW }))),
        ("an end that is no number", token(&json!({ "tenant": "7", "exp": "never" }))),
        ("not valid yet", token(&json!({ "tenant": "7", "nbf": NOW + 1 }))),
        ("without the claim", token(&json!({ "sub": "anna" }))),
        ("a claim that is a list", token(&json!({ "tenant": ["7"] }))),
        ("no token", "7".to_owned()),
        ("nothing", String::new()),
        ("far too long", "a".repeat(9_000)),
    ];
    for (what, token) in cases {
        assert_eq!(decide(verifying(), &bearer(&token)).mode, CacheMode::Bypass, "{what}");
    }
    let basic = testing::get("/").header("authorization", "Basic dTpw");
    assert_eq!(decide(verifying(), &basic).mode, CacheMode::Bypass);
}

#[test]
fn a_decision_ends_with_its_token() {
    let decision = decide(verifying(), &bearer(&token(&json!({ "tenant": "7", "exp": NOW + 90 }))));
    assert_eq!(decision.remember_for, Some(Duration::from_secs(90)));
    let by = json!([{ "jwt": "tenant" }]);
    let decision = decide(by, &bearer(&token(&json!({ "exp": NOW + 90 }))));
    assert_eq!(decision.remember_for, Some(Duration::from_secs(90)));
}

#[test]
fn a_token_that_is_not_verified_opens_only_its_own_entry() {
    let by = json!([{ "jwt": "tenant" }]);
    let anna = token(&json!({ "sub": "anna", "tenant": "7" }));
    let forged = signed_with(
        "the attacker's own secret, 32 byte",
        &json!({ "alg": "HS256" }),
        &json!({ "sub": "anna", "tenant": "7" }),
    );
    let of = |token: &str| decide(by.clone(), &bearer(token)).variants;
    assert_ne!(of(&anna), of(&forged));
    assert_eq!(of(&anna), of(&anna));
    assert!(!of(&anna)[0].contains(&anna));
    let expired = token(&json!({ "exp": NOW - 1 }));
    assert_eq!(decide(by, &bearer(&expired)).mode, CacheMode::Bypass);
}

#[test]
fn issuer_and_audience_are_checked() {
    let by = json!([{ "jwt": "sub", "cookie": "token", "secrets": [SECRET], "issuer": "login", "audience": "shop" }]);
    let mode = |claims: Value| decide(by.clone(), &testing::get("/").cookie("token", &token(&claims))).mode;
    assert_eq!(mode(json!({ "sub": "a", "iss": "login", "aud": "shop" })), CacheMode::Lookup);
    assert_eq!(mode(json!({ "sub": "a", "iss": "login", "aud": ["x", "shop"] })), CacheMode::Lookup);
    assert_eq!(mode(json!({ "sub": "a", "iss": "login", "aud": ["x"] })), CacheMode::Bypass);
    assert_eq!(mode(json!({ "sub": "a", "iss": "other", "aud": "shop" })), CacheMode::Bypass);
    assert_eq!(mode(json!({ "sub": "a" })), CacheMode::Bypass);
}

#[test]
fn secrets_can_be_exchanged() {
    let by = json!([{ "jwt": "sub", "secrets": ["a new secret that is long enough!", SECRET] }]);
    assert_eq!(decide(by, &bearer(&token(&json!({ "sub": "a" })))).mode, CacheMode::Lookup);
}

#[test]
fn who_is_nobody_can_be_kept_out() {
    let plugin =
        Tested::<UserOrTenantKey>::new(json!({ "by": [{ "session": "user" }], "anonymous": "bypass" }))
            .unwrap();
    assert_eq!(plugin.on_request(&testing::get("/")).unwrap(), RequestDecision::bypass());
}

#[test]
fn mistakes_are_refused() {
    let error = |by| Tested::<UserOrTenantKey>::new(json!({ "by": by })).unwrap_err().to_string();
    assert_eq!(error(json!([])), "config: `by` names no source");
    assert_eq!(
        error(json!([{}])),
        "config: `by[0]`: needs exactly one of `session`, `header`, `credential`, `jwt`"
    );
    assert_eq!(
        error(json!([{ "session": "a", "jwt": "b" }])),
        "config: `by[0]`: needs exactly one of `session`, `header`, `credential`, `jwt`"
    );
    assert_eq!(
        error(json!([{ "jwt": "a", "secrets": ["short"] }])),
        "config: `by[0]`: a secret is shorter than 32 bytes, and could be guessed"
    );
    assert_eq!(
        error(json!([{ "jwt": "a", "issuer": "x" }])),
        "config: `by[0]`: `issuer` and `audience` of a token that is not verified say nothing: give `secrets`"
    );
}
