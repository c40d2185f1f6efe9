//! What a policy's fence consists of, computed once per policy in the agent. Who carries it out
//! decides nothing.
//!
//! The worker's places: `/workdir` is its working directory, `/tmp` beside it; both are tmpfs of the
//! policy's sizes, empty at the start, gone at the end. `/dev/shm` is `/tmp`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::decide::Mode;
use serde::{Deserialize, Serialize};

use super::{
    error::PlanError,
    landlock, output,
    path::{Place, Resolved, resolve},
    procfs,
    rlimit::{self, Limit},
    seccomp::{self, Filters},
    sockets::{self, Socket},
};
use crate::{
    config::Instance,
    policy::compiled::{CompiledPolicy, Filesystem, PinKind},
    sys,
};

/// Working directory of every worker.
pub const WORKDIR: &str = "/workdir";
/// Its directory for temporary files.
pub const TMPDIR: &str = "/tmp";
/// Host name of every worker.
pub const HOST_NAME: &str = "worker";

/// Places that a policy can not list: each is made for the session.
const OWN_PLACES: &[(&str, &str)] = &[
    (WORKDIR, "choose another folder"),
    (TMPDIR, "copy what the worker needs to another folder"),
    ("/proc", "a worker has a process list of its own"),
    ("/dev", "a worker has null, zero, full, random and urandom"),
    // The policy refuses these by name; a symbolic link could lead there all the same.
    ("/run", "sockets of the host's services are there"),
    ("/sys", "devices and cgroups of the host are there"),
];

/// Folders at the top that merged-usr systems keep as links.
const MERGED_LINKS: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// ELF interpreters; those that a host has come along with `filesystem.execute`.
const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];
/// Where hosts keep the certificates of the authorities that they trust: Debian, Fedora, SUSE,
/// Alpine. Public, and every TLS client wants them.
const TRUSTED_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Folders with nothing but such certificates are bound whole: an update replaces the file, and a
/// running policy's workers see the new one.
const AUTHORITY_FOLDERS: &[&str] = &["certs", "pem", "ca-certificates"];
/// The loader's index of libraries.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// What a worker may do with a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Access {
    /// Read.
    Read,
    /// Read and execute.
    Execute,
    /// Read and write.
    Write,
}

/// A host path that appears in the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// The path without symbolic links, the same on both sides.
    pub path: PathBuf,
    /// What lay there.
    pub place: Place,
    /// Whether it is a folder.
    pub folder: bool,
    /// What is allowed there.
    pub access: Access,
}

/// A symbolic link of the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Where.
    pub at: PathBuf,
    /// To what.
    pub to: PathBuf,
    /// Left out when the root lacks what it points to, and not an error.
    pub optional: bool,
}

/// A tmpfs of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Space {
    /// Bytes.
    pub size: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// A file or folder whose content is checked before each launch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pinned {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub folder: bool,
    /// Its sum (`sum`).
    pub sha256: [u8; 32],
}

/// A fence, ready to be carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The policy's digest.
    pub digest: String,
    /// An empty folder of the host over which the root is mounted while it is built.
    pub scaffold: PathBuf,
    /// Host paths, parents before children.
    pub binds: Vec<Bind>,
    /// Unix sockets of the host that appear in the root.
    pub sockets: Vec<Socket>,
    /// Links.
    pub links: Vec<Link>,
    /// The workdir.
    pub workdir: Space,
    /// `/tmp`.
    pub tmp: Space,
    /// What is handed out at the end, where the policy says so.
    pub output: Option<Space>,
    /// Entries of `/proc` to cover: those of the list that this kernel has.
    pub masks: Vec<procfs::Mask>,
    /// Landlock.
    pub landlock: landlock::Layer,
    /// System call filters.
    pub filters: Filters,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// The environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Pinned files.
    pub pins: Vec<Pinned>,
    /// Whether a program of the host's gets core dumps.
    pub core_handler: bool,
    /// Whether the profile has unix sockets by name.
    pub names_sockets: bool,
    /// Whether the kernel can make memory files non-executable per pid namespace.
    pub memfd_noexec: bool,
}

impl Plan {
    /// Computes the fence of a policy on this host. Waits for the file systems of the listed paths, as
    /// long as they take.
    pub fn new(instance: &Instance, policy: &CompiledPolicy) -> Result<Self, PlanError> {
        let (binds, links) = binds(&policy.filesystem)?;
        let abi = sys::landlock::abi().map_err(PlanError::Landlock)?;
        let memfd_noexec = Path::new("/proc/sys/vm/memfd_noexec").exists();
        // What is only observed is not refused by another layer, which reports nothing.
        let no_egress = policy.egress.is_offline() && policy.mode == Mode::Enforce;
        let sockets = sockets::find(instance, &policy.egress, &binds, abi)?;
        let layer = landlock::Layer::new(abi, &binds, &sockets, no_egress);
        let filters = seccomp::compile(
            &policy.syscalls,
            seccomp::Host {
                abstract_sockets_scoped: layer.scoped(),
                named_unix_streams: !sockets.is_empty(),
                keeps_files: binds.iter().any(|bind| bind.access == Access::Write),
                memfd_noexec,
            },
        )?;
        Ok(Self {
            digest: policy.digest.to_string(),
            scaffold: instance.run_folder().join("root"),
            binds,
            sockets,
            links,
            workdir: Space {
                size: policy.filesystem.workdir_size,
                inodes: policy.filesystem.workdir_inodes,
            },
            tmp: Space {
                size: policy.filesystem.tmp_size,
                inodes: policy.filesystem.tmp_inodes,
            },
            output: output(&policy.filesystem)?,
            masks: procfs::masks(Path::new("/proc")),
            landlock: layer,
            filters,
            limits: rlimit::limits(&policy.limits),
            environment: environment(&policy.worker.environment)?,
            pins: pins(policy),
            core_handler: rlimit::core_handler(),
            names_sockets: policy.syscalls.profile.has_unix_names(),
            memfd_noexec,
        })
    }

