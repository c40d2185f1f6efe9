//! The probe inside the fence: tries each way out that the kernel has, each toward an address of its
//! own, and prints what came back. It holds no opinion: whether anything arrived is seen outside.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::Backlog;
use serde::{Deserialize, Serialize};

use crate::{
    cli::Failure,
    exit::Code,
    sys::attempt::{self, connect, connect_unix, send, send_to, set_option, socket},
};

/// The block in which every refused IPv4 address of the probe lies, one a row. It looks public and is
/// reached in the probe's own network namespace only.
pub(super) const BLOCK_V4: [u8; 3] = [45, 33, 32];
/// Last byte of the address that the policy allows.
pub(super) const ALLOWED: u8 = 250;
/// The port of every attempt.
pub(super) const PORT: u16 = 4_433;

/// How long the worker listens to be dialled.
pub(super) const DIAL_TIME: Duration = Duration::from_millis(400);

const PAYLOAD: &[u8] = b"probe";
const MPTCP: i32 = 262;
const UDPLITE: i32 = 136;
/// `IP_OPTIONS` value: loose source route (RFC 791, 3.1) over one hop, and an end.
const LSRR: u8 = 131;
/// `IPV6_RTHDR`, linux/in6.h
const IPV6_RTHDR: i32 = 57;

/// What was tried, toward where, and what came back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// In the words of the table.
    pub(super) what: String,
    /// Where a packet of it would go, if it names an address.
    pub(super) to: Option<IpAddr>,
    /// Name of the error, or what the call said.
    pub(super) answer: String,
    /// Whether the policy allows it.
    pub(super) allowed: bool,
    /// The worker listens here for a moment: time to dial it. The next line tells what came of it.
    pub(super) listens: Option<u16>,
}

/// Tries what the fence must refuse, and one thing that it must not.
///
/// Run by `stockade doctor --probe` inside a throw-away fence.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {}

/// The address of a row in its IPv4 and IPv6 forms.
#[derive(Clone, Copy)]
struct Row(u8);

impl Row {
    fn v4(self) -> Ipv4Addr {
        let [a, b, c] = BLOCK_V4;
        Ipv4Addr::new(a, b, c, self.0)
    }

    fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2a00, 0x1, 0x2, 0x3, 0, 0, 0, self.0.into())
    }

    fn at4(self) -> SocketAddr {
        (self.v4(), PORT).into()
    }

    fn at6(self) -> SocketAddr {
        (self.v6(), PORT).into()
    }

    fn mapped(self) -> SocketAddr {
        (self.v4().to_ipv6_mapped(), PORT).into()
    }
}

type Trial = fn(Row) -> io::Result<()>;
type LocalTrial = fn() -> io::Result<()>;

/// The rows whose packets would go to an address of their own.
const TRIALS: &[(&str, Form, Trial)] = &[
    ("TCP connect", Form::V4, |row| {
        tcp(libc::AF_INET, 0, row.at4())
    }),
    ("TCP connect, IPv6", Form::V6, |row| {
        tcp(libc::AF_INET6, 0, row.at6())
    }),
    ("TCP connect, v4-mapped", Form::V4, |row| {
        tcp(libc::AF_INET6, 0, row.mapped())
    }),
    ("TCP_FASTOPEN_CONNECT", Form::V4, |row| {
        let socket = stream(libc::AF_INET, 0)?;
        let on = 1_i32.to_ne_bytes();
        set_option(
            socket.as_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            &on,
        )?;
        connect(socket.as_fd(), row.at4())?;
        send(socket.as_fd(), PAYLOAD)
    }),
    ("sendto(MSG_FASTOPEN)", Form::V4, |row| {
        let socket = stream(libc::AF_INET, 0)?;
        send_to(socket.as_fd(), PAYLOAD, libc::MSG_FASTOPEN, row.at4())
    }),
    ("MPTCP connect", Form::V4, |row| {
        tcp(libc::AF_INET, MPTCP, row.at4())
    }),
    ("SCTP connect", Form::V4, |row| {
        tcp(libc::AF_INET, libc::IPPROTO_SCTP, row.at4())
    }),
    ("UDP sendto", Form::V4, |row| {
        udp(libc::AF_INET, 0, row.at4())
    }),
    ("UDP sendto, IPv6", Form::V6, |row| {
        udp(libc::AF_INET6, 0, row.at6())
    }),
    ("UDP sendto, v4-mapped", Form::V4, |row| {
        udp(libc::AF_INET6, 0, row.mapped())
    }),
    ("UDP connect and send", Form::V4, |row| {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        connect(socket.as_fd(), row.at4())?;
        send(socket.as_fd(), PAYLOAD)
    }),
    (
        "UDP connected to an allowed address, sendto",
        Form::V4,
        |row| {
            let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            connect(socket.as_fd(), Row(ALLOWED).at4())?;
            send_to(socket.as_fd(), PAYLOAD, 0, row.at4())
        },
    ),
    ("UDP-Lite sendto", Form::V4, |row| {
        udp(libc::AF_INET, UDPLITE, row.at4())
    }),
    ("UDP to port 53", Form::V4, |row| {
        udp(libc::AF_INET, 0, (row.v4(), 53).into())
    }),
    ("ICMP ping socket", Form::V4, |row| {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
        // Echo request, identifier and sequence 0; the kernel fills the checksum in.
        send_to(socket.as_fd(), &[8, 0, 0, 0, 0, 0, 0, 0], 0, row.at4())
    }),
    ("raw socket", Form::V4, |row| {
        raw(libc::IPPROTO_UDP, row.at4())
    }),
    ("raw socket, IP_HDRINCL", Form::V4, |row| {
        raw(libc::IPPROTO_RAW, row.at4())
    }),
    ("IPv4 loose source route", Form::V4, |row| {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        let [a, b, c, d] = Row(ALLOWED).v4().octets();
        let route = [LSRR, 7, 4, a, b, c, d, 0];
        set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, &route)?;
        send_to(socket.as_fd(), PAYLOAD, 0, row.at4())
    }),
    ("IPv6 routing header", Form::V6, |row| {
        let socket = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
        // Type 4 (RFC 8754), one segment.
        let mut header = vec![0, 2, 4, 0, 0, 0, 0, 0];
        header.extend(row.v6().octets());
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, IPV6_RTHDR, &header)?;
        send_to(socket.as_fd(), PAYLOAD, 0, row.at6())
    }),
];

