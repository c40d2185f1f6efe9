//! Users for sessions: numbers without a name, a block of them per instance, each used by one session
//! at a time and rested before its next.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::config::Instance;

/// First number of the first block: far above what distributions, containers and directory services
/// hand out, below where numbers turn negative.
pub const FIRST: u32 = 0x7000_0000;
/// Numbers of a block.
pub const BLOCK: u32 = 4096;
/// Blocks, and so instances at a time on one host.
pub const BLOCKS_MAX: u32 = 256;
/// The numbers that sessions get, of whatever instance of this host.
#[must_use]
pub const fn of_any_instance() -> std::ops::Range<u32> {
    FIRST..FIRST.saturating_add(BLOCK.saturating_mul(BLOCKS_MAX))
}

/// Rest of a number after its session. Short, because sessions may be short and many; the queue
/// makes it much longer in practice, the longest rested number goes first.
pub const REST: Duration = Duration::from_secs(1);
/// How far apart the beginnings of two claims of a block are.
const CLAIM_STRIDE: u32 = 512;
/// What a lock file may hold.
const CLAIM_BYTES_MAX: u64 = 16;
/// Locks of the claimed blocks: one folder for all instances.
const LOCK_FOLDER: &str = "/run/stockade-uids";

/// No number to be had.
#[derive(Debug, thiserror::Error)]
pub enum UidError {
    /// The lock files can not be used.
    #[error("user ids: `{path}`: {source}", path = path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Every block is claimed.
    #[error("user ids: all {BLOCKS_MAX} blocks are claimed by running instances")]
    NoBlock,
    /// The service's block is claimed.
    #[error("user ids: the service's block is claimed: another agent of this instance runs")]
    ServiceBlock,
    /// Every number of the block is in use or rests.
    #[error("user ids: all {BLOCK} of this instance are in use or were a moment ago")]
    Exhausted,
}

/// The numbers of one instance.
#[derive(Debug)]
pub struct Pool {
    resting: Mutex<VecDeque<(u32, Option<Instant>)>>,
    _claim: Flock<File>,
}

/// A session's number; rests when it is dropped.
#[derive(Debug)]
pub struct SessionUid {
    uid: u32,
    pool: Arc<Pool>,
}

impl Pool {
    /// Claims a block: the service its own, others the first that is free.
    pub fn claim(instance: &Instance) -> Result<Arc<Self>, UidError> {
        Self::claim_in(Path::new(LOCK_FOLDER), *instance == Instance::service())
    }

    fn claim_in(folder: &Path, service: bool) -> Result<Arc<Self>, UidError> {
        closed_folder(folder).map_err(|source| UidError::Lock {
            path: folder.to_owned(),
            source,
        })?;
        let blocks = if service { 0..1 } else { 1..BLOCKS_MAX };
        for block in blocks {
            let path = folder.join(block.to_string());
            if let Some(claim) = lock(&path)? {
                let start = rotate(&claim).map_err(|source| UidError::Lock { path, source })?;
                let first = FIRST + block * BLOCK;
                let fresh = (start..BLOCK).chain(0..start);
                let fresh = fresh.map(|index| (first + index, None)).collect();
                return Ok(Arc::new(Self {
                    resting: Mutex::new(fresh),
                    _claim: claim,
                }));
            }
        }
        Err(if service {
            UidError::ServiceBlock
        } else {
            UidError::NoBlock
        })
    }

    /// The number that rested longest.
    pub fn take(self: &Arc<Self>) -> Result<SessionUid, UidError> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = |since: &Option<Instant>| since.is_none_or(|since| since.elapsed() >= REST);
        match resting.pop_front() {
            Some((uid, since)) if rested(&since) => Ok(SessionUid {
                uid,
                pool: Arc::clone(self),
            }),
            Some(tired) => {
                resting.push_front(tired);
                Err(UidError::Exhausted)
            }
            None => Err(UidError::Exhausted),
        }
    }
}

impl SessionUid {
    /// The number; the group's is the same.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.uid
    }
}

impl Drop for SessionUid {
    fn drop(&mut self) {
        let mut resting = self
            .pool
            .resting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resting.push_back((self.uid, Some(Instant::now())));
    }
}

/// Where in the block to begin: each claim elsewhere, so that a number also rests between two
/// instances. The lock file holds the next beginning; what is not a number counts as 0.
fn rotate(mut claim: &File) -> io::Result<u32> {
    let mut text = String::new();
    claim.take(CLAIM_BYTES_MAX).read_to_string(&mut text)?;
    let start = text.trim().parse().unwrap_or(0) % BLOCK;
    claim.rewind()?;
    claim.set_len(0)?;
    writeln!(claim, "{}", (start + CLAIM_STRIDE) % BLOCK)?;
    Ok(start)
}

/// The folder, which nobody else enters: whoever can open a file can lock it (`flock(2)`).
fn closed_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // An older one may have been made open.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn lock(path: &Path) -> Result<Option<Flock<File>>, UidError> {
    let failed = |source| UidError::Lock {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(claim) => Ok(Some(claim)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn nobody_else_can_lock_a_block() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("uids");
        // As an older agent made it.
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("its mode");
        let _service = Pool::claim_in(&folder, true).expect("block 0");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("0")), 0o600);
    }

    #[test]
    fn a_block_is_claimed_once_and_its_numbers_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let service = Pool::claim_in(folder.path(), true).expect("block 0");
        assert!(matches!(
            Pool::claim_in(folder.path(), true),
            Err(UidError::ServiceBlock)
        ));
        let other = Pool::claim_in(folder.path(), false).expect("block 1");
        let first = service.take().expect("a number");
        assert_eq!(first.get(), FIRST);
        assert_eq!(other.take().expect("a number").get(), FIRST + BLOCK);
        drop(first);
        let rest: Vec<_> = (1..BLOCK).map(|_| service.take().expect("fresh")).collect();
        assert!(matches!(service.take(), Err(UidError::Exhausted)));
        std::thread::sleep(REST);
        assert_eq!(service.take().expect("rested").get(), FIRST);
        drop((service, rest));
        let again = Pool::claim_in(folder.path(), true).expect("the claim ends with the pool");
        assert_eq!(again.take().expect("a number").get(), FIRST + CLAIM_STRIDE);
    }
}
