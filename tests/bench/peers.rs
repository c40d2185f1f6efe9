//! Others that start a program in a fence, as they are used to run untrusted tools.

use std::{path::Path, process::Command};

/// A way to start `prober stamp`, by name.
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: &'static str,
    /// The command.
    pub(crate) command: fn(&Path) -> Command,
}

/// Those that this host has. Plain fork and exec is the floor.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "fork+exec",
        command: |program| {
            let mut command = Command::new(program);
            command.arg("stamp");
            command
        },
    },
    Peer {
        name: "bubblewrap",
        command: |program| {
            let mut command = Command::new("bwrap");
            command
                .args(["--unshare-all", "--die-with-parent", "--new-session"])
                .args(["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"])
                .args([
                    "--symlink",
                    "usr/lib64",
                    "/lib64",
                    "--symlink",
                    "usr/bin",
                    "/bin",
                ])
                .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
                .arg("--ro-bind")
                .args([program, program])
                .arg(program)
                .arg("stamp");
            command
        },
    },
    Peer {
        name: "firejail",
        command: |program| {
            let mut command = Command::new("firejail");
            command
                .args(["--quiet", "--noprofile", "--keep-var-tmp", "--net=none"])
                .args([
                    "--private-tmp",
                    "--private-dev",
                    "--caps.drop=all",
                    "--nonewprivs",
                    "--seccomp",
                ])
                .arg(program)
                .arg("stamp");
            command
        },
    },
];
