//! Compiles a policy's system call filters.
//!
//! A filter has one action for what it matches, so the fence is a stack, installed in this order:
//! socket families (`EAFNOSUPPORT`), socket types and protocols (`EPROTONOSUPPORT`), and last the
//! allow-list. Of several errnos the kernel returns that of the filter installed last; the
//! allow-list therefore lets pass what an earlier filter refuses.
//!
//! What the allow-list lacks gets `EPERM`: programs report it and go on. `ENOSYS` is for calls that
//! have an older form to fall back to, and for numbers newer than the tables. Another architecture's
//! calls, and x32's, kill the process: nothing legitimate makes them.

use std::collections::BTreeMap;

use libc::sock_filter;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

use super::{
    error::{At, PlanError, Step, StepError},
    syscalls::{self, Check, Test},
};
use crate::{policy::compiled::Profile, policy::compiled::Syscalls, sys};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Bit of an x32 call's number.
const X32_BIT: u32 = 0x4000_0000;
/// Offset of the number in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const LOAD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const JUMP_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const JUMP_AT_LEAST: u16 = code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);
/// Instructions that check the architecture at the start of a compiled filter.
const ARCHITECTURE_CHECK: usize = 3;

#[expect(
    clippy::cast_possible_truncation,
    reason = "codes of classic BPF are 16 bits wide; `TryFrom` is not const"
)]
const fn code(code: u32) -> u16 {
    code as u16
}

const FAMILY: u8 = 0;
const TYPE: u8 = 1;
const PROTOCOL: u8 = 2;
const TYPE_MASK: u64 = 0xf;
const TYPES: std::ops::RangeInclusive<u64> = 0..=TYPE_MASK;

/// A compiled filter, instructions as `code, jump if true, jump if false, value`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Filter(Vec<(u16, u8, u8, u32)>);

/// What the filters depend on besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Landlock keeps abstract sockets inside.
    pub abstract_sockets_scoped: bool,
    /// The policy names unix sockets of the host. Only where abstract ones are kept inside.
    pub named_unix_streams: bool,
    /// Memory files of the worker's pid namespace can be made non-executable.
    pub memfd_noexec: bool,
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

    /// Number of instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.0.len()
    }

    fn new(program: BpfProgram) -> Self {
        Self(
            program
                .into_iter()
                .map(|instruction| {
                    let seccompiler::sock_filter { code, jt, jf, k } = instruction;
                    (code, jt, jf, k)
                })
                .collect(),
        )
    }
}

/// Compiles the stack for a policy.
pub fn compile(policy: &Syscalls, host: Host) -> Result<Vec<Filter>, PlanError> {
    let wanted = host.named_unix_streams || policy.profile == Profile::Interpreter;
    let unix_streams = wanted && host.abstract_sockets_scoped;
    Ok(vec![
        families(unix_streams)?,
        protocols()?,
        allow_list(policy, host)?,
    ])
}

