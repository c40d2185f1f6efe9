//! What somebody asks for: attach, detach.

use std::{fs, path::Path, sync::Arc};

use common::id::{CgroupId, SessionId};

use super::{
    ATTACHMENTS_MAX, Attachment, Live, Target,
    error::AttachError,
    establish::{Wish, is_there},
    state,
};
use crate::{
    audit::{AttachRefused, Caller},
    daemon::{Engine, error::chain, policies::Loaded},
    kernel::{cgroup, outpost::Cleared},
};

/// What is to be attached.
#[derive(Clone, Debug)]
pub struct AttachOrder {
    /// The cgroup or unit.
    pub target: Target,
    /// The tool of the policy.
    pub tool: String,
    /// Its processes may keep what no fence holds.
    pub weak: bool,
    /// Who asks.
    pub caller: Caller,
}

/// A fence that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachReport {
    /// Its session.
    pub session: u64,
    /// Folder of the cgroup.
    pub cgroup: String,
    /// Whether it stood before.
    pub stood: bool,
    /// Sockets that were there before.
    pub cleared: Cleared,
    /// What its processes have that no fence holds.
    pub holes: Vec<String>,
}

impl Engine {
    /// Puts a fence around what somebody else started.
    pub(in crate::daemon) async fn attach(
        self: &Arc<Self>,
        order: AttachOrder,
    ) -> Result<AttachReport, AttachError> {
        let attached = self.attach_known(&order).await;
        if let Err(error) = &attached {
            self.refused(&order.target, &order.tool, error, Some(order.caller));
        }
        attached
    }

    async fn attach_known(
        self: &Arc<Self>,
        order: &AttachOrder,
    ) -> Result<AttachReport, AttachError> {
        let AttachOrder {
            target,
            tool,
            weak,
            caller,
        } = order;
        if caller.uid != 0 {
            return Err(AttachError::NotRoot);
        }
        if self.stopping.is_now() {
            return Err(AttachError::Stopping);
        }
        target.check()?;
        let _one = self.attachments.gate.lock().await;
        let loaded = self.policy_named(tool)?;
        let (was_weak, before) = self.note_order(target, tool, *weak)?;
        if let Some(live) = before.as_ref().filter(|live| is_there(live))
            && (*weak || live.holes.is_empty())
            && self.attached.missing(live.session, live.cgroup).is_empty()
        {
            if was_weak != Some(*weak) {
                // The next agent goes by what is kept.
                let kept = self.save();
                kept.inspect_err(|_| self.undo_order(target, was_weak))?;
            }
            return Ok(report(live, Cleared::default(), true));
        }
        if let Some(live) = before {
            // Its cgroup has gone since, and nobody has seen it yet; or its processes are to be looked at,
            // or its hooks put back.
            if !is_there(&live) {
                self.end_fence(target, "its cgroup is gone").await;
            }
        }
        let wish = Wish {
            target,
            weak: *weak,
            strict: true,
            caller: Some(*caller),
            except: u32::try_from(caller.pid).ok().filter(|pid| *pid != 0),
        };
        let earlier = self.fence_of(target);
        match self.establish(wish, &loaded, earlier.as_ref()).await {
            Ok((live, cleared)) => {
                let report = report(&live, cleared, false);
                self.note_live(target, live);
                self.save()?;
                self.attachments.stir();
                Ok(report)
            }
            Err(error) => {
                self.undo_order(target, was_weak);
                self.save()?;
                Err(error)
            }
        }
    }

    /// Takes a fence away: its processes reach everything again.
    pub(in crate::daemon) async fn detach(
        self: &Arc<Self>,
        target: &Target,
        caller: Caller,
    ) -> Result<Option<u64>, AttachError> {
        if caller.uid != 0 {
            return Err(AttachError::NotRoot);
        }
        if self.is_inside(caller) {
            return Err(AttachError::Inside);
        }
        let _one = self.attachments.gate.lock().await;
        let found = self.attachments.table().get(target).cloned();
        let attachment = found.ok_or_else(|| AttachError::NotAttached(target.to_string()))?;
        if attachment.matched
            && let Target::Unit(unit) = target
            && let Some(loaded) = self.policies.current().by_tool.get(&attachment.tool)
            && loaded.policy.matches(unit)
        {
            return Err(AttachError::Matched {
                target: target.to_string(),
                tool: attachment.tool,
            });
        }
        self.end_fence(target, "detached").await;
        self.attachments.table().remove(target);
        self.save()?;
        tracing::info!(caller.uid = caller.uid, %target, "attachment removed");
        Ok(attachment.live.map(|live| live.session.0))
    }

