//! A worker: this binary again, told by its environment to enter a cgroup and try things.

mod servers;
mod streams;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, setrlimit},
        socket::{
            AddressFamily, SockFlag, SockProtocol, SockType, getsockopt, setsockopt, socket,
            sockopt::{Ipv6V6Only, TcpCongestion},
        },
    },
};

use super::lab::scaled;

const CGROUP: &str = "STOCKADE_TEST_CGROUP";
const MARK: &str = "answer: ";
/// On an ordinary machine.
const WAIT: Duration = Duration::from_secs(2);

/// A worker that carries out one line at a time and answers each with one line.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it in the calling thread's network namespace. It enters the cgroup before all else.
    pub(super) fn start(cgroup: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "kernel::tests::worker::role",
                "--exact",
                "--nocapture",
                "-q",
            ])
            .env(CGROUP, cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut worker = Self {
            child,
            input,
            output,
        };
        assert_eq!(worker.ask("hello"), "ok");
        worker
    }

    pub(super) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.answer()
    }

    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(super) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "worker ended");
            if let Some(answer) = line.trim_end().strip_prefix(MARK) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Not a test of its own: without the environment of a worker it does nothing.
#[test]
fn role() {
    let Some(cgroup) = std::env::var_os(CGROUP) else {
        return;
    };
    fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").unwrap();
    let mut kept = Kept::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        println!("{MARK}{}", kept.ask(&line));
    }
}

/// Sockets that stay open from one line to the next. In the test's own process, which no fence is
/// about, it is the control of what a worker is refused.
#[derive(Default)]
pub(super) struct Kept {
    stream: Option<TcpStream>,
    datagrams: Option<UdpSocket>,
    many: Vec<UdpSocket>,
    listener: Option<TcpListener>,
    children: Vec<Child>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _gone_already = child.kill();
            let _status = child.wait();
        }
    }
}

impl Kept {
    pub(super) fn ask(&mut self, line: &str) -> String {
        match self.carry_out(line) {
            Ok(text) => text,
            Err(error) => error.raw_os_error().map_or_else(
                || format!("{:?}", error.kind()),
                |errno| format!("{:?}", Errno::from_raw(errno)),
            ),
        }
    }

