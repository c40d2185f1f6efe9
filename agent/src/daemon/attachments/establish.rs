//! One fence: from the look at a cgroup to the hooks on it, and back.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use common::id::{CgroupId, SessionId};
use tokio::sync::mpsc;

use super::{
    Attachment, Live, Target,
    error::AttachError,
    lock,
    state::{self, Fence},
};
use crate::{
    audit::{AttachRecord, Caller},
    daemon::{
        Engine,
        error::chain,
        policies::Loaded,
        table::{Entry, Outpost},
        tasks::Chore,
    },
    kernel::outpost::{Cleared, Ground},
    launcher::{Visit, Visited},
    observe::refused::Refusals,
    timestamp::Timestamp,
};

/// What a fence is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) target: &'a Target,
    pub(super) weak: bool,
    /// Holes refuse it at once; else they do once they have lasted.
    pub(super) strict: bool,
    /// Who asks; nobody where the agent follows what it was told.
    pub(super) caller: Option<Caller>,
    /// A process of the cgroup that is not looked at.
    pub(super) except: Option<u32>,
}

/// What a visitor brought, with descriptors.
pub(super) struct Seen {
    pub(super) holes: Vec<String>,
    /// Network namespaces but the agent's, each with the descriptor of a `sock_diag`.
    pub(super) diags: Vec<(u64, std::os::fd::OwnedFd)>,
    pub(super) namespaces: Vec<u64>,
    /// Where the resolver can not listen.
    pub(super) failed: Vec<String>,
}

impl Engine {
    /// Puts up a fence. `earlier`: the one that an earlier agent has left standing.
    pub(super) async fn establish(
        self: &Arc<Self>,
        wish: Wish<'_>,
        loaded: &Loaded,
        earlier: Option<&Fence>,
    ) -> Result<(Live, Cleared), AttachError> {
        let name = || wish.target.to_string();
        let folder = wish.target.folder()?;
        let folder = folder.ok_or_else(|| AttachError::Absent(name()))?;
        let ground = Ground::open(&folder, &self.parent)?;
        self.refuse_nested(wish.target, &ground)?;
        let seen = self.visit(ground.path(), wish.except).await;
        let seen = seen.map_err(|why| AttachError::Unseen {
            target: name(),
            why,
        })?;
        if wish.strict && !wish.weak && !seen.holes.is_empty() {
            self.give_back(&seen.namespaces).await;
            return Err(AttachError::Holes {
                target: name(),
                holes: seen.holes.join("; "),
            });
        }
        // A fence comes first where nobody waits for an answer; without names it is only tighter.
        if wish.strict && !seen.failed.is_empty() {
            self.give_back(&seen.namespaces).await;
            return Err(AttachError::Namespace {
                target: name(),
                why: seen.failed.join("; "),
            });
        }
        let same = earlier.filter(|fence| fence.cgroup == ground.id().0);
        let namespaces = seen.namespaces.clone();
        let put_up = self.record_and_put_up(wish, loaded, &ground, seen, same);
        let up = put_up.await;
        if up.is_err() {
            self.give_back(&namespaces).await;
        }
        up
    }

    async fn record_and_put_up(
        &self,
        wish: Wish<'_>,
        loaded: &Loaded,
        ground: &Ground,
        seen: Seen,
        same: Option<&Fence>,
    ) -> Result<(Live, Cleared), AttachError> {
        let session = match same {
            Some(fence) => SessionId(fence.session),
            None => self.record_fence(&wish, loaded, ground, &seen)?,
        };
        match self.put_up(wish, loaded, ground, session, seen, same.is_none()) {
            Ok(up) => Ok(up),
            // The hooks of an earlier agent stay as they are, and let nobody through.
            Err(error) if same.is_some() => Err(error),
            Err(error) => {
                self.take_down(session, ground.id(), "not put up").await;
                Err(error)
            }
        }
    }

