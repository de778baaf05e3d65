//! Which route takes a request, and what it does with it.

use harness::{Origin, Reply, Weir};

#[test]
fn the_first_route_that_matches_wins() {
    let origin = Origin::start(|_| Reply::new(404));
    let fixed = |matches: &str, name: &str| {
        format!("[[route]]\nmatch = {{ {matches} }}\nrespond = {{ body = \"{name}\" }}\n")
    };
    let config = [
        fixed("host = \"*.wild.test\", path = \"/a/**\"", "wild a"),
        fixed("host = [\"one.test\", \"two.test\"]", "one or two"),
        fixed("path = \"/api/{version}/items/{id}\", methods = [\"GET\", \"HEAD\"]", "item"),
        fixed("path = \"/api/**\"", "api"),
        fixed("path = [\"/*.css\", \"/**/*.js\"]", "asset"),
        fixed("header = { X-Beta = true }", "beta"),
        fixed("header = { X-Kind = \"a*\" }", "kind a"),
        fixed("query = { debug = \"1\" }", "debug"),
        fixed("client = \"10.0.0.0/8\"", "inside"),
        format!("[[route]]\norigin = \"{}\"\n", origin.url()),
    ]
    .concat();
    let weir = Weir::with(&config);
    type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);
    let rows: [Row; 21] = [
        ("GET", "/a", &[("Host", "x.wild.test")], "wild a"),
        ("GET", "/a/b/c", &[("Host", "x.y.Wild.Test:80")], "wild a"),
        ("GET", "/a/b", &[("Host", "wild.test")], ""),
        ("GET", "/b", &[("Host", "x.wild.test")], ""),
        ("GET", "/", &[("Host", "two.test")], "one or two"),
        ("GET", "/api/v1/items/7", &[], "item"),
        ("POST", "/api/v1/items/7", &[], "api"),
        ("GET", "/api/v1/items/7/8", &[], "api"),
        ("GET", "/api", &[], "api"),
        ("GET", "/apis", &[], ""),
        ("GET", "/style.css", &[], "asset"),
        ("GET", "/deep/style.css", &[], ""),
        ("GET", "/deep/er/page.js", &[], "asset"),
        ("GET", "/", &[("X-Beta", "")], "beta"),
        ("GET", "/", &[("X-Kind", "abc")], "kind a"),
        ("GET", "/", &[("X-Kind", "ba")], ""),
        ("GET", "/?debug=1", &[], "debug"),
        ("GET", "/?x&debug=1&y", &[], "debug"),
        ("GET", "/?debug=2", &[], ""),
        ("GET", "/", &[("X-Forwarded-For", "10.1.2.3")], ""),
        ("GET", "/%61pi/x", &[], "api"),
    ];
    for (method, target, fields, expected) in rows {
        let response = weir.ask(method, target, fields, b"");
        let which = if response.status == 404 { String::new() } else { response.text() };
        assert_eq!(which, expected, "{method} {target} {fields:?}");
    }
}

#[test]
fn the_address_of_a_client_behind_a_trusted_proxy_selects_a_route() {
    let weir = Weir::with(
        "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n\
         [[route]]\nmatch = { client = [\"10.0.0.0/8\", \"2001:db8::/32\"] }\nrespond = { body = \"inside\" }\n\
         [[route]]\nrespond = { body = \"outside\" }\n",
    );
    let from = |address: &str| weir.ask("GET", "/", &[("X-Forwarded-For", address)], b"").text();
    assert_eq!(from("10.1.2.3"), "inside");
    assert_eq!(from("2001:db8::1"), "inside");
    assert_eq!(from("192.0.2.1"), "outside");
    assert_eq!(
        from("10.1.2.3, 192.0.2.1"),
        "outside",
        "what an untrusted one claims further left counts for nothing"
    );
}

#[test]
fn a_request_without_a_route_is_not_found() {
    let origin = Origin::echo();
    let weir =
        Weir::with(&format!("[[route]]\nmatch = {{ path = \"/only\" }}\norigin = \"{}\"\n", origin.url()));
    assert_eq!(weir.get("/only").status, 200);
    assert_eq!(weir.get("/other").status, 404);
    assert_eq!(origin.count(), 1);
}

#[test]
fn paths_are_rewritten_on_their_way() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!(
        "[[route]]\nmatch = {{ path = \"/api/**\" }}\norigin = \"{0}\"\nrewrite = {{ strip_prefix = \"/api\" }}\n\
         [[route]]\nmatch = {{ path = \"/old/**\" }}\norigin = \"{0}\"\nrewrite = {{ strip_prefix = \"/old\", add_prefix = \"/new\" }}\n\
         [[route]]\nmatch = {{ path = \"/users/{{id}}/{{rest...}}\" }}\norigin = \"{0}\"\nrewrite = {{ path = \"/v2/{{rest}}/of/{{id}}\" }}\n",
        origin.url()
    ));
    let rows = [
        ("/api/items?x=1", "/items?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x", "/?x"),
        ("/api/%2fx", "/%2fx"),
        ("/old/page", "/new/page"),
        ("/users/7/a/b?q", "/v2/a/b/of/7?q"),
    ];
    for (asked, forwarded) in rows {
        assert_eq!(weir.get(asked).text(), format!("GET {forwarded}"), "{asked}");
        assert!(weir.get(asked).is_hit(), "{asked}");
    }
    // The key is what is forwarded: two spellings of one origin URL share, and are purged together.
    let before = origin.count();
    assert_eq!(weir.get("/api/new/page").text(), "GET /new/page");
    assert_eq!(origin.count(), before, "the same as /old/page");
}

