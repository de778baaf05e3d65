//! `Set-Cookie` and `Cookie`: nothing panics; what a browser is told comes back under the name and with the value that the application gave; what a jar keeps is read back as it was.
#![no_main]

use std::sync::LazyLock;

use cache_semantics::glob::Glob;
use cookie_jar::{
    Kept, Lifetime, Policy, Prefix, Rule, SameSite, Secure, SetCookie, Site, Taken, ToOrigin, request,
};
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let rule = |name: &str| Rule { names: vec![Glob::new(name)], ..Rule::default() };
    let host = Rule { prefix: Some(Prefix::Host), same_site: Some(SameSite::Strict), ..rule("s*") };
    let kept = Rule {
        prefix: Some(Prefix::Secure),
        takes_unprefixed: true,
        lifetime: Some(Lifetime::Seconds(60)),
        ..rule("k*")
    };
    let loose = Rule {
        secure: Some(Secure::Never),
        http_only: Some(true),
        lifetime: Some(Lifetime::Browser),
        ..rule("*")
    };
    Policy { rules: vec![host, kept, loose] }
});

fuzz_target!(|data: &[u8]| {
    let _ = POLICY.to_origin(data, true);
    let _ = Kept::decode(data);
    let Some(cookie) = SetCookie::parse(data) else { return };
    let site = Site { host: "www.example.com", path: b"/a/b", over_tls: true };
    if let Ok(Taken::Kept(kept)) = Kept::take(&cookie, &site, 7_000) {
        assert_eq!(Kept::decode(&kept.encode()).as_ref(), Some(&kept));
    }
    for over_tls in [false, true] {
        let Some(told) = POLICY.to_client(data, over_tls, 1_000) else { continue };
        let Some(line) = SetCookie::parse(&told[0]) else {
            // A prefix makes it longer, and browsers take no longer ones.
            assert!(data.len() > 4_000 || told[0].len() > 4_000);
            continue;
        };
        assert_eq!(line.value, cookie.value);
        assert_eq!(line.deletes(1_000), cookie.deletes(1_000));
        // One that the application itself gave a prefix cannot be told from one that the policy gave it.
        if line.name.is_empty() || cookie.name.starts_with(b"__") {
            continue;
        }
        let field = [line.name, b"=", line.value].concat();
        let seen = match POLICY.to_origin(&field, over_tls) {
            ToOrigin::Same => field,
            ToOrigin::Changed(seen) => seen,
        };
        // Names with spaces or separators in them do not come back from browsers as they were.
        if let [pair] = request::pairs(&seen).collect::<Vec<_>>()[..] {
            assert_eq!((pair.name, pair.value), (cookie.name, cookie.value));
        }
    }
});
