//! A session that the hooks do not know.

use agent::kernel::Admitted;
use common::id::{CgroupId, PolicyId, SessionId};

fn main() {
    let _forged = Admitted { session: SessionId(1), cgroup: CgroupId(1), policy: PolicyId(1), unix_hooks: true }; //~ E0451
}
