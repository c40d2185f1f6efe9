//! One session, from the request to the record of its end.
//!
//! The order is the promise: record, cgroup, entry in the kernel's table, process. Each step hands
//! the next one the value that proves it.

use std::{os::fd::OwnedFd, sync::Arc, time::Instant};

use common::id::SessionId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Engine,
    ahead::Waiting,
    error::{LaunchError, chain},
    life::{Life, Put},
    policies::{Loaded, Set},
    table::{Command, Entry, Why},
};
use crate::{
    audit::{Caller, End, HandedOut, Intent, Receipt, Spent},
    kernel::cgroup::SessionCgroup,
    launcher::{LaunchRequest, Running, Work},
    observe::{
        metrics::Launch,
        refused::{Refusal, Refusals},
    },
    policy::compiled::{CompiledPolicy, Digest},
    sandbox::Enforced,
    timestamp::Timestamp,
};

/// Commands that wait for a session's attention.
const COMMANDS_MAX: usize = 32;

/// stdin, stdout and stderr of a worker.
pub type Stdio = [OwnedFd; 3];

/// What is to be launched.
#[derive(Debug)]
pub struct Order {
    /// The tool.
    pub tool: String,
    /// The command instead of the policy's, or arguments after it.
    pub command: CommandLine,
    /// The worker's standard streams.
    pub stdio: Stdio,
    /// Who asks.
    pub caller: Caller,
    /// The only policy under which it may be launched; any, where nobody has checked one.
    pub under: Option<Digest>,
    /// Who counts what the worker writes.
    pub counter: Counter,
}

/// Who counts what a worker writes to its standard output and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The caller, who tells by [`Session::output_spent`] and [`Session::written`].
    Caller,
    /// Nobody.
    Nobody,
}

/// What the worker executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// The policy's command, with these arguments after it.
    OfPolicy(Vec<String>),
    /// This command: an absolute path and its arguments.
    Given(Vec<String>),
}

/// A session whose worker runs.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    enforced: Enforced,
    commands: mpsc::Sender<Command>,
    finished: oneshot::Receiver<Finished>,
    policy: Arc<CompiledPolicy>,
    /// Until it is told what the worker wrote, where the caller counts that.
    written: Option<oneshot::Sender<u64>>,
}

/// A session that is over; nothing of it is left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// What was handed out.
    pub output: Option<HandedOut>,
    /// What it was refused.
    pub refused: Vec<Refusal>,
    /// Refusals that are missing from the list.
    pub missing: u64,
}

impl Engine {
    /// Launches a worker in its fence.
    pub async fn launch(self: &Arc<Self>, order: Order) -> Result<Session, LaunchError> {
        let asked = Instant::now();
        let set = self.policies.current();
        let known = if set.by_tool.contains_key(&order.tool) {
            order.tool.clone()
        } else {
            "unknown".to_owned()
        };
        let launched = self.launch_known(&set, order, asked).await;
        let result = match &launched {
            Ok(_) => Launch::Started,
            Err(error) if error.is_refusal() => Launch::Refused,
            Err(_) => Launch::Failed,
        };
        self.metrics.launch(&known, result);
        launched
    }

