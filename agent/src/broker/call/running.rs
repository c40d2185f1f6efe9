//! A fenced worker that carries out one recorded call.
//!
//! Credentials would be handed over here; no policy can ask for one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{finished::Finished, recorded::Recorded, settled::Broken, validated::Validated};
use crate::{
    broker::{
        Inner,
        reason::{Reason, Refused},
        worker::{Answer, Asked, Bounds, Client, Failure, Key, Process, json},
    },
    policy::compiled::{self, CompiledPolicy, Reuse, WorkerProtocol},
};

/// A call with the worker that carries it out. Only [`Running::start`] makes one.
#[must_use]
pub struct Running {
    recorded: Recorded,
    worker: Worker,
    began: Instant,
    /// For its start and its answer together.
    deadline: tokio::time::Instant,
}

enum Worker {
    Json(Process),
    Mcp(Client, Option<Key>),
}

/// Why a call ends before its worker does.
enum Cut {
    Cancelled,
    Killed,
    Late,
    Stopping,
}

impl Running {
    /// Starts a worker, or takes one that waits for this principal.
    pub(in crate::broker) async fn start(
        inner: &Arc<Inner>,
        recorded: Recorded,
    ) -> Result<Self, Broken> {
        let began = Instant::now();
        let deadline = deadline(inner, validated(&recorded).policy());
        let mut cancelled = cancelled(&recorded);
        let tool = tool(&recorded);
        let outcome = tokio::select! {
            biased;
            cut = cut(inner, &tool, &mut cancelled, deadline) => Err(cut.before()),
            worker = Worker::get(inner, validated(&recorded)) => worker,
        };
        match outcome {
            Ok(worker) => Ok(Self {
                recorded,
                worker,
                began,
                deadline,
            }),
            Err(failure) => Err(Broken::recorded(recorded, failure, None, began.elapsed())),
        }
    }

    /// Asks the worker and waits for its answer, however it ends.
    pub(in crate::broker) async fn finish(self, inner: &Arc<Inner>) -> Result<Finished, Broken> {
        let Self {
            recorded,
            mut worker,
            began,
            deadline,
        } = self;
        let session = worker.session();
        let mut cancelled = cancelled(&recorded);
        let tool = tool(&recorded);
        let outcome = {
            let call = validated(&recorded);
            let received = call.authenticated().received();
            let asked = Asked {
                tool: &received.tool,
                verb: &call.verb().worker_tool,
                arguments: &received.arguments,
                progress: received.progress.as_ref(),
            };
            tokio::select! {
                biased;
                answer = worker.ask(&asked, inner.limits.into()) => answer,
                cut = cut(inner, &tool, &mut cancelled, deadline) => Err(cut.after()),
            }
        };
        worker
            .put_back(inner, validated(&recorded), outcome.as_ref().err())
            .await;
        match outcome {
            Ok(answer) => Ok(Finished::new(recorded, answer, session, began.elapsed())),
            Err(failure) => Err(Broken::recorded(
                recorded,
                failure,
                Some(session),
                began.elapsed(),
            )),
        }
    }
}

impl Worker {
    async fn get(inner: &Arc<Inner>, call: &Validated) -> Result<Self, Failure> {
        let policy = call.policy();
        let caller = call.authenticated().received().peer;
        let bounds = Bounds::from(inner.limits);
        let start = || Process::start((&*inner.host, &inner.runtime), policy, caller, bounds);
        match policy.worker.protocol {
            WorkerProtocol::Json => Ok(Self::Json(start().await?)),
            WorkerProtocol::Mcp => {
                let key = key(call);
                let warm = key.as_ref().and_then(|key| inner.pool.take(key));
                inner.calls.worker(policy.tool.as_str(), warm.is_some());
                let client = match warm {
                    Some(client) => client,
                    None => Client::open(start().await?, bounds).await?,
                };
                let verb = call.verb();
                if let Err(refused) = client.check(&verb.worker_tool, verb.pin) {
                    client.leave();
                    return Err(Failure::of_start(refused));
                }
                Ok(Self::Mcp(client, key))
            }
            WorkerProtocol::Exec => Err(Failure::of_start(Refused::because(
                Reason::LaunchFailed,
                "protocol `exec` has no calls: `json` and `mcp` have",
            ))),
        }
    }

    fn session(&self) -> u64 {
        match self {
            Self::Json(process) => process.session(),
            Self::Mcp(client, _) => client.session(),
        }
    }

