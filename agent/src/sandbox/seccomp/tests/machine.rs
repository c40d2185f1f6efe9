//! The kernel's side of a filter: runs classic BPF, and chooses among the answers of a stack.

use super::super::{Filter, Filters};
use crate::sandbox::syscalls::Verdict;

/// `AUDIT_ARCH_I386` and `AUDIT_ARCH_ARM`: the 32-bit calls of either architecture.
pub(super) const I386: u32 = 0x4000_0003;
pub(super) const ARM: u32 = 0x4000_0028;

/// `struct seccomp_data`, in words.
#[derive(Clone, Debug)]
pub(super) struct Call([u32; 16]);

impl Call {
    pub(super) fn new(architecture: u32, number: u32, arguments: &[u64; 6]) -> Self {
        let mut words = [0; 16];
        words[0] = number;
        words[1] = architecture;
        for (index, argument) in arguments.iter().enumerate() {
            words[4 + 2 * index] = u32::try_from(argument & u64::from(u32::MAX)).expect("a half");
            words[5 + 2 * index] = u32::try_from(argument >> 32).expect("a half");
        }
        Self(words)
    }
}

/// Runs one filter; its return value, and how many instructions that took.
pub(super) fn run(filter: &Filter, call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0_u32, 0);
    loop {
        let (code, yes, no, value) = filter.0[at];
        at += 1;
        steps += 1;
        let step = |taken: bool| usize::from(if taken { yes } else { no });
        match code {
            0x20 => accumulator = call.0[value as usize / 4],
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => at += step(accumulator == value),
            0x35 => at += step(accumulator >= value),
            0x06 => return (value, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The kernel's choice: the gravest action; of equals, that of the filter installed last.
pub(super) fn judge(filters: &Filters, call: &Call) -> Verdict {
    let mut answer = Verdict::Allow;
    for filter in filters.all() {
        let this = verdict(run(filter, call).0);
        let grave = |verdict| match verdict {
            Verdict::Allow => 0,
            Verdict::Kill => 2,
            Verdict::NotPermitted
            | Verdict::NotHere
            | Verdict::NoFamily
            | Verdict::NoProtocol
            | Verdict::Ignored => 1,
        };
        if this != Verdict::Allow && grave(this) >= grave(answer) {
            answer = this;
        }
    }
    answer
}

/// The kernel's numbers (linux/seccomp.h, errno.h), not the compiler's.
pub(super) fn verdict(value: u32) -> Verdict {
    match value {
        0x7fff_0000 => Verdict::Allow,
        0x8000_0000 => Verdict::Kill,
        0x0005_0000 => Verdict::Ignored,
        0x0005_0001 => Verdict::NotPermitted,
        0x0005_0026 => Verdict::NotHere,
        0x0005_0061 => Verdict::NoFamily,
        0x0005_005d => Verdict::NoProtocol,
        other => panic!("action {other:#x}"),
    }
}