/// The rows that name no address of the block.
const LOCAL_TRIALS: &[(&str, LocalTrial)] = &[
    ("connect to 0.0.0.0", || {
        tcp(libc::AF_INET, 0, (Ipv4Addr::UNSPECIFIED, PORT).into())
    }),
    ("connect to ::", || {
        tcp(libc::AF_INET6, 0, (Ipv6Addr::UNSPECIFIED, PORT).into())
    }),
    ("connect to 127.0.0.1", || {
        tcp(libc::AF_INET, 0, (Ipv4Addr::LOCALHOST, PORT).into())
    }),
    ("connect to 169.254.169.254", || {
        tcp(
            libc::AF_INET,
            0,
            (Ipv4Addr::new(169, 254, 169, 254), 80).into(),
        )
    }),
    ("bind to a port and listen", || {
        let socket = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        drop(socket);
        Ok(())
    }),
    ("io_uring", || attempt::io_uring().map(drop)),
    ("AF_PACKET", || {
        socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0).map(drop)
    }),
    ("AF_VSOCK", || {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)
    }),
    ("AF_NETLINK, not route", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG).map(drop)
    }),
    ("AF_ALG", || {
        socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map(drop)
    }),
    ("AF_XDP", || {
        socket(libc::AF_XDP, libc::SOCK_RAW, 0).map(drop)
    }),
    ("AF_UNIX connect by path", || {
        let socket = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        connect_unix(socket.as_fd(), "/run/systemd/journal/stdout")
    }),
];

#[derive(Clone, Copy)]
enum Form {
    V4,
    V6,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments {} = arguments;
    let mut stdout = io::stdout().lock();
    for attempt in attempts() {
        writeln!(stdout, "{}", serde_json::to_string(&attempt)?)?;
    }
    let mut attempt = Attempt::new(
        "listen without bind, dialled from this host",
        None,
        String::new(),
    );
    match listen() {
        Ok((listener, port)) => {
            attempt.listens = Some(port);
            writeln!(stdout, "{}", serde_json::to_string(&attempt)?)?;
            attempt.listens = None;
            attempt.answer = said(accept(&listener));
        }
        Err(error) => attempt.answer = said(Err(error)),
    }
    writeln!(stdout, "{}", serde_json::to_string(&attempt)?)?;
    Ok(Code::Ok.into())
}

impl Attempt {
    fn new(what: &str, to: Option<IpAddr>, answer: String) -> Self {
        Self {
            what: what.to_owned(),
            to,
            answer,
            allowed: false,
            listens: None,
        }
    }
}

fn attempts() -> Vec<Attempt> {
    let allowed = Row(ALLOWED);
    let control = said(tcp(libc::AF_INET, 0, allowed.at4()));
    let what = "TCP connect to what the policy allows";
    let mut attempts = vec![Attempt {
        allowed: true,
        ..Attempt::new(what, Some(allowed.v4().into()), control)
    }];
    for (number, (what, form, trial)) in (1..).zip(TRIALS) {
        let row = Row(number);
        let to = match form {
            Form::V4 => row.v4().into(),
            Form::V6 => row.v6().into(),
        };
        attempts.push(Attempt::new(what, Some(to), said(trial(row))));
    }
    let local = LOCAL_TRIALS.iter();
    attempts.extend(local.map(|(what, trial)| Attempt::new(what, None, said(trial()))));
    attempts
}

/// A listener whose port the kernel chose, which no bind hook sees.
fn listen() -> io::Result<(TcpListener, u16)> {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    nix::sys::socket::listen(&socket, Backlog::new(1)?)?;
    let listener = TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Waits a moment for somebody who dials.
fn accept(listener: &TcpListener) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match listener.accept() {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() >= DIAL_TIME => return Err(error),
            Err(_) => thread::sleep(DIAL_TIME / 20),
        }
    }
}

/// Name of an error, or that there was none.
fn said(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "no error".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
            None => error.to_string(),
        },
    }
}

/// A stream socket that does not wait: that the connection goes on its way is answer enough.
fn stream(family: i32, protocol: i32) -> io::Result<OwnedFd> {
    socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, protocol)
}

fn tcp(family: i32, protocol: i32, to: SocketAddr) -> io::Result<()> {
    connect(stream(family, protocol)?.as_fd(), to)
}

fn udp(family: i32, protocol: i32, to: SocketAddr) -> io::Result<()> {
    let socket = socket(family, libc::SOCK_DGRAM, protocol)?;
    send_to(socket.as_fd(), PAYLOAD, 0, to)
}

fn raw(protocol: i32, to: SocketAddr) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_RAW, protocol)?;
    // An IPv4 header without options; the kernel fills addresses, length and checksum in.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    if let SocketAddr::V4(v4) = to {
        packet.extend(v4.ip().octets());
    }
    packet.extend([0; 8]);
    send_to(socket.as_fd(), &packet, 0, to)
}
