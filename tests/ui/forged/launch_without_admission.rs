//! A launch into a cgroup that the hooks do not know.

use agent::launcher::LaunchRequest;

fn launch(request: LaunchRequest) -> LaunchRequest {
    let LaunchRequest { seat, work, stdio, receipt, .. } = request;
    LaunchRequest { seat, work, stdio, receipt } //~ E0063
}

fn main() {
    let _ = launch;
}
