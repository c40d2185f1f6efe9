//! Brings what stands in line with what is wanted: cgroups that went and came, units that a policy
//! names, processes that changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use common::id::SessionId;

use super::{
    ATTACHMENTS_MAX, Attachment, Live, Target,
    error::{AttachError, SEVERAL_POLICIES},
    establish::{Wish, is_there},
    state::{Fence, Kept},
    target,
};
use crate::daemon::{Engine, error::chain, policies::Set};

/// How long processes may have what no fence holds before they make no sockets any more: a service
/// manager starts each with everything, and takes it away before the program begins.
const HOLES_TIME_MAX: Duration = Duration::from_secs(2);

impl Engine {
    /// Takes up the fences of the agent before. To be done before anybody is told that this one is ready.
    pub async fn take_up(self: &Arc<Self>) {
        let _one = self.attachments.gate.lock().await;
        let earlier = super::lock(&self.attachments.earlier).clone();
        for kept in &earlier {
            self.take_up_one(kept).await;
        }
        super::lock(&self.attachments.earlier).clear();
        self.tell_strangers();
        self.settle_all(true).await;
        self.supersede();
    }

    /// Takes off the hooks of another version of this program, now that its own stand.
    fn supersede(&self) {
        match self.attached.supersede() {
            Ok(kept) => {
                for session in kept {
                    tracing::error!(
                        session.id = session.0,
                        "hooks of another version stay on a cgroup that is not fenced anew"
                    );
                }
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "hooks of another version not taken off"
                );
            }
        }
    }

    async fn take_up_one(self: &Arc<Self>, kept: &Kept) {
        let mut attachment = Attachment::new(kept.tool.clone(), kept.weak, kept.matched);
        attachment.left.clone_from(&kept.fence);
        let target = &kept.target;
        super::lock(&self.attachments.earlier).retain(|one| one.target != *target);
        self.attachments
            .table()
            .insert(target.clone(), attachment.clone());
        self.put_up_again(target, &attachment).await;
    }

    /// Fences the cgroup that a target has now, and takes up the hooks that stand there.
    async fn put_up_again(self: &Arc<Self>, target: &Target, attachment: &Attachment) {
        if let Some(left) = &attachment.left
            && is_elsewhere(target, left)
        {
            self.end_fence(target, "its cgroup is gone").await;
        }
        let wish = Wish {
            target,
            weak: attachment.weak,
            strict: false,
            caller: None,
            except: None,
        };
        let left = attachment.left.as_ref();
        let done = match self.policy_named(&attachment.tool) {
            Ok(loaded) => self.establish(wish, &loaded, left).await,
            Err(error) => Err(error),
        };
        match done {
            Ok((live, _)) => self.note_live(target, live),
            // Until it is there again.
            Err(AttachError::Absent(_)) => {}
            Err(error) => self.note_refusal(target, &error),
        }
    }

    /// Hooks that no attachment accounts for.
    fn tell_strangers(&self) {
        let table = self.attachments.table();
        let known: BTreeSet<_> = table
            .values()
            .filter_map(Attachment::fence)
            .map(|fence| SessionId(fence.session))
            .collect();
        drop(table);
        match self.attached.outposts() {
            Ok(pinned) => {
                for session in pinned.into_iter().filter(|one| !known.contains(one)) {
                    tracing::error!(
                        session.id = session.0,
                        "hooks stand on a cgroup of which nothing is known: nothing in it reaches anything"
                    );
                }
            }
            Err(error) => tracing::error!(error = chain(&error), "pins not read"),
        }
    }

    /// Looks at everything. `closely`: at processes too, which costs a visit for each cgroup.
    pub(super) async fn settle(self: &Arc<Self>, closely: bool) {
        let _one = self.attachments.gate.lock().await;
        self.settle_all(closely).await;
    }

    async fn settle_all(self: &Arc<Self>, closely: bool) {
        let set = self.policies.current();
        let before = self.attachments.kept();
        self.settle_matches(&set).await;
        let targets: Vec<_> = self.attachments.table().keys().cloned().collect();
        for target in &targets {
            self.settle_one(target, &set, closely).await;
        }
        if self.attachments.kept() != before
            && let Err(error) = self.save()
        {
            tracing::error!(error = chain(&error), "attachments not kept");
        }
    }

    async fn settle_one(self: &Arc<Self>, target: &Target, set: &Set, closely: bool) {
        let found = self.attachments.table().get(target).cloned();
        let Some(attachment) = found else { return };
        if let Some(live) = &attachment.live {
            if is_there(live) {
                if let Some(loaded) = set.by_tool.get(&attachment.tool) {
                    self.sessions.renew(live.session, &loaded.policy);
                }
                if closely {
                    self.look_at(target, live, attachment.weak).await;
                }
                return;
            }
            self.end_fence(target, "its cgroup is gone").await;
        }
        if !is_ambiguous(target, &attachment, set) {
            self.put_up_again(target, &attachment).await;
        }
    }

    /// Looks at the processes and hooks of a fence.
    async fn look_at(&self, target: &Target, live: &Live, weak: bool) {
        let mut live = live.clone();
        live.missing = self.attached.missing(live.session, live.cgroup);
        live.ailments.clear();
        match self.visit(&live.path, None).await {
            Ok(seen) => {
                live.ailments.extend(seen.failed);
                live.holes = seen.holes;
                let gone: Vec<_> = live
                    .namespaces
                    .iter()
                    .filter(|netns| !seen.namespaces.contains(netns))
                    .copied()
                    .collect();
                live.namespaces = seen.namespaces;
                self.judge_holes(&mut live, weak);
                self.note_look(target, live);
                self.give_back(&gone).await;
            }
            // It may be going right now.
            Err(_) if !is_there(&live) => {}
            Err(why) => {
                live.ailments
                    .push(format!("processes not looked at: {why}"));
                self.note_look(target, live);
            }
        }
    }

    fn note_look(&self, target: &Target, live: Live) {
        if let Some(known) = self.attachments.table().get_mut(target) {
            known.live = Some(live);
        }
    }

    /// Processes with holes make no sockets, unless that was wanted.
    fn judge_holes(&self, live: &mut Live, weak: bool) {
        live.holes_since = match (live.holes.is_empty(), live.holes_since) {
            (true, _) => None,
            (false, since) => since.or_else(|| Some(Instant::now())),
        };
        self.sessions.weaken(live.session, &live.holes);
        let lasts = live
            .holes_since
            .is_some_and(|since| since.elapsed() >= HOLES_TIME_MAX);
        let suspended = lasts && !weak;
        if suspended == live.suspended {
            return;
        }
        match self.attached.allow_sockets(live.cgroup, !suspended) {
            Ok(()) => live.suspended = suspended,
            Err(error) => {
                tracing::error!(error = chain(&error), "fence with holes not closed");
                return;
            }
        }
        if suspended {
            tracing::error!(
                session.id = live.session.0,
                holes = live.holes.join("; "),
                "attached cgroup: its processes could go past the fence, so it makes no sockets"
            );
            self.metrics.attach_refused("holes");
        } else {
            tracing::info!(
                session.id = live.session.0,
                "attached cgroup: no holes any more"
            );
        }
    }

    /// Units that a policy names, and those that it names no more.
    async fn settle_matches(&self, set: &Set) {
        let any = set
            .by_tool
            .values()
            .any(|loaded| !loaded.policy.units.is_empty());
        let units = match any.then(target::units).transpose() {
            Ok(units) => units.unwrap_or_default(),
            Err(error) => {
                tracing::error!(error = chain(&error), "units not listed");
                return;
            }
        };
        let wanted = wanted(set, &units);
        let stale: Vec<_> = {
            let table = self.attachments.table();
            let of_matches = table.iter().filter(|(_, known)| known.matched);
            let stale = of_matches.filter(|(target, known)| {
                let Target::Unit(unit) = target else {
                    return false;
                };
                let is_over = match set.by_tool.get(&known.tool) {
                    Some(loaded) => !loaded.policy.matches(unit),
                    // Without its policy the fence stays and lets nobody through, until another one
                    // names the unit: a tool may have got a new name.
                    None => wanted.get(unit).is_some_and(|tools| tools.len() == 1),
                };
                is_over
                    || known.live.as_ref().is_none_or(|live| !is_there(live))
                        && !units.contains(unit)
            });
            stale.map(|(target, _)| target.clone()).collect()
        };
        for target in &stale {
            self.end_fence(target, "no policy names it").await;
            self.attachments.table().remove(target);
        }
        for (unit, tools) in wanted {
            self.note_match(Target::Unit(unit), &tools);
        }
    }

    fn note_match(&self, target: Target, tools: &[String]) {
        let [tool] = tools else {
            let error = AttachError::Ambiguous {
                target: target.to_string(),
                tools: tools.join(", "),
            };
            let first = tools.first().cloned().unwrap_or_default();
            let mut table = self.attachments.table();
            if !table.contains_key(&target) && table.len() < ATTACHMENTS_MAX {
                table.insert(target.clone(), Attachment::new(first, false, true));
            }
            drop(table);
            self.note_refusal(&target, &error);
            return;
        };
        let mut table = self.attachments.table();
        if let Some(known) = table.get_mut(&target) {
            known.refused = known
                .refused
                .take()
                .filter(|(reason, _)| *reason != SEVERAL_POLICIES);
            return;
        }
        if table.len() >= ATTACHMENTS_MAX {
            drop(table);
            let error = AttachError::TooMany {
                max: ATTACHMENTS_MAX,
            };
            self.refused(&target, tool, &error, None);
            return;
        }
        table.insert(target, Attachment::new(tool.clone(), false, true));
    }

    /// Keeps why a cgroup is not fenced; told once.
    fn note_refusal(&self, target: &Target, error: &AttachError) {
        let refusal = (error.word(), chain(error));
        let mut table = self.attachments.table();
        let Some(known) = table.get_mut(target) else {
            return;
        };
        if known.refused.as_ref() == Some(&refusal) {
            return;
        }
        known.refused = Some(refusal);
        let tool = known.tool.clone();
        drop(table);
        self.refused(target, &tool, error, None);
    }
}

/// Whether the `[match]` of several policies names a unit: then it is fenced by none.
fn is_ambiguous(target: &Target, attachment: &Attachment, set: &Set) -> bool {
    let Target::Unit(unit) = target else {
        return false;
    };
    let policies = set.by_tool.values();
    let naming = policies.filter(|loaded| loaded.policy.matches(unit));
    attachment.matched && naming.count() > 1
}

/// Whether a target has another cgroup by now, or none; not where that can not be told.
fn is_elsewhere(target: &Target, fence: &Fence) -> bool {
    let inode = |folder: &PathBuf| fs::metadata(folder).map(|found| found.ino());
    match target.folder() {
        Ok(None) => true,
        Ok(Some(folder)) => inode(&folder).is_ok_and(|inode| inode != fence.cgroup),
        Err(_) => false,
    }
}

/// Units that are there, each with the tools whose policies name it.
fn wanted(set: &Set, units: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tool, loaded) in &set.by_tool {
        for unit in units.iter().filter(|unit| loaded.policy.matches(unit)) {
            wanted.entry(unit.clone()).or_default().push(tool.clone());
        }
    }
    wanted
}
