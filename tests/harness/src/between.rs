//! Somebody between two who talk over TCP: passes on all that is said, and loses an answer when told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How an answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection is cut in its place.
    Cut,
    /// It does not come, and what comes after it does.
    Swallowed,
}

/// A server's place, through which everything passes.
pub struct Between {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    to_cut: AtomicUsize,
    to_swallow: AtomicUsize,
    lost: AtomicUsize,
}

impl Between {
    /// In front of a server on this port of this machine. Answers that may be lost are those to questions that contain `about`, on connections that begin
    /// with `begin`.
    pub fn start(port: u16, begin: &'static [u8], about: &'static [u8]) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared::default());
        let of_all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = of_all.clone();
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    std::thread::spawn(move || carry(client, server, begin, about, &shared));
                }
            }
        });
        Between { address, shared }
    }

    /// The port at which it takes the server's place.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Loses the next answer to such a question.
    pub fn lose_next(&self, loss: Loss) {
        match loss {
            Loss::Cut => &self.shared.to_cut,
            Loss::Swallowed => &self.shared.to_swallow,
        }
        .fetch_add(1, Ordering::SeqCst);
    }

    /// How many answers were lost so far.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Whether this answer is to be lost, and how.
    fn take(&self) -> Option<Loss> {
        let take = |count: &AtomicUsize| {
            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
        };
        let loss = match (take(&self.to_cut), || take(&self.to_swallow)) {
            (true, _) => Loss::Cut,
            (false, swallow) if swallow() => Loss::Swallowed,
            (false, _) => return None,
        };
        self.lost.fetch_add(1, Ordering::SeqCst);
        Some(loss)
    }
}

/// Until one of the two hangs up.
fn carry(client: TcpStream, server: TcpStream, begin: &'static [u8], about: &'static [u8], shared: &Shared) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // Questions such as are meant that were passed on and not answered yet.
    let asked = Arc::new(AtomicUsize::new(0));
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let counted = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        let mut is_meant = None;
        while let Ok(length @ 1..) = from_client.read(&mut buffer) {
            let said = &buffer[..length];
            let is_meant = *is_meant.get_or_insert_with(|| said.starts_with(begin));
            if is_meant && said.windows(about.len()).any(|part| part == about) {
                counted.store(1, Ordering::SeqCst);
            }
            if to_server.write_all(said).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    let mut buffer = [0; 64 << 10];
    while let Ok(length @ 1..) = from_server.read(&mut buffer) {
        if asked.swap(0, Ordering::SeqCst) > 0 {
            match shared.take() {
                Some(Loss::Cut) => break,
                Some(Loss::Swallowed) => continue,
                None => {}
            }
        }
        if to_client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = from_server.shutdown(Shutdown::Both);
}
