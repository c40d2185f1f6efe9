//! The least that a name server can do: every question goes back with one address, unread.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;
use lab::netns::Netns;

use super::PEERS;

/// Among the ports that the policy of the bench opens.
const PORT: u16 = 5303;
const WAKE: Duration = Duration::from_millis(50);
const QUESTION_BYTES: usize = 512;
/// The OPT record at the end of every question of the prober.
const OPT_BYTES: usize = 11;
/// A reply, recursion desired and available, no error; one question, one answer.
const HEAD: [u8; 10] = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
/// The name of the question; A, IN, 300 s, 4 bytes.
const RECORD: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 93, 184, 220, 1];

/// A running reflector; it ends with this value.
pub(super) struct Reflector {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reflector {
    /// Starts it on its port of loopback.
    pub(super) fn start(netns: &Netns) -> Result<Self> {
        let socket = netns.enter(|| UdpSocket::bind((PEERS, PORT)))??;
        socket.set_read_timeout(Some(WAKE))?;
        let address = socket.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || reflect(&socket, &ended)
        });
        Ok(Self {
            address,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn reflect(socket: &UdpSocket, ended: &AtomicBool) {
    let mut buffer = [0; QUESTION_BYTES];
    while !ended.load(Ordering::Relaxed) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // Whoever asked has gone.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(_) => return,
        };
        let Some(end) = length.checked_sub(OPT_BYTES) else {
            continue;
        };
        if let Some(head) = buffer.get_mut(2..12) {
            head.copy_from_slice(&HEAD);
        }
        if let Some(record) = buffer.get_mut(end..end + RECORD.len()) {
            record.copy_from_slice(&RECORD);
        }
        let answer = buffer.get(..end + RECORD.len()).unwrap_or_default();
        // Best effort, as datagrams are.
        drop(socket.send_to(answer, from));
    }
}
