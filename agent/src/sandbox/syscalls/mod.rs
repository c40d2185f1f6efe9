//! Which system calls a worker may make: data tables, one line a call, with its reason.
//!
//! A profile is a union of groups. `[syscalls] allow` adds calls, unless one would open the fence
//! (`policy::profile` has those, with the reasons); `deny` takes away. Calls that an architecture
//! lacks are passed over: tables and policies are the same on each.

mod arguments;
mod default;
mod interpreter;
pub mod launcher;
mod options;
mod rule;
mod sockets;
mod strict;

use std::collections::BTreeMap;

use crate::{
    policy::{
        compiled::{Profile, Syscalls},
        profile::never,
        syscall_names::{Architecture, is_syscall_name, names, number},
    },
    sandbox::error::PlanError,
};

pub use rule::{Rule, Verdict};

/// Numbers from here on are newer than these tables: `ENOSYS`, so that programs fall back.
pub const NUMBERS_KNOWN: u32 = 470;
/// Calls from this number on came with Linux 6.5 and later. Programs expect kernels without them, and
/// many fall back on `ENOSYS` only.
const RECENT: u32 = 451;

/// Answered `ENOSYS`: each has an older form that programs fall back to.
const ABSENT: &[Call] = calls! {
    clone3: "its flags are in memory, where no filter can read them; libc falls back to clone",
    io_cancel: "as io_setup",
    io_destroy: "as io_setup",
    io_getevents: "as io_setup",
    io_pgetevents: "as io_setup",
    io_setup: "old asynchronous I/O; nothing needs it",
    io_submit: "as io_setup",
    io_uring_enter: "as io_uring_setup",
    io_uring_register: "as io_uring_setup",
    io_uring_setup: "a second way into the kernel that no filter sees",
    memfd_secret: "memory that the host can not see into",
};

/// A call, and why it stands in its table.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Why it is listed.
    pub why: &'static str,
}

/// What the filters depend on besides the policy.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Landlock keeps abstract sockets inside.
    pub abstract_sockets_scoped: bool,
    /// Memory files of the worker's pid namespace can be made non-executable.
    pub memfd_noexec: bool,
    /// The policy opens unix sockets of the host: stream sockets by name in every profile, where
    /// abstract ones are kept inside.
    pub named_unix_streams: bool,
    /// Files that a worker makes stay on the host (`filesystem.write`).
    pub keeps_files: bool,
}

/// What a policy says of every call on one architecture.
#[derive(Clone, Debug)]
pub struct Meaning {
    architecture: Architecture,
    rules: BTreeMap<u32, Rule>,
}

/// Lines of a table: `name: "why"`.
macro_rules! calls {
    ($($name:ident: $why:literal,)*) => {
        &[$(crate::sandbox::syscalls::Call { name: stringify!($name), why: $why },)*]
    };
}
use calls;

/// What a policy says.
pub fn meaning(
    policy: &Syscalls,
    host: Host,
    architecture: Architecture,
) -> Result<Meaning, PlanError> {
    let rule = |name: &str| arguments::rule(name, policy.profile, host);
    let mut rules = BTreeMap::new();
    for call in groups(policy.profile).into_iter().flatten() {
        set(&mut rules, architecture, call.name, rule(call.name));
    }
    for name in &policy.allow {
        if let Some(why) = never(name) {
            return Err(PlanError::CallOpensFence {
                name: name.clone(),
                why,
            });
        }
        known("allow", name)?;
        // A call with a rule keeps it: it is part of the fence.
        set(&mut rules, architecture, name, rule(name));
    }
    for name in &policy.deny {
        known("deny", name)?;
        if let Some(number) = number(name, architecture) {
            rules.remove(&number);
        }
    }
    for call in ABSENT {
        let absent = Rule::Always(Verdict::NotHere);
        set(&mut rules, architecture, call.name, absent);
    }
    Ok(Meaning {
        architecture,
        rules,
    })
}

impl Meaning {
    /// What is said of a number.
    pub fn rule(&self, number: u32) -> &Rule {
        static NOT_HERE: Rule = Rule::Always(Verdict::NotHere);
        static REFUSE: Rule = Rule::REFUSE;
        match self.rules.get(&number) {
            Some(rule) => rule,
            None if number >= RECENT => &NOT_HERE,
            None => &REFUSE,
        }
    }

    /// Whose calls these are.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }
}

fn set(rules: &mut BTreeMap<u32, Rule>, on: Architecture, name: &str, rule: Rule) {
    if let Some(number) = number(name, on) {
        rules.insert(number, rule);
    }
}

/// The groups of a profile; each has those of the one before.
fn groups(profile: Profile) -> Vec<&'static [Call]> {
    let more: &[&[&[Call]]] = match profile {
        Profile::Strict => &[],
        Profile::Default => &[default::GROUPS],
        Profile::Interpreter => &[default::GROUPS, interpreter::GROUPS],
    };
    [strict::GROUPS]
        .into_iter()
        .chain(more.iter().copied())
        .flatten()
        .copied()
        .collect()
}

fn known(list: &'static str, name: &str) -> Result<(), PlanError> {
    if is_syscall_name(name) {
        return Ok(());
    }
    let nearest = names()
        .map(|known| (strsim::levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX);
    Err(PlanError::UnknownCall {
        list,
        name: name.to_owned(),
        hint: nearest.map_or_else(String::new, |(_, known)| {
            format!("\nhint: did you mean `{known}`?")
        }),
    })
}

/// Distance up to which a misspelt name is recognised.
const SUGGESTION_DISTANCE_MAX: usize = 3;

#[cfg(test)]
mod tests;
