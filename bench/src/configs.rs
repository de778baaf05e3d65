//! A configuration for each server as somebody would run it in production on one core: keep-alive to the origin,
//! responses held in memory, no cache in the way of `/pass/`, requests for one cold key collapsed where the server can, access logs off.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::scenario::UNDER_LIMIT;
use crate::server::{self, Behind, Setup, is_root};

/// Where a server listens, and where its files are.
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) redis: Option<SocketAddr>,
    pub(crate) setup: &'a Setup<'a>,
}

impl Place<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<String> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

/// The arguments to start Weir with; HTTP/2 by prior knowledge is on the same port.
pub(crate) fn weir(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { directory, http1, admin, redis, setup, .. } = place;
    let (cache, store) = match (redis, setup.behind) {
        (Some(redis), _) => (
            "redis = \"main\"".to_owned(),
            format!(
                // On a busy machine a request would otherwise go on to the origin now and then, and the round would count for nothing.
                "[redis.main]\nurl = \"redis://{redis}\"\nread_budget = \"2s\"\nwrite_budget = \"2s\"\n"
            ),
        ),
        (None, Behind::Disk) => {
            (String::new(), format!("[data]\npath = \"{}\"\n", directory.join("data").display()))
        }
        (None, _) => Default::default(),
    };
    let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins");
    let cookies = |memo: &str| {
        format!(
            "plugins = [\"p\"]\n[plugin.p]\npath = \"{plugins}/cookie-allowlist/cookie-allowlist.wasm\"\n\
             grants = [\"cookie-names\", \"cookie:django_language\", \"header:authorization\"]\n\
             config = {{ preset = \"django\", ttl = \"1h\" }}\n{memo}\n"
        )
    };
    let plugin = match setup.behind {
        Behind::PluginPlan => {
            format!(
                "plugins = [\"p\"]\n[plugin.p]\npath = \"{plugins}/query-normalize/query-normalize.wasm\"\n"
            )
        }
        Behind::PluginRemembered => cookies(""),
        Behind::PluginCalled => cookies("memo = { entries = 0 }"),
        _ => String::new(),
    };
    let sessions = match setup.behind {
        behind if behind.is_nothing() => "",
        _ => {
            r#"[session]
keys = ["a secret of the bench"]
redis_budget = "2s"

[[route]]
match = { path = "/session/**" }
origin = "app"
cache = "off"
session = "read"

[[route]]
match = { path = "/session-write/**" }
origin = "app"
session = "write"
"#
        }
    };
    // One that this proxy counts alone, one that is fast enough for leases, and one for which Redis is asked each time; none of them refuses anybody.
    let limits = match redis {
        None => String::new(),
        Some(_) => {
            let rates = [
                "rate = \"1000000/1s\"\nredis = \"off\"",
                "rate = \"1000000/1s\"\nredis_budget = \"2s\"",
                "rate = \"40/1s\"\nburst = 20000000\nredis_budget = \"2s\"",
            ];
            let limit = |(rate, (_, id)): (&str, (_, u64))| {
                format!(
                    "[limit.l{id}]\n{rate}\n\n[[route]]\nmatch = {{ path = \"/store/1024/0/{id}\" }}\norigin = \"app\"\nlimits = [\"l{id}\"]\n\n"
                )
            };
            rates.into_iter().zip(UNDER_LIMIT).map(limit).collect()
        }
    };
    let config = format!(
        r#"[server]
listen = ["{http1}"]
workers = 1

[admin]
listen = "{admin}"

[log]
access = "off"

[cache.default]
max_memory = "{mebibytes}MiB"
max_entries = {entries}
{cache}

{store}
[origin.app]
servers = ["http://{origin}"]

{sessions}
[[route]]
match = {{ path = "/pass/**" }}
origin = "app"
cache = "off"

[[route]]
match = {{ path = "/store/64/0/{{id}}" }}
origin = "app"
cache = {{ tags = ["page:{{id}}"] }}

{limits}[[route]]
origin = "app"
{plugin}"#,
        mebibytes = setup.budget.mebibytes,
        entries = setup.budget.entries,
        origin = setup.origin,
    );
    Ok(vec!["run".into(), "--config".into(), place.write("weir.toml", &config)?])
}

