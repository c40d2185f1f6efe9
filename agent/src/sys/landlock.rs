//! Landlock by its own calls: a process that shares memory with its maker owns nothing, so the rules that
//! it puts in force are borrowed, and the paths of rules are descriptors that were opened before.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use super::process::done;

/// `LANDLOCK_CREATE_RULESET_VERSION`
const ASK_VERSION: u32 = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`
const PATH_BENEATH: libc::c_int = 1;

/// What a set of rules handles: what it handles and no rule gives is refused. A kernel that does not
/// know one of the bits refuses the set (landlock(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`
    pub files: u64,
    /// `LANDLOCK_ACCESS_NET_*`
    pub network: u64,
    /// `LANDLOCK_SCOPE_*`
    pub scopes: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: libc::c_int,
}

/// A set of rules without a rule.
pub fn new_rules(handled: Handled) -> io::Result<OwnedFd> {
    // SAFETY: `handled` has the layout of the kernel's attributes and outlives the call. An older
    // kernel takes the longer form where what it does not know is 0.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size_of::<Handled>(),
            0_u32,
        )
    };
    done(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives rights beneath a folder, or to a file.
pub fn add_rule(rules: impl AsFd, beneath: impl AsFd, rights: u64) -> io::Result<()> {
    let rule = PathBeneath {
        allowed: rights,
        parent: beneath.as_fd().as_raw_fd(),
    };
    // SAFETY: `rule` has the layout that this kind of rule has, and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_fd().as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0_u32,
        )
    };
    done(result)
}

/// Puts rules in force for this process and all that it makes. Wants `no_new_privs`.
pub fn restrict(rules: impl AsFd) -> io::Result<()> {
    // SAFETY: takes a descriptor and flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            rules.as_fd().as_raw_fd(),
            0_u32,
        )
    };
    done(result)
}

/// The ABI that this kernel offers.
pub fn abi() -> io::Result<i32> {
    // SAFETY: with this flag the kernel takes no attributes: null and zero (landlock(7)).
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            ASK_VERSION,
        )
    };
    done(version)?;
    i32::try_from(version).map_err(io::Error::other)
}