/// Refuses every address family but those of the network client.
fn families(unix_streams: bool) -> Result<Filter, seccompiler::Error> {
    let mut socket = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if unix_streams {
        socket.push(libc::AF_UNIX);
    }
    let others = |known: &[i32]| -> Result<SeccompRule, seccompiler::Error> {
        let conditions = known
            .iter()
            .map(|family| condition(FAMILY, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
            .collect::<Result<_, _>>()?;
        Ok(SeccompRule::new(conditions)?)
    };
    let rules = BTreeMap::from([
        (libc::SYS_socket, vec![others(&socket)?]),
        (libc::SYS_socketpair, vec![others(&[libc::AF_UNIX])?]),
    ]);
    refuse(rules, libc::EAFNOSUPPORT)
}

/// Refuses every type and protocol but TCP, UDP, unix streams and route netlink.
fn protocols() -> Result<Filter, seccompiler::Error> {
    let (stream, datagram, raw) = (
        u64::from(libc::SOCK_STREAM.unsigned_abs()),
        u64::from(libc::SOCK_DGRAM.unsigned_abs()),
        u64::from(libc::SOCK_RAW.unsigned_abs()),
    );
    let (tcp, udp) = (
        u64::from(libc::IPPROTO_TCP.unsigned_abs()),
        u64::from(libc::IPPROTO_UDP.unsigned_abs()),
    );
    let mut socket = Vec::new();
    let mut pair = Vec::new();
    for (family, types) in [
        (libc::AF_INET, &[stream, datagram][..]),
        (libc::AF_INET6, &[stream, datagram]),
        (libc::AF_UNIX, &[stream]),
        (libc::AF_NETLINK, &[raw, datagram]),
    ] {
        let family = condition(FAMILY, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))?;
        for kind in TYPES.filter(|kind| !types.contains(kind)) {
            let kind = condition(TYPE, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)?;
            socket.push(SeccompRule::new(vec![family.clone(), kind])?);
        }
    }
    for kind in TYPES.filter(|kind| *kind != stream) {
        let kind = condition(TYPE, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)?;
        pair.push(SeccompRule::new(vec![kind])?);
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [(stream, tcp), (datagram, udp)] {
            socket.push(SeccompRule::new(vec![
                condition(FAMILY, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))?,
                condition(TYPE, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)?,
                condition(PROTOCOL, SeccompCmpOp::Ne, 0)?,
                condition(PROTOCOL, SeccompCmpOp::Ne, protocol)?,
            ])?);
        }
    }
    // NETLINK_ROUTE is 0; unix sockets know no protocol but 0 and 1, their own family's.
    socket.push(SeccompRule::new(vec![
        condition(
            FAMILY,
            SeccompCmpOp::Eq,
            u64::from(libc::AF_NETLINK.unsigned_abs()),
        )?,
        condition(PROTOCOL, SeccompCmpOp::Ne, 0)?,
    ])?);
    let rules = BTreeMap::from([(libc::SYS_socket, socket), (libc::SYS_socketpair, pair)]);
    refuse(rules, libc::EPROTONOSUPPORT)
}

/// Lets pass what the profile lists, under its conditions.
fn allow_list(policy: &Syscalls, host: Host) -> Result<Filter, PlanError> {
    let mut rules = BTreeMap::new();
    for (number, checks) in syscalls::resolve(policy)? {
        let chain = checks.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        rules.insert(number, chain);
    }
    let mut absent: Vec<i64> = syscalls::ABSENT.iter().map(|call| call.number).collect();
    if !host.memfd_noexec {
        absent.push(libc::SYS_memfd_create);
    }
    for number in &absent {
        rules.remove(number);
    }
    let program: BpfProgram = filter(rules, SeccompAction::Allow, errno(libc::EPERM))?;
    Ok(with_prelude(Filter::new(program), &absent))
}

/// Puts x32, absent and too new calls before the list, behind the check of the architecture.
fn with_prelude(mut filter: Filter, absent: &[i64]) -> Filter {
    let not_here = u32::from(errno(libc::ENOSYS));
    let mut prelude = vec![
        (LOAD, 0, 0, NUMBER_OFFSET),
        (JUMP_AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, u32::from(SeccompAction::KillProcess)),
        (JUMP_AT_LEAST, 0, 1, syscalls::NUMBERS_KNOWN),
        (RETURN, 0, 0, not_here),
    ];
    for number in absent {
        // Numbers are small; one that is not could never be made.
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        prelude.push((JUMP_EQUAL, 0, 1, number));
        prelude.push((RETURN, 0, 0, not_here));
    }
    let at = ARCHITECTURE_CHECK.min(filter.0.len());
    filter.0.splice(at..at, prelude);
    filter
}

fn rule(check: &Check) -> Result<SeccompRule, seccompiler::Error> {
    let conditions = check
        .iter()
        .map(|(argument, test)| match *test {
            Test::Is(value) => condition(*argument, SeccompCmpOp::Eq, u64::from(value)),
            Test::Masked(mask, value) => condition(
                *argument,
                SeccompCmpOp::MaskedEq(u64::from(mask)),
                u64::from(value),
            ),
        })
        .collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

fn refuse(rules: BTreeMap<i64, Vec<SeccompRule>>, code: i32) -> Result<Filter, seccompiler::Error> {
    Ok(Filter::new(filter(
        rules,
        errno(code),
        SeccompAction::Allow,
    )?))
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    matched: SeccompAction,
    otherwise: SeccompAction,
) -> Result<BpfProgram, seccompiler::Error> {
    let filter = SeccompFilter::new(rules, otherwise, matched, ARCHITECTURE)?;
    Ok(BpfProgram::try_from(filter)?)
}

/// Arguments are `int`s: the kernel drops the upper half, so does the comparison.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

fn errno(code: i32) -> SeccompAction {
    SeccompAction::Errno(code.unsigned_abs())
}

#[cfg(test)]
mod tests;
