//! New processes that share this one's memory until they execute a program: nothing is copied, and who
//! makes one waits meanwhile, so that it is like a call of a function that has descriptors, signal
//! handlers and credentials of its own.

use std::{
    arch::asm,
    cell::Cell,
    convert::Infallible,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU8, Ordering},
};

use libc::{c_int, c_long};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::process::{SingleThreaded, exit_now};

/// From `linux/sched.h`; libc's constant of this name has the wrong width.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Exit code of a process that executed nothing; its maker knows why.
const NOT_EXECUTED: c_int = 125;
/// Bytes of a stack; only what is touched takes memory.
const STACK_BYTES: usize = 1 << 20;
/// Bytes below a stack that no access reaches.
const GUARD_BYTES: usize = 1 << 16;

/// A stack for one process at a time.
#[derive(Debug)]
pub struct Stack {
    /// Of the guard; the stack grows down to its end.
    start: NonNull<libc::c_void>,
    busy: Cell<bool>,
}

impl Stack {
    /// Maps one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD_BYTES + STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start)
            .ok_or_else(|| io::Error::other("the kernel mapped a stack at address 0"))?;
        let stack = Self {
            start,
            busy: Cell::new(false),
        };
        // SAFETY: the guard is the beginning of the mapping just made, which nothing uses yet.
        let guarded = unsafe { libc::mprotect(stack.start.as_ptr(), GUARD_BYTES, libc::PROT_NONE) };
        super::process::done(guarded.into())?;
        Ok(stack)
    }

    fn bottom(&self) -> u64 {
        (self.start.as_ptr().expose_provenance() + GUARD_BYTES) as u64
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; no process runs on it, or `self` were borrowed.
        let _unmapped = unsafe { libc::munmap(self.start.as_ptr(), GUARD_BYTES + STACK_BYTES) };
    }
}

/// What a process has of its own besides descriptors, signal handlers and credentials.
#[derive(Clone, Copy, Debug)]
pub enum Place<'fd> {
    /// Nothing.
    Here,
    /// New pid, mount, ipc and uts namespaces and, from its first instruction, this cgroup (a folder
    /// of cgroup v2).
    Session(BorrowedFd<'fd>),
}

/// A process that was made.
#[derive(Debug)]
pub struct Made<E> {
    /// Its id in the maker's namespace.
    pub pid: i32,
    /// The descriptor of one that was made with namespaces.
    pub pidfd: Option<OwnedFd>,
    /// What became of it.
    pub became: Became<E>,
}

/// What became of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Became<E> {
    /// It passed the point of no return: the program that it executed, or its own end.
    Program,
    /// It could not, and has ended.
    Failed(E),
    /// It was killed before.
    Killed,
}

/// How far a process has come: what is at stake in memory that it shares.
#[derive(Debug)]
pub struct Point(AtomicU8);

impl Point {
    const ACTING: u8 = 0;
    const PASSED: u8 = 1;
    const TOLD: u8 = 2;

    /// From here on nothing of the maker's is touched any more.
    pub fn pass(&self) {
        self.0.store(Self::PASSED, Ordering::Release);
    }

    /// The way on was closed after all.
    pub(in crate::sys) fn turn_back(&self) {
        self.0.store(Self::ACTING, Ordering::Release);
    }
}

/// What the new process does, and what it leaves behind where it executes nothing.
struct Errand<F, E> {
    act: F,
    point: Point,
    /// There once the point says `TOLD`: a process may be killed while it writes this.
    failed: Cell<MaybeUninit<E>>,
}

