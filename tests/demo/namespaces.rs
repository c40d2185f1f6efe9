//! Which network namespaces processes of this host are in.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;

const PATIENCE: Duration = Duration::from_secs(5);

/// The namespaces that processes are in now.
pub(crate) fn of_the_network() -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        // Processes come and go while we look; what is no process has no namespace.
        if let Ok(namespace) = fs::read_link(entry?.path().join("ns/net")) {
            found.insert(namespace);
        }
    }
    Ok(found)
}

/// Waits until no other namespaces are in use than before.
pub(crate) fn settle(before: &BTreeSet<PathBuf>) -> Result<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        if of_the_network()?.is_subset(before) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
