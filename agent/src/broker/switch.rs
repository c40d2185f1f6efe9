//! The kill switch: tools that are off. In force at once, for calls that run too, and over restarts.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tokio::sync::watch;

const FILE_MODE: u32 = 0o600;
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Tools that may be off.
const TOOLS_MAX: usize = 4096;

/// Which tools are off.
pub struct Switches {
    path: PathBuf,
    off: watch::Sender<BTreeSet<String>>,
    /// Held from reading to writing: two changes never interleave.
    change: Mutex<()>,
}

impl Switches {
    /// Reads what was switched off before. A file that can not be read is an error: nothing is on
    /// because it is not known to be off.
    pub fn open(path: &Path) -> io::Result<Self> {
        let off = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            Ok(_) => serde_json::from_slice(&fs::read(path)?)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            off: watch::Sender::new(off),
            change: Mutex::new(()),
        })
    }

    /// Whether a tool is off.
    #[must_use]
    pub fn is_off(&self, tool: &str) -> bool {
        self.off.borrow().contains(tool)
    }

    /// The tools that are off.
    #[must_use]
    pub fn all_off(&self) -> BTreeSet<String> {
        self.off.borrow().clone()
    }

    /// Becomes ready when a tool is off.
    pub async fn off(&self, tool: &str) {
        let mut off = self.off.subscribe();
        if off.wait_for(|off| off.contains(tool)).await.is_err() {
            // The sender is this value, which outlives the borrow.
            std::future::pending::<()>().await;
        }
    }

    /// Switches a tool off or on; tells whether that changed anything. *Off* is in force before it is
    /// on the disk, *on* only afterwards: an error leaves the tool off.
    pub fn set(&self, tool: &str, on: bool) -> io::Result<bool> {
        let _change = self
            .change
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut wanted = self.all_off();
        let changed = if on {
            wanted.remove(tool)
        } else {
            if wanted.len() >= TOOLS_MAX {
                return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
            }
            wanted.insert(tool.to_owned())
        };
        if !on {
            self.off.send_replace(wanted.clone());
        }
        self.keep(&wanted)?;
        self.off.send_replace(wanted);
        Ok(changed)
    }

    fn keep(&self, off: &BTreeSet<String>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options.mode(FILE_MODE).open(&new)?;
        file.write_all(&serde_json::to_vec(off)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        // The name is on the disk when its folder is.
        match self.path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Switches;

    #[tokio::test]
    async fn off_is_off_at_once_and_after_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("off.json");
        let switches = Switches::open(&path).unwrap();
        assert!(!switches.is_off("web"));
        let waits = tokio::time::timeout(Duration::from_millis(20), switches.off("web"));
        waits.await.expect_err("it is on");
        assert!(switches.set("web", false).unwrap());
        assert!(!switches.set("web", false).unwrap());
        switches.off("web").await;
        let again = Switches::open(&path).unwrap();
        assert!(again.is_off("web"));
        assert!(!again.is_off("other"));
        assert!(again.set("web", true).unwrap());
        assert!(!Switches::open(&path).unwrap().is_off("web"));
        std::fs::write(&path, "[").unwrap();
        assert!(Switches::open(&path).is_err(), "unknown is not on");
    }

    #[test]
    fn what_can_not_be_kept_is_off_all_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("gone");
        std::fs::create_dir(&folder).unwrap();
        let switches = Switches::open(&folder.join("off.json")).unwrap();
        std::fs::remove_dir(&folder).unwrap();
        assert!(switches.set("web", false).is_err());
        assert!(switches.is_off("web"));
        assert!(switches.set("web", true).is_err());
        assert!(switches.is_off("web"), "not on before that is kept");
    }
}