#[test]
fn redirects_and_fixed_answers_ask_no_origin() {
    let weir = Weir::with(
        "[[route]]\nmatch = { host = \"secure.test\" }\nredirect = \"https\"\n\
         [[route]]\nmatch = { path = \"/blog/{slug}\" }\nredirect = { status = 301, to = \"https://blog.test/{slug}{query}\" }\n\
         [[route]]\nmatch = { path = \"/teapot\" }\nrespond = { status = 418, body = \"short and stout\", headers = { X-Pot = \"tea\" } }\n\
         [[route]]\nmatch = { path = \"/json\" }\nrespond = { json = { ok = true } }\n",
    );
    let secure = weir.ask("GET", "/a/b?c=%20d", &[("Host", "secure.test")], b"");
    assert_eq!((secure.status, secure.header("location")), (308, Some("https://secure.test/a/b?c=%20d")));
    let with_port = weir.ask("GET", "/", &[("Host", "secure.test:8080")], b"");
    assert_eq!(with_port.header("location"), Some("https://secure.test/"), "https is elsewhere");
    let blog = weir.get("/blog/hello?x=1");
    assert_eq!((blog.status, blog.header("location")), (301, Some("https://blog.test/hello?x=1")));
    let teapot = weir.get("/teapot");
    assert_eq!(
        (teapot.status, teapot.text().as_str(), teapot.header("x-pot")),
        (418, "short and stout", Some("tea"))
    );
    let head = weir.ask("HEAD", "/teapot", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (418, Some("15")));
    let json = weir.get("/json");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.body).unwrap()["ok"], true);
}

#[test]
fn fields_are_set_and_removed_both_ways() {
    let origin = Origin::start(|_| {
        Reply::ok("x")
            .header("Server", "origin/1.0")
            .header("X-Powered-By", "magic")
            .header("Cache-Control", "max-age=60")
    });
    let weir = Weir::with(&format!(
        "[[route]]\norigin = \"{}\"\n\
         request_headers = {{ set = {{ X-From = \"weir\" }}, remove = [\"X-Secret\", \"User-Agent\"] }}\n\
         response_headers = {{ set = {{ Strict-Transport-Security = \"max-age=60\" }}, remove = [\"X-Powered-By\"] }}\n",
        origin.url()
    ));
    for _ in 0..2 {
        let fields = [("X-From", "evil"), ("X-From", "evil2"), ("X-Secret", "1"), ("User-Agent", "test")];
        let response = weir.ask("GET", "/", &fields, b"");
        assert_eq!(response.header("strict-transport-security"), Some("max-age=60"));
        assert!(!response.headers.has("x-powered-by"));
        assert_eq!(response.header("server"), Some("origin/1.0"));
    }
    let seen = origin.last("/");
    assert_eq!(seen.headers.all("x-from"), ["weir"]);
    assert!(!seen.headers.has("x-secret") && !seen.headers.has("user-agent"));
}

#[test]
fn a_cache_may_be_off_or_another() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!(
        "[cache.dummy]\nkind = \"none\"\n[cache.other]\n\
         [[route]]\nmatch = {{ path = \"/off/**\" }}\norigin = \"{0}\"\ncache = \"off\"\n\
         [[route]]\nmatch = {{ path = \"/dummy/**\" }}\norigin = \"{0}\"\ncache = {{ store = \"dummy\" }}\n\
         [[route]]\nmatch = {{ host = \"other.test\" }}\norigin = \"{0}\"\ncache = {{ store = \"other\" }}\n\
         [[route]]\norigin = \"{0}\"\n",
        origin.url()
    ));
    for (target, expected) in [("/off/x", 2), ("/dummy/x", 2), ("/on/x", 1)] {
        weir.get(target);
        weir.get(target);
        assert_eq!(origin.count_of(target), expected, "{target}");
    }
}

#[test]
fn spelling_cannot_get_around_a_route() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!(
        "[[route]]\nmatch = {{ path = \"/admin/**\" }}\nrespond = {{ status = 403 }}\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let tries = [
        "/admin",
        "/admin/",
        "/admin/x",
        "/%61dmin/x",
        "/x/../admin/x",
        "/./admin",
        "//admin",
        "/admin%2fx",
        "/%2e/admin/x",
        "/x/%2e%2e/admin",
        "/x/..%2fadmin",
        "/admin;x",
        "/admin;/x",
        "/ad%6din",
        "/x/..;/admin",
        "/admin%00",
        "/admin%5cx",
        "\\admin",
    ];
    for target in tries {
        let mut client = weir.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: weir.test\r\n\r\n"));
        let response = client.expect_response("GET");
        assert!([400, 403].contains(&response.status), "{target}: {} {}", response.status, response.text());
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.requests());
}