    /// Whether each path still leads to the very file or folder to which it led when this was computed
    /// for a policy with these paths, loaders and certificates included. Waits as `new` does.
    ///
    /// A mount and a landlock rule are of an inode, not of a name: what is put in its place is another.
    #[must_use]
    pub fn is_current(&self, filesystem: &Filesystem) -> bool {
        binds(filesystem).is_ok_and(|(binds, links)| binds == self.binds && links == self.links)
            && sockets::are_same(&self.sockets)
    }
}

fn environment(variables: &BTreeMap<String, String>) -> Result<Vec<String>, PlanError> {
    variables
        .iter()
        .map(|(name, value)| {
            let passes = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            if passes {
                Ok(format!("{name}={value}"))
            } else {
                Err(PlanError::Environment(name.clone()))
            }
        })
        .collect()
}

fn pins(policy: &CompiledPolicy) -> Vec<Pinned> {
    let pin = |pin: &crate::policy::compiled::Pin| Pinned {
        path: pin.path.clone(),
        folder: pin.kind == PinKind::Directory,
        sha256: pin.sha256,
    };
    policy.worker.pins.iter().map(pin).collect()
}

/// A session that could not hand out what it makes is not begun.
fn output(filesystem: &Filesystem) -> Result<Option<Space>, PlanError> {
    let Some(output) = &filesystem.output else {
        return Ok(None);
    };
    output::base(output)?;
    Ok(Some(Space {
        size: output.size,
        // The folder itself is one.
        inodes: output.entries.saturating_add(1),
    }))
}

fn binds(filesystem: &Filesystem) -> Result<(Vec<Bind>, Vec<Link>), PlanError> {
    let mut chosen: BTreeMap<PathBuf, Bind> = BTreeMap::new();
    let mut links = merged_links();
    let lists = [
        ("read", &filesystem.read, Access::Read),
        ("execute", &filesystem.execute, Access::Execute),
        ("write", &filesystem.write, Access::Write),
    ];
    for (list, paths, access) in lists {
        for path in paths {
            refuse_own_place(list, path)?;
            let missing = |source| PlanError::Missing {
                list,
                path: path.clone(),
                source,
            };
            let Resolved {
                path: real,
                place,
                folder,
            } = resolve(path).map_err(missing)?;
            refuse_own_place(list, &real)?;
            if real != *path {
                links.push(Link {
                    at: path.clone(),
                    to: real.clone(),
                    optional: false,
                });
            }
            chosen.insert(
                real.clone(),
                Bind {
                    path: real,
                    place,
                    folder,
                    access,
                },
            );
        }
    }
    if !filesystem.execute.is_empty() {
        for (path, access) in LOADERS
            .iter()
            .map(|loader| (*loader, Access::Execute))
            .chain([(LOADER_CACHE, Access::Read)])
        {
            // A host has the loader of its own architecture and libc only.
            if let Ok(found) = resolve(Path::new(path)) {
                chosen.entry(found.path.clone()).or_insert(Bind {
                    path: found.path,
                    place: found.place,
                    folder: found.folder,
                    access,
                });
            }
        }
    }
    for bundle in TRUSTED_AUTHORITIES {
        authorities(Path::new(bundle), &mut chosen, &mut links);
    }
    Ok((chosen.into_values().collect(), links))
}

/// Adds a bundle of certificates that the host has, unless a list shows it already.
fn authorities(bundle: &Path, chosen: &mut BTreeMap<PathBuf, Bind>, links: &mut Vec<Link>) {
    let shown = |path: &Path| path.ancestors().any(|above| chosen.contains_key(above));
    // A host has one of these.
    let Ok(file) = resolve(bundle) else {
        return;
    };
    if file.folder || shown(bundle) {
        return;
    }
    let folder = file.path.parent().and_then(|parent| {
        let known = AUTHORITY_FOLDERS.iter().any(|name| parent.ends_with(name));
        resolve(parent).ok().filter(|_| known)
    });
    if file.path != bundle {
        links.push(Link {
            at: bundle.to_owned(),
            to: file.path.clone(),
            optional: true,
        });
    }
    let found = folder.unwrap_or(file);
    if shown(&found.path) || refuse_own_place("read", &found.path).is_err() {
        return;
    }
    let (path, place, folder) = (found.path, found.place, found.folder);
    let access = Access::Read;
    chosen.insert(
        path.clone(),
        Bind {
            path,
            place,
            folder,
            access,
        },
    );
}

fn refuse_own_place(list: &'static str, path: &Path) -> Result<(), PlanError> {
    let refusal = |own, hint| PlanError::OwnPlace {
        list,
        path: path.to_owned(),
        own,
        hint,
    };
    if path == Path::new("/") {
        return Err(refusal("/", "list the folders that the worker needs"));
    }
    match OWN_PLACES.iter().find(|(own, _)| path.starts_with(own)) {
        Some((own, hint)) => Err(refusal(own, hint)),
        None => Ok(()),
    }
}

fn merged_links() -> Vec<Link> {
    MERGED_LINKS
        .iter()
        .filter_map(|at| {
            Some(Link {
                at: PathBuf::from(at),
                to: fs::read_link(at).ok()?,
                optional: true,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
