//! The real binary with too few file descriptors.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use harness::{Conn, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

struct Weir {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Weir {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("weir.toml");
        let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n\
                    [[route]]\nrespond = { body = \"here\" }\n";
        std::fs::write(&file, text).expect("the folder can be written to");
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let announced = |mark: &str, lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
            let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once(mark)?.1.to_owned()));
            line.and_then(|address| address.parse().ok()).expect("it announces where it listens")
        };
        let address = announced("listening on http://", &mut lines);
        let admin = announced("admin on http://", &mut lines);
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, admin, _folder: folder }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Lets it have so many descriptors more than it has now.
    fn allow(&self, more: u64) {
        let has = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count() as u64;
        let limit = Rlimit { current: Some(has + more), maximum: Some(4_096) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("the limit can be set");
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // Either it has ended, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_descriptors_it_turns_clients_away_goes_on_and_recovers() {
    let weir = Weir::start();
    let mut inside = Conn::connect(weir.address);
    assert_eq!(inside.get("/").text(), "here");
    weir.allow(5);
    // Some get in; the others are closed by the descriptor in reserve rather than left waiting.
    let mut clients: Vec<_> = (0..20).map(|_| Conn::connect(weir.address)).collect();
    let served = clients.iter_mut().map(|client| {
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: weir.test\r\n\r\n");
        client.response("GET").is_ok()
    });
    let served = served.filter(|served| *served).count();
    assert!((1..20).contains(&served), "{served} of 20");
    assert_eq!(inside.get("/").text(), "here", "those inside do not notice");
    drop(clients);
    eventually("it serves again when there are descriptors again", || {
        TcpStream::connect(weir.address).is_ok_and(|stream| {
            let mut client = Conn::new(stream);
            client.try_send("GET / HTTP/1.1\r\nHost: weir.test\r\n\r\n").is_ok()
                && client.response("GET").is_ok()
        })
    });
    weir.allow(100);
    let metrics = Conn::connect(weir.admin).ask("GET", "/metrics", &[("Host", "localhost")], b"").text();
    let hit = metrics.lines().find_map(|line| line.strip_prefix("limits_hit_total{limit=\"descriptors\"} "));
    assert!(hit.is_some_and(|count| count != "0"), "{metrics}");
}
