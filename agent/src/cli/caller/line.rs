//! The line before the broker's socket. In a flood of connections the socket's queue is full: whoever
//! connects without blocking is then told `EAGAIN` at once (`unix(7)`) and hardly ever finds it otherwise,
//! while who blocks is let in by its turn.

use std::{
    io,
    os::{fd::AsRawFd as _, unix::net},
    path::Path,
    time::Duration,
};

use nix::sys::{
    socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike as _},
};
use tokio::{net::UnixStream, task::spawn_blocking};

/// Longest that a turn is waited for.
const TURN_MAX: Duration = Duration::from_secs(10);

/// Connects, in line where there is one.
pub(super) async fn connected(path: &Path) -> io::Result<UnixStream> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        other => return other,
    }
    let path = path.to_owned();
    let waited = spawn_blocking(move || wait(&path, TURN_MAX)).await;
    UnixStream::from_std(waited.map_err(io::Error::other)??)
}

/// Waits for so long; `WouldBlock` where the turn did not come.
fn wait(path: &Path, most: Duration) -> io::Result<net::UnixStream> {
    let (unix, stream) = (AddressFamily::Unix, SockType::Stream);
    let socket = socket(unix, stream, SockFlag::SOCK_CLOEXEC, None)?;
    let most = i64::try_from(most.as_millis()).unwrap_or(i64::MAX);
    // It bounds `connect` too (`socket(7)`); of the stream, which does not block, nothing.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(most))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use nix::sys::socket::{Backlog, listen};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A socket whose queue is full, with what fills it.
    fn full(path: &Path) -> (UnixListener, Vec<net::UnixStream>) {
        let listener = UnixListener::bind(path).expect("a socket");
        listen(&listener, Backlog::new(1).expect("a small number")).expect("a short queue");
        let patience = Duration::from_millis(20);
        let mut queued = Vec::new();
        while let Ok(stream) = wait(path, patience) {
            queued.push(stream);
        }
        assert!(!queued.is_empty(), "a queue has room for one");
        (listener, queued)
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_let_in_by_its_turn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (listener, queued) = full(&path);
        let at_once = UnixStream::connect(&path).await.expect_err("no room");
        assert_eq!(at_once.kind(), ErrorKind::WouldBlock);
        let waits = tokio::spawn({
            let path = path.clone();
            async move { connected(&path).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waits.is_finished(), "there is no room yet");
        let taken = thread::spawn(move || {
            for _ in &queued {
                drop(listener.accept().expect("one of the queue"));
            }
            let (mut last, _) = listener.accept().expect("who waited");
            let mut said = [0; 4];
            last.read_exact(&mut said).expect("it speaks");
            last.write_all(&said).expect("it listens");
            said
        });
        let mut stream = waits.await.expect("no panic").expect("its turn");
        stream.write_all(b"here").await.expect("it is taken");
        assert_eq!(&taken.join().expect("no panic"), b"here");
    }

    #[test]
    fn a_turn_that_does_not_come_is_not_waited_for_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (_listener, _queued) = full(&path);
        let late = wait(&path, Duration::from_millis(20)).expect_err("no turn");
        assert_eq!(late.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn where_nobody_listens_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = wait(&folder.path().join("none"), TURN_MAX).expect_err("nobody");
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
