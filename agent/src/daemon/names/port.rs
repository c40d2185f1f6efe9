//! Where the resolver listens: on the service manager's sockets, else on a port of its own, the same
//! over restarts.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use crate::{
    config,
    daemon::error::chain,
    dns::{Error, Sockets},
};

/// Holds the port of the last agent of the instance, so that the next one listens there.
const FILE: &str = "resolver.port";

/// Takes the sockets that the service manager holds; without them binds the configured port, else that
/// of the agent before, else the first that is free.
pub(in crate::daemon) fn bind(
    dns: &config::Dns,
    handed_over: Vec<OwnedFd>,
    run_folder: &Path,
) -> Result<Sockets, Error> {
    if !handed_over.is_empty() {
        let sockets = Sockets::adopt(handed_over)?;
        return match dns.port {
            Some(port) if port != sockets.port() => Err(Error::Adopted(format!(
                "`dns.port` is {port}, the socket unit has {}",
                sockets.port()
            ))),
            Some(_) | None => Ok(sockets),
        };
    }
    if dns.port.is_some() {
        return Sockets::bind(dns.port);
    }
    let earlier = fs::read_to_string(run_folder.join(FILE)).ok();
    let earlier = earlier.and_then(|port| port.trim().parse().ok());
    match earlier.map(|port| Sockets::bind(Some(port))) {
        Some(Ok(sockets)) => Ok(sockets),
        // Somebody else has it by now, or it never was one.
        Some(Err(error)) => {
            tracing::info!(error = chain(&error), "another port for the resolver");
            Sockets::bind(None)
        }
        None => Sockets::bind(None),
    }
}

/// Without it the next agent takes another port, which serves as well.
pub(super) fn keep(run_folder: &Path, port: u16) {
    let written: io::Result<()> = fs::write(run_folder.join(FILE), format!("{port}\n"));
    if let Err(error) = written {
        tracing::warn!(%error, "the resolver's port is not kept");
    }
}
