//! Making, executing and signalling processes, for a process that has a single thread.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{c_char, c_int, c_long, c_uint};

/// From `linux/sched.h`; libc's constant of this name has the wrong width.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Evidence that this process has one thread, so that a copy of it may do anything a process may:
/// no lock can be held by a thread that the copy lacks. Can not leave the thread that looked.
#[derive(Debug)]
pub struct SingleThreaded {
    stays_here: PhantomData<*const ()>,
}

impl SingleThreaded {
    /// Counts the threads. Who holds the result must not start one.
    pub fn prove() -> io::Result<Self> {
        let threads = fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self {
                stays_here: PhantomData,
            })
        } else {
            Err(io::Error::other(format!(
                "{threads} threads where there must be one"
            )))
        }
    }
}

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side<T> {
    /// The one that was there, with what it knows of the new one.
    Parent(T),
    /// The new one.
    Child,
}

/// A process made by `clone_session`.
#[derive(Debug)]
pub struct Cloned {
    /// Its id in the caller's namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// Copies this process.
pub fn fork(_one: &SingleThreaded) -> io::Result<Side<i32>> {
    // SAFETY: fork(2) is memory-safe in a process of one thread, which `SingleThreaded` shows.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent(pid)),
    }
}

/// Copies this process into new pid, mount, ipc and uts namespaces and, from its first instruction,
/// into `cgroup` (a folder of cgroup v2).
pub fn clone_session(_one: &SingleThreaded, cgroup: impl AsFd) -> io::Result<Side<Cloned>> {
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_PIDFD;
    // SAFETY: clone_args is made of integers; zero means "not used" for each (clone3(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP;
    args.pidfd = ptr::from_mut(&mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    args.cgroup = u64::from(cgroup.as_fd().as_raw_fd().cast_unsigned());
    // SAFETY: without CLONE_VM this is fork(2) with namespaces: memory-safe in a process of one
    // thread; `args` and the `pidfd` it points to outlive the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => {
            // SAFETY: clone3(2) with CLONE_PIDFD has just stored a new descriptor that nobody owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Side::Parent(Cloned { pid, pidfd }))
        }
    }
}

/// Executes the file behind a descriptor.
pub fn execute(
    file: impl AsFd,
    arguments: &[CString],
    environment: &[CString],
) -> io::Result<Infallible> {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    let empty: *const c_char = c"".as_ptr();
    // SAFETY: both lists end with a null pointer and borrow strings that outlive the call; the
    // kernel copies them (execveat(2)).
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            empty,
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
    pointers.push(ptr::null());
    pointers
}

/// Marks every descriptor from `first` up to be closed by the next execution.
pub fn close_from_on_exec(first: c_uint) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now, so no owner loses a descriptor.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    done(result)
}

/// Closes every descriptor from `first` up that this process inherited. Only for the first lines of
/// a process that has opened nothing yet.
pub fn close_inherited(_one: &SingleThreaded, first: c_uint) -> io::Result<()> {
    // SAFETY: the caller has just been executed and has one thread, so nothing in this process owns
    // a descriptor beyond the standard three.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, 0_u32) };
    done(result)
}

/// Sends a signal to the process behind a descriptor.
pub fn signal(pidfd: impl AsFd, signal: c_int) -> io::Result<()> {
    // SAFETY: the siginfo pointer may be null (pidfd_send_signal(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    done(result)
}

/// Ends this process at once: no destructor, no handler of the process it was copied from.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit(2) has no requirement.
    unsafe { libc::_exit(code) }
}

pub(in crate::sys) fn done(result: c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