pub(crate) fn nginx(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { directory, http1, http2, setup, .. } = place;
    let config = format!(
        r#"worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 65;
    keepalive_requests 1000000000;
    server_tokens off;
    open_file_cache max=12000 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/temp;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=app:64m max_size={mebibytes}m inactive=1h use_temp_path=off;
    upstream app {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {http1} backlog=1024;
        listen {http2} http2 backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        location /pass/ {{ proxy_pass http://app; }}
        proxy_cache_lock on;
        proxy_cache_use_stale updating;
        location / {{
            proxy_pass http://app;
            proxy_cache app;
        }}
        # A response just longer than loopback's segments of 64 KiB would wait for a delayed acknowledgement.
        location /store/65536/ {{
            proxy_pass http://app;
            proxy_cache app;
            tcp_nopush off;
        }}
    }}
}}
"#,
        directory = directory.display(),
        user = if is_root() { "user root;" } else { "" },
        mebibytes = setup.budget.mebibytes.saturating_mul(8),
        origin = setup.origin,
    );
    let file = place.write("nginx.conf", &config)?;
    Ok(vec!["-p".into(), directory.display().to_string(), "-e".into(), "stderr".into(), "-c".into(), file])
}

/// A page is looked for in Redis, and asked of the origin and put there where it is not: what one writes with the usual modules.
pub(crate) fn nginx_lua(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { directory, http1, http2, redis, setup, .. } = place;
    let (modules, client) = nginx_lua_installed()?;
    let redis = redis.ok_or_else(|| io::Error::other("there is no Redis for nginx"))?;
    let config = format!(
        r#"load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 65;
    keepalive_requests 1000000000;
    server_tokens off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/temp;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    lua_package_path "/usr/share/lua/5.1/?.lua;;";
    upstream app {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {http1} backlog=1024;
        listen {http2} http2 backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        location /origin/ {{
            internal;
            rewrite ^/origin(/.*)$ $1 break;
            proxy_pass http://app;
        }}
        location / {{
            content_by_lua_block {{
                local client = require "{client}"
                local redis = client:new()
                redis:set_timeout(1000)
                local connected = redis:connect("{host}", {port})
                local body = connected and redis:get(ngx.var.uri)
                if not body or body == ngx.null then
                    local answer = ngx.location.capture("/origin" .. ngx.var.uri)
                    body = answer.body
                    if connected then redis:setex(ngx.var.uri, 86400, body) end
                end
                if connected then redis:set_keepalive(60000, 256) end
                ngx.header["Content-Type"] = "text/plain"
                ngx.header["Content-Length"] = #body
                ngx.print(body)
            }}
        }}
    }}
}}
"#,
        modules = modules.display(),
        directory = directory.display(),
        user = if is_root() { "user root;" } else { "" },
        origin = setup.origin,
        host = redis.ip(),
        port = redis.port(),
    );
    let file = place.write("nginx.conf", &config)?;
    Ok(vec!["-p".into(), directory.display().to_string(), "-e".into(), "stderr".into(), "-c".into(), file])
}

fn nginx_lua_installed() -> io::Result<(std::path::PathBuf, &'static str)> {
    server::nginx_lua()
        .ok_or_else(|| io::Error::other("nginx has no Lua module, or no client for Redis in Lua"))
}

pub(crate) fn haproxy(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { http1, http2, setup, .. } = place;
    let config = format!(
        r"global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
cache app
    total-max-size {mebibytes}
    max-object-size 1048576
    max-age 86400
frontend app
    bind {http1} backlog 1024
    bind {http2} proto h2 backlog 1024
    use_backend pass if {{ path_beg /pass/ }}
    default_backend app
backend app
    http-request cache-use app
    http-response cache-store app
    server app {origin}
backend pass
    server app {origin}
",
        mebibytes = setup.budget.mebibytes.min(4095),
        origin = setup.origin,
    );
    Ok(vec!["-db".into(), "-f".into(), place.write("haproxy.cfg", &config)?])
}

