//! Pins of other versions of the programs: an upgrade finds them.
//!
//! Nothing can be read from their maps, so nothing of them is taken over. This version's hooks are put
//! beside theirs, and only what both let through goes out; then theirs are taken off.

use std::path::Path;

use common::id::{CgroupId, SessionId};

use super::{attach::Attached, error::Error, pin};

/// The id of no cgroup: that of a severed link.
const SEVERED: CgroupId = CgroupId(0);

impl Attached {
    /// Takes off the hooks of other versions where this version's stand, and removes their pins. Gives
    /// back the sessions of outposts where this version's do not stand: the others stay there.
    pub fn supersede(&self) -> Result<Vec<SessionId>, Error> {
        let mut kept = Vec::new();
        for folder in self.inner.pins.others()? {
            let before = kept.len();
            let (outposts, pins): (Vec<_>, Vec<_>) = pin::entries(&folder)?
                .into_iter()
                .partition(|path| path.is_dir());
            for outpost in outposts {
                match pin::outpost_of(&outpost) {
                    Some(session) if !self.is_replaced(&outpost, session)? => kept.push(session),
                    _ => pin::remove_outpost(&outpost)?,
                }
            }
            for path in pins {
                pin::unpin(&path)?;
            }
            tracing::info!(folder = %folder.display(), "hooks of another version taken off");
            if kept.len() == before {
                pin::remove_folder(&folder)?;
            }
        }
        Ok(kept)
    }

    /// Whether every hook of this version is on each cgroup that the links of an outpost are on.
    fn is_replaced(&self, outpost: &Path, session: SessionId) -> Result<bool, Error> {
        for path in pin::entries(outpost)? {
            let cgroup = pin::cgroup_of(&path)?.unwrap_or(SEVERED);
            if cgroup != SEVERED && !self.missing(session, cgroup).is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
