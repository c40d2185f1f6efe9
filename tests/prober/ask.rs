//! Questions to name servers, written and read by hand as some runtimes do: no resolver library, no
//! configuration of the host.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt},
};

use crate::steps::{Probe, Refused, last, parsed};

type Done<T = ()> = Result<T, Refused>;

/// As long as resolvers of C libraries wait for one server.
const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const ANSWER_BYTES: usize = 65_535;
const NAME_POINTERS_MAX: usize = 64;

/// What came back.
pub(crate) struct Heard {
    pub(crate) code: u8,
    pub(crate) truncated: bool,
    pub(crate) addresses: Vec<IpAddr>,
    /// Records of other types, as `TYPE`.
    pub(crate) others: Vec<u16>,
}

impl Probe {
    /// `ask udp|tcp SERVER NAME TYPE`: a connected socket, as Go has it. Values: code, then addresses
    /// and the types of other records.
    pub(crate) fn ask(&mut self, how: &str, server: &str, name: &str, record: &str) -> Done {
        let server = address(server)?;
        let question = question(7, name, record)?;
        let heard = match how {
            "udp" => {
                let socket = unbound(server)?;
                socket.connect(server).map_err(|error| last(&error))?;
                socket.send(&question).map_err(|error| last(&error))?;
                let mut buffer = vec![0; ANSWER_BYTES];
                let length = socket.recv(&mut buffer).map_err(|error| late(&error))?;
                heard(&buffer, length, &question)?
            }
            "tcp" => {
                let stream = TcpStream::connect(server).map_err(|error| last(&error))?;
                over_tcp(stream, &question)?
            }
            _ => return Err("ask udp|tcp SERVER NAME TYPE".into()),
        };
        self.tell(&heard);
        Ok(())
    }

    /// `askall NAME TYPE SERVER…`: one socket that is connected to nobody asks all servers at once and
    /// takes the first answer that comes from one of them, as musl does.
    pub(crate) fn ask_all(&mut self, name: &str, record: &str, servers: &[&str]) -> Done {
        let servers = servers
            .iter()
            .map(|server| address(server))
            .collect::<Done<Vec<_>>>()?;
        let first = *servers.first().ok_or("no server")?;
        let question = question(9, name, record)?;
        let socket = unbound(first)?;
        for server in &servers {
            let sent = socket.send_to(&question, server);
            sent.map_err(|error| last(&error))?;
        }
        let mut buffer = vec![0; ANSWER_BYTES];
        for _ in &servers {
            let received = socket.recv_from(&mut buffer);
            let (length, source) = received.map_err(|error| late(&error))?;
            let canonical = SocketAddr::new(source.ip().to_canonical(), source.port());
            if !servers.contains(&source) && !servers.contains(&canonical) {
                return Err(Refused::Script(format!("an answer from {source}")));
            }
            let heard = heard(&buffer, length, &question)?;
            self.tell(&heard);
        }
        Ok(())
    }

    /// `lookup NAME`: the C library's way.
    pub(crate) fn lookup(&mut self, name: &str) {
        self.calls += 1;
        match (name, 0).to_socket_addrs() {
            Ok(all) => {
                let mut all: Vec<_> = all.map(|address| address.ip().to_string()).collect();
                all.dedup();
                self.values.extend(all);
            }
            Err(error) => {
                self.refused += 1;
                self.values.push(error.to_string());
            }
        }
    }

