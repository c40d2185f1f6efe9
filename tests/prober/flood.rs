//! Everything at once that may be too much for a resolver: from many sockets, over datagrams and
//! connections, with every kind of bytes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use lab::sys::socket;
use nix::errno::Errno;

use crate::{
    ask::{self, address, unbound},
    send,
    steps::{Probe, Refused, last, parsed},
};

type Done<T = ()> = Result<T, Refused>;

/// Sockets that send by turns; one of them is replaced in each round.
const SOCKETS: usize = 64;
const CONNECTIONS: usize = 48;
/// Datagrams of one write that is cut.
const PIECES: usize = 40;
/// A name of 253 characters, the longest there is (RFC 1035, 2.3.4).
const LABEL: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi";

impl Probe {
    /// `flood SERVER WILDCARD REFUSED MS`: distinct names below the one, names that are nobody's, the
    /// longest names, and bytes that are no question. `calls` is how many writes there were, `refused`
    /// how many of them were EPERM. Values: replies, and connections that are open at the end.
    pub(crate) fn flood(&mut self, words: &[&str]) -> Done {
        let [server, wildcard, refused, ms] = words else {
            return Err("flood SERVER WILDCARD REFUSED MS".into());
        };
        let mut flood = Flood {
            server: address(server)?,
            wildcard,
            refused,
            number: 0,
            calls: 0,
            denied: 0,
            heard: 0,
        };
        let held = flood.run(Duration::from_millis(parsed(ms)?))?;
        self.calls += flood.calls;
        self.refused += flood.denied;
        self.values = vec![flood.heard.to_string(), held.to_string()];
        Ok(())
    }
}

struct Flood<'a> {
    server: SocketAddr,
    wildcard: &'a str,
    refused: &'a str,
    number: u64,
    calls: u64,
    denied: u64,
    heard: u64,
}

impl Flood<'_> {
    fn run(&mut self, time: Duration) -> Done<usize> {
        let mut connections: Vec<_> = (0..CONNECTIONS)
            .filter_map(|_| TcpStream::connect(self.server).ok())
            .collect();
        for connection in &connections {
            let set = connection.set_nonblocking(true);
            set.map_err(|error| last(&error))?;
        }
        let mut sockets = (0..SOCKETS)
            .map(|_| self.socket())
            .collect::<Done<Vec<_>>>()?;
        let began = Instant::now();
        let mut oldest = 0;
        while began.elapsed() < time {
            for socket in &sockets {
                self.turn(socket)?;
            }
            for connection in &mut connections {
                self.number += 1;
                let question = self.question(self.wildcard)?;
                let length = u16::try_from(question.len()).unwrap_or_default();
                let framed = [&length.to_be_bytes()[..], &question].concat();
                // What the resolver has closed stays closed: that it does so is what is looked at.
                drop(connection.write(&framed));
            }
            if let Some(place) = sockets.get_mut(oldest % SOCKETS) {
                *place = self.socket()?;
            }
            oldest += 1;
        }
        Ok(connections
            .iter_mut()
            .filter_map(|connection| is_open(connection).then_some(()))
            .count())
    }

    /// By turns one that is connected and one that is not.
    fn socket(&mut self) -> Done<UdpSocket> {
        let socket = unbound(self.server)?;
        let set = socket.set_nonblocking(true);
        set.map_err(|error| last(&error))?;
        self.number += 1;
        if self.number.is_multiple_of(2) {
            let connected = socket.connect(self.server);
            connected.map_err(|error| last(&error))?;
        }
        Ok(socket)
    }

    fn turn(&mut self, socket: &UdpSocket) -> Done {
        self.number += 1;
        let longest = format!("{LABEL}.{LABEL}.{LABEL}.{LABEL}.a{}", self.number % 10_000);
        let mut cut = self.question(self.wildcard)?;
        cut.truncate(cut.len() / 2);
        for bytes in [
            self.question(self.wildcard)?,
            self.question(self.refused)?,
            ask::question(self.id(), longest.get(..253).unwrap_or(&longest), "TXT")?,
            [self.question(self.wildcard)?, vec![0xff; 4_000]].concat(),
            cut,
            Vec::new(),
        ] {
            let sent = if socket.peer_addr().is_ok() {
                socket.send(&bytes)
            } else {
                socket.send_to(&bytes, self.server)
            };
            self.count(sent.map(drop).map_err(|error| error.raw_os_error()))?;
        }
        let question = self.question(self.wildcard)?;
        let (all, size) = (question.repeat(PIECES), question.len());
        let control = send::control(&format!("segment={size}"))?;
        if socket.peer_addr().is_ok() {
            let sent = socket::sendmsg(socket.as_fd(), &all, None, &control);
            self.count(sent.map(drop).map_err(|errno| Some(errno as i32)))?;
        }
        let mut buffer = [0; 512];
        while socket.recv(&mut buffer).is_ok() {
            self.heard += 1;
        }
        Ok(())
    }

    fn question(&self, base: &str) -> Done<Vec<u8>> {
        ask::question(self.id(), &format!("q{}.{base}", self.number), "A")
    }

    /// Some number or other.
    fn id(&self) -> u16 {
        u16::try_from(self.number % 65_521).unwrap_or_default()
    }

    /// What there is no room for counts as sent.
    fn count(&mut self, sent: Result<(), Option<i32>>) -> Done {
        self.calls += 1;
        let Err(Some(errno)) = sent else {
            return Ok(());
        };
        let errno = Errno::from_raw(errno);
        if errno == Errno::EPERM {
            self.denied += 1;
        } else if ![Errno::EAGAIN, Errno::ENOBUFS, Errno::ECONNREFUSED].contains(&errno) {
            return Err(Refused::Errno(errno));
        }
        Ok(())
    }
}

/// Whether the other end has not closed it; replies are read away.
fn is_open(connection: &mut TcpStream) -> bool {
    let mut buffer = [0; 4_096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}
