//! The last steps of a worker, from the making of its process to its program, as process 1 has them
//! taken, and what is given up before process 1 becomes a program of its own.
//!
//! Which steps and in which order is decided here, in the template; nobody decides anything later.

use std::{ffi::CString, os::fd::RawFd};

use libc::{
    AT_EMPTY_PATH, CLOSE_RANGE_CLOEXEC, PR_SET_PDEATHSIG, SIG_SETMASK, SIGKILL, SYS_chdir,
    SYS_close_range, SYS_dup3, SYS_execveat, SYS_getppid, SYS_landlock_restrict_self, SYS_prctl,
    SYS_prlimit64, SYS_rt_sigprocmask, SYS_seccomp, SYS_setsid, SYS_umask,
};
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use super::{
    errand::{Errand, THEN_PROGRAM, THEN_SELF_TEST, Value},
    error::{At, Step, StepError},
    plan::{Plan, WORKDIR},
    rlimit::{self, Limited},
};
use crate::sys::{self, errand::FIRST_DESCRIPTOR};

/// Process 1 of the session: the worker's parent.
const INIT: u64 = 1;
/// Descriptors from here on do not reach the worker.
const FIRST_PRIVATE: u32 = 3;
/// Others have no right to what a worker makes, unless it says so.
const MASK: u32 = 0o077;
/// Bytes of the kernel's signal mask.
const SIGNALS_BYTES: u32 = 8;
/// What comes to process 1 after the three streams.
const PROGRAM: RawFd = FIRST_DESCRIPTOR + 3;
const RULES: RawFd = FIRST_DESCRIPTOR + 4;

/// A step of the worker's process: what it is named by on its way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Deed {
    Session,
    Mask,
    Stream,
    Limit,
    DeathSignal,
    Parent,
    Workdir,
    Landlock,
    Descriptors,
    Signals,
    Filter,
    Execute,
}

impl Deed {
    const ALL: [Self; 12] = [
        Self::Session,
        Self::Mask,
        Self::Stream,
        Self::Limit,
        Self::DeathSignal,
        Self::Parent,
        Self::Workdir,
        Self::Landlock,
        Self::Descriptors,
        Self::Signals,
        Self::Filter,
        Self::Execute,
    ];

    /// The tag of the step, with its place among steps of the same kind.
    fn tag(self, place: usize) -> u64 {
        (place as u64) << u8::BITS | u64::from(self as u8)
    }

    fn of_tag(tag: i32) -> Option<(Self, usize)> {
        let tag = usize::try_from(tag).ok()?;
        let deed = Self::ALL.get(tag & usize::from(u8::MAX))?;
        Some((*deed, tag >> u8::BITS))
    }
}

/// The steps of a worker as process 1 takes them. With them go standard input, output and error, the
/// program's file and landlock's rules, those of the session's own mounts included. Without the arguments of
/// a program it tries, when every layer is in force, what the fence must refuse.
pub fn errand(
    plan: &Plan,
    memory_counted: bool,
    program: Option<&[CString]>,
) -> Result<Vec<u8>, StepError> {
    let mut errand = Errand::default();
    errand.step(Deed::Session.tag(0), SYS_setsid, &[]);
    errand.step(Deed::Mask.tag(0), SYS_umask, &[MASK.into()]);
    for (place, stream) in (0..3_i32).enumerate() {
        let from = FIRST_DESCRIPTOR.saturating_add(stream);
        let arguments = [from.into(), stream.into(), Value::Number(0)];
        errand.step(Deed::Stream.tag(place), SYS_dup3, &arguments);
    }
    for (place, limit) in plan.limits.iter().enumerate() {
        if limit.limited == Limited::Data && memory_counted {
            continue;
        }
        // `struct rlimit64`: soft and hard.
        let both = errand.words(&[Value::Number(limit.value); 2]);
        let resource = Value::from(rlimit::resource(limit.limited));
        let arguments = [Value::Number(0), resource, both, Value::Number(0)];
        errand.step(Deed::Limit.tag(place), SYS_prlimit64, &arguments);
    }
    let arguments = [PR_SET_PDEATHSIG.into(), SIGKILL.into()];
    errand.step(Deed::DeathSignal.tag(0), SYS_prctl, &arguments);
    errand.step_answering(Deed::Parent.tag(0), SYS_getppid, &[], INIT);
    let workdir = CString::new(WORKDIR).at(Step::Mounts, WORKDIR)?;
    let workdir = errand.data(workdir.as_bytes_with_nul());
    errand.step(Deed::Workdir.tag(0), SYS_chdir, &[workdir]);
    let arguments = [RULES.into()];
    errand.step(
        Deed::Landlock.tag(0),
        SYS_landlock_restrict_self,
        &arguments,
    );
    // The program's own descriptor is among them: it is needed until the execution.
    let arguments = [
        FIRST_PRIVATE.into(),
        u32::MAX.into(),
        CLOSE_RANGE_CLOEXEC.into(),
    ];
    errand.step(Deed::Descriptors.tag(0), SYS_close_range, &arguments);
    let none = errand.words(&[Value::Number(0)]);
    let arguments = [
        SIG_SETMASK.into(),
        none,
        Value::Number(0),
        SIGNALS_BYTES.into(),
    ];
    errand.step(Deed::Signals.tag(0), SYS_rt_sigprocmask, &arguments);
    for (place, filter) in plan.filters.session.iter().enumerate() {
        let instructions = errand.data(&filter.bytes());
        // `struct sock_fprog`: a count, padded to a word, and where they are.
        let count = Value::Number(filter.instructions() as u64);
        let program = errand.words(&[count, instructions]);
        let arguments = [
            libc::SECCOMP_SET_MODE_FILTER.into(),
            Value::Number(0),
            program,
        ];
        errand.step(Deed::Filter.tag(place), SYS_seccomp, &arguments);
    }
    let Some(program) = program else {
        return errand.finish(THEN_SELF_TEST);
    };
    let empty = errand.data(&[0]);
    let arguments = errand.strings(program.iter());
    let environment = environment(plan)?;
    let environment = errand.strings(environment.iter());
    let arguments = [
        PROGRAM.into(),
        empty,
        arguments,
        environment,
        AT_EMPTY_PATH.into(),
    ];
    errand.step(Deed::Execute.tag(0), SYS_execveat, &arguments);
    errand.finish(THEN_PROGRAM)
}

