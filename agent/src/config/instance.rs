//! Names and paths of one instance. All of them derive from the instance's name, so that two
//! instances (the service, a stand-alone run, each test) never share anything.
//!
//! This file does no I/O.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use common::abi;

/// Name of the service's instance.
pub const DEFAULT_INSTANCE: &str = "stockade";
/// Longest instance name, bytes: it becomes part of a cgroup name and of a unix socket path.
pub const INSTANCE_NAME_BYTES_MAX: usize = 40;

/// An instance name: lower-case letters, digits and `-`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instance(String);

/// The name is not an instance name.
#[derive(Debug, thiserror::Error)]
#[error(
    "instance name `{0}`: 1 to {INSTANCE_NAME_BYTES_MAX} lower-case letters, digits and `-`, \
     beginning with a letter"
)]
pub struct InstanceNameError(String);

impl Instance {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, InstanceNameError> {
        let shaped = name.len() <= INSTANCE_NAME_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if shaped {
            Ok(Self(name.to_owned()))
        } else {
            Err(InstanceNameError(name.to_owned()))
        }
    }

    /// The service's instance.
    #[must_use]
    pub fn service() -> Self {
        Self(DEFAULT_INSTANCE.to_owned())
    }

    /// The instance of one stand-alone run, named by the process that runs it.
    #[must_use]
    pub fn stand_alone(pid: u32) -> Self {
        Self(format!("{DEFAULT_INSTANCE}-run-{pid}"))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Folder on bpffs that holds the pins of this ABI version: `/sys/fs/bpf/<instance>/v<ABI>`.
    #[must_use]
    pub fn pin_folder(&self) -> PathBuf {
        self.pin_root().join(abi::PIN_FOLDER)
    }

    /// Folder on bpffs that holds the pins of every ABI version.
    #[must_use]
    pub fn pin_root(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.0)
    }

    /// Sockets, lock, prepared roots: gone at reboot. `/run/<instance>`.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        Path::new("/run").join(&self.0)
    }

    /// The lock that makes an instance's agent the only one.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.run_folder().join("lock")
    }

    /// The journal of sessions: survives reboots.
    #[must_use]
    pub fn journal_file(&self) -> PathBuf {
        self.state_folder().join("journal.jsonl")
    }

    /// The calls that were made with an idempotency key: survives reboots.
    #[must_use]
    pub fn calls_file(&self) -> PathBuf {
        self.state_folder().join("calls.redb")
    }

    /// Journal and last good policy set: survives reboots. `/var/lib/<instance>`.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        Path::new("/var/lib").join(&self.0)
    }

    /// The policy sets that were in force: survives reboots.
    #[must_use]
    pub fn policies_folder(&self) -> PathBuf {
        self.state_folder().join("policies")
    }

    /// The key of the embedded token issuer: survives reboots, and nobody but the agent reads it.
    #[must_use]
    pub fn issuer_file(&self) -> PathBuf {
        self.state_folder().join("issuer.json")
    }

    /// What was revoked: survives reboots.
    #[must_use]
    pub fn revocations_file(&self) -> PathBuf {
        self.state_folder().join("revoked.json")
    }

    /// The control socket of the agent.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_folder().join("control.sock")
    }

    /// The socket on which the broker takes calls.
    #[must_use]
    pub fn broker_socket(&self) -> PathBuf {
        self.run_folder().join("broker.sock")
    }

    /// The unit whose cgroup holds the sessions, where a service manager delegates one.
    #[must_use]
    pub fn holder_unit(&self) -> String {
        format!("{}-workers.service", self.0)
    }

    /// Folder name of the cgroup that is the parent of all session cgroups, where no service
    /// manager made one.
    #[must_use]
    pub fn cgroup_name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
