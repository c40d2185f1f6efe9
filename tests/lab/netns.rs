//! A network namespace without a name: it lives as long as the descriptor and its processes.

use std::{fs::File, io, panic, process::Command, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    namespace: File,
}

impl Netns {
    /// Makes an empty namespace with its loopback device up.
    pub fn new() -> Result<Self> {
        let namespace = thread::spawn(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
        .context("a network namespace can not be made: root is needed")?;
        let netns = Self { namespace };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The namespace's descriptor.
    pub fn file(&self) -> &File {
        &self.namespace
    }

    /// A second handle.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            namespace: self.namespace.try_clone()?,
        })
    }

    /// Runs `work` on a thread of its own inside the namespace. Processes that it starts and sockets
    /// that it makes belong to the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.namespace, CloneFlags::CLONE_NEWNET)
                        .context("the namespace can not be entered")?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Runs lines of `ip -batch` in the namespace.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.enter(|| {
            let mut file = tempfile::NamedTempFile::new()?;
            io::Write::write_all(&mut file, lines.as_bytes())?;
            let output = Command::new("ip")
                .arg("-batch")
                .arg(file.path())
                .output()
                .context("`ip` is missing; hint: apt-get install iproute2")?;
            ensure!(
                output.status.success(),
                "ip -batch: {}\n{lines}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(())
        })?
    }

    /// Writes a value under `/proc/sys/net` of the namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("{path} can not be written"))
    }
}
