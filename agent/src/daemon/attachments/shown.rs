//! What `status` and metrics tell of attachments.

use serde::{Deserialize, Serialize};

use crate::daemon::Engine;

/// An attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachmentInfo {
    /// What is attached.
    pub target: String,
    /// The tool of its policy.
    pub tool: String,
    /// `fenced`, `closed` (it makes no sockets, or its policy is gone), `open` (hooks of it were taken
    /// off), `refused` or `absent`.
    pub state: String,
    /// Its session, while it is fenced.
    pub session: Option<u64>,
    /// Whether its processes may keep what no fence holds.
    pub weak: bool,
    /// Whether a policy named it, and nobody asked.
    pub matched: bool,
    /// What its processes have that no fence holds.
    pub holes: Vec<String>,
    /// Why it is not fenced.
    pub why: Option<String>,
}

impl Engine {
    /// What is attached.
    pub(in crate::daemon) fn attachment_infos(&self) -> Vec<AttachmentInfo> {
        let set = self.policies.current();
        let table = self.attachments.table();
        let infos = table.iter().map(|(target, known)| {
            let live = known.live.as_ref();
            let has_policy = set.by_tool.contains_key(&known.tool);
            let state = match live {
                Some(live) if !live.missing.is_empty() => "open",
                Some(live) if live.suspended || !has_policy => "closed",
                Some(_) => "fenced",
                None if known.refused.is_some() => "refused",
                None => "absent",
            };
            let no_policy = || format!("no policy `{}`: everything is refused", known.tool);
            AttachmentInfo {
                target: target.to_string(),
                tool: known.tool.clone(),
                state: state.to_owned(),
                session: live.map(|live| live.session.0),
                weak: known.weak,
                matched: known.matched,
                holes: live.map(|live| live.holes.clone()).unwrap_or_default(),
                why: if has_policy {
                    known.refused.as_ref().map(|(_, why)| why.clone())
                } else {
                    Some(no_policy())
                },
            }
        });
        infos.collect()
    }

    /// What is wrong with them.
    pub(in crate::daemon) fn attachment_ailments(&self) -> Vec<String> {
        let mut ailments = Vec::new();
        for info in self.attachment_infos() {
            if let Some(why) = info.why {
                ailments.push(format!("{}: {why}", info.target));
            } else if info.state == "closed" {
                let holes = info.holes.join("; ");
                ailments.push(format!(
                    "{}: makes no sockets, because its processes could go past the fence: {holes}",
                    info.target
                ));
            }
        }
        let table = self.attachments.table();
        for (target, known) in table.iter() {
            let live = known.live.as_ref();
            let Some(live) = live else { continue };
            let of_it = live.ailments.iter();
            ailments.extend(of_it.map(|ailment| format!("{target}: {ailment}")));
            if !live.missing.is_empty() {
                let hooks = live.missing.join(", ");
                ailments.push(format!(
                    "{target}: hooks taken off: {hooks} (`stockade attach` puts them back)"
                ));
            }
        }
        ailments
    }

    /// Those whose processes may keep what no fence holds.
    pub(in crate::daemon) fn attachment_warnings(&self) -> Vec<String> {
        let weak = self.attachment_infos().into_iter().filter(|info| info.weak);
        weak.map(|info| {
            let holes = info.holes.join("; ");
            format!(
                "{} is attached with `--weak`: {}",
                info.target,
                if holes.is_empty() {
                    "nothing was found"
                } else {
                    &holes
                }
            )
        })
        .collect()
    }
}
