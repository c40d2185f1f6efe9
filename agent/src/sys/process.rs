//! Making, executing and signalling processes, for a process that has a single thread.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use libc::{c_char, c_int, c_long, c_uint};

use super::clone::Point;

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

    /// For a test that copies its process: the copy has one thread, and does little with it.
    #[cfg(test)]
    pub(in crate::sys) fn for_tests() -> Self {
        Self {
            stays_here: PhantomData,
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

/// Arguments or environment in the form that the kernel takes: who executes a program in memory that it
/// shares can not allocate.
#[derive(Debug)]
pub struct Vectors {
    /// Each points to a string below; a null pointer is the last.
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Vectors {
    /// The form of these strings.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Executes the file behind a descriptor.
pub fn execute(
    file: impl AsFd,
    arguments: &Vectors,
    environment: &Vectors,
    point: &Point,
) -> io::Result<Infallible> {
    point.pass();
    let empty: *const c_char = c"".as_ptr();
    // SAFETY: both lists end with a null pointer and borrow strings that outlive the call; the
    // kernel copies them (execveat(2)).
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            empty,
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    let error = io::Error::last_os_error();
    point.turn_back();
    Err(error)
}

/// Makes this number stand for what a descriptor stands for, over an execution too. Only in a process
/// that is about to execute a program and owns nothing: what had the number before is closed.
pub(crate) fn move_to(source: impl AsFd, number: c_int) -> io::Result<()> {
    // SAFETY: the number may have an owner in the process whose memory this one shares; that has
    // descriptors of its own and loses none.
    let moved = unsafe { libc::dup3(source.as_fd().as_raw_fd(), number, 0) };
    done(moved.into())
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

/// Whether two threads have the same descriptors (`kcmp(2)`); not where the kernel does not tell.
pub fn shares_descriptors(one: u32, other: u32) -> bool {
    const KCMP_FILES: c_int = 2;
    // SAFETY: for this kind kcmp(2) takes numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) };
    order == 0
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
