//! What a worker does as a server, and with the ports of its choice.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::AsRawFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt::ReuseAddr,
};

use super::{Kept, WAIT};
use crate::kernel::tests::lab::serve;

/// Bytes that came to servers of this process.
static HEARD: AtomicUsize = AtomicUsize::new(0);

impl Kept {
    pub(super) fn as_server(&mut self, verb: &str, rest: &str) -> std::io::Result<String> {
        let address = || rest.parse::<SocketAddr>().unwrap();
        match verb {
            "bind-tcp" => drop(TcpListener::bind(address())?),
            "bind-udp" => drop(UdpSocket::bind(address())?),
            "listen" => {
                let listener = TcpListener::bind(address())?;
                let local = listener.local_addr()?;
                self.listener = Some(listener);
                return Ok(local.to_string());
            }
            "unlisten" => self.listener = None,
            "serve" => return self.serve(address()),
            "udp-serve" => return serve_datagrams(address()),
            "udp-heard" => return Ok(HEARD.load(Ordering::Relaxed).to_string()),
            "udp-share" => self.share(address())?,
            "leave-listener" => return self.leave_listener(),
            other => panic!("no such verb: {other}"),
        }
        Ok("ok".to_owned())
    }

    /// A server of TCP that echoes: its address.
    fn serve(&mut self, at: SocketAddr) -> std::io::Result<String> {
        let listener = TcpListener::bind(at)?;
        self.listener = Some(listener.try_clone()?);
        Ok(serve(listener).to_string())
    }

    /// A socket of UDP that shares its port with whoever shares it too.
    fn share(&mut self, at: SocketAddr) -> std::io::Result<()> {
        let family = if at.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(WAIT))?;
        self.datagrams = Some(socket);
        Ok(())
    }

    /// A mebibyte to a server that echoes, and back.
    pub(super) fn echo_much(&mut self) -> std::io::Result<String> {
        let stream = self.stream.as_ref().unwrap();
        stream.set_read_timeout(Some(WAIT))?;
        let mut writer = stream.try_clone()?;
        let sent = thread::spawn(move || writer.write_all(&vec![7; 1 << 20]));
        let mut back = vec![0; 1 << 20];
        let mut reader = stream;
        reader.read_exact(&mut back)?;
        sent.join().unwrap()?;
        Ok("ok".to_owned())
    }

    /// Hands its listener to a child that outlives what the worker does with it.
    fn leave_listener(&mut self) -> std::io::Result<String> {
        let listener = self.listener.take().unwrap();
        let address = listener.local_addr()?;
        let heir = std::os::fd::OwnedFd::from(listener);
        // Holds it as its input, and does nothing.
        let child = Command::new("/bin/sleep")
            .arg("30")
            .stdin(Stdio::from(heir))
            .spawn()?;
        self.children.push(child);
        Ok(address.to_string())
    }
}

/// A server of UDP that echoes and counts: its address.
fn serve_datagrams(at: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind(at)?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            HEARD.fetch_add(bytes, Ordering::Relaxed);
            let _refused_or_gone = socket.send_to(buffer.get(..bytes).unwrap(), from);
        }
    });
    Ok(address.to_string())
}
