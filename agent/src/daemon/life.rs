//! The life of a session whose worker runs: signals in, time limit, and what remains to be done when
//! the worker has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::id::SessionId;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant as TokioInstant, sleep_until, timeout},
};

use super::{
    Engine,
    error::chain,
    meter::Meter,
    session::Finished,
    table::{Command, Refused, Why},
};
use crate::{
    audit::{End, HandedOut, Outcome, Spent},
    kernel::{self, cgroup::SessionCgroup},
    launcher::{Exit, Running},
    policy::compiled::CompiledPolicy,
    sandbox::{Enforced, output::Left},
    timestamp::Timestamp,
};

/// How long a session has to end with its worker before it is killed: mounts and namespaces go first.
const OWN_END_TIME_MAX: Duration = Duration::from_millis(50);
/// How long killed processes have to be gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long who counts the worker's output has to tell, once nobody can write any more. It knows by then:
/// only one that is stopped or gone is waited for.
const COUNT_TIME_MAX: Duration = Duration::from_secs(1);

/// What a running session holds.
pub(super) struct Life {
    pub(super) engine: Arc<Engine>,
    pub(super) session: SessionId,
    pub(super) policy: Arc<CompiledPolicy>,
    pub(super) enforced: Enforced,
    pub(super) asked: Instant,
    pub(super) slot: OwnedSemaphorePermit,
    /// How many bytes the worker has written, where somebody counts them.
    pub(super) count: Option<oneshot::Receiver<u64>>,
}

/// What was put up for a session, and what came out of it. Nothing where none was started.
#[derive(Clone, Copy, Default)]
pub(super) struct Put<'a> {
    pub(super) enforced: Option<&'a Enforced>,
    pub(super) output: Option<&'a HandedOut>,
    pub(super) uncounted: bool,
}

impl Life {
    /// Runs until nothing of the session is left, then tells.
    pub(super) async fn live(
        mut self,
        mut running: Running,
        cgroup: SessionCgroup,
        inbox: mpsc::Receiver<Command>,
        tell: oneshot::Sender<Finished>,
    ) {
        let engine = Arc::clone(&self.engine);
        let end = self.until_end(&mut running, &cgroup, inbox).await;
        let gone = self.gone(&running, &cgroup).await;
        let left = running.take_left();
        drop(running);
        let output = self.hand_out(left, gone).await;
        let spent = engine.clear_killed(self.session, cgroup).await;
        // Events that the worker caused before it ended are in the ring by now.
        engine.drain_events().await;
        let (end, uncounted) = self.counted(end).await;
        let refused = engine.sessions.remove(self.session);
        engine.record(
            self.session,
            end.clone(),
            self.asked,
            spent,
            Put {
                enforced: Some(&self.enforced),
                output: output.as_ref(),
                uncounted,
            },
            &refused,
        );
        tracing::info!(
            session.id = self.session.0,
            session.tool = self.policy.tool.as_str(),
            session.end = ?end,
            session.refused = refused.list.len(),
            "session ended"
        );
        drop(self.slot);
        let Refused { list, missing } = refused;
        let finished = Finished {
            end,
            output,
            refused: list,
            missing,
        };
        // Whoever asked may be gone.
        drop(tell.send(finished));
    }