    async fn launch_known(
        self: &Arc<Self>,
        set: &Set,
        order: Order,
        asked: Instant,
    ) -> Result<Session, LaunchError> {
        if self.stopping.is_now() {
            return Err(LaunchError::Stopping);
        }
        let Some(loaded) = set.by_tool.get(&order.tool) else {
            let near = set.near(&order.tool);
            let tool = order.tool;
            return Err(LaunchError::NoPolicy { tool, near });
        };
        if order
            .under
            .is_some_and(|under| under != loaded.policy.digest)
        {
            return Err(LaunchError::Changed(order.tool));
        }
        let slot = self.slot()?;
        let command = order.command.whole(&loaded.policy)?;
        self.prove(loaded).await?;
        let receipt = self.journal.intent(&Intent {
            tool: loaded.policy.tool.as_str(),
            policy: &loaded.policy.digest.to_string(),
            command: &command,
            caller: order.caller,
        })?;
        let session = receipt.session();
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let entry = entry(loaded, command.clone(), order.caller, commands.clone());
        self.sessions.insert(session, entry);
        let begun = self.begin(loaded, receipt, command, order.stdio).await;
        let (running, cgroup) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.not_started(session, asked, &error);
                return Err(error);
            }
        };
        self.metrics.launched_within(asked.elapsed());
        tracing::info!(
            session.id = session.0,
            session.tool = loaded.policy.tool.as_str(),
            caller.uid = order.caller.uid,
            "session started"
        );
        let enforced = running.enforced().clone();
        self.sessions.runs(session, enforced.clone());
        self.reserve_ahead(loaded);
        let (tell, finished) = oneshot::channel();
        let (written, count) = order.counter.count();
        let life = Life {
            engine: Arc::clone(self),
            session,
            policy: Arc::clone(&loaded.policy),
            enforced: enforced.clone(),
            asked,
            slot,
            count,
        };
        tokio::spawn(life.live(running, cgroup, inbox, tell));
        Ok(Session {
            id: session,
            enforced,
            commands,
            finished,
            policy: Arc::clone(&loaded.policy),
            written,
        })
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, LaunchError> {
        let max = self.sessions_max;
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        slot.map_err(|_full| LaunchError::TooMany { max })
    }

    /// Cgroup, entry in the kernel's table, process.
    async fn begin(
        &self,
        loaded: &Loaded,
        receipt: Receipt,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<(Running, SessionCgroup), LaunchError> {
        let session = receipt.session();
        let Waiting { seat, cgroup } = self.take_or_reserve(loaded).await?;
        let cgroup = cgroup.give_to(session)?;
        let begun = async {
            let request = LaunchRequest {
                seat,
                work: Work::Command(command.into_iter().map(Into::into).collect()),
                stdio,
                admitted: self.attached.admit(session, cgroup.id(), loaded.id)?,
                receipt,
            };
            Ok(self.launcher.launch(request).await?)
        };
        match begun.await {
            Ok(running) => Ok((running, cgroup)),
            Err(error) => {
                self.clear(session, cgroup).await;
                Err(error)
            }
        }
    }

    fn not_started(&self, session: SessionId, asked: Instant, error: &LaunchError) {
        let refused = self.sessions.remove(session);
        let end = End::NotStarted(chain(error));
        tracing::warn!(
            session.id = session.0,
            error = chain(error),
            "session not started"
        );
        let (spent, put) = (Spent::default(), Put::default());
        self.record(session, end, asked, spent, put, &refused);
    }
}

fn entry(
    loaded: &Loaded,
    command: Vec<String>,
    caller: Caller,
    commands: mpsc::Sender<Command>,
) -> Entry {
    Entry {
        policy_id: loaded.id,
        policy: Arc::clone(&loaded.policy),
        command,
        caller,
        started: Timestamp::now(),
        commands,
        refusals: Refusals::default(),
        enforced: None,
        ending: false,
        outpost: None,
    }
}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What is enforced, per measure.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// The policy under which it was started.
    #[must_use]
    pub fn policy(&self) -> &CompiledPolicy {
        &self.policy
    }

    /// Hands a signal on to the worker.
    pub async fn signal(&self, number: i32) {
        self.command(Command::Signal(number)).await;
    }

    /// Ends the worker because nobody wants its answer any more. Nobody counts either.
    pub async fn abandon(&mut self) {
        self.written = None;
        self.command(Command::End(Why::CallerGone)).await;
    }

    /// Ends the worker because it has written more than its policy lets it.
    pub async fn output_spent(&self) {
        self.command(Command::End(Why::OutputSpent)).await;
    }

    /// Tells how many bytes the worker has written, now that nobody writes any more.
    pub async fn written(&mut self, bytes: u64) {
        if bytes > self.policy.limits.output {
            self.output_spent().await;
        }
        if let Some(written) = self.written.take() {
            // Where the session was ended for another reason nobody waits for it.
            written.send(bytes).ok();
        }
    }

    async fn command(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::trace!(session.id = self.id.0, "session is over already");
        }
    }

    /// Waits until nothing of it is left. May be cancelled and called again.
    pub async fn finished(&mut self) -> Finished {
        let finished = (&mut self.finished).await;
        finished.unwrap_or_else(|_closed| Finished {
            end: End::Unknown("the session's task ended early".to_owned()),
            output: None,
            refused: Vec::new(),
            missing: 0,
        })
    }
}

impl Counter {
    /// Where the count is told, and where it arrives.
    fn count(self) -> (Option<oneshot::Sender<u64>>, Option<oneshot::Receiver<u64>>) {
        match self {
            Self::Caller => {
                let (tell, told) = oneshot::channel();
                (Some(tell), Some(told))
            }
            Self::Nobody => (None, None),
        }
    }
}

impl CommandLine {
    fn whole(self, policy: &CompiledPolicy) -> Result<Vec<String>, LaunchError> {
        let command = match self {
            Self::Given(command) => command,
            Self::OfPolicy(_) if policy.worker.command.is_empty() => Vec::new(),
            Self::OfPolicy(arguments) => [policy.worker.command.clone(), arguments].concat(),
        };
        if command.is_empty() {
            return Err(LaunchError::NoCommand(policy.tool.to_string()));
        }
        Ok(command)
    }
}
