//! A real HTTPS server in the world: Python's, with a certificate made for the occasion.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{binary, netns::Netns};

const SERVER: &str = "\
import http.server, socket, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        local = self.connection.getsockname()
        body = f'hello over tls from {local[0].removeprefix(\"::ffff:\")}\\n'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
    def log_message(self, *rest):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    def get_request(self):
        raw, peer = self.socket.accept()
        return raw, peer
    def finish_request(self, raw, peer):
        super().finish_request(context.wrap_socket(raw, server_side=True), peer)
    def handle_error(self, *rest):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = Server(('::', int(sys.argv[3])), Answer)
print('ready', flush=True)
server.serve_forever()
";

/// The server; it ends with this value.
#[derive(Debug)]
pub struct HttpsServer {
    child: Child,
    certificate: PathBuf,
}

impl HttpsServer {
    /// Makes a certificate for `names` (as `subjectAltName` writes them) and serves on a port of
    /// every address.
    pub fn start(world: &Netns, folder: &Path, port: u16, names: &str) -> Result<Self> {
        let (certificate, key) = (folder.join("world.crt"), folder.join("world.key"));
        binary::output(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
                .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
                .args(["-subj", "/CN=the world of the lab", "-addext"])
                .arg(format!("subjectAltName={names}"))
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        )?;
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", SERVER])
            .args([&certificate, &key])
            .arg(port.to_string())
            .stdout(Stdio::piped());
        let mut child = world
            .enter(|| command.spawn())?
            .context("python3 is missing; hint: apt-get install python3")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let server = Self { child, certificate };
        ensure!(line == "ready\n", "the HTTPS server has not started");
        Ok(server)
    }

    /// The certificate that clients must trust.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        // It has no reason to end by itself; if it did, that is well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
