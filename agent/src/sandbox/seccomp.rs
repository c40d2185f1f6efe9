//! Compiles a policy's system call filters.
//!
//! A filter is a decision tree: by architecture, by number, and for some calls by arguments. It comes
//! in two parts, because the kernel's price of installing one is paid at every launch:
//!
//! * `template`, installed once by a policy's template process before it clones. Process 1 and the
//!   worker inherit it for nothing. It has the whole meaning of the profile, but for the calls of
//!   `syscalls::launcher`, which template, process 1 and the worker's process still make on their way
//!   to the program: these it leaves to the other part, and lets pass.
//! * `session`, installed by the worker's process as its last act but the execution. It has the
//!   profile's meaning for exactly those calls, and lets all others pass.
//!
//! A call is made when both let it pass, so together they mean what the profile says; a test compares
//! them number by number. Neither is a fence alone.
//!
//! What no profile lists gets `EPERM`: programs report it and go on. `ENOSYS` is for calls that have
//! an older form to fall back to, and for those newer than the tables. Another architecture's calls,
//! and x32's, end the process: nothing legitimate makes them.

mod program;
mod tree;

use std::collections::BTreeMap;

use libc::sock_filter;
use serde::{Deserialize, Serialize};

use self::tree::{Field, Tree};
use super::{
    error::{At, PlanError, Step, StepError},
    syscalls::{
        self, Meaning, Verdict,
        launcher::{self, Left},
    },
};
use crate::{
    policy::{compiled::Syscalls, syscall_names::Architecture},
    sys,
};

pub use super::syscalls::Host;

/// linux/audit.h
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// Bit of an x32 call's number.
const X32_BIT: u32 = 0x4000_0000;
/// The first argument of a call.
const FIRST: u8 = 0;
/// The kernel's limit, `BPF_MAXINSNS`.
const INSTRUCTIONS_MAX: usize = 4096;

/// Code, jump if true, jump if false, value.
type Instruction = (u16, u8, u8, u32);

/// A compiled filter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Filter(Vec<Instruction>);

/// The two parts of a fence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Filters {
    /// For the template process, in the order of their installation, after it has entered the
    /// policy's root. It can then neither open a socket nor load a program into the kernel; what
    /// `syscalls::launcher` lists stays possible: mounts, `clone3`, ids, capabilities, keyrings,
    /// landlock, further filters, `execveat`.
    pub template: Vec<Filter>,
    /// For the worker's process, right before the execution.
    pub session: Vec<Filter>,
}

impl Filters {
    /// Puts the template's part in force for this process and all that it makes. Wants
    /// `no_new_privs` or `CAP_SYS_ADMIN`.
    pub fn enter_template(&self) -> Result<(), StepError> {
        self.template.iter().try_for_each(Filter::install)
    }

    /// Every filter that holds a worker, in the order of installation.
    pub fn all(&self) -> impl Iterator<Item = &Filter> {
        self.template.iter().chain(&self.session)
    }
}

impl Filter {
    /// Puts the filter in force for this process.
    pub fn install(&self) -> Result<(), StepError> {
        let mut program: Vec<_> = self
            .0
            .iter()
            .map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k })
            .collect();
        sys::seccomp::install(&mut program).at(Step::Seccomp, "system call filter")
    }

    /// The instructions as the kernel takes them, `struct sock_filter` each.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let bytes = |&(code, jt, jf, k): &Instruction| {
            let [low, high] = code.to_ne_bytes();
            let [first, second, third, fourth] = k.to_ne_bytes();
            [low, high, jt, jf, first, second, third, fourth]
        };
        self.0.iter().flat_map(bytes).collect()
    }

    /// Number of instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.0.len()
    }

    fn new(tree: &Tree) -> Result<Self, PlanError> {
        let program = program::assemble(tree);
        if program.len() > INSTRUCTIONS_MAX {
            return Err(PlanError::FilterTooLong(program.len()));
        }
        Ok(Self(program))
    }
}

/// Compiles both parts for a policy.
pub fn compile(policy: &Syscalls, host: Host) -> Result<Filters, PlanError> {
    compile_for(policy, host, Architecture::NATIVE)
}

fn compile_for(
    policy: &Syscalls,
    host: Host,
    architecture: Architecture,
) -> Result<Filters, PlanError> {
    let meaning = syscalls::meaning(policy, host, architecture)?;
    let left = launcher::left(&meaning);
    Ok(Filters {
        template: vec![Filter::new(&template(&meaning, &left))?],
        session: vec![Filter::new(&session(&meaning, &left))?],
    })
}

/// What is left to the session's part passes here.
fn template(meaning: &Meaning, left: &BTreeMap<u32, Left>) -> Tree {
    let mut starts: BTreeMap<u32, Tree> = (0..=syscalls::NUMBERS_KNOWN)
        .map(|number| {
            let rule = meaning.rule(number);
            let tree = match left.get(&number).copied().unwrap_or(Left::Nothing) {
                Left::Nothing => Tree::from(rule),
                Left::First(values) => Tree::from(&rule.besides(FIRST, values)),
                Left::All => Tree::Answer(Verdict::Allow),
            };
            (number, tree)
        })
        .collect();
    let (native, has_x32) = match meaning.architecture() {
        Architecture::X86_64 => (AUDIT_ARCH_X86_64, true),
        Architecture::Aarch64 => (AUDIT_ARCH_AARCH64, false),
    };
    if has_x32 {
        starts.insert(X32_BIT, Tree::Answer(Verdict::Kill));
    }
    let numbers = Tree::by(Field::Number, u32::MAX, starts);
    let kill = Tree::Answer(Verdict::Kill);
    let architectures = BTreeMap::from([
        (0, kill.clone()),
        (native, numbers),
        (native.saturating_add(1), kill),
    ]);
    Tree::by(Field::Architecture, u32::MAX, architectures)
}

/// What is left to this part is judged here, and all else passes. What the template's part refuses may
/// be refused here too, with the same errno, where that makes one range out of three.
fn session(meaning: &Meaning, left: &BTreeMap<u32, Left>) -> Tree {
    let allow = Tree::Answer(Verdict::Allow);
    let refuse = Tree::Answer(Verdict::NotPermitted);
    let mut before = allow.clone();
    let mut starts = BTreeMap::new();
    for number in 0..syscalls::NUMBERS_KNOWN {
        let rule = meaning.rule(number);
        let tree = match left.get(&number).copied().unwrap_or(Left::Nothing) {
            Left::All => Tree::from(rule),
            Left::First(values) => Tree::from(&rule.only_at(FIRST, values)),
            Left::Nothing if before == refuse && Tree::from(rule) == refuse => refuse.clone(),
            Left::Nothing => allow.clone(),
        };
        starts.insert(number, tree.clone());
        before = tree;
    }
    starts.insert(syscalls::NUMBERS_KNOWN, allow);
    Tree::by(Field::Number, u32::MAX, starts)
}

#[cfg(test)]
mod tests;
