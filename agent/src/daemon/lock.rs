//! One agent per instance: an exclusive `flock` that the kernel releases with the process.

use std::{
    fs::{self, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::config::Instance;

const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// The lock, held as long as this lives.
#[derive(Debug)]
pub(super) struct InstanceLock {
    #[expect(dead_code, reason = "holding it is its use")]
    file: Flock<fs::File>,
}

/// The instance can not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "instance `{instance}`: another agent (process {holder}) runs it\n\
         hint: `stockade status --instance {instance}`"
    )]
    Held {
        /// The instance.
        instance: Instance,
        /// Its process, as it wrote itself down.
        holder: String,
    },
    /// The lock file can not be made.
    #[error("lock file `{}`: can not be taken", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Makes the instance's run folder and takes its lock without waiting.
    pub(super) fn take(instance: &Instance) -> Result<Self, Error> {
        let path = instance.lock_file();
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(FOLDER_MODE);
        folder.create(instance.run_folder()).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(FILE_MODE);
        let file = options.open(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write_holder(&mut file).map_err(failed)?;
                Ok(Self { file })
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Held {
                instance: instance.clone(),
                holder: holder(&path),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// Whether some process holds the lock. A lock file that can not be opened counts as held: nothing
/// is swept on a guess.
pub(super) fn is_held(instance: &Instance) -> bool {
    let Ok(file) = fs::File::open(instance.lock_file()) else {
        return true;
    };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}

fn write_holder(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
