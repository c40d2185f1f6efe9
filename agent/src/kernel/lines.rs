//! The programs' own log: lines for whoever looks for a mistake on the kernel side. Off unless asked
//! for at start; then the verifier takes the lines out of the programs.
//!
//! Its ring is not pinned: it belongs to the programs of one agent, and the next agent replaces both.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::error::Error;
use crate::{config::KernelLog, sys::readiness};

/// The ring, by the name that `aya-log-ebpf` gives it.
const RING: &str = "AYA_LOGS";
/// The level, by the name that `aya-log-ebpf` gives it.
const LEVEL: &str = aya_log::LEVEL;
/// The ring's size while nothing is written to it: the smallest there is.
const RING_BYTES_OFF: u32 = 4096;

/// Sets the level of programs that are yet to be loaded.
pub(in crate::kernel) fn prepare(loader: &mut EbpfLoader<'_>, log: KernelLog) {
    loader.override_global(LEVEL, number(log), true);
    if log == KernelLog::Off {
        loader.map_max_entries(RING, RING_BYTES_OFF);
    }
}

/// The level as the programs compare it.
const fn number(log: KernelLog) -> &'static u8 {
    match log {
        KernelLog::Off => &0,
        KernelLog::Warn => &(aya_log::Level::Warn as u8),
        KernelLog::Info => &(aya_log::Level::Info as u8),
        KernelLog::Debug => &(aya_log::Level::Debug as u8),
    }
}

/// Takes the ring of loaded programs.
pub(in crate::kernel) fn take(ebpf: &mut Ebpf) -> Result<Logger, Error> {
    let logger = EbpfLogger::init_with_logger(ebpf, ToTracing);
    logger.map(Logger).map_err(|error| failed(&error))
}

/// The ring with its reader.
pub(in crate::kernel) struct Logger(EbpfLogger<ToTracing>);

impl AsFd for Logger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Logger {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger").finish_non_exhaustive()
    }
}

/// Hands lines on to the agent's log, at their own level.
#[derive(Debug)]
pub struct Lines {
    ring: AsyncFd<Logger>,
}

impl Lines {
    /// Wants a runtime.
    pub(in crate::kernel) fn watch(logger: Logger) -> Result<Self, Error> {
        let ring = readiness::watch(logger, Interest::READABLE).map_err(|error| failed(&error))?;
        Ok(Self { ring })
    }

    /// Waits for lines and logs them. Safe to drop: no line is lost by it.
    pub async fn log(&mut self) -> Result<(), Error> {
        let ready = self.ring.readable_mut().await;
        let mut ready = ready.map_err(|error| failed(&error))?;
        ready.clear_ready();
        ready.get_inner_mut().0.flush();
        Ok(())
    }
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Ring {
        name: RING,
        message: error.to_string(),
    }
}

/// Lines of the programs as lines of the agent.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args();
        match record.level() {
            log::Level::Error | log::Level::Warn => tracing::warn!(kernel.line = %line, "programs"),
            log::Level::Info => tracing::info!(kernel.line = %line, "programs"),
            log::Level::Debug | log::Level::Trace => {
                tracing::debug!(kernel.line = %line, "programs");
            }
        }
    }

    fn flush(&self) {}
}
