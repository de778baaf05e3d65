//! Where a server is: its addresses, looked up again when their time to live is over.
//!
//! No request waits for a lookup but the very first. A name that stops resolving keeps its last good addresses: a resolver that is down
//! must not take the site down with it. `/etc/hosts` is read by this module, because it changes under a running proxy and has no TTL.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::OriginFailure;

/// Addresses are believed at least and at most this long, whatever the TTL.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(3600);
/// How long what `/etc/hosts` says is believed, and how long after a failed lookup the next one is made.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// How long an answer of a name server that the file names is waited for before it is asked once more.
const SERVER_PATIENCE: Duration = Duration::from_millis(800);

/// The addresses of one server.
pub(super) struct Addresses {
    host: String,
    port: u16,
    current: ArcSwapOption<Vec<SocketAddr>>,
    first: tokio::sync::Mutex<()>,
    /// Who is asked; `None`: whom the system asks.
    resolvers: Option<Arc<[TokioResolver]>>,
    background: Handle,
}

/// What a lookup found, and for how long.
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

impl Addresses {
    pub(super) fn new(
        host: &str,
        port: u16,
        resolvers: Option<Arc<[TokioResolver]>>,
        background: &Handle,
    ) -> Arc<Self> {
        let bare = host.trim_matches(['[', ']']);
        let literal =
            bare.parse::<IpAddr>().ok().map(|address| Arc::new(vec![SocketAddr::new(address, port)]));
        Arc::new(Self {
            host: bare.to_owned(),
            port,
            current: ArcSwapOption::new(literal),
            first: tokio::sync::Mutex::new(()),
            resolvers,
            background: background.clone(),
        })
    }

    /// The addresses as they are known now; looked up where they never were.
    pub(super) async fn all(self: &Arc<Self>) -> Result<Arc<Vec<SocketAddr>>, OriginFailure> {
        if let Some(addresses) = self.current.load_full() {
            return Ok(addresses);
        }
        let _only_one_looks_it_up = self.first.lock().await;
        if let Some(addresses) = self.current.load_full() {
            return Ok(addresses);
        }
        // The resolver's sockets belong to the background runtime, and so does every lookup.
        let (host, resolvers) = (self.host.clone(), self.resolvers.clone());
        let found = self.background.spawn(async move { lookup(&host, resolvers.as_deref()).await }).await;
        let found = found.map_err(|_| OriginFailure::NameUnknown)??;
        let ttl = found.ttl;
        let addresses = self.keep(found);
        self.background.spawn(look_up_again(Arc::downgrade(self), ttl));
        Ok(addresses)
    }

    /// Whether a connection to this address is still one to this server.
    pub(super) fn holds(&self, address: SocketAddr) -> bool {
        self.current.load().as_ref().is_none_or(|addresses| addresses.contains(&address))
    }

    fn keep(&self, found: Found) -> Arc<Vec<SocketAddr>> {
        let addresses =
            found.addresses.into_iter().map(|address| SocketAddr::new(address, self.port)).collect();
        let addresses = Arc::new(addresses);
        self.current.store(Some(Arc::clone(&addresses)));
        addresses
    }
}

/// Keeps the addresses current for as long as anybody holds them.
async fn look_up_again(server: Weak<Addresses>, mut ttl: Duration) {
    loop {
        tokio::time::sleep(ttl).await;
        let asked = server.upgrade().map(|server| (server.host.clone(), server.resolvers.clone()));
        let Some((host, resolvers)) = asked else { return };
        match lookup(&host, resolvers.as_deref()).await {
            Ok(found) => {
                let Some(server) = server.upgrade() else { return };
                ttl = found.ttl;
                server.keep(found);
            }
            Err(failure) => {
                tracing::warn!(server.address = host, error.type = failure.code(), "name not resolved, keeping the last good addresses");
                ttl = HOSTS_TTL;
            }
        }
    }
}

async fn lookup(host: &str, resolvers: Option<&[TokioResolver]>) -> Result<Found, OriginFailure> {
    // A small local file, on a thread that serves no request.
    let hosts = std::fs::read("/etc/hosts").unwrap_or_default();
    let addresses = parse_hosts(&hosts, host);
    if !addresses.is_empty() {
        return Ok(Found { addresses, ttl: HOSTS_TTL });
    }
    // RFC 6761 §6.3: a name under `localhost` is this machine, and no resolver is asked.
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        let addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        return Ok(Found { addresses, ttl: TTL_MAX });
    }
    let answer = match resolvers {
        Some(resolvers) => ask(resolvers, host).await?,
        None => ask(std::slice::from_ref(system().ok_or(OriginFailure::NameUnknown)?), host).await?,
    };
    let addresses = answer.iter().collect();
    let ttl = answer.valid_until().saturating_duration_since(Instant::now().into_std());
    Ok(Found { addresses, ttl: ttl.clamp(TTL_MIN, TTL_MAX) })
}

/// One resolver for all, as `/etc/resolv.conf` says.
fn system() -> Option<&'static TokioResolver> {
    static RESOLVER: OnceLock<Option<TokioResolver>> = OnceLock::new();
    RESOLVER.get_or_init(|| built(TokioResolver::builder_tokio().ok()?)).as_ref()
}

/// One for each of these servers.
pub(super) fn asking(servers: &[SocketAddr]) -> Option<Arc<[TokioResolver]>> {
    let each = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let server = NameServerConfig::new(server.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().timeout = SERVER_PATIENCE;
        builder.options_mut().attempts = 1;
        built(builder)
    });
    each.collect()
}

/// Asks all of them at once, and believes the first that knows: one that is silent delays nobody, and one that has failed decides nothing.
async fn ask(resolvers: &[TokioResolver], host: &str) -> Result<LookupIp, OriginFailure> {
    let mut asked = JoinSet::new();
    for resolver in resolvers {
        let (resolver, host) = (resolver.clone(), host.to_owned());
        asked.spawn(async move { resolver.lookup_ip(host).await });
    }
    let mut timed_out = true;
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) if answer.iter().next().is_some() => return Ok(answer),
            Ok(Err(error)) => {
                let text = error.to_string();
                timed_out &= text.contains("timed out") || text.contains("timeout");
            }
            Ok(Ok(_)) | Err(_) => timed_out = false,
        }
    }
    Err(if timed_out { OriginFailure::NameTimeout } else { OriginFailure::NameUnknown })
}

/// Without a cache: what is known is kept here, and for as long as its TTL says.
fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Option<TokioResolver> {
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().ok()
}

/// The addresses that a hosts file gives a name, in its order.
fn parse_hosts(text: &[u8], host: &str) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_gives_each_name_its_addresses() {
        let text = b"127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # a comment with app\n\n10.0.0.1 app APP.internal\nnonsense app\n10.0.0.2 app";
        let find = |host| parse_hosts(text, host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(find("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(find("app"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(find("app.internal"), ["10.0.0.1"]);
        assert!(find("other").is_empty());
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80")] {
            let addresses = Addresses::new(host, 80, None, &Handle::current()).all().await.unwrap();
            assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }
}