    async fn ask(&mut self, asked: &Asked<'_>, bounds: Bounds) -> Result<Answer, Failure> {
        match self {
            Self::Json(process) => json::ask(process, asked, bounds).await,
            Self::Mcp(client, _) => client.call(asked).await,
        }
    }

    /// Keeps it for the same principal, or lets it go; one whose call was cut off is told so first.
    async fn put_back(self, inner: &Inner, call: &Validated, failure: Option<&Failure>) {
        let (mut client, key) = match self {
            // It has ended, or is ended by being dropped.
            Self::Json(_) => return,
            Self::Mcp(client, key) => (client, key),
        };
        match (failure, key) {
            (None, Some(key)) => {
                let policy = call.policy();
                let keep = keep(&policy.worker, inner.warm_time, client.age());
                let tool = policy.tool.as_str();
                inner.pool.put(key, tool, client, keep);
                // Whoever emptied the pool because of either may have come before this worker.
                let now = inner.host.policy(tool);
                let in_force = now.is_some_and(|now| now.digest == policy.digest);
                if !in_force || inner.switches.is_off(tool) {
                    inner.pool.drain(tool);
                }
            }
            (None, None) => client.leave(),
            (Some(failure), _) => {
                if failure.refused.reason == Reason::Cancelled {
                    let told = client.cancel("the caller cancelled the call");
                    if tokio::time::timeout(CANCEL_TIME_MAX, told).await.is_err() {
                        tracing::debug!("worker did not read the cancellation in time");
                    }
                    client.leave();
                }
                // Any other is ended at once, by being dropped.
            }
        }
    }
}

/// How long before its session is idle for too long a worker is let go.
const LIMIT_MARGIN: Duration = Duration::from_secs(2);
/// How long a worker has to read that its call was cancelled.
const CANCEL_TIME_MAX: Duration = Duration::from_millis(100);

impl Cut {
    fn reason(&self) -> Reason {
        match self {
            Self::Cancelled => Reason::Cancelled,
            Self::Killed => Reason::Killed,
            Self::Late => Reason::WorkerTimeout,
            Self::Stopping => Reason::Stopping,
        }
    }

    fn before(&self) -> Failure {
        Failure::of_start(self.reason().into())
    }

    fn after(&self) -> Failure {
        Failure::of_call(self.reason().into())
    }
}

/// Becomes ready when the call must not go on.
async fn cut(
    inner: &Inner,
    tool: &str,
    cancelled: &mut watch::Receiver<bool>,
    deadline: tokio::time::Instant,
) -> Cut {
    let mut stopping = inner.stopping.clone();
    tokio::select! {
        biased;
        () = inner.switches.off(tool) => Cut::Killed,
        // Its sender is the connection: gone means that nobody waits.
        _ = cancelled.wait_for(|cancelled| *cancelled) => Cut::Cancelled,
        () = tokio::time::sleep_until(deadline) => Cut::Late,
        () = stopping.wait() => Cut::Stopping,
    }
}

/// How long a worker may wait for its next call: it is let go before its session's own limits end it,
/// and while it has half of its session's time left.
fn keep(worker: &compiled::Worker, most: Duration, age: Duration) -> Duration {
    let idle = worker.idle_timeout.saturating_sub(LIMIT_MARGIN);
    let left = (worker.wall_timeout / 2).saturating_sub(age);
    most.min(idle).min(left)
}

fn deadline(inner: &Inner, policy: &CompiledPolicy) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    let most = policy.worker.wall_timeout.min(inner.call_time);
    now.checked_add(most).unwrap_or(now)
}

/// Which warm worker may take the call; none where each call has its own.
fn key(call: &Validated) -> Option<Key> {
    let claims = call.authenticated().claims();
    let session = match call.policy().worker.reuse {
        Reuse::Never => return None,
        // A token that names no session shares its worker with none.
        Reuse::Session => Some(claims.session_hash.clone()?),
        Reuse::Principal => None,
    };
    Some(Key {
        policy: call.policy().digest,
        issuer: claims.issuer.clone(),
        subject: claims.subject.clone(),
        client: claims.client.clone(),
        session,
    })
}

fn validated(recorded: &Recorded) -> &Validated {
    recorded.approved().admitted().validated()
}

fn tool(recorded: &Recorded) -> String {
    validated(recorded).policy().tool.to_string()
}

fn cancelled(recorded: &Recorded) -> watch::Receiver<bool> {
    let received = validated(recorded).authenticated().received();
    received.cancelled.clone()
}
