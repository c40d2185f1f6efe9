//! `bpf(2)`: pins, cgroup links and test runs.
//!
//! aya loads the object; this file does what aya has no way to do: update a pinned cgroup link, read
//! what a link is attached to, load a program that is no object. It knows no map and no hook by name.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const PROG_LOAD: i64 = 5;
const OBJ_PIN: i64 = 6;
const OBJ_GET: i64 = 7;
const PROG_TEST_RUN: i64 = 10;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const LINK_CREATE: i64 = 28;
const LINK_UPDATE: i64 = 29;
const ENABLE_STATS: i64 = 32;
const LINK_DETACH: i64 = 34;

/// The attributes of one command, in the kernel's layout (`union bpf_attr`, linux/bpf.h).
///
/// # Safety
/// `repr(C)`, without padding that the kernel reads, and every pointer in it is valid for the call.
pub(in crate::sys) unsafe trait Attributes {}

macro_rules! attributes {
    ($(struct $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            #[repr(C)]
            struct $name { $($field: $type,)* }
            // SAFETY: laid out by hand as in linux/bpf.h; the functions below fill it from live
            // references.
            unsafe impl Attributes for $name {}
        )*
    };
}

attributes! {
    struct Load {
        kind: u32, count: u32, instructions: u64, license: u64, log_level: u32, log_size: u32,
        log: u64, kernel_version: u32, flags: u32, name: [u8; 16], ifindex: u32, attach_type: u32,
    }
    struct Pinned { path: u64, fd: u32, flags: u32, }
    struct Info { fd: u32, length: u32, out: u64, }
    struct LinkCreate { program: u32, target: u32, attach_type: u32, flags: u32, }
    struct LinkUpdate { link: u32, program: u32, flags: u32, expected: u32, }
    struct LinkDetach { target: u32, }
    struct EnableStats { kind: u32, }
    struct TestRun {
        program: u32, retval: u32, size_in: u32, size_out: u32, data_in: u64, data_out: u64,
        repeat: u32, duration: u32, context_size_in: u32, context_size_out: u32,
        context_in: u64, context_out: u64,
    }
}

pub(in crate::sys) fn call<A: Attributes>(command: i64, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: the pointer and the size describe one live value, which `Attributes` vouches for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(clippy::cast_possible_truncation, reason = "a descriptor or 0")]
    Ok(result as RawFd)
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(in crate::sys) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

pub(in crate::sys) fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>().addr() as u64
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Pins a map, program or link.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = Pinned {
        path: address(path.as_bytes_with_nul()),
        fd: number(fd),
        flags: 0,
    };
    call(OBJ_PIN, &mut attributes).map(drop)
}

/// Opens a pinned map, program or link.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Pinned {
        path: address(path.as_bytes_with_nul()),
        fd: 0,
        flags: 0,
    };
    call(OBJ_GET, &mut attributes).map(owned)
}

/// Attaches a program to a cgroup. The link holds until it is neither open nor pinned.
pub fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program),
        target: number(cgroup),
        attach_type,
        flags: 0,
    };
    call(LINK_CREATE, &mut attributes).map(owned)
}

/// Replaces the program of a link. No packet meets neither program.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: number(link),
        program: number(program),
        flags: 0,
        expected: 0,
    };
    call(LINK_UPDATE, &mut attributes).map(drop)
}

/// Detaches a link at once, whoever else holds it open.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkDetach {
        target: number(link),
    };
    call(LINK_DETACH, &mut attributes).map(drop)
}

/// What a cgroup link is attached to (`struct bpf_link_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// The cgroup, or 0 where it was removed: such a link is severed for good.
    pub cgroup: u64,
    /// `enum bpf_attach_type`
    pub attach_type: u32,
}

/// Asks what a cgroup link is attached to.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let [_, _, cgroup, attach_type] = info::<[u64; 4]>(link)?;
    #[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
    Ok(LinkInfo {
        cgroup,
        attach_type: attach_type.to_le() as u32,
    })
}

/// Sizes of a map (`struct bpf_map_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapInfo {
    /// `enum bpf_map_type`
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// The kernel's number for it.
    pub id: u32,
}

/// Asks for the sizes of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let [kind, id, key_size, value_size, max_entries, _] = info::<[u32; 6]>(map)?;
    Ok(MapInfo {
        kind,
        key_size,
        value_size,
        max_entries,
        id,
    })
}

/// What the kernel counts for a program (`struct bpf_prog_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramInfo {
    /// Instructions that the verifier went through to accept it (Linux 5.16; 0 before).
    pub verified: u32,
    /// Nanoseconds that it has run while a descriptor of [`count_runs`] was open.
    pub run_ns: u64,
    /// How often it has run meanwhile.
    pub runs: u64,
}

/// Asks what the kernel counts for a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    /// Bytes of the structure up to the end of the word that holds `verified_insns`, in words.
    const WORDS: usize = 28;
    let words = info::<[u64; WORDS]>(program)?;
    let [.., run_ns, runs, _recursion_misses, verified] = words;
    #[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
    Ok(ProgramInfo {
        verified: verified.to_le() as u32,
        run_ns,
        runs,
    })
}

