//! Loads the object: maps from their pins where there are some, programs always anew.

use std::{os::fd::OwnedFd, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramError},
};

use super::{
    attach::{HOOKS, Hook},
    error::Error,
    lines,
    maps::{Maps, PINNED},
    object::OBJECT,
    pin::PinFolder,
    unix::{self, UNIX_HOOKS},
};
use crate::{config::KernelLog, sys::bpf::undisturbed};

/// A loaded program.
#[derive(Debug)]
pub(in crate::kernel) struct LoadedProgram {
    /// Where it belongs.
    pub(in crate::kernel) hook: &'static Hook,
    /// Its descriptor.
    pub(in crate::kernel) fd: OwnedFd,
}

/// What a load leaves.
pub(in crate::kernel) struct Loaded {
    pub(in crate::kernel) maps: Maps,
    pub(in crate::kernel) programs: Vec<LoadedProgram>,
    /// Whether the hooks on unix sockets are among them.
    pub(in crate::kernel) unix_hooks: bool,
    /// `None` while the programs' own log is off.
    pub(in crate::kernel) logger: Option<lines::Logger>,
}

/// Loads everything. On failure the pins that were there stay as they were.
pub(in crate::kernel) fn load(pins: &PinFolder, log: KernelLog) -> Result<Loaded, Error> {
    let paths: Vec<(&str, PathBuf)> = PINNED.iter().map(|n| (*n, pins.path(n))).collect();
    let mut loader = EbpfLoader::new();
    lines::prepare(&mut loader, log);
    loader.verifier_log_level(VerifierLogLevel::DEBUG);
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| refused_object(&error))?;
    let mut programs = HOOKS
        .iter()
        .map(|hook| load_program(&mut ebpf, hook))
        .collect::<Result<Vec<_>, _>>()?;
    let unix = unix::load(&ebpf)?;
    if let Err(lack) = &unix {
        tracing::info!(lack, "no hooks on unix sockets");
    }
    let unix_hooks = unix.is_ok();
    programs.extend(unix.into_iter().flatten());
    Ok(Loaded {
        maps: Maps::take(&mut ebpf)?,
        programs,
        unix_hooks,
        logger: match log {
            KernelLog::Off => None,
            KernelLog::Warn | KernelLog::Info | KernelLog::Debug => Some(lines::take(&mut ebpf)?),
        },
    })
}

/// What the verifier said to a hook.
#[derive(Debug)]
pub(in crate::kernel) struct Tried {
    pub(in crate::kernel) hook: &'static str,
    /// Whether the fence stands without it.
    pub(in crate::kernel) optional: bool,
    pub(in crate::kernel) outcome: Result<(), String>,
}

/// Loads each program without pins and without attaching it, and lets go of it: what the verifier
/// says to each hook.
pub(in crate::kernel) fn try_each(log: KernelLog) -> Result<Vec<Tried>, Error> {
    let mut loader = EbpfLoader::new();
    lines::prepare(&mut loader, log);
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| refused_object(&error))?;
    let mut outcome = |hook: &'static Hook| match load_program(&mut ebpf, hook) {
        Ok(_program) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let mut tried: Vec<Tried> = HOOKS
        .iter()
        .map(|hook| Tried {
            hook: hook.name,
            optional: false,
            outcome: outcome(hook),
        })
        .collect();
    let unix = match unix::load(&ebpf) {
        Ok(available) => available.map(drop),
        Err(error) => Err(error.to_string()),
    };
    tried.extend(UNIX_HOOKS.iter().map(|hook| Tried {
        hook: hook.name,
        optional: true,
        outcome: unix.clone(),
    }));
    Ok(tried)
}

fn refused_object(error: &aya::EbpfError) -> Error {
    Error::Object {
        message: chain(error),
        release: super::probe::release(),
    }
}

fn load_program(ebpf: &mut Ebpf, hook: &'static Hook) -> Result<LoadedProgram, Error> {
    let missing = Error::Missing { name: hook.name };
    let Some(program) = ebpf.program_mut(hook.name) else {
        return Err(missing);
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "our object has programs of these kinds only"
    )]
    let loaded = match program {
        Program::CgroupSkb(program) => undisturbed(|| program.load(), is_disturbed),
        Program::CgroupSock(program) => undisturbed(|| program.load(), is_disturbed),
        Program::CgroupSockAddr(program) => undisturbed(|| program.load(), is_disturbed),
        Program::SockOps(program) => undisturbed(|| program.load(), is_disturbed),
        _ => return Err(missing),
    };
    let refused = |error: &dyn std::error::Error| Error::Program {
        hook: hook.name,
        message: chain(error),
        release: super::probe::release(),
    };
    loaded.map_err(|error| refused(&error))?;
    let fd = program.fd().map_err(|error| refused(&error))?;
    let fd = std::os::fd::AsFd::as_fd(fd)
        .try_clone_to_owned()
        .map_err(|error| refused(&error))?;
    Ok(LoadedProgram { hook, fd })
}

fn is_disturbed(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. }
        if io_error.raw_os_error() == Some(libc::EAGAIN))
}

/// Lines of a refused program's log that are kept: the verifier names the reason in the last ones,
/// after what may be megabytes.
const LOG_LINES_MAX: usize = 12;

/// An error and its sources, cut to the end: aya's own texts leave the sources out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINES_MAX);
    if skipped == 0 {
        return text;
    }
    let kept = lines.get(skipped..).unwrap_or_default();
    format!("[{skipped} lines left out]\n{}", kept.join("\n"))
}