    /// Takes every fence away: nothing of the instance is to be left.
    pub(in crate::daemon) async fn abandon_attachments(&self) {
        let _one = self.attachments.gate.lock().await;
        let targets: Vec<_> = self.attachments.table().keys().cloned().collect();
        for target in targets {
            self.end_fence(&target, "the agent's instance is removed")
                .await;
            self.attachments.table().remove(&target);
        }
        if let Err(error) = self.save() {
            tracing::error!(error = chain(&error), "attachments not kept");
        }
    }

    /// The policy of a tool.
    pub(super) fn policy_named(&self, tool: &str) -> Result<Loaded, AttachError> {
        let set = self.policies.current();
        let loaded = set.by_tool.get(tool).cloned();
        loaded.ok_or_else(|| AttachError::NoPolicy {
            tool: tool.to_owned(),
            near: set.near(tool),
        })
    }

    /// Notes what is asked for. Tells whether it was weak, where it was there, and the fence that stands.
    fn note_order(
        &self,
        target: &Target,
        tool: &str,
        weak: bool,
    ) -> Result<(Option<bool>, Option<Live>), AttachError> {
        let mut table = self.attachments.table();
        if let Some(known) = table.get_mut(target) {
            if known.tool != tool {
                return Err(AttachError::Taken {
                    target: target.to_string(),
                    tool: known.tool.clone(),
                });
            }
            let was_weak = std::mem::replace(&mut known.weak, weak);
            return Ok((Some(was_weak), known.live.clone()));
        }
        if table.len() >= ATTACHMENTS_MAX {
            return Err(AttachError::TooMany {
                max: ATTACHMENTS_MAX,
            });
        }
        let attachment = Attachment::new(tool.to_owned(), weak, false);
        table.insert(target.clone(), attachment);
        Ok((None, None))
    }

    /// Has it as it was before an order that failed; not on the disk yet.
    fn undo_order(&self, target: &Target, was_weak: Option<bool>) {
        let mut table = self.attachments.table();
        match was_weak {
            None => drop(table.remove(target)),
            Some(weak) => {
                if let Some(known) = table.get_mut(target) {
                    known.weak = weak;
                }
            }
        }
    }

    fn fence_of(&self, target: &Target) -> Option<state::Fence> {
        self.attachments.table().get(target)?.fence()
    }

    /// Takes the fence of an attachment down, and gives back what it alone had.
    pub(super) async fn end_fence(&self, target: &Target, why: &str) {
        let (live, left) = {
            let mut table = self.attachments.table();
            let known = table.get_mut(target);
            known.map_or((None, None), |known| (known.live.take(), known.left.take()))
        };
        if let Some(left) = left {
            let (session, cgroup) = (SessionId(left.session), CgroupId(left.cgroup));
            self.take_down(session, cgroup, why).await;
        }
        if let Some(live) = live {
            self.take_down(live.session, live.cgroup, why).await;
            self.give_back(&live.namespaces).await;
        }
    }

    /// Notes that a fence has come up.
    pub(super) fn note_live(&self, target: &Target, live: Live) {
        if let Some(known) = self.attachments.table().get_mut(target) {
            known.live = Some(live);
            known.left = None;
            known.refused = None;
        }
    }

    /// Keeps what is attached.
    pub(super) fn save(&self) -> Result<(), AttachError> {
        Ok(state::write(&self.instance, self.attachments.kept())?)
    }

    /// Records, counts and tells that something was not attached.
    pub(super) fn refused(
        &self,
        target: &Target,
        tool: &str,
        error: &AttachError,
        caller: Option<Caller>,
    ) {
        let (reason, why) = (error.word(), chain(error));
        tracing::warn!(%target, policy.tool = tool, reason, error = why, "not attached");
        self.metrics.attach_refused(reason);
        let record = AttachRefused {
            target: &target.to_string(),
            tool,
            reason,
            why: &why,
            caller,
        };
        if let Err(error) = self.journal.attach_refused(&record) {
            tracing::error!(error = chain(&error), "refused attachment not recorded");
        }
    }

    /// Whether a process is in an attached cgroup, or can not be seen: it may not open its own fence.
    fn is_inside(&self, caller: Caller) -> bool {
        let own = format!("/proc/{}/cgroup", caller.pid);
        let Ok(text) = fs::read_to_string(own) else {
            return true;
        };
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let (Some(path), Ok(mount)) = (path, cgroup::mount_point()) else {
            return true;
        };
        let path = mount.join(path);
        let table = self.attachments.table();
        let mut lives = table.values().filter_map(|known| known.live.as_ref());
        lives.any(|live| path.starts_with::<&Path>(live.path.as_ref()))
    }
}

fn report(live: &Live, cleared: Cleared, stood: bool) -> AttachReport {
    AttachReport {
        session: live.session.0,
        cgroup: live.path.display().to_string(),
        stood,
        cleared,
        holes: live.holes.clone(),
    }
}