/// Has the kernel count and time the runs of every program, until the descriptor is dropped.
pub fn count_runs() -> io::Result<OwnedFd> {
    /// `BPF_STATS_RUN_TIME`
    const RUN_TIME: u32 = 0;
    call(ENABLE_STATS, &mut EnableStats { kind: RUN_TIME }).map(owned)
}

fn info<T: Copy + Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut out = T::default();
    let mut attributes = Info {
        fd: number(fd),
        length: length(size_of::<T>()),
        out: std::ptr::from_mut(&mut out).addr() as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(out)
}

/// A program that passes everything and does nothing else: `r0 = 1; exit` (RFC 9669: opcode,
/// registers, offset, number).
pub const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// How often a load that is disturbed is begun; libbpf's number.
const LOADS_MAX: u32 = 5;

/// The kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("{source}{}{log}", if log.is_empty() { "" } else { ": " })]
pub struct Refused {
    source: io::Error,
    /// The end of what the verifier said; empty where it was not asked.
    log: String,
}

/// Loads a program of a kind (`enum bpf_prog_type`) for a hook (`enum bpf_attach_type`); `license`
/// ends in a NUL.
pub fn load(
    kind: u32,
    attach_type: u32,
    instructions: &[[u8; 8]],
    license: &[u8],
) -> Result<OwnedFd, Refused> {
    undisturbed(
        || load_once(kind, attach_type, instructions, license),
        |refused| refused.source.raw_os_error() == Some(libc::EAGAIN),
    )
}

/// Loads a program, again where it was disturbed: with a signal waiting the verifier gives up with
/// `EAGAIN` (`do_check`, kernel/bpf/verifier.c), which says nothing of the program.
pub fn undisturbed<T, E>(
    mut load: impl FnMut() -> Result<T, E>,
    is_disturbed: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 1..LOADS_MAX {
        match load() {
            Err(error) if is_disturbed(&error) => {}
            other => return other,
        }
    }
    load()
}

fn load_once(
    kind: u32,
    attach_type: u32,
    instructions: &[[u8; 8]],
    license: &[u8],
) -> Result<OwnedFd, Refused> {
    const LOG_BYTES: usize = 1 << 20;
    /// Bytes of the log that are kept.
    const LOG_KEPT: usize = 1_024;
    let mut attributes = Load {
        kind,
        count: length(instructions.len()),
        instructions: address(instructions),
        license: address(license),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"stockade\0\0\0\0\0\0\0\0",
        ifindex: 0,
        attach_type,
    };
    if let Ok(fd) = call(PROG_LOAD, &mut attributes) {
        return Ok(owned(fd));
    }
    // Once more, for the reason.
    let mut log = vec![0_u8; LOG_BYTES];
    attributes.log_level = 1;
    attributes.log_size = length(log.len());
    attributes.log = log.as_mut_ptr().addr() as u64;
    call(PROG_LOAD, &mut attributes)
        .map(owned)
        .map_err(|source| {
            let log = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let kept = log.get(log.len().saturating_sub(LOG_KEPT)..);
            let log = String::from_utf8_lossy(kept.unwrap_or_default());
            Refused {
                source,
                log: log.trim().to_owned(),
            }
        })
}

/// Loads a packet program for egress that passes everything: what is left of a test run's time when
/// there is nothing to decide.
pub fn load_passing() -> Result<OwnedFd, Refused> {
    /// `BPF_PROG_TYPE_CGROUP_SKB`
    const CGROUP_SKB: u32 = 8;
    /// `BPF_CGROUP_INET_EGRESS`
    const EGRESS: u32 = 1;
    load(
        CGROUP_SKB,
        EGRESS,
        &PASS,
        c"Dual MIT/GPL".to_bytes_with_nul(),
    )
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.source.kind(), refused)
    }
}

/// Result of a test run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TestRunResult {
    /// What the program returned.
    pub retval: u32,
    /// Mean nanoseconds of a run.
    pub duration_ns: u32,
}

/// Runs a packet program on a frame (with Ethernet header) that arrives on a device.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
) -> io::Result<TestRunResult> {
    /// Offset of `ifindex` in `struct __sk_buff`, in words.
    const IFINDEX: usize = 10;
    const WORDS: usize = 48;
    let mut context = [0_u32; WORDS];
    if let Some(word) = context.get_mut(IFINDEX) {
        *word = ifindex;
    }
    let mut attributes = TestRun {
        program: number(program),
        retval: 0,
        size_in: length(frame.len()),
        size_out: 0,
        data_in: address(frame),
        data_out: 0,
        repeat,
        duration: 0,
        context_size_in: length(size_of_val(&context)),
        context_size_out: 0,
        context_in: address(&context),
        context_out: 0,
    };
    call(PROG_TEST_RUN, &mut attributes)?;
    Ok(TestRunResult {
        retval: attributes.retval,
        duration_ns: attributes.duration,
    })
}

#[cfg(test)]
mod tests;
