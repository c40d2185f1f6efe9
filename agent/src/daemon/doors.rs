//! Whose the agent's two sockets are: over the control socket policies are pushed and tokens issued,
//! over the broker's socket calls come in. Each is for root and one group, and the groups are two.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::{Gid, Group};

use super::{Engine, StartError};

/// What the group of a socket may do where it may use it.
const GROUP_WRITES: u32 = 0o020;

/// The id of a group. Where there is none of this name root has the socket alone, and the log says so.
pub(super) fn gid(name: &str, socket: &'static str) -> Result<Option<u32>, StartError> {
    let found = Group::from_name(name).map_err(|errno| StartError::Group {
        name: name.to_owned(),
        source: errno.into(),
    })?;
    if found.is_none() {
        tracing::warn!(
            group = name,
            socket,
            "no such group: the socket is root's alone"
        );
    }
    Ok(found.map(|group| group.gid.as_raw()))
}

impl Engine {
    /// What is wrong where one group has both sockets. The sockets are looked at, not the
    /// configuration: the service manager may have made one of them.
    pub(super) fn shared_doors(&self) -> Option<String> {
        let control = group_of(&self.instance.control_socket())?;
        let broker = group_of(&self.instance.broker_socket())?;
        (control == broker).then(|| {
            format!(
                "group `{}` has the control socket and the broker's: who may call may also push policies and issue tokens\nhint: two groups, `control_group` and `broker.calls.group` (or `SocketGroup=` of the socket unit)",
                name(control)
            )
        })
    }
}

/// The group that may use a socket; none where its group may not, or where it is not there.
fn group_of(socket: &Path) -> Option<Gid> {
    let found = fs::symlink_metadata(socket).ok()?;
    let open = found.permissions().mode() & GROUP_WRITES != 0;
    open.then(|| Gid::from_raw(found.gid()))
}

fn name(gid: Gid) -> String {
    let found = Group::from_gid(gid).ok().flatten();
    found.map_or_else(|| gid.to_string(), |group| group.name)
}
