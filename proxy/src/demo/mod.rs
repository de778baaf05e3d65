//! `weir demo`: a small application of its own behind the real proxy, so that a person sees within a minute what is cached and why.

mod origin;
mod websocket;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub use self::origin::DemoOrigin;
use crate::config::{self, Loaded};

/// The configuration of the demo. It is shown at `/weir.toml` of the demo itself.
pub fn configuration(origin: SocketAddr, listen: SocketAddr, admin: SocketAddr) -> String {
    include_str!("weir.toml")
        .replace("LISTEN", &listen.to_string())
        .replace("ADMIN", &admin.to_string())
        .replace("ORIGIN", &origin.to_string())
}

/// The demo's configuration, checked.
pub fn load(origin: &DemoOrigin, listen: SocketAddr, admin: SocketAddr) -> Loaded {
    let text = configuration(origin.address(), listen, admin);
    origin.show_configuration(&text);
    match config::check_text("demo", &text, std::path::Path::new("")) {
        Ok(loaded) => loaded,
        Err(mistakes) => unreachable!("the demo's own configuration is right: {mistakes}"),
    }
}

/// `preferred` if nobody listens there, else a port that the system picks.
pub fn free_port(preferred: u16) -> SocketAddr {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(local(preferred)).map_or(local(0), |_| local(preferred))
}

/// What to try.
pub fn introduce(to: &mut impl Write, proxy: SocketAddr, admin: Option<SocketAddr>) -> std::io::Result<()> {
    let base = format!("http://{proxy}");
    writeln!(
        to,
        "\nWeir runs before a small application. Open {base}/ in a browser: it shows what is cached, and why.\n\n\
         Or ask by hand, twice each, and read `Cache-Status`:\n\
         \n  curl -i {base}/slow              0.3 s the first time\
         \n  curl -i {base}/api/news          JSON with an ETag, validated when it is stale\
         \n  curl -i {base}/me -b user=ann    a page of Ann's: never shared\
         \n  curl -i {base}/greeting -H 'Accept-Language: de'\
         \n  curl -i '{base}/search?q=weir&utm_source=mail'   and without utm_source: the same answer\
         \n  curl -N {base}/clock             server-sent events, as they happen\
         \n  seq 50 | xargs -P 50 -I@ curl -s -o /dev/null '{base}/slow?all'   50 visitors, one request at the application\
         \n  curl -X POST {base}/break        the application fails for 20 s; see what stays up\n"
    )?;
    if let Some(admin) = admin {
        writeln!(
            to,
            "  curl http://{admin}/metrics\
             \n  curl --json '{{\"url\": \"{base}/slow\"}}' http://{admin}/purge     or: weir purge {base}/slow --admin {admin}\n"
        )?;
    }
    writeln!(
        to,
        "For your own application: weir --to http://127.0.0.1:8000 (from the source: cargo run --release -- --to …)\n\
         Each request is written below, with what the cache did. Ctrl-C ends it.\n"
    )?;
    to.flush()
}