/// HTTP/2 by prior knowledge is on the same port.
pub(crate) fn varnish(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { directory, http1, setup, .. } = place;
    let config = format!(
        r#"vcl 4.1;
import std;
backend app {{ .host = "{host}"; .port = "{port}"; }}
sub vcl_recv {{
    if (req.url ~ "^/pass/") {{ return (pass); }}
}}
sub vcl_backend_response {{
    # What is too large to hold is passed on, as any site with downloads does.
    if (std.integer(beresp.http.Content-Length, 0) > 1048576) {{
        set beresp.uncacheable = true;
        set beresp.ttl = 120s;
    }}
}}
"#,
        host = setup.origin.ip(),
        port = setup.origin.port(),
    );
    let file = place.write("app.vcl", &config)?;
    let name = directory.join("varnish").display().to_string();
    let storage = format!("malloc,{}M", setup.budget.mebibytes);
    let mut arguments: Vec<String> = [
        "-F",
        "-j",
        "none",
        "-n",
        &name,
        "-f",
        &file,
        "-a",
        &http1.to_string(),
        "-s",
        &storage,
        "-T",
        "none",
    ]
    .map(String::from)
    .into();
    for parameter in ["thread_pools=1", "thread_pool_min=100", "thread_pool_max=1000", "feature=+http2"] {
        arguments.extend(["-p".into(), parameter.into()]);
    }
    Ok(arguments)
}

/// HTTP/2 by prior knowledge is on the same port.
pub(crate) fn trafficserver(place: &Place<'_>) -> io::Result<Vec<String>> {
    let Place { directory, http1, setup, .. } = place;
    let root = directory.display();
    for name in ["etc", "log", "run", "cache"] {
        fs::create_dir_all(directory.join(name))?;
        // Started by root, it becomes somebody else, who must be able to write here.
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o777))?;
    }
    place.write(
        "runroot.yaml",
        &format!(
            "prefix: {root}\nexec_prefix: {root}\nbindir: /usr/bin\nsbindir: /usr/bin\nsysconfdir: {root}/etc\n\
             datadir: {root}/cache\nincludedir: {root}\nlibdir: /usr/lib/trafficserver\n\
             libexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {root}/run\nruntimedir: {root}/run\n\
             logdir: {root}/log\ncachedir: {root}/cache\n"
        ),
    )?;
    let records = format!(
        "CONFIG proxy.config.exec_thread.autoconfig INT 0\n\
         CONFIG proxy.config.exec_thread.limit INT 1\n\
         CONFIG proxy.config.exec_thread.affinity INT 0\n\
         CONFIG proxy.config.accept_threads INT 0\n\
         CONFIG proxy.config.task_threads INT 1\n\
         CONFIG proxy.config.cache.threads_per_disk INT 2\n\
         CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1:ipv4:proto=http;http2\n\
         CONFIG proxy.config.log.logging_enabled INT 0\n\
         CONFIG proxy.config.admin.user_id STRING {user}\n\
         CONFIG proxy.config.crash_log_helper STRING NULL\n\
         CONFIG proxy.config.cache.ram_cache.size INT {mebibytes}M\n\
         CONFIG proxy.config.cache.enable_read_while_writer INT 1\n\
         CONFIG proxy.config.http.background_fill_active_timeout INT 0\n\
         CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0\n",
        port = http1.port(),
        user = if is_root() { "nobody" } else { "#-1" },
        mebibytes = setup.budget.mebibytes,
    );
    let storage = format!("{root}/cache 1G\n");
    let mapping = format!("map / http://{}/\n", setup.origin);
    let files = [
        ("records.config", records.as_str()),
        ("remap.config", &mapping),
        ("storage.config", &storage),
        ("ip_allow.yaml", "ip_allow:\n- apply: in\n  ip_addrs: 127.0.0.1\n  action: allow\n  methods: ALL\n"),
        ("logging.yaml", ""),
        ("sni.yaml", ""),
        ("plugin.config", ""),
        ("ssl_multicert.config", ""),
        ("hosting.config", ""),
        ("volume.config", ""),
        ("cache.config", ""),
        ("parent.config", ""),
        ("socks.config", ""),
        ("splitdns.config", ""),
    ];
    for (name, text) in files {
        place.write(&format!("etc/{name}"), text)?;
    }
    Ok(vec![format!("--run-root={root}")])
}
