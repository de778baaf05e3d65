//! Pools of servers: who gets which request, who rests, what is tried again, and when patience ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use harness::wire::{Ending, request_bytes};
use harness::{Gate, Origin, ReadError, Reply, Script, Weir, eventually};

fn uncached(name: &'static str) -> Origin {
    Origin::start(move |_| Reply::ok(name).header("Cache-Control", "no-store"))
}

fn pool(servers: &[&Origin], rest: &str) -> Weir {
    let urls: Vec<_> = servers.iter().map(|origin| format!("{:?}", origin.url())).collect();
    Weir::with(&format!(
        "[server]\nworkers = 1\n[origin.app]\nservers = [{}]\n{rest}\n[[route]]\norigin = \"app\"\n",
        urls.join(", ")
    ))
}

#[test]
fn servers_take_turns() {
    let (one, two, three) = (uncached("1"), uncached("2"), uncached("3"));
    let weir = pool(&[&one, &two, &three], "");
    let mut client = weir.client();
    for _ in 0..30 {
        client.get("/");
    }
    assert_eq!([one.count(), two.count(), three.count()], [10, 10, 10]);
}

#[test]
fn the_least_busy_server_is_asked() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Origin::start(move |_| {
        held.wait();
        Reply::ok("slow").header("Cache-Control", "no-store")
    });
    let fast = uncached("fast");
    let weir = pool(&[&slow, &fast], "balance = \"least-requests\"");
    // One request hangs at the slow server, wherever the choice begins.
    let mut hanging = Vec::new();
    while slow.count() == 0 {
        let mut client = weir.client();
        client.send(request_bytes("GET", &format!("/{}", hanging.len()), &[], b""));
        eventually("one of them is asked", || slow.count() > 0 || fast.count() > hanging.len());
        hanging.push(client);
        assert!(hanging.len() < 10);
    }
    let mut client = weir.client();
    for number in 0..20 {
        assert_eq!(client.get(&format!("/then/{number}")).text(), "fast");
    }
    gate.open();
}

#[test]
fn a_hash_sends_a_url_to_one_server() {
    let (one, two) = (uncached("1"), uncached("2"));
    let weir = pool(&[&one, &two], "balance = \"hash\"");
    let mut client = weir.client();
    for number in 0..40 {
        let target = format!("/{number}");
        let first = client.get(&target).text();
        for _ in 0..3 {
            assert_eq!(client.get(&target).text(), first, "{target}");
        }
    }
    assert!(one.count() > 20 && two.count() > 20, "{} and {}", one.count(), two.count());
}

#[test]
fn a_server_that_is_gone_is_not_noticed() {
    let mut gone = uncached("gone");
    let there = uncached("there");
    let weir = pool(&[&gone, &there], "max_failures = 2\nrest = \"2s\"\nslow_start = \"1ms\"");
    gone.down();
    let mut client = weir.client();
    for _ in 0..40 {
        assert_eq!(client.get("/").text(), "there");
    }
    gone.up();
    eventually("it is asked again", || client.get("/").text() == "gone");
}

#[test]
fn a_server_that_says_it_is_ill_is_left_alone() {
    let ill = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&ill);
    let checked = Origin::start(move |request| match (request.path(), asked.load(Ordering::SeqCst)) {
        ("/healthz", true) => Reply::new(503),
        _ => Reply::ok("checked").header("Cache-Control", "no-store"),
    });
    let well = uncached("well");
    let health = "health = { path = \"/healthz\", every = \"20ms\", unhealthy_after = 1, healthy_after = 1 }\nslow_start = \"1ms\"";
    let weir = pool(&[&checked, &well], health);
    let mut client = weir.client();
    eventually("it is taken out", || (0..10).all(|_| client.get("/").text() == "well"));
    ill.store(false, Ordering::SeqCst);
    eventually("it is taken back", || client.get("/").text() == "checked");
}

#[test]
fn a_get_is_tried_once_more_and_a_post_is_not() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| match request.path() {
        "/second" if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => Reply::hang_up(),
        "/never" => Reply::hang_up(),
        _ => Reply::ok("fine").header("Cache-Control", "no-store"),
    });
    let always = "retry = { attempts = 1, budget = \"100%\" }\nmax_failures = 0";
    assert_eq!(pool(&[&origin], always).get("/second").text(), "fine");
    assert_eq!(origin.count_of("/second"), 2);
    assert_eq!(pool(&[&origin], always).get("/never").status, 502);
    assert_eq!(origin.count_of("/never"), 2, "one more, not two");
    assert_eq!(pool(&[&origin], always).ask("POST", "/never", &[], b"x=1").status, 502);
    assert_eq!(origin.count_of("/never"), 3, "a write is never sent twice");
}

