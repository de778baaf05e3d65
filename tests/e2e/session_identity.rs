//! Who somebody is, asked once of a service that knows (token introspection, RFC 7662) and kept in the session: the application is told of it with each request.

use std::net::SocketAddr;

use harness::{Conn, Origin, RedisServer, Reply, Weir, eventually};

use crate::sessions::Browser;

/// Knows whose tokens are good: those of ann and bob.
fn introspection() -> Origin {
    Origin::start(|request| {
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let said = match asked.strip_prefix("token=of-") {
            Some(name @ ("ann" | "bob")) => serde_json::json!({ "active": true, "sub": name }),
            _ => serde_json::json!({ "active": false }),
        };
        Reply::ok(said.to_string()).header("Content-Type", "application/json")
    })
}

/// What stands in quotation marks behind a name.
fn quoted<'t>(field: &'t str, name: &str) -> Option<&'t str> {
    let member = field.split(", ").find_map(|member| member.strip_prefix(name)?.strip_prefix("=\""))?;
    member.strip_suffix('"')
}

/// Asks whose a token is, unless the session says so; and has the session remember it for ten minutes.
fn application(introspection: SocketAddr) -> Origin {
    Origin::start(move |request| {
        let field = |name: &str| request.header(name).unwrap_or_default();
        let Some(token) = field("authorization").strip_prefix("Bearer ") else { return Reply::ok("nobody") };
        let (info, data) = (field("session-info"), field("session-data"));
        if quoted(data, "token") == Some(token) {
            let (user, scope) = (quoted(info, "sub"), quoted(data, "scope"));
            return Reply::ok(format!("{} may {}", user.unwrap_or("-"), scope.unwrap_or("-")));
        }
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("token={token}");
        let said = Conn::connect(introspection).ask("POST", "/introspect", &kind, body.as_bytes()).text();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let Some(user) = said["sub"].as_str() else { return Reply::new(401) };
        Reply::ok(format!("{user} may read the pages of {user}"))
            .header("Session-Control", format!("sub=\"{user}\""))
            .header(
                "Session-Set",
                format!("token=\"{token}\";ttl=600, scope=\"read the pages of {user}\";ttl=600"),
            )
    })
}

#[test]
fn a_hundred_requests_at_two_proxies_ask_once_who_somebody_is() {
    let (introspection, redis) = (introspection(), RedisServer::start());
    let origin = application(introspection.address());
    let text = format!(
        "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n[data]\npath = \"{{DIR}}/data\"\n\
         [session]\nredis_budget = \"10s\"\n[[route]]\norigin = \"{}\"\nsession = \"write\"\n",
        redis.url(),
        origin.url()
    );
    let connected = |weir: &Weir| eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let with_token = |browser: &mut Browser, weir: &Weir, token: &str, more: &[(&str, &str)]| {
        let bearer = format!("Bearer {token}");
        let fields = [&[("Authorization", bearer.as_str())][..], more].concat();
        browser.ask(weir, "/", &fields)
    };
    let (mut ann, mut bob) = (Browser::new(), Browser::new());
    for number in 0..100 {
        let answer = with_token(&mut ann, &proxies[number % 2], "of-ann", &[]);
        assert_eq!(answer.text(), "ann may read the pages of ann", "request {number}");
    }
    assert_eq!(introspection.count(), 1, "a hundred requests");
    for weir in &proxies {
        assert_eq!(with_token(&mut bob, weir, "of-bob", &[]).text(), "bob may read the pages of bob");
    }
    assert_eq!(introspection.count(), 2, "nobody has what another one's session says");

    // What is kept is the session's word, and a client's word is not.
    let mut eve = Browser::new();
    let claims =
        [("Session-Info", "v=1, new=?0, sub=\"ann\""), ("Session-Data", "scope=\"all\", token=\"of-eve\"")];
    assert_eq!(with_token(&mut eve, &proxies[0], "of-eve", &claims).status, 401);
    assert!(eve.cookie.is_none());
    assert_eq!(introspection.count(), 3);
    // Another token in one's own session is asked for, and takes the session over.
    assert_eq!(with_token(&mut bob, &proxies[1], "of-ann", &[]).text(), "ann may read the pages of ann");
    assert_eq!(introspection.count(), 4);

    redis.ask(&["FLUSHALL"]);
    for weir in &proxies {
        assert_eq!(with_token(&mut ann, weir, "of-ann", &[]).text(), "ann may read the pages of ann");
    }
    assert_eq!(introspection.count(), 4, "Redis has forgotten it, and the session has not");

    // Ten minutes are over: whoever was to lose the right to come has lost it by then.
    let later = Weir::with_clock_ahead(&text, 660);
    connected(&later);
    assert_eq!(with_token(&mut ann, &later, "of-ann", &[]).text(), "ann may read the pages of ann");
    assert_eq!(introspection.count(), 5);
    // And at once, where an operator ends it.
    assert_eq!(later.admin("POST", "/sessions/kill?user=ann").status, 200);
    with_token(&mut ann, &later, "of-ann", &[]);
    assert_eq!(introspection.count(), 6);
}
