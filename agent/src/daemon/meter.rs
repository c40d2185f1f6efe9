//! When a running session has used up its processor time, and when it has been idle too long: told
//! from the kernel's account of the session's cgroup, which counts with or without controllers.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, sysconf};

use crate::{audit::End, policy::compiled::CompiledPolicy};

/// Shortest time between two looks.
const LOOK_TIME_MIN: Duration = Duration::from_millis(50);
/// Looks in an idle timeout: a worker is ended at most a part of it late.
const LOOKS_PER_IDLE_TIMEOUT: u32 = 4;

/// Processors that this host can have, whichever of them the agent itself may use. Asked for once: the
/// answer comes out of several files.
static PROCESSORS: LazyLock<u32> = LazyLock::new(|| {
    let configured = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten();
    let configured = configured.and_then(|count| u32::try_from(count).ok());
    // Where it is not known, as many as no host has: looks come more often than they must.
    configured.map_or(u32::MAX, |count| count.max(1))
});

/// A session's processor time against its limits.
#[derive(Debug)]
pub(super) struct Meter {
    /// None where the end of the session comes first.
    idle_timeout: Option<Duration>,
    cpu_time: Option<Duration>,
    /// What a second can bring at most.
    processors: u32,
    used: Duration,
    used_since: Instant,
}

impl Meter {
    /// Of a session that begins now.
    pub(super) fn new(policy: &CompiledPolicy, now: Instant) -> Self {
        let idle = policy.worker.idle_timeout;
        Self {
            idle_timeout: (idle < policy.worker.wall_timeout).then_some(idle),
            cpu_time: (policy.limits.cpu_time < Duration::MAX).then_some(policy.limits.cpu_time),
            processors: *PROCESSORS,
            used: Duration::ZERO,
            used_since: now,
        }
    }

    /// How long until the next look; none where nothing is limited.
    pub(super) fn next(&self) -> Option<Duration> {
        let idle = self.idle_timeout.map(|idle| idle / LOOKS_PER_IDLE_TIMEOUT);
        // Sooner it can not be used up.
        let left = self.cpu_time.map(|max| max.saturating_sub(self.used));
        let spent = left.map(|left| left / self.processors);
        let next = idle.into_iter().chain(spent).min()?;
        Some(next.max(LOOK_TIME_MIN))
    }

    /// Takes a look: whether the session has to end.
    pub(super) fn look(&mut self, used: Duration, now: Instant) -> Option<End> {
        if self.cpu_time.is_some_and(|max| used >= max) {
            return Some(End::CpuTime);
        }
        if used > self.used {
            (self.used, self.used_since) = (used, now);
            return None;
        }
        let still = now.saturating_duration_since(self.used_since);
        let idle = self.idle_timeout.is_some_and(|timeout| still >= timeout);
        idle.then_some(End::IdleTimeout)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{End, LOOK_TIME_MIN, Meter};

    const SECOND: Duration = Duration::from_secs(1);

    fn meter(idle: Option<u32>, cpu: Option<u32>, begin: Instant) -> Meter {
        Meter {
            idle_timeout: idle.map(|seconds| SECOND * seconds),
            cpu_time: cpu.map(|seconds| SECOND * seconds),
            processors: 2,
            used: Duration::ZERO,
            used_since: begin,
        }
    }

    #[test]
    fn without_limits_nobody_looks() {
        assert_eq!(meter(None, None, Instant::now()).next(), None);
    }

    #[test]
    fn processor_time_is_never_passed_unseen() {
        let begin = Instant::now();
        let mut meter = meter(None, Some(10), begin);
        let (mut used, mut now) = (Duration::ZERO, begin);
        let mut looks = 0;
        let end = loop {
            let wait = meter.next().expect("a limit");
            looks += 1;
            now += wait;
            used += wait * meter.processors;
            if let Some(end) = meter.look(used, now) {
                break end;
            }
        };
        assert_eq!(end, End::CpuTime);
        assert!(used <= SECOND * 10 + LOOK_TIME_MIN * 2, "{used:?}");
        assert!(looks < 5, "{looks}");
    }

    #[test]
    fn only_a_worker_that_does_nothing_is_idle() {
        let begin = Instant::now();
        let mut meter = meter(Some(8), None, begin);
        assert_eq!(meter.next(), Some(SECOND * 2));
        let little = Duration::from_micros(1);
        assert_eq!(meter.look(little, begin + SECOND * 7), None);
        assert_eq!(meter.look(little, begin + SECOND * 14), None);
        assert_eq!(
            meter.look(little, begin + SECOND * 15),
            Some(End::IdleTimeout)
        );
        assert_eq!(meter.look(little * 2, begin + SECOND * 30), None);
    }
}
