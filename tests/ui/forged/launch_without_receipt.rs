//! A launch that is not on record.

use agent::launcher::LaunchRequest;

fn launch(request: LaunchRequest) -> LaunchRequest {
    let LaunchRequest { seat, work, stdio, admitted, .. } = request;
    LaunchRequest { seat, work, stdio, admitted } //~ E0063
}

fn main() {
    let _ = launch;
}
