//! When a connection is used again, and when it is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use weir::body::Body;
use weir::origin::OriginFailure;

use crate::support::*;

#[tokio::test]
async fn a_connection_that_owes_nothing_is_used_again() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while let Some(head) = wire.head().await {
            wire.answer(head.split(' ').nth(1).unwrap()).await;
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for target in ["/a", "/b", "/c"] {
        assert_eq!(text(get(&origin, target).await.unwrap()).await, target);
    }
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn a_chunked_answer_streams_and_its_connection_is_used_again() {
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let scripted = Scripted::new(move |_, mut wire| {
        let wait = Arc::clone(&wait);
        async move {
            while wire.head().await.is_some() {
                wire.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
                wait.notified().await;
                wire.say("6\r\nsecond\r\n0\r\n\r\n").await;
            }
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for _ in 0..2 {
        let mut body = get(&origin, "/").await.unwrap().response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "first", "the first piece does not wait for the second");
        go_on.notify_one();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "second");
    }
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn bytes_after_an_answer_are_never_the_next_one() {
    const EXTRA: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let scripted = Scripted::new(|_, mut wire| async move {
        while wire.head().await.is_some() {
            wire.say(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue{EXTRA}")).await;
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for _ in 0..3 {
        assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
    }
    assert_eq!(scripted.connections(), 3);
}

#[tokio::test]
async fn bytes_that_arrive_while_idle_are_never_the_next_answer() {
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    let scripted = Scripted::new(move |_, mut wire| {
        let said = said.clone();
        async move {
            while wire.head().await.is_some() {
                wire.answer("true").await;
                wire.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
                said.send(()).await.unwrap();
            }
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for _ in 0..3 {
        assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
        heard.recv().await.unwrap();
    }
    assert_eq!(scripted.connections(), 3);
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_nobody_an_answer() {
    let (closed, mut heard) = tokio::sync::mpsc::channel(1);
    let scripted = Scripted::new(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await.unwrap();
            wire.answer("true").await;
            drop(wire);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for method in [Method::GET, Method::POST, Method::GET] {
        let answered =
            origin.forward(0, &mut outgoing(method, "/", &[], Body::full("body".into()))).await.unwrap();
        assert_eq!((answered.attempts, text(answered).await.as_str()), (1, "true"));
        heard.recv().await.unwrap();
    }
    assert_eq!(scripted.connections(), 3);
}

#[tokio::test]
async fn a_kept_connection_that_closes_on_the_next_request_is_replaced_for_what_may_be_repeated() {
    let scripted = Scripted::new(|number, mut wire| async move {
        wire.head().await.unwrap();
        wire.answer("true").await;
        if number == 0 {
            // It takes the second request and says nothing to it.
            wire.head().await;
            return;
        }
        wire.closed().await;
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
    let again = get(&origin, "/").await.unwrap();
    assert_eq!(again.attempts, 1, "it does not count as a retry");
    assert_eq!(origin.metrics().stale_connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test]
async fn a_post_is_not_repeated_once_it_was_sent() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let mut request = outgoing(Method::POST, "/", &[], Body::full("body".into()));
    assert_eq!(origin.forward(0, &mut request).await.unwrap_err().failure, OriginFailure::Closed);
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn an_answer_without_content_leaves_a_clean_connection_or_none() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\nforged",
        "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nforged\r\n0\r\n\r\n",
    ] {
        let scripted = Scripted::new(move |number, mut wire| async move {
            while wire.head().await.is_some() {
                if number == 0 { wire.say(answer).await } else { wire.answer("true").await }
            }
        })
        .await;
        let origin = origin(vec![scripted.server()], |_| {});
        let answered = get(&origin, "/").await.unwrap();
        assert_eq!(answered.response.status(), StatusCode::NO_CONTENT);
        assert_eq!(text(answered).await, "");
        assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true", "{answer}");
    }
}

#[tokio::test]
async fn a_head_answer_with_content_is_not_the_next_answer() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while wire.head().await.is_some() {
            wire.answer("true").await;
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for _ in 0..2 {
        let answered = origin.forward(0, &mut outgoing(Method::HEAD, "/", &[], Body::empty())).await.unwrap();
        assert_eq!(answered.response.headers()["content-length"], "4");
        assert_eq!(text(answered).await, "");
    }
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_is_given_up_closes_its_connection() {
    let (closed, mut heard) = tokio::sync::mpsc::channel(1);
    let scripted = Scripted::new(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await.unwrap();
            wire.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            wire.closed().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    drop(get(&origin, "/").await.unwrap());
    heard.recv().await.unwrap();
    assert_eq!(origin.describe().servers[0].connections, 0);
    assert_eq!(origin.describe().servers[0].requests, 0);
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_and_ends_the_connection() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
        wire.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        wire.closed().await;
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let (feed, body) = fed();
    feed.send(Bytes::from_static(b"some of it")).await.unwrap();
    let answered = origin.forward(0, &mut outgoing(Method::POST, "/", &[], body)).await.unwrap();
    assert_eq!(answered.response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(answered).await, "big");
    assert_eq!(origin.describe().servers[0].connections, 0, "the request was not sent whole");
}

#[tokio::test]
async fn an_early_answer_survives_an_origin_that_stops_reading() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
        wire.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await;
        // Closed with unread content: the kernel resets the connection.
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let answered = origin
        .forward(0, &mut outgoing(Method::POST, "/", &[], Body::full(Bytes::from(vec![b'x'; 4 << 20]))))
        .await
        .unwrap();
    assert_eq!(answered.response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn connections_are_bounded_and_so_is_the_queue_for_them() {
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let scripted = Scripted::new(move |_, mut wire| {
        let wait = Arc::clone(&wait);
        async move {
            while wire.head().await.is_some() {
                wait.notified().await;
                wire.answer("true").await;
            }
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |spec| (spec.max_connections, spec.max_queue) = (1, 1));
    let ask = || {
        let origin = Arc::clone(&origin);
        tokio::spawn(async move {
            Ok::<_, OriginFailure>(text(get(&origin, "/").await.map_err(|error| error.failure)?).await)
        })
    };
    let (first, second) = (ask(), ask());
    while origin.metrics().queued.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&origin, "/").await.unwrap_err().failure, OriginFailure::QueueFull);
    go_on.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), "true");
    go_on.notify_one();
    assert_eq!(second.await.unwrap().unwrap(), "true");
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_in_the_queue_for_ever() {
    let scripted = Scripted::new(|_, mut wire| async move { wire.closed().await }).await;
    let origin = origin(vec![scripted.server()], |spec| {
        (spec.max_connections, spec.timeouts.connect) = (1, Duration::from_secs(2));
    });
    let busy = Arc::clone(&origin);
    let busy = tokio::spawn(async move { get(&busy, "/").await.map(|_| ()) });
    while origin.describe().servers[0].connections == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&origin, "/").await.unwrap_err().failure, OriginFailure::QueueTimeout);
    assert_eq!(busy.await.unwrap().unwrap_err().failure, OriginFailure::FirstByteTimeout);
}

#[tokio::test]
async fn a_worker_gets_the_place_of_anothers_idle_connection() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while wire.head().await.is_some() {
            wire.answer("true").await;
        }
    })
    .await;
    let spec = spec(vec![scripted.server()], |spec| spec.max_connections = 1);
    let limits = weir::config::model::Limits::default();
    let origin = weir::origin::Origin::new(spec, &limits, 2, &tokio::runtime::Handle::current()).unwrap();
    for worker in [0, 1, 0] {
        let answered =
            origin.forward(worker, &mut outgoing(Method::GET, "/", &[], Body::empty())).await.unwrap();
        assert_eq!(text(answered).await, "true");
    }
    assert_eq!(scripted.connections(), 3);
}