    fn record_fence(
        &self,
        wish: &Wish<'_>,
        loaded: &Loaded,
        ground: &Ground,
        seen: &Seen,
    ) -> Result<SessionId, AttachError> {
        let receipt = self.journal.attached(&AttachRecord {
            target: &wish.target.to_string(),
            cgroup: &ground.path().display().to_string(),
            tool: loaded.policy.tool.as_str(),
            policy: &loaded.policy.digest.to_string(),
            weak: wish.weak,
            holes: &seen.holes,
            caller: wish.caller,
        })?;
        Ok(receipt)
    }

    /// From here on it is said to stand.
    fn put_up(
        &self,
        wish: Wish<'_>,
        loaded: &Loaded,
        ground: &Ground,
        session: SessionId,
        seen: Seen,
        is_new: bool,
    ) -> Result<(Live, Cleared), AttachError> {
        let live = Live {
            session,
            cgroup: ground.id(),
            path: ground.path().to_owned(),
            namespaces: seen.namespaces,
            holes_since: (!seen.holes.is_empty()).then(std::time::Instant::now),
            holes: seen.holes,
            suspended: false,
            missing: Vec::new(),
            ailments: seen.failed,
        };
        self.keep_with(wish.target, &live)?;
        self.sessions.insert(session, entry(loaded, wish, &live));
        self.attached.occupy(session, ground, loaded.id)?;
        let mut cleared = Cleared::default();
        // What an earlier agent's fence has let through goes on.
        if is_new {
            cleared = self.attached.clear_sockets(ground, None)?;
        }
        for (_, diag) in seen.diags.into_iter().filter(|_| is_new) {
            let more = self.attached.clear_sockets(ground, Some(diag))?;
            cleared.destroyed = cleared.destroyed.saturating_add(more.destroyed);
            cleared.left = cleared.left.saturating_add(more.left);
        }
        self.attachments.freshen();
        tracing::info!(
            session.id = session.0,
            session.tool = loaded.policy.tool.as_str(),
            cgroup.path = %ground.path().display(),
            sockets.destroyed = cleared.destroyed,
            sockets.left = cleared.left,
            weak = wish.weak,
            "cgroup attached"
        );
        Ok((live, cleared))
    }

    /// Writes down the fence before it stands: who comes after knows whose hooks these are.
    fn keep_with(&self, target: &Target, live: &Live) -> Result<(), AttachError> {
        let mut kept = self.attachments.kept();
        for one in kept.iter_mut().filter(|one| one.target == *target) {
            one.fence = Some(Fence {
                session: live.session.0,
                cgroup: live.cgroup.0,
            });
        }
        Ok(state::write(&self.instance, kept)?)
    }

    /// Takes the hooks off and forgets the session. What does not go is told and tried no more: the
    /// fence stands then, and nobody talks.
    pub(super) async fn take_down(&self, session: SessionId, cgroup: CgroupId, why: &str) {
        if let Err(error) = self.attached.leave(session, cgroup) {
            tracing::error!(
                session.id = session.0,
                error = chain(&error),
                "hooks of an attached cgroup not taken off"
            );
        }
        self.drain_events().await;
        let refused = self.sessions.remove(session);
        self.names.forget(session);
        let refused: Vec<_> = refused
            .list
            .iter()
            .filter_map(|refusal| serde_json::to_value(refusal).ok())
            .collect();
        if let Err(error) = self.journal.detached(session, why, &refused) {
            tracing::error!(error = chain(&error), "end of a fence not recorded");
        }
        tracing::info!(session.id = session.0, why, "cgroup detached");
    }

