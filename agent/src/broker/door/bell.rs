//! A bell at a thread that waits in `poll(2)`: whoever rings learns whether it is answered.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

/// Rings. A clone rings the same bell.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    wakes: Arc<EventFd>,
    asking: mpsc::Sender<oneshot::Sender<()>>,
}

/// The thread's end of it.
#[derive(Debug)]
pub(super) struct Listening {
    wakes: Arc<EventFd>,
    asking: mpsc::Receiver<oneshot::Sender<()>>,
}

/// A bell, and the end of whoever is to answer it.
pub(super) fn bell() -> io::Result<(Bell, Listening)> {
    let wakes = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let wakes = Arc::new(wakes);
    let (asking, asked) = mpsc::channel();
    let bell = Bell {
        wakes: Arc::clone(&wakes),
        asking,
    };
    let listening = Listening {
        wakes,
        asking: asked,
    };
    Ok((bell, listening))
}

impl Bell {
    /// Rings once. What is returned has the answer, or ends without one where nobody listens any more.
    pub(super) fn ring(&self) -> Option<oneshot::Receiver<()>> {
        let (answer, answered) = oneshot::channel();
        self.asking.send(answer).ok()?;
        // Full is impossible short of 2^64 rings, and then it is readable as well.
        self.wakes.write(1).ok();
        Some(answered)
    }
}

impl Listening {
    /// Answers everybody who has rung.
    pub(super) fn answer(&self) {
        // First: who rings after that makes it readable again. Where nobody rang there is nothing to read.
        self.wakes.read().ok();
        for answer in self.asking.try_iter() {
            // Nobody waits any more where it took too long.
            answer.send(()).ok();
        }
    }
}

impl AsFd for Listening {
    /// Readable while somebody waits for an answer.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }
}
