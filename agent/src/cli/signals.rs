//! The signals that `run` hands on to its worker instead of obeying them.

use std::io;

use nix::libc;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// What a user or a service manager sends to the process it started.
const FORWARDED: &[i32] = &[
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];
/// Signals that wait for the worker.
const WAITING_MAX: usize = 32;

/// Takes these signals over and gives each that comes.
pub(super) fn forwarded() -> io::Result<mpsc::Receiver<i32>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    for number in FORWARDED {
        let mut signals = signal(SignalKind::from_raw(*number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(*number).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
