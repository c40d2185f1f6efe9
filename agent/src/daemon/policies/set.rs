//! The policies in force at one moment, and what they were read from.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use common::{
    decide::Mode,
    id::{Generation, PolicyId},
};

use super::{By, history::Entry};
use crate::{
    audit::Caller,
    kernel::{PolicyInForce, Synced},
    observe::{event::Names, metrics::Applied},
    policy::{compiled::CompiledPolicy, store::Sources},
    timestamp::Timestamp,
};

/// The policies in force at one moment.
#[derive(Default)]
pub(in crate::daemon) struct Set {
    pub(in crate::daemon) by_tool: BTreeMap<String, Loaded>,
    by_id: HashMap<PolicyId, Loaded>,
    pub(in crate::daemon) names: Names,
    pub(in crate::daemon) applied: Applied,
    /// What it was read from; nothing for a stand-alone run.
    pub(in crate::daemon) files: Option<Files>,
}

/// The files of a set in force.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Files {
    pub(in crate::daemon) entry: Entry,
    pub(super) caller: Option<Caller>,
    /// The file of each tool.
    pub(super) by_tool: BTreeMap<String, String>,
}

/// A policy in force.
#[derive(Clone)]
pub(in crate::daemon) struct Loaded {
    pub(in crate::daemon) id: PolicyId,
    pub(in crate::daemon) policy: Arc<CompiledPolicy>,
    pub(in crate::daemon) generation: Generation,
}

impl Set {
    pub(super) fn new(policies: Vec<PolicyInForce>, synced: &Synced, files: Option<Files>) -> Self {
        let names = Names::new(policies.iter().map(|p| (p.id, &p.policy)));
        let loaded: Vec<_> = policies
            .into_iter()
            .map(|PolicyInForce { id, policy }| Loaded {
                id,
                policy,
                generation: synced.generation(id).unwrap_or_default(),
            })
            .collect();
        let by_id = loaded.iter().map(|loaded| (loaded.id, loaded.clone()));
        let by_tool = loaded.iter().map(|loaded| {
            let tool = loaded.policy.tool.to_string();
            (tool, loaded.clone())
        });
        Self {
            by_tool: by_tool.collect(),
            by_id: by_id.collect(),
            names,
            applied: Applied {
                publish: synced.publish_duration(),
                flip: synced.flip_duration(),
            },
            files,
        }
    }

    /// The policy with this number.
    pub(in crate::daemon) fn policy(&self, id: PolicyId) -> Option<&Loaded> {
        self.by_id.get(&id)
    }

    /// Whether a tool only observes.
    pub(in crate::daemon) fn observes(&self, tool: &str) -> bool {
        let loaded = self.by_tool.get(tool);
        loaded.is_some_and(|loaded| loaded.policy.mode == Mode::Observe)
    }

    /// The tool whose name is nearest to a wrong one.
    pub(in crate::daemon) fn near(&self, tool: &str) -> Option<String> {
        const NEAR_ENOUGH: f64 = 0.8;
        let names = self.by_tool.keys();
        let rated = names.map(|name| (strsim::jaro_winkler(name, tool), name));
        let (rate, name) = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        (rate >= NEAR_ENOUGH).then(|| name.clone())
    }
}

impl Files {
    pub(super) fn new(sources: &Sources, by: By) -> Self {
        let set = &sources.set;
        let rules = set.iter().map(|policy| policy.egress.rules.len()).sum();
        let by_tool = set.iter().filter_map(|policy| {
            let file = set.file(&policy.tool)?.file_name()?;
            Some((policy.tool.to_string(), file.to_str()?.to_owned()))
        });
        Self {
            entry: Entry {
                digest: sources.files.digest().to_string(),
                time: Timestamp::now().to_string(),
                origin: by.origin,
                uid: by.caller.map(|caller| caller.uid),
                tools: set.len(),
                rules,
            },
            caller: by.caller,
            by_tool: by_tool.collect(),
        }
    }
}
