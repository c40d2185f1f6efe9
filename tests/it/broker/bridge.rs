//! A port of loopback that leads to the broker's socket, for callers that know no unix sockets. What
//! they write as `@token` and `@proof` becomes a token and a proof for that very body.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use super::caller::Caller;

/// Longer than any request of the tests takes.
const PATIENCE: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 16 << 20;

/// Serves until the process ends; gives the port.
pub(super) fn start(socket: &Path, caller: Arc<Caller>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let socket = socket.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (socket, caller) = (socket.clone(), Arc::clone(&caller));
            thread::spawn(move || {
                // Who breaks off is no fault of the bridge; its peer sees it.
                drop(carry(&stream, &socket, &caller));
            });
        }
    });
    port
}

/// One request, one answer, the end.
fn carry(stream: &TcpStream, socket: &Path, caller: &Caller) -> io::Result<()> {
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
    let mut request = Vec::new();
    for line in &lines {
        request.extend(filled(line, &body, caller));
    }
    request.extend(b"Connection: close\r\n\r\n");
    request.extend(&body);
    let mut broker = UnixStream::connect(socket)?;
    broker.set_read_timeout(Some(PATIENCE))?;
    broker.write_all(&request)?;
    let mut answer = Vec::new();
    broker.read_to_end(&mut answer)?;
    let mut stream = stream;
    stream.write_all(&answer)?;
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
