//! The profiles from both sides: what a worker's system calls are refused, call by call and argument
//! by argument, and the programs that run under each profile all the same.

mod arguments;
mod calls;
mod programs;
mod servers;
#[cfg(target_arch = "x86_64")]
mod set_id;
mod sockets;

use std::sync::Arc;

use agent::policy::{compiled::CompiledPolicy, syscall_names};

use crate::fence::room::{USR, policy};

/// An ordinary policy with a profile.
fn with_profile(profile: &str) -> Arc<CompiledPolicy> {
    policy(&format!("{USR}\n[syscalls]\nprofile = \"{profile}\"\n"))
}

/// `NUMBERS` in Python: every call of this architecture by its name.
fn numbers() -> String {
    let native = syscall_names::Architecture::NATIVE;
    let pairs: Vec<_> = syscall_names::names()
        .filter_map(|name| Some(format!("'{name}':{}", syscall_names::number(name, native)?)))
        .collect();
    format!("NUMBERS = {{{}}}\n", pairs.join(","))
}
