//! Programs without a fence that ask the lab's name server as a host's programs do: the control of
//! what fenced programs do.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::Result;

use crate::{binary::Scratch, netns::Netns};

/// A `resolv.conf` and an `nsswitch.conf` that lie over the host's own for the programs started here.
#[derive(Debug)]
pub struct Bare {
    resolver: PathBuf,
    switch: PathBuf,
}

const START: &str = "mount --bind \"$1\" /etc/resolv.conf && \
                     { [ ! -e /etc/nsswitch.conf ] || mount --bind \"$2\" /etc/nsswitch.conf; } && \
                     shift 2 && exec \"$@\"";

impl Bare {
    /// Writes the files.
    pub fn new(scratch: &Scratch) -> Result<Self> {
        Ok(Self {
            resolver: scratch.write(
                "bare-resolv.conf",
                "nameserver 9.9.9.9\noptions timeout:2\n",
            )?,
            switch: scratch.write("bare-nsswitch.conf", "hosts: dns\n")?,
        })
    }

    /// The command, not started yet; it must be started inside the lab.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                START,
            ])
            .arg("sh")
            .args([&self.resolver, &self.switch])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, netns: &Netns, words: &[&str]) -> Result<Output> {
        let mut command = self.command(words);
        Ok(netns.enter(|| command.output())??)
    }
}
