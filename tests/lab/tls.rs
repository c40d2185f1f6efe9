//! TLS servers of the world: several names on one address, each with a certificate of its own. What
//! each connection brought is kept, from its first raw byte on.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown, shutdown};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::netns::Netns;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a connection brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The address that was dialled.
    pub address: SocketAddr,
    /// Raw bytes that arrived.
    pub bytes: u64,
    /// The name in the hello.
    pub name: Option<String>,
    /// The name in the request.
    pub host: Option<String>,
}

type Visits = Arc<Mutex<Vec<Visit>>>;

/// The servers; they end with this value.
#[derive(Debug)]
pub struct TlsServers {
    visits: Visits,
    authority: PathBuf,
    certificates: Arc<Certificates>,
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl TlsServers {
    /// Makes an authority (its certificate goes to `folder/world.crt`) and a certificate for each name,
    /// and serves all of them on these ports of every address. Names (and addresses) joined by commas
    /// share a certificate.
    pub fn start(world: &Netns, folder: &Path, ports: &[u16], names: &[&str]) -> Result<Self> {
        let authority = folder.join("world.crt");
        let certificates = Arc::new(Certificates::make(&authority, names)?);
        let mut config = config(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let mut servers = Self {
            visits: Visits::default(),
            authority,
            certificates,
            listeners: Vec::new(),
            threads: Vec::new(),
        };
        for port in ports {
            let listener = world
                .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)))?
                .with_context(|| format!("tcp port {port}"))?;
            servers.listeners.push(listener.try_clone()?);
            let (config, visits) = (Arc::clone(&config), Arc::clone(&servers.visits));
            servers.threads.push(std::thread::spawn(move || {
                accept(&listener, &config, &visits);
            }));
        }
        Ok(servers)
    }

    /// The certificate that clients must trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// The certificate of one name, for a server of another protocol whose clients do not say whom they
    /// mean.
    pub fn certificate_of(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let certified = self.certificates.by_name.get(name);
        let certified = certified.with_context(|| format!("`{name}` has no certificate"))?;
        let only = SingleCertAndKey::from(CertifiedKey::clone(certified));
        Ok(Arc::new(config(Arc::new(only))?))
    }

    /// Every connection so far.
    pub fn visits(&self) -> Vec<Visit> {
        lock(&self.visits).clone()
    }

    /// Connections whose hello or request names this.
    pub fn visits_of(&self, name: &str) -> usize {
        let named = |given: &Option<String>| given.as_deref() == Some(name);
        let visits = lock(&self.visits);
        visits
            .iter()
            .filter(|visit| named(&visit.name) || named(&visit.host))
            .count()
    }

    /// Raw bytes that have arrived by any connection.
    pub fn bytes(&self) -> u64 {
        lock(&self.visits).iter().map(|visit| visit.bytes).sum()
    }
}

impl Drop for TlsServers {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Wakes `accept`; a listener that is already down is what is wanted.
            shutdown(listener.as_raw_fd(), Shutdown::Both).ok();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    Ok(builder
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates))
}

/// The certificates by name; a name that has none, or no name, gets the first.
#[derive(Debug)]
struct Certificates {
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Certificates {
    fn make(authority: &Path, names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the world of the lab");
        fs::write(authority, params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        let (mut by_name, mut first) = (BTreeMap::new(), None);
        for name in names {
            let key = KeyPair::generate()?;
            let all: Vec<_> = name.split(',').map(ToOwned::to_owned).collect();
            let params = CertificateParams::new(all.clone())?;
            let certificate = params.signed_by(&key, &issuer)?;
            let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let signer = aws_lc_rs::sign::any_supported_type(&secret)?;
            let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
            let certified = Arc::new(certified);
            first.get_or_insert_with(|| Arc::clone(&certified));
            by_name.extend(all.into_iter().map(|name| (name, Arc::clone(&certified))));
        }
        let first = first.context("no name")?;
        Ok(Self { by_name, first })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = hello.server_name().and_then(|name| self.by_name.get(name));
        Some(Arc::clone(own.unwrap_or(&self.first)))
    }
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>, visits: &Visits) {
    while let Ok((stream, _)) = listener.accept() {
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let number = {
            let mut visits = lock(visits);
            visits.push(Visit {
                address: SocketAddr::new(local.ip().to_canonical(), local.port()),
                bytes: 0,
                name: None,
                host: None,
            });
            visits.len() - 1
        };
        let guest = Guest {
            stream,
            number,
            visits: Arc::clone(visits),
        };
        let config = Arc::clone(config);
        std::thread::spawn(move || {
            // A peer that goes away is the ordinary end of a connection.
            drop(serve(guest, config));
        });
    }
}

/// A connection that counts what it brings.
struct Guest {
    stream: TcpStream,
    number: usize,
    visits: Visits,
}

impl Guest {
    fn note(&self, change: impl FnOnce(&mut Visit)) {
        if let Some(visit) = lock(&self.visits).get_mut(self.number) {
            change(visit);
        }
    }
}

impl Guest {
    /// The address that was dialled.
    fn address(&self) -> String {
        let local = self.stream.local_addr();
        local.map_or_else(
            |error| error.to_string(),
            |local| local.ip().to_canonical().to_string(),
        )
    }
}

impl Read for Guest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.note(|visit| visit.bytes += length as u64);
        Ok(length)
    }
}

impl Write for Guest {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Answers each HTTP request and keeps the connection; `/to/NAME` leads to another site, and what is no
/// HTTP is sent back.
fn serve(guest: Guest, config: Arc<ServerConfig>) -> io::Result<()> {
    guest.stream.set_nodelay(true)?;
    guest.stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, guest);
    let mut buffer = vec![0; 16 << 10];
    let mut request = Vec::new();
    loop {
        let length = stream.read(&mut buffer)?;
        let name = stream.conn.server_name().map(str::to_owned);
        stream.sock.note(|visit| visit.name.clone_from(&name));
        if length == 0 {
            return Ok(());
        }
        let read = buffer.get(..length).unwrap_or_default();
        request.extend_from_slice(read);
        if !request.starts_with(b"GET ") && !request.starts_with(b"HEAD ") {
            stream.write_all(read)?;
            stream.flush()?;
            request.clear();
            continue;
        }
        if !request.windows(4).any(|window| window == b"\r\n\r\n") {
            continue;
        }
        let host = header(&request, "host:");
        stream.sock.note(|visit| visit.host.clone_from(&host));
        let address = stream.sock.address();
        let body = format!("hello from {}\n", name.unwrap_or(address));
        let status = redirect(&request).unwrap_or_else(|| "200 OK".to_owned());
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
        request.clear();
    }
}

/// Status and place of a request for `/to/NAME`: another site.
fn redirect(request: &[u8]) -> Option<String> {
    let request = String::from_utf8_lossy(request);
    let place = request.strip_prefix("GET /to/")?.split(' ').next()?;
    Some(format!("302 Found\r\nLocation: https://{place}/"))
}

fn header(request: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(request).lines().find_map(|line| {
        let (given, value) = (line.get(..name.len())?, line.get(name.len()..)?);
        given
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}