fn environment(plan: &Plan) -> Result<Vec<CString>, StepError> {
    let variables = plan.environment.iter();
    variables
        .map(|variable| CString::new(variable.as_str()).at(Step::Request, "environment"))
        .collect()
}

/// The step that did not succeed, by its tag. `program` is the name under which one was asked for.
#[must_use]
pub fn failed(plan: &Plan, program: &str, tag: i32, errno: i32) -> StepError {
    let of = |step, detail: String| StepError {
        step,
        detail,
        errno,
    };
    let Some((deed, place)) = Deed::of_tag(tag) else {
        return of(Step::Supervise, format!("process 1 names a step {tag}"));
    };
    match deed {
        Deed::Session => of(Step::TerminalSession, "setsid".to_owned()),
        Deed::Mask => of(Step::TerminalSession, "mask of modes".to_owned()),
        Deed::Stream => {
            let names = ["input", "output", "error"];
            let name = names.get(place).copied().unwrap_or("stream");
            of(Step::Stdio, format!("standard {name}"))
        }
        Deed::Limit => {
            let limited = plan.limits.get(place).map(|limit| limit.limited);
            let limited = limited.map_or_else(|| "?".to_owned(), |one| format!("{one:?}"));
            of(
                Step::Limits,
                format!(
                    "resource limit `{limited}`\n\
                     hint: the agent may have been started with a lower hard limit"
                ),
            )
        }
        Deed::DeathSignal => of(Step::DeathSignal, "death signal".to_owned()),
        Deed::Parent => of(Step::DeathSignal, "process 1 is gone".to_owned()),
        Deed::Workdir => of(Step::Mounts, WORKDIR.to_owned()),
        Deed::Landlock => of(Step::Landlock, "rules".to_owned()),
        Deed::Descriptors => of(Step::Descriptors, "close_range".to_owned()),
        Deed::Signals => of(Step::TerminalSession, "signals".to_owned()),
        Deed::Filter => of(Step::Seccomp, "system call filter".to_owned()),
        Deed::Execute => of(
            Step::Execute,
            format!(
                "program `{program}`: can not be executed\n\
                 hint: it, or its ELF interpreter, may lie outside `filesystem.execute`"
            ),
        ),
    }
}

/// Gives up user, groups, keys and every capability, for good. The bounding and the ambient set are
/// empty and the securebits are locked already, once per policy.
pub fn give_up(uid: u32) -> Result<(), StepError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).at(Step::Identity, "setgroups")?;
    setresgid(group, group, group).at(Step::Identity, "setresgid")?;
    setresuid(user, user, user).at(Step::Identity, "setresuid")?;
    sys::keyring::join_empty_session().at(Step::Keyring, "session keyring")?;
    sys::credentials::empty_capability_sets().at(Step::Capabilities, "capabilities")?;
    prctl::set_no_new_privs().at(Step::NoNewPrivileges, "no_new_privs")
}

#[cfg(test)]
mod tests {
    use super::Deed;

    #[test]
    fn a_tag_names_its_step() {
        for (place, deed) in Deed::ALL.into_iter().enumerate() {
            let tag = i32::try_from(deed.tag(place)).expect("a small number");
            assert_eq!(Deed::of_tag(tag), Some((deed, place)));
        }
        assert_eq!(Deed::of_tag(-1), None);
        assert_eq!(Deed::of_tag(200), None);
    }
}
