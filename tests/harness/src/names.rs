//! A name server that says what a test wants over UDP: its answers are short.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use crate::lock;

/// What a name server does with what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Answering,
    /// It says that it has failed.
    Failing,
    /// It says nothing.
    Silent,
}

/// A name server of one test.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    socket: UdpSocket,
    zone: Mutex<HashMap<String, (Vec<IpAddr>, u32)>>,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    ended: AtomicBool,
}

impl NameServer {
    /// One that knows nothing yet.
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    pub fn new() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("its address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket that waits");
        let shared = Arc::new(Shared {
            socket,
            zone: Mutex::default(),
            mood: Mutex::new(Mood::Answering),
            asked: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serving.serve());
        NameServer { address, shared }
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` is at `addresses`, for `ttl` seconds.
    pub fn says(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        lock(&self.shared.zone).insert(name.to_owned(), (addresses, ttl));
    }

    /// From now on it does this.
    pub fn is(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(&self) {
        let mut buffer = [0; 1 << 12];
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((length, client)) = self.socket.recv_from(&mut buffer) else { continue };
            self.asked.fetch_add(1, Ordering::SeqCst);
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let mood = *lock(&self.mood);
            if mood == Mood::Silent {
                continue;
            }
            let answer = self.answer(question, mood).to_vec().expect("an answer that can be written");
            self.socket.send_to(&answer, client).ok();
        }
    }

    fn answer(&self, question: Message, mood: Mood) -> Message {
        let queries = question.queries.clone();
        let mut answer = question.into_response();
        if mood == Mood::Failing {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        let zone = lock(&self.zone);
        for query in queries {
            let name = query.name().to_string().trim_end_matches('.').to_ascii_lowercase();
            let Some((addresses, ttl)) = zone.get(&name) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                continue;
            };
            for address in addresses {
                let data = match (address, query.query_type()) {
                    (IpAddr::V4(address), RecordType::A) => RData::A(A(*address)),
                    (IpAddr::V6(address), RecordType::AAAA) => RData::AAAA(AAAA(*address)),
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
            }
        }
        answer
    }
}
