//! Atomic operations on map values: one 64-bit counter that several processors change.
//!
//! The compiler's BPF target declares no compare-and-swap, so `core::sync::atomic` has loads and
//! stores only; the instruction set has had the rest since version 3 (Linux 5.12). An operation
//! that returns a value is a full barrier in the kernel's memory model, but for a compare-and-swap
//! that fails.

use core::arch::asm;

/// A counter in a map value.
#[derive(Clone, Copy)]
pub(crate) struct Counter(*mut u64);

impl Counter {
    /// # Safety
    /// The pointer is aligned and into a map value that lives until the program ends.
    #[inline(always)]
    pub(crate) unsafe fn new(counter: *mut u64) -> Self {
        Self(counter)
    }

    #[inline(always)]
    pub(crate) fn load(self) -> u64 {
        // SAFETY: `new` demands a living, aligned value; volatile, because others write.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn store(self, value: u64) {
        // SAFETY: `new` demands a living, aligned value; one store of 64 bits does not tear.
        unsafe { self.0.write_volatile(value) };
    }

    /// Adds and returns what was there before.
    #[inline(always)]
    pub(crate) fn fetch_add(self, value: u64) -> u64 {
        let mut value = value;
        // SAFETY: `new` demands a living, aligned value.
        unsafe {
            asm!(
                "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
                counter = in(reg) self.0,
                value = inout(reg) value,
                options(nostack),
            );
        }
        value
    }

    /// Stores and returns what was there before.
    #[inline(always)]
    pub(crate) fn swap(self, value: u64) -> u64 {
        let mut value = value;
        // SAFETY: `new` demands a living, aligned value.
        unsafe {
            asm!(
                "{value} = xchg_64({counter} + 0, {value})",
                counter = in(reg) self.0,
                value = inout(reg) value,
                options(nostack),
            );
        }
        value
    }

    /// Stores `new` where `old` stands; says whether it did.
    #[inline(always)]
    pub(crate) fn exchange(self, old: u64, new: u64) -> bool {
        let mut found = old;
        // SAFETY: `new` demands a living, aligned value.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({counter} + 0, r0, {new})",
                counter = in(reg) self.0,
                new = in(reg) new,
                inout("r0") found,
                options(nostack),
            );
        }
        found == old
    }
}