#[test]
fn retries_stay_within_their_budget() {
    let origin = Origin::start(|_| Reply::hang_up());
    let weir = pool(&[&origin], "retry = { attempts = 3, budget = \"10%\" }\nmax_failures = 0");
    let mut client = weir.client();
    for number in 0..500 {
        assert_eq!(client.get(&format!("/{number}")).status, 502);
    }
    let retries = origin.count() - 500;
    assert!(retries <= 100, "{retries} retries for 500 requests");
}

#[test]
fn connections_that_the_origin_closed_meanwhile_cost_nothing() {
    let origin = uncached("fine");
    let weir = pool(&[&origin], "");
    let mut client = weir.client();
    for number in 0..100 {
        assert_eq!(client.get("/").status, 200, "request {number}");
        origin.close_connections();
    }
}

#[test]
fn an_origin_that_does_not_answer_in_time_is_504_for_everybody() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        held.wait();
        Reply::ok("late")
    });
    let weir = pool(&[&origin], "timeouts = { first_byte = \"300ms\" }\nretry = { attempts = 0 }");
    let all = Barrier::new(20);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = weir.client();
                all.wait();
                let response = client.get("/silent");
                assert_eq!(response.status, 504);
                assert!(response.header("proxy-status").unwrap().contains("error=http_response_timeout"));
            });
        }
    });
    assert!(origin.count() < 20, "{}: who waited for the same shares its failure", origin.count());
    gate.open();
}

#[test]
fn an_origin_that_stalls_in_mid_body_is_cut() {
    let origin = Script::start(vec![Box::new(|conn| {
        conn.request().expect("the request");
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        conn.rest(1);
    })]);
    let weir = Weir::with(&format!(
        "[origin.app]\nservers = [\"{}\"]\ntimeouts = {{ idle = \"300ms\" }}\n[[route]]\norigin = \"app\"\n",
        origin.url()
    ));
    let mut client = weir.client();
    client.send(request_bytes("GET", "/", &[], b""));
    match client.response("GET") {
        Err(ReadError::Cut(Ending::Closed | Ending::Reset, response)) => assert_eq!(response.body, b"half"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_origin_gets_no_more_at_once_than_it_can_take() {
    let gate = Gate::new();
    let held = gate.clone();
    let busy = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&busy);
    let origin = Origin::start(move |_| {
        let now = counted.0.fetch_add(1, Ordering::SeqCst) + 1;
        counted.1.fetch_max(now, Ordering::SeqCst);
        held.wait();
        counted.0.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("done").header("Cache-Control", "no-store")
    });
    let weir = pool(&[&origin], "max_connections = 2\nmax_queue = 3");
    let mut clients: Vec<_> = (0..10).map(|_| weir.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request_bytes("GET", &format!("/{number}"), &[], b""));
    }
    origin.wait_for(2);
    // Two are with the origin, three wait, five are told at once that it is too much.
    let mut refused = 0;
    let mut answered = 0;
    std::thread::scope(|scope| {
        let answers: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| client.expect_response("GET").status)).collect();
        eventually("five are refused", || answers.iter().filter(|answer| answer.is_finished()).count() >= 5);
        gate.open();
        for answer in answers {
            match answer.join().unwrap() {
                503 => refused += 1,
                200 => answered += 1,
                other => panic!("{other}"),
            }
        }
    });
    assert_eq!((refused, answered), (5, 5));
    assert!(busy.1.load(Ordering::SeqCst) <= 2);
}

#[test]
fn names_are_resolved_and_both_families_tried() {
    let origin = uncached("fine");
    let port = origin.address().port();
    let weir = Weir::to(&format!("http://localhost:{port}"));
    assert_eq!(weir.get("/").text(), "fine");
    let unknown = Weir::to("http://no-such-name.invalid:80");
    let response = unknown.get("/");
    assert_eq!(response.status, 502);
    assert!(
        response.header("proxy-status").unwrap().contains("dns"),
        "{:?}",
        response.header("proxy-status")
    );
}
