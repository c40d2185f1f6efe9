//! A launch that is not on record.

use agent::launcher::LaunchRequest;

fn launch(request: LaunchRequest) -> LaunchRequest {
    let LaunchRequest { policy, work, stdio, cgroup, cgroup_measures, admitted, .. } = request;
    LaunchRequest { policy, work, stdio, cgroup, cgroup_measures, admitted } //~ E0063
}

fn main() {
    let _ = launch;
}