    /// Waits until nothing of the session runs any more; kills what does not end by itself. Process 1
    /// ends with its worker, and the kernel then ends everything in its namespace.
    async fn gone(&self, running: &Running, cgroup: &SessionCgroup) -> bool {
        let gone = match timeout(OWN_END_TIME_MAX, running.gone()).await {
            Ok(gone) => Ok(gone),
            Err(_late) => {
                self.kill(cgroup);
                timeout(GONE_TIME_MAX, running.gone()).await
            }
        };
        match gone {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(session.id = self.session.0, %error, "end not seen");
                false
            }
            Err(_late) => {
                tracing::warn!(session.id = self.session.0, "processes not gone in time");
                false
            }
        }
    }

    async fn until_end(
        &self,
        running: &mut Running,
        cgroup: &SessionCgroup,
        mut inbox: mpsc::Receiver<Command>,
    ) -> End {
        let deadline = TokioInstant::now().checked_add(self.policy.worker.wall_timeout);
        let mut meter = Meter::new(&self.policy, Instant::now());
        // Stays when something else happens meanwhile, however often.
        let mut look = after(meter.next());
        let mut why = None;
        loop {
            tokio::select! {
                exit = running.wait() => return self.ended(exit, why, cgroup),
                command = inbox.recv() => match command {
                    Some(Command::Signal(number)) => {
                        if let Err(error) = running.signal(number) {
                            tracing::debug!(session.id = self.session.0, %error, "signal not sent");
                        }
                    }
                    Some(Command::End(reason)) => {
                        why = why.or(Some(end_of(reason)));
                        self.kill(cgroup);
                    }
                    // The table and the caller hold the other ends; without them nobody waits.
                    None => {
                        why = why.or(Some(End::CallerGone));
                        self.kill(cgroup);
                        return self.ended(running.wait().await, why, cgroup);
                    }
                },
                () = until(deadline), if why.is_none() => {
                    why = Some(End::WallTimeout);
                    self.kill(cgroup);
                }
                () = until(look), if why.is_none() => {
                    why = self.look(&mut meter, cgroup);
                    look = after(meter.next());
                    if why.is_some() {
                        self.kill(cgroup);
                    }
                }
            }
        }
    }
}

impl Life {
    /// What the session's account says. One that can not be read ends it: nothing is unlimited
    /// because it is not counted.
    fn look(&self, meter: &mut Meter, cgroup: &SessionCgroup) -> Option<End> {
        match cgroup.processor_time() {
            Ok(used) => meter.look(used, Instant::now()),
            Err(error) => {
                let session = self.session.0;
                tracing::error!(
                    session.id = session,
                    error = chain(&error),
                    "session not metered"
                );
                Some(End::Unknown(chain(&error)))
            }
        }
    }

    fn ended<E: std::error::Error>(
        &self,
        exit: Result<Exit, E>,
        why: Option<End>,
        cgroup: &SessionCgroup,
    ) -> End {
        match (why, exit) {
            (Some(why), _) => why,
            (None, Ok(Exit::Code(code))) => End::Exit(code),
            (None, Ok(Exit::Signal(number))) if self.starved(number, cgroup) => End::Memory,
            (None, Ok(Exit::Signal(number))) => End::Signal(number),
            (None, Err(error)) => End::Unknown(chain(&error)),
        }
    }

    /// Whether the signal was the kernel's, for lack of memory.
    fn starved(&self, signal: i32, cgroup: &SessionCgroup) -> bool {
        if signal != nix::libc::SIGKILL {
            return false;
        }
        cgroup.out_of_memory().unwrap_or_else(|error| {
            let session = self.session.0;
            tracing::warn!(
                session.id = session,
                error = chain(&error),
                "memory events not read"
            );
            0
        }) > 0
    }

    /// How the session ended, by the count of its output too: what a worker wrote last may be more than
    /// it may, and the agent sees that the worker ended before it hears what was written. Whether nobody
    /// has told.
    async fn counted(&mut self, end: End) -> (End, bool) {
        let by_itself = matches!(end, End::Exit(_) | End::Signal(_) | End::Memory);
        let Some(count) = self.count.take().filter(|_| by_itself) else {
            return (end, false);
        };
        match timeout(COUNT_TIME_MAX, count).await {
            Ok(Ok(bytes)) if bytes > self.policy.limits.output => (End::Output, false),
            Ok(Ok(_)) => (end, false),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(session.id = self.session.0, "output not counted");
                (end, true)
            }
        }
    }

    /// Hands out what the worker left, now that nothing of the session runs any more.
    async fn hand_out(&self, left: Option<Left>, gone: bool) -> Option<HandedOut> {
        let session = self.session.0;
        let (left, output) = (left?, self.policy.filesystem.output.clone()?);
        let handed = if gone {
            // Colons would need quotes in a shell.
            let time = Timestamp::now().to_string().replace(':', "");
            let name = format!("{time}-{session}");
            self.engine.launcher.hand_out(left, output, name).await
        } else {
            Err("output: processes of the session may still run".to_owned())
        };
        match handed {
            Ok(handed) => handed.map(|handed| HandedOut::Folder {
                path: handed.path.display().to_string(),
                files: handed.files,
                folders: handed.folders,
                bytes: handed.bytes,
            }),
            Err(error) => {
                tracing::warn!(session.id = session, error, "output not handed out");
                Some(HandedOut::Refused(error))
            }
        }
    }

    /// Kills every process of the session at once; none can fork out of it.
    fn kill(&self, cgroup: &SessionCgroup) {
        if let Err(error) = cgroup.kill() {
            let session = self.session.0;
            tracing::error!(
                session.id = session,
                error = chain(&error),
                "session not killed"
            );
        }
    }
}