    /// `rounds SERVER NAME PORT COUNT`: each round asks for the name (`{}` stands for the round's number)
    /// and dials every address of the answer at once. A refused dial is one that came before its
    /// permission.
    pub(crate) fn rounds(&mut self, server: &str, name: &str, port: &str, count: &str) -> Done {
        let (server, port, count) = (address(server)?, parsed(port)?, parsed::<u64>(count)?);
        let socket = unbound(server)?;
        socket.connect(server).map_err(|error| last(&error))?;
        let mut buffer = vec![0; ANSWER_BYTES];
        for round in 0..count {
            let id = u16::try_from(round % 65_536).unwrap_or_default();
            let question = question(id, &name.replace("{}", &round.to_string()), "A")?;
            socket.send(&question).map_err(|error| last(&error))?;
            let length = socket.recv(&mut buffer).map_err(|error| late(&error))?;
            let heard = heard(&buffer, length, &question)?;
            if heard.addresses.is_empty() {
                let told = format!("round {round}: code {}", heard.code);
                return Err(Refused::Script(told));
            }
            for ip in heard.addresses {
                self.calls += 1;
                if !dials(SocketAddr::new(ip, port)) {
                    self.refused += 1;
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, heard: &Heard) {
        self.received += 1;
        self.values.push(code(heard.code).to_owned());
        if heard.truncated {
            self.values.push("TC".to_owned());
        }
        self.values
            .extend(heard.addresses.iter().map(ToString::to_string));
        self.values
            .extend(heard.others.iter().map(|kind| format!("TYPE{kind}")));
    }
}

/// Whether a dial is not refused by the kernel here; a reset at the other end keeps no port waiting.
fn dials(to: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(to) else {
        return false;
    };
    let reset = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &reset).is_ok()
}

fn over_tcp(mut stream: TcpStream, question: &[u8]) -> Done<Heard> {
    let patience = stream.set_read_timeout(Some(PATIENCE));
    patience.map_err(|error| last(&error))?;
    let length = u16::try_from(question.len()).unwrap_or_default();
    let framed = [&length.to_be_bytes()[..], question].concat();
    stream.write_all(&framed).map_err(|error| last(&error))?;
    let mut length = [0; 2];
    stream
        .read_exact(&mut length)
        .map_err(|error| late(&error))?;
    let length = usize::from(u16::from_be_bytes(length));
    let mut answer = vec![0; length];
    stream
        .read_exact(&mut answer)
        .map_err(|error| late(&error))?;
    heard(&answer, length, question)
}

pub(crate) fn address(text: &str) -> Done<SocketAddr> {
    text.parse()
        .map_err(|error| Refused::Script(format!("{text}: {error}")))
}

pub(crate) fn unbound(peer: SocketAddr) -> Done<UdpSocket> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).map_err(|error| last(&error))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| last(&error))?;
    Ok(socket)
}

pub(crate) fn late(error: &std::io::Error) -> Refused {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        return Refused::Timeout;
    }
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        // The peer, or who stands between, has closed.
        return Refused::Errno(Errno::ECONNRESET);
    }
    last(error)
}

/// A question with EDNS, as resolvers send it.
pub(crate) fn question(id: u16, name: &str, record: &str) -> Done<Vec<u8>> {
    let kind: u16 = match record {
        "A" => 1,
        "NS" => 2,
        "CNAME" => 5,
        "MX" => 15,
        "TXT" => 16,
        "AAAA" => 28,
        "SRV" => 33,
        "SVCB" => 64,
        "HTTPS" => 65,
        "ANY" => 255,
        other => parsed(other)?,
    };
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).map_err(|_long| "a label is too long")?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    // OPT of 1,232 bytes.
    bytes.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    Ok(bytes)
}

/// Reads an answer; what is none to this question is a fault of the script.
pub(crate) fn heard(buffer: &[u8], length: usize, question: &[u8]) -> Done<Heard> {
    let bytes = buffer.get(..length).unwrap_or_default();
    read(bytes, question).ok_or_else(|| Refused::Script(format!("no answer: {bytes:02x?}")))
}

pub(crate) fn read(bytes: &[u8], question: &[u8]) -> Option<Heard> {
    if bytes.get(..2)? != question.get(..2)? {
        return None;
    }
    let flags = number(bytes, 2)?;
    let mut at = 12;
    for _ in 0..number(bytes, 4)? {
        at = after_name(bytes, at)?.checked_add(4)?;
    }
    let mut heard = Heard {
        code: u8::try_from(flags & 0xf).ok()?,
        truncated: flags & 0x200 != 0,
        addresses: Vec::new(),
        others: Vec::new(),
    };
    for _ in 0..number(bytes, 6)? {
        at = after_name(bytes, at)?;
        let kind = number(bytes, at)?;
        let length = usize::from(number(bytes, at.checked_add(8)?)?);
        at = at.checked_add(10)?;
        let data = bytes.get(at..at.checked_add(length)?)?;
        at = at.checked_add(length)?;
        match kind {
            1 => heard.addresses.push(<[u8; 4]>::try_from(data).ok()?.into()),
            28 => heard
                .addresses
                .push(<[u8; 16]>::try_from(data).ok()?.into()),
            kind => heard.others.push(kind),
        }
    }
    Some(heard)
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..NAME_POINTERS_MAX * 2 {
        match *bytes.get(at)? {
            0 => return at.checked_add(1),
            length if length >= 0xc0 => return at.checked_add(2),
            length => at = at.checked_add(1)?.checked_add(length.into())?,
        }
    }
    None
}

fn code(code: u8) -> &'static str {
    match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => "OTHER",
    }
}
