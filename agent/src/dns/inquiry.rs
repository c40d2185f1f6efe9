//! Whether upstream servers answer, for whoever sets them up. Knows no sessions; nothing but the name
//! of the root is asked for.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    error::{AskError, Error},
    resolv_conf,
    settings::Upstream,
    upstream::Servers,
};

/// One server and what came of asking it.
#[derive(Debug)]
pub struct Inquiry {
    /// The server.
    pub server: SocketAddr,
    /// How long its answer took.
    pub answer: Result<Duration, AskError>,
}

/// The servers that a resolv.conf(5) names, as the resolver takes them.
pub fn host_servers(path: &Path) -> io::Result<Vec<SocketAddr>> {
    resolv_conf::servers(path)
}

/// Asks each server by itself, all at once; takes no longer than [`super::PATIENCE`]. In the order of
/// the configuration; none where there is no server.
///
/// # Errors
/// Where the transport can not be made, such as for authorities that can not be read.
pub async fn inquire(upstream: &Upstream) -> Result<Vec<Inquiry>, Error> {
    let mut asked = JoinSet::new();
    for (place, (server, alone)) in each(upstream).into_iter().enumerate() {
        let servers = Servers::new(alone)?;
        asked.spawn(async move {
            let began = Instant::now();
            let answer = servers.reach().await.map(|()| began.elapsed());
            (place, Inquiry { server, answer })
        });
    }
    let mut heard = asked.join_all().await;
    heard.sort_unstable_by_key(|(place, _)| *place);
    Ok(heard.into_iter().map(|(_, inquiry)| inquiry).collect())
}

/// Each server as an upstream of its own.
fn each(upstream: &Upstream) -> Vec<(SocketAddr, Upstream)> {
    let plain = |servers: Vec<SocketAddr>| {
        let alone = |server| (server, Upstream::Plain(vec![server]));
        servers.into_iter().map(alone).collect()
    };
    match upstream {
        // A file that can not be read names none.
        Upstream::ResolvConf(path) => plain(host_servers(path).unwrap_or_default()),
        Upstream::Plain(servers) => plain(servers.clone()),
        Upstream::Tls { servers, roots } => {
            let alone = |server: &super::TlsServer| {
                let servers = vec![server.clone()];
                let roots = roots.clone();
                (server.address, Upstream::Tls { servers, roots })
            };
            servers.iter().map(alone).collect()
        }
    }
}
