//! A launch that is not on record.

use agent::launcher::LaunchRequest;

fn launch(request: LaunchRequest) -> LaunchRequest {
    let LaunchRequest { session, policy, command, stdio, cgroup, controllers, memory_counted, cgroup_measures, .. } = request;
    LaunchRequest { session, policy, command, stdio, cgroup, controllers, memory_counted, cgroup_measures } //~ E0063
}

fn main() {
    let _ = launch;
}
