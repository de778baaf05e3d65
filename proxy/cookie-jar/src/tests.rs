//! What holds for all cookies, and the policy as stories.

use cache_semantics::glob::Glob;
use proptest::prelude::*;

use crate::{
    Kept, Lifetime, Policy, Prefix, Rule, SameSite, Secure, SetCookie, Site, Taken, ToOrigin, request,
};

fn policy(rules: &[(&str, Rule)]) -> Policy {
    let rules = rules.iter().map(|(name, rule)| Rule { names: vec![Glob::new(name)], ..rule.clone() });
    Policy { rules: rules.collect() }
}

fn shown(lines: Option<Vec<Vec<u8>>>) -> Option<String> {
    Some(lines?.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join(" | "))
}

#[test]
fn what_a_policy_makes_of_set_cookie() {
    let strict = Rule {
        secure: Some(Secure::Auto),
        http_only: Some(true),
        same_site: Some(SameSite::Strict),
        ..Rule::default()
    };
    let host = Rule { prefix: Some(Prefix::Host), takes_unprefixed: true, ..Rule::default() };
    let loose = Rule { secure: Some(Secure::Never), http_only: Some(false), ..Rule::default() };
    let day = Rule { lifetime: Some(Lifetime::Seconds(86_400)), ..Rule::default() };
    let browser = Rule { lifetime: Some(Lifetime::Browser), ..Rule::default() };
    let nameless = Rule { http_only: Some(true), ..Rule::default() };
    let rules = [
        ("s*", strict),
        ("host", host),
        ("loose", loose),
        ("day", day),
        ("browser", browser),
        ("", nameless),
    ];
    let policy = policy(&rules);
    #[rustfmt::skip]
    let cases = [
        // line                                                      tls    said
        ("other=1; Path=/",                                          true,  None),
        ("sid=1; Path=/; SameSite=Lax",                              true,  Some("sid=1; Path=/; Secure; HttpOnly; SameSite=Strict")),
        ("sid=1; Path=/",                                            false, Some("sid=1; Path=/; HttpOnly; SameSite=Strict")),
        ("host=1; Domain=example.com; Path=/x; Max-Age=5",           true,  Some("__Host-host=1; Max-Age=5; Path=/; Secure")),
        ("host=1; Path=/x",                                          false, Some("host=1; Path=/x")),
        ("host=; Max-Age=0; Path=/x",                                true,  Some("__Host-host=; Max-Age=0; Path=/; Secure | host=; Max-Age=0; Path=/x")),
        ("loose=1; Secure; HttpOnly; Partitioned",                   true,  Some("loose=1; Partitioned")),
        ("day=1; expires=Thu, 01 Jan 2099 00:00:00 GMT; Max-Age=5",  true,  Some("day=1; Max-Age=86400")),
        ("day=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT",             true,  Some("day=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT")),
        ("browser=1; Max-Age=5; Secure",                             true,  Some("browser=1; Secure")),
        ("=sid",                                                     true,  Some("sid; HttpOnly")),
        ("=sid=1",                                                   true,  Some("=sid=1; HttpOnly")),
    ];
    for (line, over_tls, expected) in cases {
        let said = shown(policy.to_client(line.as_bytes(), over_tls, 1_000));
        assert_eq!(said.as_deref(), expected, "{line}");
    }
}

#[test]
fn what_of_a_request_s_cookies_the_application_sees() {
    let host = Rule { prefix: Some(Prefix::Host), ..Rule::default() };
    let moving = Rule { prefix: Some(Prefix::Secure), takes_unprefixed: true, ..Rule::default() };
    let policy = policy(&[("sid", host), ("lang", moving)]);
    #[rustfmt::skip]
    let cases = [
        // what                               cookies                                tls    seen
        ("nothing of ours",                   "a=1; b=2",                            true,  None),
        ("it comes back",                     "a=1; __Host-sid=x=y",                 true,  Some("a=1; sid=x=y")),
        ("planted without the prefix",        "sid=evil; __Host-sid=x",              true,  Some("sid=x")),
        ("nothing else there",                "sid=evil",                            true,  Some("")),
        ("two of one name",                   "__Host-sid=x; __Host-sid=y; a=1",     true,  Some("a=1")),
        ("a prefix that nobody gave",         "__Secure-sid=x",                      true,  None),
        ("names stay over plain HTTP",        "sid=x",                               false, None),
        ("the cookie of before",              "lang=de",                             true,  Some("lang=de")),
        ("the new one beats that of before",  "lang=de; __Secure-lang=en",           true,  Some("lang=en")),
    ];
    for (what, cookies, over_tls, expected) in cases {
        let seen = match policy.to_origin(cookies.as_bytes(), over_tls) {
            ToOrigin::Same => None,
            ToOrigin::Changed(seen) => Some(String::from_utf8(seen).unwrap()),
        };
        assert_eq!(seen.as_deref(), expected, "{what}");
    }
}

