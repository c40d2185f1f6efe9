//! What the kernel tells of the agent's own process.

use std::{fs, time::Duration};

use prometheus::proto::MetricFamily;

use super::{BUILD_INFO, DESCRIPTORS, RESIDENT, START_TIME};

/// What `/proc` tells of this process. A value that can not be read is left out.
pub(super) fn families() -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut families = BUILD_INFO.gauge([(vec![env!("CARGO_PKG_VERSION")], 1)])?;
    if let Some(bytes) = resident_bytes() {
        families.extend(RESIDENT.gauge([(Vec::new(), bytes)])?);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        families.extend(DESCRIPTORS.gauge([(Vec::new(), descriptors.count() as u64)])?);
    }
    if let Some(started) = started() {
        families.extend(START_TIME.seconds([(Vec::new(), started)])?);
    }
    Ok(families)
}

/// Resident memory of this process (`proc_pid_status(5)`, `VmRSS`, in KiB).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Start of this process since the epoch: the boot time (`/proc/stat`, `btime`) and field 22 of
/// `/proc/self/stat`, in hundredths of a second (`USER_HZ` is 100 on every architecture we build
/// for).
fn started() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    Duration::from_secs(boot.trim().parse().ok()?)
        .checked_add(Duration::from_millis(ticks.checked_mul(10)?))
}
