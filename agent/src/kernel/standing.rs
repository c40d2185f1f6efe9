//! Whether the hooks are still where they were put. They are pinned and outlive the agent, but whoever
//! may use bpf(2) can take them off (`bpftool link detach`, a pin removed, a cgroup removed and made
//! again): what is said to stand has to be looked at.

use std::{os::fd::AsFd, sync::atomic::Ordering};

use super::attach::{Attached, LINK_PREFIX, is_fence};
use crate::sys::bpf;

/// A hook that ought to be on the parent cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its name.
    pub hook: &'static str,
    /// Whether it is there.
    pub stands: bool,
}

impl Attached {
    /// Looks at every hook that refuses something. Where one is severed no session is admitted until a later look finds all of
    /// them; what runs already is ended by nobody, and has the other hooks.
    pub fn look(&self) -> Vec<Standing> {
        let hooks: Vec<_> = self
            .inner
            .programs
            .iter()
            .filter(|program| is_fence(program.hook))
            .map(|program| Standing {
                hook: program.hook.name,
                stands: self.stands(program.hook.name, program.hook.attach_type),
            })
            .collect();
        let severed = hooks.iter().any(|hook| !hook.stands);
        let before = self.severed.swap(severed, Ordering::SeqCst);
        if severed && !before {
            let names: Vec<_> = hooks.iter().filter(|hook| !hook.stands).collect();
            tracing::error!(hooks = ?names, "hooks severed: no session is admitted");
        } else if before && !severed {
            tracing::info!("hooks stand again");
        }
        hooks
    }

    fn stands(&self, name: &str, attach_type: u32) -> bool {
        let path = self.inner.pins.path(&format!("{LINK_PREFIX}{name}"));
        let Ok(link) = bpf::open_pin(&path) else {
            return false;
        };
        bpf::link_info(link.as_fd())
            .is_ok_and(|info| info.cgroup == self.parent.0 && info.attach_type == attach_type)
    }
}