    /// Sends somebody to look, and takes in the resolver's sockets that he brings.
    pub(super) async fn visit(&self, cgroup: &Path, except: Option<u32>) -> Result<Seen, String> {
        let known = lock(&self.attachments.namespaces).clone();
        let visit = Visit {
            cgroup: cgroup.to_owned(),
            except,
            port: self.names.port,
            own: self.kernel.netns(),
            known,
        };
        let visited = self.launcher.visit(&visit).await;
        let (visited, fds) = visited.map_err(|error| chain(&error))?;
        let Visited {
            processes: _,
            holes,
            namespaces,
            failed,
        } = visited;
        if let Some(why) = failed {
            return Err(why);
        }
        let mut seen = Seen {
            holes,
            diags: Vec::new(),
            namespaces: Vec::new(),
            failed: Vec::new(),
        };
        let mut fds = fds.into_iter();
        for namespace in namespaces {
            let mut own: Vec<_> = fds.by_ref().take(namespace.fds).collect();
            if let Some(why) = namespace.failed {
                seen.failed.push(why);
                continue;
            }
            let Some(diag) = own.pop() else { continue };
            if let Some(lasting) = own.pop()
                && let Err(error) = self.listen_in(namespace.cookie, lasting, own).await
            {
                seen.failed.push(chain(&error));
                continue;
            }
            seen.diags.push((namespace.cookie, diag));
            seen.namespaces.push(namespace.cookie);
        }
        Ok(seen)
    }

    async fn listen_in(
        &self,
        netns: u64,
        diag: std::os::fd::OwnedFd,
        sockets: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(), AttachError> {
        self.answer_in(netns, sockets)
            .map_err(|error| AttachError::Resolver(Box::new(error)))?;
        lock(&self.attachments.namespaces).push(netns);
        send(&self.chores, Chore::Adopt(netns, diag)).await;
        Ok(())
    }

    /// Gives back those of these network namespaces in which no attached cgroup has processes.
    pub(super) async fn give_back(&self, namespaces: &[u64]) {
        for netns in namespaces {
            let used = self.attachments.table().values().any(|attachment| {
                let live = attachment.live.as_ref();
                live.is_some_and(|live| live.namespaces.contains(netns))
            });
            if used {
                continue;
            }
            lock(&self.attachments.namespaces).retain(|known| known != netns);
            self.silence_in(*netns).await;
            send(&self.chores, Chore::Forget(*netns)).await;
        }
    }

    fn refuse_nested(&self, target: &Target, ground: &Ground) -> Result<(), AttachError> {
        let table = self.attachments.table();
        let others = table.iter().filter(|(other, _)| *other != target);
        for (_, Attachment { tool, live, .. }) in others {
            let Some(live) = live else { continue };
            if live.cgroup == ground.id() {
                return Err(AttachError::Taken {
                    target: target.to_string(),
                    tool: tool.clone(),
                });
            }
            if ground.path().starts_with(&live.path) || live.path.starts_with(ground.path()) {
                return Err(AttachError::Nested {
                    target: target.to_string(),
                    other: live.path.display().to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Whether a cgroup is at its path still.
pub(super) fn is_there(live: &Live) -> bool {
    let found: io::Result<_> = fs::metadata(&live.path);
    found.is_ok_and(|metadata| metadata.ino() == live.cgroup.0)
}

async fn send(chores: &mpsc::Sender<Chore>, chore: Chore) {
    if chores.send(chore).await.is_err() {
        tracing::warn!("nobody destroys sockets any more");
    }
}

fn entry(loaded: &Loaded, wish: Wish<'_>, live: &Live) -> Entry {
    // Nobody listens: an attached cgroup is ended by who started it.
    let (commands, _nobody) = mpsc::channel(1);
    Entry {
        policy_id: loaded.id,
        policy: Arc::clone(&loaded.policy),
        command: vec![wish.target.to_string()],
        caller: wish.caller.unwrap_or(Caller {
            uid: 0,
            gid: 0,
            pid: 0,
        }),
        started: Timestamp::now(),
        commands,
        refusals: Refusals::default(),
        enforced: None,
        ending: false,
        outpost: Some(Outpost {
            cgroup: live.path.display().to_string(),
            weak: live.holes.clone(),
        }),
    }
}
