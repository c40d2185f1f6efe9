//! One agent per instance: an exclusive `flock` that the kernel releases with the process.

use std::{
    fs::{self, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::MetadataExt,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::config::Instance;

const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// How often a lock that is held is tried again: one who sweeps holds it for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Makes the instance's run folder and takes its lock. Gives up after a fifth of a second.
    pub(super) fn take(instance: &Instance) -> Result<Self, Error> {
        let path = instance.lock_file();
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        for _ in 0..TRIES {
            let file = open(instance).map_err(failed)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // One who swept in between has removed the file: its lock keeps nobody out.
                Ok(file) if !is_at(&file, &path) => {}
                Ok(mut file) => {
                    write_holder(&mut file).map_err(failed)?;
                    return Ok(Self { file });
                }
                Err((_, Errno::EWOULDBLOCK)) => thread::sleep(PAUSE),
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
        Err(Error::Held {
            instance: instance.clone(),
            holder: holder(&path),
        })
    }

    /// Takes the lock of an instance whose process is gone. `None` where somebody holds it, and
    /// where the file can not be opened: nothing is swept on a guess.
    pub(super) fn of_abandoned(instance: &Instance) -> Option<Self> {
        let path = instance.lock_file();
        let file = fs::File::open(&path).ok()?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        // An empty file is that of one who has made it and not yet locked it.
        let written = file.metadata().is_ok_and(|found| found.len() > 0);
        (written && is_at(&file, &path)).then_some(Self { file })
    }
}

fn open(instance: &Instance) -> io::Result<fs::File> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(FOLDER_MODE);
    folder.create(instance.run_folder())?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(FILE_MODE);
    options.open(instance.lock_file())
}

/// Whether the file that was opened still stands at its path.
fn is_at(file: &fs::File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => opened.dev() == there.dev() && opened.ino() == there.ino(),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::{Error, InstanceLock, PAUSE};
    use crate::config::Instance;

    fn instance(name: &str) -> Instance {
        Instance::new(&format!("lock-{name}-{}", std::process::id())).expect("a name")
    }

    #[test]
    fn one_at_a_time() {
        let instance = instance("one");
        let first = InstanceLock::take(&instance).expect("nobody has it");
        assert!(matches!(
            InstanceLock::take(&instance),
            Err(Error::Held { .. })
        ));
        assert!(InstanceLock::of_abandoned(&instance).is_none());
        drop(first);
        assert!(InstanceLock::of_abandoned(&instance).is_some());
        fs::remove_dir_all(instance.run_folder()).expect("it is removed");
        assert!(InstanceLock::of_abandoned(&instance).is_none());
    }

    #[test]
    fn a_lock_file_without_an_owner_s_word_is_of_one_who_starts() {
        let instance = instance("starts");
        drop(super::open(&instance).expect("a lock file"));
        assert!(InstanceLock::of_abandoned(&instance).is_none());
        fs::remove_dir_all(instance.run_folder()).expect("it is removed");
    }

    #[test]
    fn who_waited_for_a_sweep_has_a_lock_that_counts() {
        let instance = instance("sweep");
        drop(InstanceLock::take(&instance).expect("nobody has it"));
        let sweep = InstanceLock::of_abandoned(&instance).expect("nobody has it");
        let starter = {
            let instance = instance.clone();
            thread::spawn(move || InstanceLock::take(&instance))
        };
        thread::sleep(PAUSE * 2);
        fs::remove_dir_all(instance.run_folder()).expect("it is removed");
        drop(sweep);
        let _taken = starter.join().expect("no panic").expect("it is taken");
        assert!(matches!(
            InstanceLock::take(&instance),
            Err(Error::Held { .. })
        ));
        fs::remove_dir_all(instance.run_folder()).expect("it is removed");
    }
}
