//! Talks to a prober that runs bare, in a session's cgroup, or inside the whole fence.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{netns::Netns, patience};

/// How long the prober waits for an answer of the world if nobody says more.
pub const PATIENCE_MS: u32 = 400;

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Answer {
    /// Whether every step was done.
    pub ok: bool,
    /// The step that was not.
    pub step: Option<String>,
    /// Its errno by name, or `TIMEOUT`.
    pub errno: Option<String>,
    /// For people.
    pub error: Option<String>,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Calls made by a step that makes many.
    pub calls: u64,
    /// Of these, how many were refused.
    pub refused: u64,
    /// What steps have read.
    pub values: Vec<String>,
}

impl Answer {
    /// The errno's name; empty where all went well.
    pub fn errno(&self) -> &str {
        self.errno.as_deref().unwrap_or_default()
    }
}

/// A running prober.
#[derive(Debug)]
pub struct Prober {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Prober {
    /// Starts a prober that nothing holds.
    pub fn bare(netns: &Netns, program: &Path) -> Result<Self> {
        Self::start(netns, &mut Command::new(program))
    }

    /// Starts a prober that enters a cgroup before its first instruction.
    pub fn in_cgroup(netns: &Netns, program: &Path, cgroup: &Path) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ > \"$1\" && exec \"$2\"", "sh"])
            .arg(cgroup.join("cgroup.procs"))
            .arg(program);
        Self::start(netns, &mut command)
    }

    /// Starts a command that ends up as a prober on the same standard input and output.
    pub fn start(netns: &Netns, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = netns
            .enter(|| command.spawn())?
            .with_context(|| format!("{} can not be started", command.get_program().display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a pipe is missing");
        };
        Ok(Self {
            child,
            input: Some(input),
            output: BufReader::new(output),
        })
    }

    /// Process id of what was started.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs a script and waits for its answer.
    pub fn ask(&mut self, script: &str) -> Result<Answer> {
        self.say(script)?;
        self.hear()
    }

    /// Gives a script and does not wait.
    pub fn say(&mut self, script: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        // In a fence it inherits no environment: on a slow machine each script says so itself.
        let wait = match patience::factor() {
            1 => String::new(),
            factor => format!("patience {}; ", PATIENCE_MS.saturating_mul(factor)),
        };
        writeln!(input, "{wait}{script}").context("the prober has gone")?;
        Ok(input.flush()?)
    }

    /// Waits for the answer to the oldest script that has none.
    pub fn hear(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!(
                "the prober has gone: {status} (signal {:?})",
                status.signal()
            );
        }
        let answer: Answer = serde_json::from_str(&line).with_context(|| line.clone())?;
        if !answer.ok && answer.errno.is_none() {
            bail!("the script is wrong: {line}");
        }
        Ok(answer)
    }

    /// Closes its input and waits for its end.
    pub fn end(mut self) -> Result<ExitStatus> {
        drop(self.input.take());
        Ok(self.child.wait()?)
    }

    /// Kills what was started.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.input.take());
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end of itself between the two calls.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
