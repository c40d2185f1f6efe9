//! A launch into a cgroup that the hooks do not know.

use agent::launcher::LaunchRequest;

fn launch(request: LaunchRequest) -> LaunchRequest {
    let LaunchRequest { policy, work, stdio, cgroup, cgroup_measures, receipt, .. } = request;
    LaunchRequest { policy, work, stdio, cgroup, cgroup_measures, receipt } //~ E0063
}

fn main() {
    let _ = launch;
}
