//! Waits for a moment exactly. The runtime's own clock goes by whole milliseconds: of calls that are due a
//! millisecond after each other it would ask two at once and then none.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::Instant,
};

use agent::sys::readiness::watch;
use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer of the kernel (`timerfd_create(2)`).
pub(super) struct Clock(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Clock {
    /// Wants a runtime.
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self(watch(Timer(timer), Interest::READABLE)?))
    }

    /// Returns when it is time, at once where it is too late.
    pub(super) async fn wait_until(&self, moment: Instant) -> Result<()> {
        let rest = moment.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let timer = &self.0.get_ref().0;
        let once = Expiration::OneShot(TimeSpec::from_duration(rest));
        timer.set(once, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            match timer.wait() {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => bail!("a timer: {error}"),
            }
        }
    }
}
