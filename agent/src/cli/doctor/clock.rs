//! The host's clock: records, expiries and approvals are as good as it is.

use std::{
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use super::host::{Check, State};

/// Where the kernel tells how it counts time.
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Sources that are read without leaving the program.
const QUICK: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];
/// A clock that a time service looks after leaves one of these (systemd-timesyncd, chrony, ntpsec).
const SERVICES: &[&str] = &[
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.sock",
    "/run/ntpd.pid",
];

pub(super) fn checks() -> [Check; 2] {
    [time(), source()]
}

fn time() -> Check {
    const NAME: &str = "clock";
    let built = env::current_exe().and_then(|own| fs::metadata(own)?.modified());
    if let Ok(built) = built
        && let Some(behind) = behind(SystemTime::now(), built)
    {
        let detail = format!("{} s before this program was made", behind.as_secs());
        let fix = "set it (`timedatectl set-ntp true`): records and expiries would be wrong";
        return Check::gap(NAME, State::Weaker, detail, fix);
    }
    if let Some(mark) = SERVICES.iter().find(|mark| Path::new(mark).exists()) {
        return Check::ok(NAME, format!("looked after: {mark}"));
    }
    let fix = "a time service: `timedatectl set-ntp true`, or chrony; none needed where the host of this guest sets it";
    let detail = "no time service is seen to look after it";
    Check::gap(NAME, State::Weaker, detail, fix)
}

fn behind(now: SystemTime, built: SystemTime) -> Option<Duration> {
    built.duration_since(now).ok().filter(|by| !by.is_zero())
}

fn source() -> Check {
    const NAME: &str = "clock source";
    match fs::read_to_string(SOURCE) {
        Ok(name) if QUICK.contains(&name.trim()) => Check::ok(NAME, name.trim()),
        Ok(name) => {
            let detail = format!("{}: every look at the time is a system call", name.trim());
            let fix = "boot with clocksource=tsc where the processor's counter is stable";
            Check::gap(NAME, State::Weaker, detail, fix)
        }
        Err(error) => Check::gap(
            NAME,
            State::Weaker,
            format!("{SOURCE}: {error}"),
            "mount sysfs at /sys",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::behind;

    #[test]
    fn a_clock_before_the_program_was_made_is_behind() {
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(behind(at(990), built), Some(Duration::from_secs(10)));
        assert_eq!(behind(at(1_000), built), None);
        assert_eq!(behind(at(2_000), built), None);
    }
}
