//! A table of 64-bit words in memory that the kernel's programs read.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// Words of an array map with `BPF_F_MMAPABLE`, shared with the programs. One word changes in one
/// store: a program sees the old or the new one.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory is shared with the kernel anyway; all access is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first `count` words of an array map.
    pub fn map(map: impl AsFd, count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory; the
        // kernel refuses a length beyond the map's.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("the kernel mapped words at address 0"))?;
        Ok(Self { start, count })
    }

    /// The word in a slot; 0 beyond the table.
    #[must_use]
    pub fn load(&self, slot: u32) -> u64 {
        self.word(slot)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores a word; `false` beyond the table.
    #[must_use]
    pub fn store(&self, slot: u32, value: u64) -> bool {
        let Some(word) = self.word(slot) else {
            return false;
        };
        word.store(value, Ordering::SeqCst);
        true
    }

    fn word(&self, slot: u32) -> Option<&AtomicU64> {
        let slot = usize::try_from(slot).ok()?;
        if slot >= self.count {
            return None;
        }
        // SAFETY: within the mapping, as just checked.
        let word = unsafe { self.start.add(slot) };
        // SAFETY: mapped until `drop`, aligned to the page, and only ever accessed atomically.
        Some(unsafe { word.as_ref() })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made; no reference outlives `self`.
        let _unmapped =
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