/// Carries `act` out in a new process, and returns when that has executed a program or ended.
///
/// `act` is `Copy`, so it owns nothing: no descriptor of the maker's is taken to be closed that is
/// closed in the new process only, and nothing is freed twice or never. What `act` itself allocates is
/// lost to the maker when a program is executed; so it should not. It may make a process in turn only
/// where it has a pid namespace: who is killed while it waits takes that one along.
pub fn make<F, E>(
    _one: &SingleThreaded,
    stack: &Stack,
    place: Place<'_>,
    act: F,
) -> io::Result<Made<E>>
where
    F: Fn(&Point) -> Result<Infallible, E> + Copy,
{
    if stack.busy.replace(true) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let errand = Errand {
        act,
        point: Point(AtomicU8::new(Point::ACTING)),
        failed: Cell::new(MaybeUninit::uninit()),
    };
    let mut pidfd: c_int = -1;
    let arguments = arguments(stack, place, &mut pidfd);
    // SAFETY: `errand` outlives the call, which returns only when the new process is done with this
    // memory; the stack is that process's alone, as `busy` shows; this process has one thread, as
    // `SingleThreaded` shows, so what the new one finds is what any function called here would find.
    let pid = unsafe { clone3(&arguments, enter::<F, E>, ptr::from_ref(&errand).cast()) };
    stack.busy.set(false);
    if pid < 0 {
        let errno = i32::try_from(pid.wrapping_neg()).unwrap_or(libc::EIO);
        return Err(io::Error::from_raw_os_error(errno));
    }
    let pidfd = (pidfd >= 0).then(|| {
        // SAFETY: clone3(2) with CLONE_PIDFD has just stored a new descriptor that nobody owns.
        unsafe { OwnedFd::from_raw_fd(pidfd) }
    });
    let became = match errand.point.0.load(Ordering::Acquire) {
        Point::PASSED => Became::Program,
        Point::TOLD => {
            let failed = errand.failed.replace(MaybeUninit::uninit());
            // SAFETY: `TOLD` is stored after it was written, and only then.
            Became::Failed(unsafe { failed.assume_init() })
        }
        _ => {
            if let Some(pidfd) = &pidfd {
                gone(pidfd.as_fd())?;
            }
            Became::Killed
        }
    };
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(Made { pid, pidfd, became })
}

/// Waits until process 1 of a namespace, and everything in it with it, is gone. One that was killed
/// while it waited for a process of its own leaves that one a moment longer in this memory.
fn gone(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        match poll(
            &mut [PollFd::new(pidfd, PollFlags::POLLIN)],
            PollTimeout::NONE,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn arguments(stack: &Stack, place: Place<'_>, pidfd: &mut c_int) -> libc::clone_args {
    let shared = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: clone_args is made of integers; zero means "not used" for each (clone3(2)).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(shared.cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments.stack = stack.bottom();
    arguments.stack_size = STACK_BYTES as u64;
    if let Place::Session(cgroup) = place {
        let own = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_PIDFD;
        arguments.flags |= u64::from(own.cast_unsigned()) | CLONE_INTO_CGROUP;
        arguments.pidfd = ptr::from_mut(pidfd).expose_provenance() as u64;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    arguments
}

/// The new process's first function, on its own stack.
extern "C" fn enter<F, E>(errand: *const libc::c_void) -> !
where
    F: Fn(&Point) -> Result<Infallible, E> + Copy,
{
    // SAFETY: `make` passes its errand, of these types, and waits until this process is done with it.
    let errand = unsafe { &*errand.cast::<Errand<F, E>>() };
    let Err(error) = (errand.act)(&errand.point);
    errand.failed.set(MaybeUninit::new(error));
    errand.point.0.store(Point::TOLD, Ordering::Release);
    exit_now(NOT_EXECUTED)
}

/// `clone3(2)`, whose new process calls `enter` with `errand` on the stack of the arguments; the maker
/// gets its id, or an errno below zero. libc has no function for it: the new process must not return
/// into a frame of the maker's.
///
/// # Safety
///
/// The arguments say `CLONE_VM`, `CLONE_VFORK` and a stack that nothing else uses, and `enter` may be
/// called with `errand`.
unsafe fn clone3(
    arguments: &libc::clone_args,
    enter: extern "C" fn(*const libc::c_void) -> !,
    errand: *const libc::c_void,
) -> c_long {
    let result: c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the maker goes through the call as through any other; the new process, which has the
    // same registers but a stack of its own, 16 bytes aligned at its top, never leaves `enter`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {errand}",
            "call {enter}",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            errand = in(reg) errand,
            enter = in(reg) enter,
            out("rcx") _,
            out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {errand}",
            "blr {enter}",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") ptr::from_ref(arguments) => result,
            in("x1") size_of::<libc::clone_args>(),
            errand = in(reg) errand,
            enter = in(reg) enter,
            lateout("x30") _,
        );
    }
    result
}

#[cfg(test)]
mod tests;
