//! `[filesystem]` as it stands in the file.

use schemars::JsonSchema;

use super::{Field, List};

/// `[filesystem]`: absolute paths; each stands for all that lies below it.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Filesystem")]
pub(in crate::policy) struct RawFilesystem {
    /// Readable.
    #[schemars(default)]
    pub(in crate::policy) read: Field<List<String>>,
    /// Readable and executable.
    #[schemars(default)]
    pub(in crate::policy) execute: Field<List<String>>,
    /// Readable and writable, besides the session's own workdir.
    #[schemars(default)]
    pub(in crate::policy) write: Field<List<String>>,
    /// Size of the session's own workdir. Default: `64MiB`.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(in crate::policy) workdir_size: Field<String>,
    /// Size of the session's `/tmp`. Default: that of the workdir.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(in crate::policy) tmp_size: Field<String>,
    /// Files and folders that the workdir may hold, and `/tmp` as many. Default: one for every
    /// 4 KiB of its size, 1024 at least.
    #[schemars(default, range(min = 16))]
    pub(in crate::policy) inodes: Field<i64>,
    /// What is handed out when a session ends. Without it: nothing.
    #[schemars(default)]
    pub(in crate::policy) output: Field<RawOutput>,
}

/// `[filesystem.output]`: what the worker leaves in `/workdir/output` becomes a folder of the host,
/// one a session.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Output")]
pub(in crate::policy) struct RawOutput {
    /// The host's folder that gets a folder a session. It must be there.
    pub(in crate::policy) path: Field<String>,
    /// Bytes of all files together. Default: `64MiB`.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(in crate::policy) size: Field<String>,
    /// Files and folders. Default: 4096.
    #[schemars(default, range(min = 1))]
    pub(in crate::policy) entries: Field<i64>,
    /// Folders within folders. Default: 16.
    #[schemars(default, range(min = 1))]
    pub(in crate::policy) depth: Field<i64>,
    /// Permission bits that are taken from files (0666) and folders (0777), octal. Default: `077`.
    #[schemars(default, extend("pattern" = "^0?[0-7]{3}$"))]
    pub(in crate::policy) umask: Field<String>,
    /// User id of what is handed out. Default: 0.
    #[schemars(default, range(min = 0))]
    pub(in crate::policy) owner: Field<i64>,
    /// Group id of what is handed out. Default: 0.
    #[schemars(default, range(min = 0))]
    pub(in crate::policy) group: Field<i64>,
}
