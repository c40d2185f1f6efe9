//! An agent of an instance of its own inside a lab, and the command line that talks to it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    binary::{self, Scratch},
    leftovers,
    netns::Netns,
    patience,
};

/// Where every agent of a lab serves its metrics: each lab has a loopback of its own.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// The configuration file in the folder of [`Agent::start_in`].
pub const CONFIGURATION: &str = "stockade.toml";
/// How long a start or an end may take, on an ordinary machine.
const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

static INSTANCES: AtomicU32 = AtomicU32::new(0);

/// How long a start or an end may take on this machine.
pub fn patience() -> Duration {
    patience::scaled(PATIENCE)
}

/// An instance name that no other test of this host has.
pub fn instance_name() -> String {
    let number = INSTANCES.fetch_add(1, Ordering::Relaxed);
    format!("stockade-lab-{}-{number}", std::process::id())
}

/// A running agent. It is killed and its traces are removed when this value goes.
#[derive(Debug)]
pub struct Agent {
    netns: Netns,
    instance: String,
    scratch: Scratch,
    child: Option<Child>,
}

impl Agent {
    /// Starts an agent with these policies (tool and TOML) and waits until it is ready.
    /// `{scratch}` in a policy is the folder of [`Agent::scratch`].
    pub fn start(netns: &Netns, policies: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(netns, Scratch::new()?, policies)
    }

    /// The same with a folder that already holds what workers need.
    pub fn start_in(netns: &Netns, scratch: Scratch, policies: &[(&str, &str)]) -> Result<Self> {
        let mut agent = Self {
            netns: netns.try_clone()?,
            instance: instance_name(),
            scratch,
            child: None,
        };
        fs::create_dir(agent.policies())?;
        for (tool, text) in policies {
            agent.write_policy(tool, text)?;
        }
        agent.launch()?;
        Ok(agent)
    }

