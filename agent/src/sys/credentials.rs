//! Giving up privileges: capability sets, securebits.

use std::io;

use libc::{c_int, c_long, c_ulong};

use super::process::done;

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Every securebit and its lock but `KEEP_CAPS` itself: root and id changes give nothing, nothing
/// is kept or raised (capabilities(7)).
const SECUREBITS: c_int = SECBIT_NOROOT
    | SECBIT_NOROOT << 1
    | SECBIT_NO_SETUID_FIXUP
    | SECBIT_NO_SETUID_FIXUP << 1
    | SECBIT_KEEP_CAPS << 1
    | SECBIT_NO_CAP_AMBIENT_RAISE
    | SECBIT_NO_CAP_AMBIENT_RAISE << 1;
const SECBIT_NOROOT: c_int = 1 << 0;
const SECBIT_NO_SETUID_FIXUP: c_int = 1 << 2;
const SECBIT_KEEP_CAPS: c_int = 1 << 4;
const SECBIT_NO_CAP_AMBIENT_RAISE: c_int = 1 << 6;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets and locks the securebits. Wants `CAP_SETPCAP`.
pub fn lock_securebits() -> io::Result<()> {
    prctl(
        libc::PR_SET_SECUREBITS,
        c_ulong::from(SECUREBITS.cast_unsigned()),
    )
}

/// Empties the bounding set: no program executed from here on can gain a capability. Wants
/// `CAP_SETPCAP`.
pub fn empty_bounding_set() -> io::Result<()> {
    bound(0)
}

/// Takes every capability but these from this thread, in all sets and for good. Bit n is capability n
/// (linux/capability.h). Wants `CAP_SETPCAP`.
pub fn keep_capabilities(kept: u64) -> io::Result<()> {
    bound(kept)?;
    empty_ambient_set()?;
    set_capabilities(kept)
}

fn bound(kept: u64) -> io::Result<()> {
    for capability in 0.. {
        if capability < c_ulong::from(u64::BITS) && kept >> capability & 1 == 1 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // The first number that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Empties the ambient set. With the securebits locked nothing fills it again.
pub fn empty_ambient_set() -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs().into(),
    )
}

/// Empties the effective, permitted and inheritable sets of this thread, and with them the ambient
/// one, which never has what those lack (capabilities(7)).
pub fn empty_capability_sets() -> io::Result<()> {
    set_capabilities(0)
}

/// Sets the effective and the permitted set, and empties the inheritable one. Allocates nothing.
fn set_capabilities(kept: u64) -> io::Result<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    // The low half of the set comes first.
    let [a, b, c, d, e, f, g, h] = kept.to_le_bytes();
    let words = [[a, b, c, d], [e, f, g, h]].map(|half| CapabilityWord {
        effective: u32::from_le_bytes(half),
        permitted: u32::from_le_bytes(half),
        inheritable: 0,
    });
    // SAFETY: version 3 reads one header and two words (capset(2)); both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    done(result)
}

fn prctl(option: c_int, argument: c_ulong) -> io::Result<()> {
    let zero: c_ulong = 0;
    // SAFETY: the options used in this file take integers only (prctl(2)).
    let result = unsafe { libc::prctl(option, argument, zero, zero, zero) };
    done(c_long::from(result))
}
