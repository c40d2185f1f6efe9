//! A port of loopback that leads to the broker's socket, for callers that know no unix sockets. What
//! they write as `@token` and `@proof` becomes a token and a proof for that very body; or both are added.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::caller::Caller;

/// Longer than any request of the tests takes.
const PATIENCE: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 16 << 20;

/// How long the nonce of the proofs is used: it is good for a minute at least.
const NONCE_USED: Duration = Duration::from_secs(20);

/// Serves until the process ends; gives the port.
pub(super) fn start(socket: &Path, caller: Arc<Caller>) -> u16 {
    serve(socket, move |lines, body| {
        lines
            .iter()
            .flat_map(|line| filled(line, body, &caller))
            .collect()
    })
}

/// The same for callers that know no tokens: each request gets one, and a proof.
pub(super) fn signing(socket: &Path, caller: Arc<Caller>) -> u16 {
    let learnt = Mutex::new(Instant::now());
    serve(socket, move |lines, body| {
        let mut learnt = learnt.lock().expect("no panic");
        if learnt.elapsed() > NONCE_USED {
            caller.renew_nonce();
            *learnt = Instant::now();
        }
        drop(learnt);
        let own = |line: &Vec<u8>| !line.to_ascii_lowercase().starts_with(b"connection:");
        let mut head: Vec<u8> = lines
            .iter()
            .filter(|line| own(line))
            .flatten()
            .copied()
            .collect();
        let (token, proof) = (caller.token(), caller.proof_of(body));
        head.extend(format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n").bytes());
        head
    })
}

/// Serves with what makes a head of the lines and the body that came.
fn serve(
    socket: &Path,
    head: impl Fn(&[Vec<u8>], &[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (socket, head) = (socket.to_owned(), Arc::new(head));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (socket, head) = (socket.clone(), Arc::clone(&head));
            thread::spawn(move || {
                // Who breaks off is no fault of the bridge; its peer sees it.
                drop(carry(&stream, &socket, &*head));
            });
        }
    });
    port
}

/// One request, one answer, the end.
fn carry(
    stream: &TcpStream,
    socket: &Path,
    head: &impl Fn(&[Vec<u8>], &[u8]) -> Vec<u8>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        if line.len() <= 2 {
            break;
        }
        lines.push(line);
    }
    let length = lines.iter().find_map(|line| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        line.strip_prefix("content-length:")?.trim().parse().ok()
    });
    let mut body = vec![0; length.unwrap_or(0).min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    let mut request = head(&lines, &body);
    request.extend(b"Connection: close\r\n\r\n");
    request.extend(&body);
    let mut broker = UnixStream::connect(socket)?;
    broker.set_read_timeout(Some(PATIENCE))?;
    broker.write_all(&request)?;
    let mut stream = stream;
    io::copy(&mut broker, &mut stream)?;
    stream.shutdown(Shutdown::Both)
}

/// A header line with what stands for token and proof in it; nothing for one that is the bridge's own.
fn filled(line: &[u8], body: &[u8], caller: &Caller) -> Vec<u8> {
    let Ok(text) = str::from_utf8(line) else {
        return line.to_owned();
    };
    if text.to_ascii_lowercase().starts_with("connection:") {
        return Vec::new();
    }
    if text.trim_end().ends_with("@token") {
        return text.replace("@token", caller.token()).into_bytes();
    }
    if text.trim_end().ends_with("@proof") {
        return text.replace("@proof", &caller.proof_of(body)).into_bytes();
    }
    line.to_owned()
}
