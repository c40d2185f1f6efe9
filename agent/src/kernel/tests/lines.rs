//! The programs' own log: silent unless asked for, and telling what an event does not when it is.

use std::{
    fs,
    io::{self, Write},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use common::decide::Mode;

use super::{
    lab::{Fence, Lab, runtime, scaled},
    policies::{NO_LIMITS, policy},
    worker::Worker,
};
use crate::{config::KernelLog, kernel::load};

/// How long a line may take.
const WAIT: Duration = Duration::from_millis(500);

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged after a process in a cgroup of no session has asked for a socket in vain.
fn logged(level: KernelLog) -> String {
    let _lab = Lab::new();
    let fence = Fence::with_log(&policy(Mode::Enforce, NO_LIMITS, &[]), level);
    let stranger = fence.remains.parent.path().join("stranger");
    fs::create_dir(&stranger).unwrap();
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        runtime().block_on(async {
            let lines = fence.kernel.lines().unwrap();
            assert_eq!(lines.is_some(), level != KernelLog::Off);
            let mut worker = Worker::start(&stranger);
            assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
            if let Some(mut lines) = lines {
                let _in_time = tokio::time::timeout(scaled(WAIT), lines.log()).await;
            }
        });
    });
    while fs::remove_dir(&stranger).is_err() {
        // Until the kernel has seen its process off.
        thread::sleep(WAIT / 50);
    }
    let written = written.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

#[test]
fn the_verifier_takes_every_hook_with_all_lines_and_with_none() {
    for level in [KernelLog::Off, KernelLog::Debug] {
        let tried = load::try_each(level).unwrap();
        for load::Tried { hook, outcome, .. } in tried.into_iter().filter(|tried| !tried.optional) {
            assert_eq!(outcome, Ok(()), "{hook} at {level:?}");
        }
    }
}

#[test]
fn an_unknown_worker_is_named_when_asked_for() {
    let text = logged(KernelLog::Info);
    assert!(text.contains("sock_create: cgroup "), "{text:?}");
    assert!(text.contains("is of no session"), "{text:?}");
}

#[test]
fn nothing_is_said_below_the_level_and_when_off() {
    assert!(!logged(KernelLog::Warn).contains("sock_create"));
    assert!(!logged(KernelLog::Off).contains("sock_create"));
}