    /// Starts the agent again after it was killed or stopped.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = self.agent_command()?;
        command
            .stdout(File::create(self.scratch.path().join("agent.out"))?)
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(self.log_file())?,
            );
        let child = self.netns.enter(|| command.spawn())??;
        self.child = Some(child);
        let until = Instant::now() + patience();
        while !self.answers()? {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("the agent has ended: {status}\n{}", self.log());
            }
            ensure!(
                Instant::now() < until,
                "the agent is not ready\n{}",
                self.log()
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Whether it answers: that all is well with it, or that something is wrong (1).
    fn answers(&self) -> Result<bool> {
        let output = self.command(&["status", "--json"])?;
        Ok(matches!(output.status.code(), Some(0 | 1)))
    }

    /// The command that starts an agent of this instance, with the configuration that the folder holds,
    /// if it holds one.
    pub fn agent_command(&self) -> Result<Command> {
        let mut command = Command::new(binary::stockade()?);
        command
            .args(["agent", "--instance", &self.instance, "--policies"])
            .arg(self.policies())
            .args(["--metrics", &METRICS.to_string()])
            .stdin(Stdio::null());
        let configuration = self.scratch.path().join(CONFIGURATION);
        if configuration.exists() {
            command.arg("--config").arg(configuration);
        }
        Ok(command)
    }

    /// Writes a policy file; it is in force after [`Agent::reload`].
    pub fn write_policy(&self, tool: &str, text: &str) -> Result<()> {
        let text = text.replace("{scratch}", &self.scratch.path().display().to_string());
        let path = self.policies().join(format!("{tool}.toml"));
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Removes a policy file.
    pub fn remove_policy(&self, tool: &str) -> Result<()> {
        Ok(fs::remove_file(
            self.policies().join(format!("{tool}.toml")),
        )?)
    }

    /// Makes the agent read its policies again.
    pub fn reload(&self) -> Result<()> {
        let output = self.command(&["reload"])?;
        ensure!(
            output.status.success(),
            "reload: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Runs a verb of the command line on this instance to its end.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.verb(words)?;
        Ok(self.netns.enter(|| command.output())??)
    }

    /// Runs `policy WORDS` on this instance to its end.
    pub fn policy(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary::stockade()?);
        let (verb, rest) = words.split_first().context("no verb")?;
        command
            .args(["policy", verb, "--instance", &self.instance])
            .args(rest)
            .stdin(Stdio::null());
        Ok(self.netns.enter(|| command.output())??)
    }

    /// A verb that talks to this instance, not started yet.
    pub fn verb(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary::stockade()?);
        let (verb, rest) = words.split_first().context("no verb")?;
        command
            .arg(verb)
            .args(["--instance", &self.instance])
            .args(rest)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// `run TOOL -- ARGUMENTS`, not started yet.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.verb(&["run", tool, "--"])?;
        command.args(arguments);
        Ok(command)
    }

    /// Runs a tool to its end.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.tool(tool, arguments)?;
        Ok(self.netns.enter(|| command.output())??)
    }

    /// What `VERB --json` prints.
    pub fn json(&self, verb: &str) -> Result<Value> {
        let output = self.command(&[verb, "--json"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .with_context(|| format!("{verb}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Follows the events.
    pub fn events(&self) -> Result<Events> {
        let mut command = self.verb(&["events", "--follow", "--json"])?;
        command.stdout(Stdio::piped());
        let mut child = self.netns.enter(|| command.spawn())??;
        let output = child.stdout.take().context("a pipe is missing")?;
        Ok(Events {
            child,
            output: Some(output),
        })
    }

    /// Ends the agent as a service manager does, and gives its exit status.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let child = self.child.take().context("no agent runs")?;
        kill(pid(&child)?, Signal::SIGTERM)?;
        wait(child, patience())
    }

    /// Kills the agent at once.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("no agent runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Process id of the running agent.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The agent's folder.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The folder of its policies.
    pub fn policies(&self) -> PathBuf {
        self.scratch.path().join("policies.d")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        Path::new("/run").join(&self.instance).join("control.sock")
    }

    /// Where the policy sets that were in force are kept.
    pub fn history(&self) -> PathBuf {
        Path::new("/var/lib").join(&self.instance).join("policies")
    }

    /// The journal of sessions.
    pub fn journal(&self) -> PathBuf {
        Path::new("/var/lib")
            .join(&self.instance)
            .join("journal.jsonl")
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends it, has the product remove its traces, and gives what is left all the same.
    pub fn end(mut self) -> Result<Vec<String>> {
        self.clean()?;
        leftovers::after(&self.instance, patience())
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    /// The fence of an agent outlives it; one that is told so removes it at its end.
    fn clean(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.stop()?;
        }
        if leftovers::of_instance(&self.instance)?.is_empty() {
            return self.remove_state();
        }
        let mut command = self.agent_command()?;
        command
            .arg("--remove-on-exit")
            .stdout(Stdio::null())
            .stderr(File::create(self.scratch.path().join("clean.log"))?);
        let child = self.netns.enter(|| command.spawn())??;
        self.child = Some(child);
        let until = Instant::now() + patience();
        while Instant::now() < until && !self.answers()? {
            std::thread::sleep(POLL);
        }
        self.stop()?;
        self.remove_state()
    }

    fn remove_state(&self) -> Result<()> {
        let state = Path::new("/var/lib").join(&self.instance);
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            eprintln!("instance {} is not clean: {error:#}", self.instance);
        }
    }
}

/// `events --follow --json`
#[derive(Debug)]
pub struct Events {
    child: Child,
    output: Option<ChildStdout>,
}

impl Events {
    /// Ends it and gives all events.
    pub fn finish(mut self) -> Result<Vec<Value>> {
        self.child.kill()?;
        let mut text = String::new();
        if let Some(mut output) = self.output.take() {
            output.read_to_string(&mut text)?;
        }
        self.child.wait()?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// A thread that hands on each event as it comes.
    pub fn stream(mut self) -> std::sync::mpsc::Receiver<Value> {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if let Some(output) = self.output.take() {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let Ok(event) = serde_json::from_str(&line) else {
                        break;
                    };
                    if send.send(event).is_err() {
                        break;
                    }
                }
            }
            drop(self);
        });
        receive
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// Waits for a process's end, but not for ever.
pub fn wait(mut child: Child, patience: Duration) -> Result<ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            bail!("process {} did not end in {patience:?}", child.id());
        }
        std::thread::sleep(POLL);
    }
}
