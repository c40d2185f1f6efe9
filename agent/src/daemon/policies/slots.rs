//! Which slot of the kernel's table a tool has. A slot is kept as long as the pins live (until a
//! reboot), so that the counters of a tool stay its own over restarts of the agent.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use common::{id::PolicyId, limits::POLICIES_MAX};

use super::ReloadError;
use crate::daemon::setup::PolicySource;

const SLOTS_FILE: &str = "slots.json";

/// The slots, by tool.
#[derive(Debug)]
pub(super) struct Slots {
    file: Option<PathBuf>,
    by_tool: BTreeMap<String, u32>,
}

impl Slots {
    pub(super) fn read(source: &PolicySource, run_folder: &Path) -> Result<Self, ReloadError> {
        let path = match source {
            PolicySource::Folder(_) => run_folder.join(SLOTS_FILE),
            // Nothing outlives a stand-alone run.
            PolicySource::One(_) => {
                return Ok(Self {
                    file: None,
                    by_tool: BTreeMap::new(),
                });
            }
        };
        let by_tool = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| ReloadError::SlotsFile {
                    path: path.clone(),
                    source: error.into(),
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(ReloadError::SlotsFile { path, source }),
        };
        Ok(Self {
            file: Some(path),
            by_tool,
        })
    }

    /// The slot of a tool, a new one where it has none.
    pub(super) fn of(&mut self, tool: &str) -> Result<PolicyId, ReloadError> {
        if let Some(slot) = self.by_tool.get(tool) {
            return Ok(PolicyId(*slot));
        }
        // Slot 0 is never used: a zeroed word means "no policy".
        let last = self.by_tool.values().copied().max().unwrap_or(0);
        let slot = last.saturating_add(1);
        if slot >= POLICIES_MAX {
            return Err(ReloadError::Slots);
        }
        self.by_tool.insert(tool.to_owned(), slot);
        Ok(PolicyId(slot))
    }

    /// The slot that a tool has.
    pub(super) fn known(&self, tool: &str) -> Option<PolicyId> {
        self.by_tool.get(tool).copied().map(PolicyId)
    }

    /// Written before the kernel sees a new slot, and whole or not at all.
    pub(super) fn keep(&self) -> Result<(), ReloadError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let failed = |source| ReloadError::SlotsFile {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&self.by_tool).map_err(|error| failed(error.into()))?;
        let new = path.with_extension("new");
        fs::write(&new, bytes).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)
    }
}