fn rules() -> impl Strategy<Value = Policy> {
    let prefix = prop_oneof![Just(None), Just(Some(Prefix::Host)), Just(Some(Prefix::Secure))];
    let secure = prop_oneof![
        Just(None),
        Just(Some(Secure::Always)),
        Just(Some(Secure::Never)),
        Just(Some(Secure::Auto))
    ];
    let same_site = prop_oneof![Just(None), Just(Some(SameSite::Lax)), Just(Some(SameSite::Strict))];
    let lifetime = prop_oneof![Just(None), Just(Some(Lifetime::Browser)), Just(Some(Lifetime::Seconds(60)))];
    let rule = ("[ab*]{1,2}", prefix, secure, same_site, lifetime, any::<Option<bool>>(), any::<bool>())
        .prop_map(|(name, prefix, secure, same_site, lifetime, http_only, takes_unprefixed)| Rule {
            names: vec![Glob::new(&name)],
            secure,
            http_only,
            same_site,
            prefix,
            takes_unprefixed,
            lifetime,
        });
    prop::collection::vec(rule, 0..4).prop_map(|rules| Policy { rules })
}

fn cookies() -> impl Strategy<Value = String> {
    let attribute = prop_oneof![
        Just("Path=/".to_owned()),
        Just("Secure".to_owned()),
        Just("HttpOnly".to_owned()),
        Just("Max-Age=0".to_owned()),
        Just("max-age=7".to_owned()),
        Just("Domain=example.com".to_owned()),
        "[ -:<-~]{0,12}",
    ];
    ("[abc]{1,2}", "[ -:<-~]{0,6}", prop::collection::vec(attribute, 0..5))
        .prop_map(|(name, value, attributes)| format!("{name}={}; {}", value.trim(), attributes.join("; ")))
}

proptest! {
    /// What a browser was told comes back to the origin under the name and with the value that it gave.
    #[test]
    fn a_cookie_comes_back_as_it_was_set(policy in rules(), line in cookies(), over_tls: bool) {
        let cookie = SetCookie::parse(line.as_bytes()).unwrap();
        let lines = policy.to_client(line.as_bytes(), over_tls, 100).unwrap_or_else(|| vec![line.clone().into_bytes()]);
        let told = SetCookie::parse(&lines[0]).unwrap();
        prop_assert_eq!(told.value, cookie.value);
        prop_assert_eq!(told.deletes(100), cookie.deletes(100), "a deletion stays one, and nothing else becomes one");
        if told.name.starts_with(b"__Host-") {
            prop_assert!(told.has("secure") && told.domain().is_none() && told.path() == Some(b"/"));
        }
        let field = [told.name, b"=", told.value].concat();
        let seen = match policy.to_origin(&field, over_tls) {
            ToOrigin::Same => field,
            ToOrigin::Changed(seen) => seen,
        };
        let seen: Vec<_> = request::pairs(&seen).collect();
        prop_assert_eq!(seen.len(), 1);
        prop_assert_eq!((seen[0].name, seen[0].value), (cookie.name, cookie.value));
    }

    #[test]
    fn no_bytes_make_it_panic(policy in rules(), line: Vec<u8>, path: Vec<u8>, over_tls: bool) {
        let _ = policy.to_client(&line, over_tls, 100);
        let _ = policy.to_origin(&line, over_tls);
        let _ = Kept::decode(&line);
        if let Some(cookie) = SetCookie::parse(&line) {
            let site = Site { host: "a.example.com", path: &path, over_tls };
            if let Ok(Taken::Kept(kept)) = Kept::take(&cookie, &site, 7) {
                prop_assert_eq!(Kept::decode(&kept.encode()), Some(kept));
            }
        }
    }

    #[test]
    fn what_is_kept_is_read_back_and_goes_where_it_came_from(line in cookies(), path in "/[a-c/]{0,8}", over_tls: bool) {
        let cookie = SetCookie::parse(line.as_bytes()).unwrap();
        let site = Site { host: "www.example.com", path: path.as_bytes(), over_tls };
        if let Ok(Taken::Kept(kept)) = Kept::take(&cookie, &site, 7) {
            let read = Kept::decode(&kept.encode());
            prop_assert_eq!(read.as_ref(), Some(&kept));
            if cookie.path().is_none() {
                prop_assert!(kept.goes_to(&site), "{kept:?}");
            }
        }
    }
}