impl Engine {
    /// Ends what is left of a session's processes, and clears up after them.
    pub(super) async fn clear(&self, session: SessionId, cgroup: SessionCgroup) -> Spent {
        if let Err(error) = cgroup.kill() {
            not_cleared(session, &error, "kill");
        }
        self.clear_killed(session, cgroup).await
    }

    /// Takes the entry of a session, whose processes have ended or were killed, to *closing* (the kernel side
    /// forgets it when its last socket is gone) and removes its cgroup. Tells what it used.
    async fn clear_killed(&self, session: SessionId, cgroup: SessionCgroup) -> Spent {
        let failed = |error: kernel::Error, what| not_cleared(session, &error, what);
        let tool = self.sessions.retire(session);
        self.names.forget(session);
        let usage = self.attached.usage(session).unwrap_or_else(|error| {
            failed(error, "usage");
            None
        });
        if let Err(error) = self.attached.closing(session, cgroup.id()) {
            failed(error, "closing");
        }
        match cgroup.remove_if_empty() {
            Ok(true) => {}
            // It waits for the processes to be gone, off the threads that serve everybody.
            Ok(false) => match spawn_blocking(move || cgroup.kill_and_remove()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(error, "remove"),
                Err(error) => {
                    tracing::error!(session.id = session.0, %error, "session not cleared");
                }
            },
            Err(error) => failed(error, "remove"),
        }
        let usage = usage.unwrap_or_default();
        if let Some(tool) = tool.filter(|tool| self.policies.current().observes(tool)) {
            self.learned.suppressed(&tool, session.0, usage.suppressed);
        }
        Spent {
            connections: usage.connections,
            bytes_out: usage.bytes_out,
        }
    }

    /// Writes the record of a session's end. The session is over: a failure can refuse nothing, so
    /// it is said loudly.
    pub(super) fn record(
        &self,
        session: SessionId,
        end: End,
        asked: Instant,
        used: Spent,
        put: Put<'_>,
        refused: &Refused,
    ) {
        let list: Result<Vec<_>, _> = refused.list.iter().map(serde_json::to_value).collect();
        let outcome = Outcome {
            end,
            seconds: asked.elapsed().as_secs_f64(),
            used,
            enforced: put.enforced,
            output: put.output,
            output_uncounted: put.uncounted,
            refused: &list.unwrap_or_default(),
            events_missing: refused.missing,
        };
        if let Err(error) = self.journal.outcome(session, &outcome) {
            tracing::error!(
                session.id = session.0,
                error = chain(&error),
                "outcome not recorded"
            );
        }
    }
}

fn not_cleared(session: SessionId, error: &kernel::Error, step: &'static str) {
    tracing::error!(
        session.id = session.0,
        step,
        error = chain(error),
        "session not cleared"
    );
}

fn end_of(why: Why) -> End {
    match why {
        Why::OutputSpent => End::Output,
        Why::CallerGone => End::CallerGone,
        Why::AgentStopped => End::AgentStopped,
        Why::PolicyRemoved => End::PolicyRemoved,
    }
}

async fn until(deadline: Option<TokioInstant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn after(pause: Option<Duration>) -> Option<TokioInstant> {
    TokioInstant::now().checked_add(pause?)
}
