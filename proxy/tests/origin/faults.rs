//! What goes wrong, and what becomes of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use weir::body::{Body, BodyError};
use weir::gate::ResponseFault;
use weir::origin::{HearsInterim, OriginFailure};

use crate::support::*;

/// An origin whose every answer is this text, after which it closes.
async fn says(answer: &'static str) -> Scripted {
    Scripted::new(move |_, mut wire| async move {
        wire.head().await.unwrap();
        wire.say(answer).await;
    })
    .await
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    use OriginFailure as F;
    #[rustfmt::skip]
    let cases = [
        // what                        answer                                                                                       failure
        ("not HTTP",                   "220 mail.example ESMTP\r\n",                                                                F::Malformed),
        ("HTTP/0.9",                   "<html>hello</html>",                                                                        F::Malformed),
        ("a status of two digits",     "HTTP/1.1 20 OK\r\n\r\n",                                                                    F::Malformed),
        ("a space before the colon",   "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",                                           F::Malformed),
        ("a folded field",             "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",                              F::Malformed),
        ("a control byte",             "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nhi",                               F::Malformed),
        ("a status beyond 599",        "HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\nhi",                                           F::Answer(ResponseFault::Status)),
        ("two lengths",                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",                       F::Answer(ResponseFault::ContentLength)),
        ("a list of lengths",          "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",                                         F::Answer(ResponseFault::ContentLength)),
        ("a length with a sign",       "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",                                           F::Answer(ResponseFault::ContentLength)),
        ("length and coding",          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",       F::Answer(ResponseFault::TwoLengths)),
        ("an unknown coding",          "HTTP/1.1 200 OK\r\nTransfer-Encoding: foo, chunked\r\n\r\n0\r\n\r\n",                       F::Answer(ResponseFault::TransferEncoding)),
        ("coding in HTTP/1.0",         "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",                            F::Answer(ResponseFault::TransferEncoding)),
        ("101 unasked",                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",     F::Answer(ResponseFault::SwitchedUnasked)),
        ("304 unasked",                "HTTP/1.1 304 Not Modified\r\n\r\n",                                                         F::Answer(ResponseFault::NotModifiedUnasked)),
        ("206 unasked",                "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nhi",                               F::Answer(ResponseFault::PartialUnasked)),
        ("nothing at all",             "",                                                                                          F::Closed),
        ("half a head",                "HTTP/1.1 200 OK\r\nContent-Le",                                                             F::Closed),
    ];
    for (what, answer, failure) in cases {
        let scripted = says(answer).await;
        let origin = origin(vec![scripted.server()], |spec| spec.retry.attempts = 0);
        assert_eq!(
            get(&origin, "/").await.map(|_| ()).map_err(|error| error.failure),
            Err(failure),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_not_taken() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
        wire.say(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40 << 10)))
            .await;
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let failure = get(&origin, "/").await.unwrap_err().failure;
    assert_eq!(failure, OriginFailure::Answer(ResponseFault::HeadTooLarge));
}

#[tokio::test]
async fn a_cut_answer_is_seen_to_be_cut() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfXX0\r\n\r\n",
    ] {
        let scripted = says(answer).await;
        let origin = origin(vec![scripted.server()], |_| {});
        let ended = get(&origin, "/").await.unwrap().response.into_body().collect().await;
        assert!(matches!(ended, Err(BodyError::Origin(_))), "{answer}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let origin = origin(vec![at(nobody().await)], |_| {});
    let error = get(&origin, "/").await.unwrap_err();
    assert_eq!(error.failure, OriginFailure::Refused);
    assert!(error.to_string().starts_with("origin server `http://127.0.0.1:"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_says_nothing_is_given_up_in_time() {
    let scripted = Scripted::new(|_, mut wire| async move { wire.closed().await }).await;
    let origin = origin(vec![scripted.server()], |spec| spec.timeouts.first_byte = Duration::from_secs(7));
    let before = tokio::time::Instant::now();
    assert_eq!(get(&origin, "/").await.unwrap_err().failure, OriginFailure::FirstByteTimeout);
    assert_eq!(before.elapsed().as_secs(), 7);
    assert_eq!(scripted.connections(), 1, "a time-out is not tried again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_pauses_too_long_is_cut() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        wire.closed().await;
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let before = tokio::time::Instant::now();
    let ended = get(&origin, "/").await.unwrap().response.into_body().collect().await;
    assert!(matches!(ended, Err(BodyError::Origin(None))));
    assert_eq!(before.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn the_clients_own_fault_is_not_the_origins() {
    let scripted = Scripted::new(|_, mut wire| async move { wire.closed().await }).await;
    let origin = origin(vec![scripted.server()], |_| {});
    #[rustfmt::skip]
    let cases = [
        (BodyError::TooLarge { limit: 5 }, OriginFailure::ContentTooLarge { limit: 5 }),
        (BodyError::Idle,                  OriginFailure::ContentTooSlow),
        (BodyError::Client(None),          OriginFailure::ContentBroken),
    ];
    for (error, failure) in cases {
        let body = Body::stream(OneError(Some(error)));
        let outcome = origin.forward(0, &mut outgoing(Method::POST, "/", &[], body)).await;
        assert_eq!(outcome.unwrap_err().failure, failure);
    }
}

/// Content that is nothing but an error.
struct OneError(Option<BodyError>);

impl http_body::Body for OneError {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        std::task::Poll::Ready(self.0.take().map(Err))
    }
}

#[tokio::test]
async fn a_refused_request_goes_to_another_server_and_costs_no_budget() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while wire.head().await.is_some() {
            wire.answer("true").await;
        }
    })
    .await;
    let origin = origin(vec![at(nobody().await), scripted.server()], |spec| {
        spec.max_failures = 0;
        spec.retry.budget = 0.0;
    });
    for _ in 0..100 {
        let mut request = outgoing(Method::POST, "/", &[], Body::full("body".into()));
        assert_eq!(text(origin.forward(0, &mut request).await.unwrap()).await, "true");
    }
    assert_eq!(origin.metrics().retries.load(Ordering::Relaxed), 50);
}

#[tokio::test]
async fn a_server_that_fails_rests_and_the_others_take_its_requests() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while wire.head().await.is_some() {
            wire.answer("true").await;
        }
    })
    .await;
    let origin = origin(vec![at(nobody().await), scripted.server()], |spec| spec.max_failures = 2);
    for _ in 0..10 {
        assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
    }
    assert_eq!(origin.metrics().retries.load(Ordering::Relaxed), 2);
    assert_eq!(origin.describe().servers[0].state.as_str(), "resting");
}

#[tokio::test]
async fn a_storm_of_interim_responses_ends() {
    let scripted = Scripted::new(|_, mut wire| async move {
        wire.head().await.unwrap();
        for _ in 0..1000 {
            wire.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        }
        wire.answer("true").await;
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let failure = get(&origin, "/").await.unwrap_err().failure;
    assert_eq!(failure, OriginFailure::Answer(ResponseFault::TooManyInterim));
}

/// Notes what it hears.
#[derive(Default)]
struct Notes(Mutex<Vec<(u16, HeaderMap)>>);

impl HearsInterim for Notes {
    fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        self.0.lock().unwrap().push((status.as_u16(), headers.clone()));
    }
}

#[tokio::test]
async fn early_hints_are_told_and_other_interim_responses_are_not() {
    let scripted = says(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nSet-Cookie: a=b\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue",
    )
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    let told = Arc::new(Notes::default());
    let mut request = outgoing(Method::GET, "/", &[], Body::empty());
    request.head.on_interim = Some(told.clone());
    assert_eq!(text(origin.forward(0, &mut request).await.unwrap()).await, "true");
    let told = told.0.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, 103);
    assert_eq!(told[0].1.len(), 1);
    assert_eq!(told[0].1["link"], "</a.css>");
}