    fn carry_out(&mut self, line: &str) -> std::io::Result<String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let address = || rest.parse::<SocketAddr>().unwrap();
        match verb {
            "hello" => {}
            "tcp" => drop(TcpStream::connect_timeout(&address(), scaled(WAIT))?),
            "tcp-keep" => self.stream = Some(TcpStream::connect_timeout(&address(), scaled(WAIT))?),
            "tcp-keep-mss" => self.dial_with_mss(rest)?,
            "fast-open" => return self.fast_open(rest),
            "fast-open-connect" => return self.fast_open_connect(rest),
            // Bytes in hexadecimal digits, each word in a write of its own.
            "stream-write" => return self.stream_write(rest),
            "stream-urgent" => self.stream_urgent(rest)?,
            // Its congestion control, after another was set where one is named.
            "stream-congestion" => return self.congestion(rest),
            "stream-end" => return self.stream_end(),
            "stream-echo" => return self.stream_echo(),
            "stream-local" => {
                return Ok(self.stream.as_ref().unwrap().local_addr()?.to_string());
            }
            "stream-peer" => {
                return Ok(self.stream.as_ref().unwrap().peer_addr()?.to_string());
            }
            "udp-peer" => {
                return Ok(self.datagrams.as_ref().unwrap().peer_addr()?.to_string());
            }
            "udp-bind" => {
                let socket = UdpSocket::bind(address())?;
                socket.set_read_timeout(Some(WAIT))?;
                self.datagrams = Some(socket);
            }
            "udp-bind-v6only" => self.datagrams = Some(v6_only()?),
            "udp" => drop(unconnected(address())?.send_to(b"ping", address())?),
            "udp-keep" => self.datagrams = Some(unconnected(address())?),
            "udp-to" => {
                self.datagrams
                    .as_ref()
                    .unwrap()
                    .send_to(b"ping", address())?;
            }
            "udp-flood" => return flood(address()),
            "udp-many" => return self.many(rest),
            // So many times.
            "udp-send-all" => {
                let socket = self.datagrams.as_ref().unwrap();
                let times = 0..rest.parse::<u64>().unwrap();
                return tally(times.map(|_| socket.send(b"ping")));
            }
            "udp-connect" => self.datagrams.as_ref().unwrap().connect(address())?,
            "udp-send" => drop(self.datagrams.as_ref().unwrap().send(b"ping")?),
            "udp-port" => {
                let socket = self.datagrams.as_ref().unwrap();
                return Ok(socket.local_addr()?.port().to_string());
            }
            "udp-receive" => {
                let (bytes, from) = self.datagrams.as_ref().unwrap().recv_from(&mut [0; 64])?;
                return Ok(format!("{bytes} from {from}"));
            }
            "stream-echo-much" => return self.echo_much(),
            "dial-later" => self.dial_later(address())?,
            "unix" | "unix-abstract" | "unix-datagram" | "unix-datagram-connect" => {
                unix(verb, rest)?;
            }
            "raw" => icmp(SockType::Raw)?,
            "ping" => icmp(SockType::Datagram)?,
            _ => return self.as_server(verb, rest),
        }
        Ok("ok".to_owned())
    }

    fn congestion(&mut self, rest: &str) -> std::io::Result<String> {
        let stream = self.stream.as_ref().unwrap();
        if !rest.is_empty() {
            setsockopt(stream, TcpCongestion, &rest.to_owned().into())?;
        }
        let name = getsockopt(stream, TcpCongestion)?;
        Ok(name.to_string_lossy().trim_end_matches('\0').to_owned())
    }

    /// Opens so many sockets, then sends once from each.
    fn many(&mut self, rest: &str) -> std::io::Result<String> {
        let (to, count) = rest.split_once(' ').unwrap();
        let (to, count): (SocketAddr, u64) = (to.parse().unwrap(), count.parse().unwrap());
        setrlimit(Resource::RLIMIT_NOFILE, count + 64, count + 64)?;
        self.many = (0..count)
            .map(|_| unconnected(to))
            .collect::<Result<_, _>>()?;
        tally(self.many.iter().map(|socket| socket.send_to(b"ping", to)))
    }
}

/// How many went well, how many were EPERM, and in how many whole seconds.
fn tally(sends: impl Iterator<Item = std::io::Result<usize>>) -> std::io::Result<String> {
    let (mut sent, mut refused) = (0_u64, 0_u64);
    let begin = Instant::now();
    for answer in sends {
        match answer {
            Ok(_) => sent += 1,
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(format!("{sent} {refused} {}", begin.elapsed().as_secs()))
}

/// Sends many datagrams that are refused; the answer is the last error.
fn flood(to: SocketAddr) -> std::io::Result<String> {
    let socket = unconnected(to)?;
    let mut last = Ok(0);
    for _ in 0..20_000 {
        last = socket.send_to(b"ping", to);
    }
    last.map(|_| "ok".to_owned())
}

fn v6_only() -> std::io::Result<UdpSocket> {
    let socket = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )?;
    setsockopt(&socket, Ipv6V6Only, &true)?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(WAIT))?;
    Ok(socket)
}

fn unconnected(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(scaled(Duration::from_millis(300))))?;
    Ok(socket)
}

fn unix(verb: &str, name: &str) -> std::io::Result<()> {
    match verb {
        "unix-abstract" => {
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&name).map(drop)
        }
        "unix-datagram" => UnixDatagram::unbound()?.send_to(b"ping", name).map(drop),
        "unix-datagram-connect" => UnixDatagram::unbound()?.connect(name),
        _ => UnixStream::connect(name).map(drop),
    }
}

fn icmp(kind: SockType) -> std::io::Result<()> {
    let flags = SockFlag::empty();
    drop(socket(
        AddressFamily::Inet,
        kind,
        flags,
        SockProtocol::Icmp,
    )?);
    Ok(())
}
