//! What the library costs by itself: a hyper server that answers from memory and a hyper proxy that stores nothing.
//!
//! Both run on one current-thread runtime, as one worker of Weir does, with nothing in the way that could be left out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::content::{Resource, Storing};

/// Which protocol a listener speaks; no listener guesses.
#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Answers every [`Resource`] from memory: HTTP/1.1 on `http1`, HTTP/2 by prior knowledge on `http2`.
pub(crate) fn run_server(http1: SocketAddr, http2: SocketAddr) -> io::Result<()> {
    // The two that most scenarios ask for cost a comparison, all others a look into a map.
    let first = [1024, 64 * 1024].map(|size| {
        let resource = Resource { storing: Storing::Store, size, delay_ms: 0, id: 0 };
        (resource.path(), Bytes::from(resource.body()))
    });
    let first: Rc<[(String, Bytes)]> = Rc::new(first);
    let bodies: Rc<RefCell<HashMap<String, Bytes>>> = Rc::default();
    let answer = move |request: Request<Incoming>| {
        let path = request.uri().path();
        let first = first.iter().find(|(known, _)| known == path).map(|(_, body)| body.clone());
        let body = first.or_else(|| bodies.borrow().get(path).cloned()).or_else(|| {
            let body = Bytes::from(Resource::parse(path)?.body());
            bodies.borrow_mut().insert(path.to_owned(), body.clone());
            Some(body)
        });
        let mut response = Response::new(Full::new(body.unwrap_or_default()));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
        ready(Ok::<_, Infallible>(response))
    };
    run_local(async move {
        let (first, second) = (TcpListener::bind(http1).await?, TcpListener::bind(http2).await?);
        spawn_local(accept(second, Protocol::Http2, answer.clone()));
        accept(first, Protocol::Http1, answer).await
    })
}

/// Passes every request to `origin` on pooled connections and the answer back, unread.
pub(crate) fn run_proxy(http1: SocketAddr, origin: SocketAddr) -> io::Result<()> {
    let pool: Rc<RefCell<Vec<SendRequest<Incoming>>>> = Rc::default();
    run_local(async move {
        let answer = move |request: Request<Incoming>| {
            let pool = Rc::clone(&pool);
            async move {
                Ok::<_, Infallible>(match forward(&pool, origin, request).await {
                    Ok(response) => response.map(Either::Left),
                    Err(_) => {
                        let mut response = Response::new(Either::Right(Empty::<Bytes>::new()));
                        *response.status_mut() = StatusCode::BAD_GATEWAY;
                        response
                    }
                })
            }
        };
        accept(TcpListener::bind(http1).await?, Protocol::Http1, answer).await
    })
}

/// The sender goes back to the pool as soon as the head is there: it only takes the next request once the body has
/// been read whole, so a taker asks it first.
async fn forward(
    pool: &RefCell<Vec<SendRequest<Incoming>>>,
    origin: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
    let idle = {
        let mut pool = pool.borrow_mut();
        let found = pool.iter().rposition(SendRequest::is_ready);
        found.map(|index| pool.swap_remove(index))
    };
    let mut sender = match idle {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(origin).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            spawn_local(async { drop(connection.await) });
            sender
        }
    };
    let response = sender.send_request(request).await?;
    pool.borrow_mut().push(sender);
    Ok(response)
}

fn run_local(serve: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve)
}

async fn accept<A, F, B>(listener: TcpListener, protocol: Protocol, answer: A) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(answer.clone());
        spawn_local(async move {
            let io = TokioIo::new(stream);
            // A client that goes away is no concern of a baseline.
            match protocol {
                Protocol::Http1 => {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                }
                Protocol::Http2 => {
                    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
                    drop(builder.max_concurrent_streams(250).serve_connection(io, service).await);
                }
            }
        });
    }
}

/// Runs the streams of an HTTP/2 connection on the thread they came in on.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(spawn_local(future));
    }
}
