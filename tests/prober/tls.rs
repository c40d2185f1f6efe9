//! A real TLS client (rustls) over the script's socket.

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::steps::{Probe, Refused, last, parsed};

type Done<T = ()> = Result<T, Refused>;
type Stream = StreamOwned<ClientConnection, TcpStream>;

const PATIENCE: Duration = Duration::from_secs(4);

impl Probe {
    /// `tls NAME AUTHORITY`: a handshake for the name over the connected socket, one request, its answer.
    pub(crate) fn tls(&mut self, name: &str, authority: &str) -> Done {
        let socket = self.fd()?.try_clone_to_owned();
        let socket = TcpStream::from(socket.map_err(|error| last(&error))?);
        let plain = socket.set_nonblocking(false);
        plain.map_err(|error| last(&error))?;
        let mut stream = handshake(socket, name, &config(authority)?)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let mut buffer = vec![0; 4096];
        let mut talk = || {
            stream.write_all(request.as_bytes())?;
            stream.read(&mut buffer)
        };
        let length = talk().map_err(|error| crate::ask::late(&error))?;
        self.sent += request.len() as u64;
        self.received += length as u64;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        self.values
            .extend(text.lines().last().map(ToOwned::to_owned));
        let again = stream.sock.set_nonblocking(true);
        again.map_err(|error| last(&error))
    }

    /// `handshakes ADDRESS NAME AUTHORITY COUNT`: handshakes a second, median and 99th percentile in
    /// microseconds.
    pub(crate) fn handshakes(
        &mut self,
        to: &str,
        name: &str,
        authority: &str,
        count: &str,
    ) -> Done {
        let to: SocketAddr = to
            .parse()
            .map_err(|error| Refused::Script(format!("{to}: {error}")))?;
        let config = config(authority)?;
        let count: u32 = parsed(count)?;
        let mut each = Vec::new();
        let began = Instant::now();
        for _ in 0..count {
            let start = Instant::now();
            let socket = TcpStream::connect(to).map_err(|error| last(&error))?;
            handshake(socket, name, &config)?;
            each.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        each.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| each.get(each.len() * share / 100).copied();
        let values = [Some(rate), at(50), at(99)];
        self.values
            .extend(values.map(|value| value.unwrap_or_default().to_string()));
        Ok(())
    }
}

fn config(authority: &str) -> Done<Arc<ClientConfig>> {
    let told = |error: &dyn std::fmt::Display| Refused::Script(format!("{authority}: {error}"));
    let file = File::open(authority).map_err(|error| told(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| told(&error))?;
        roots.add(certificate).map_err(|error| told(&error))?;
    }
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| told(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn handshake(mut socket: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Done<Stream> {
    let told = |error: &dyn std::fmt::Display| Refused::Script(format!("{name}: {error}"));
    let server = ServerName::try_from(name.to_owned()).map_err(|error| told(&error))?;
    let mut connection =
        ClientConnection::new(Arc::clone(config), server).map_err(|error| told(&error))?;
    let patience = socket.set_read_timeout(Some(PATIENCE));
    patience.map_err(|error| last(&error))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(|error| crate::ask::late(&error))?;
    }
    Ok(StreamOwned::new(connection, socket))
}
