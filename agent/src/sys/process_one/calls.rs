//! System calls of a program without a library.

use core::arch::asm;

#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const MADVISE: usize = 28;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const MADVISE: usize = 233;
    pub(crate) const RECVMSG: usize = 212;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const WAIT4: usize = 260;
    pub(crate) const KILL: usize = 129;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const SIGNALFD4: usize = 74;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

const MASK_BYTES: usize = 8;

/// Something is there to be read.
pub(crate) const POLLIN: i16 = 1;
/// Nobody reads the other end any more.
pub(crate) const POLLERR: i16 = 8;
/// The other end is closed.
pub(crate) const POLLHUP: i16 = 0x10;

/// `struct pollfd` (`poll(2)`).
#[repr(C)]
pub(crate) struct PollFd {
    fd: i32,
    events: i16,
    pub(crate) seen: i16,
}

impl PollFd {
    pub(crate) fn new(fd: i32, events: i16) -> Self {
        Self {
            fd,
            events,
            seen: 0,
        }
    }
}

/// Waits until something is seen of one of them.
pub(crate) fn poll(fds: &mut [PollFd]) {
    let (first, count) = (fds.as_mut_ptr().expose_provenance(), fds.len());
    call(number::PPOLL, [first, count, 0, 0, MASK_BYTES]);
}

/// Ends this process, and with process 1 everything in the namespace.
pub(crate) fn end(code: u8) -> ! {
    loop {
        call(number::EXIT_GROUP, [code.into(), 0, 0, 0, 0]);
    }
}

pub(crate) fn descriptor(number: i32) -> usize {
    number as isize as usize
}

pub(crate) fn address<T: ?Sized>(of: &T) -> usize {
    core::ptr::from_ref(of).cast::<u8>().expose_provenance()
}

pub(crate) fn address_mut<T: ?Sized>(of: &mut T) -> usize {
    core::ptr::from_mut(of).cast::<u8>().expose_provenance()
}

/// A system call: its result, or an errno below zero.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: every address that this program passes is that of a live value of the size that the
    // kernel is told; `syscall` changes the two named registers and nothing else.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call: its result, or an errno below zero.
#[cfg(target_arch = "aarch64")]
pub(crate) fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: every address that this program passes is that of a live value of the size that the
    // kernel is told; `svc` changes nothing but the result.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            options(nostack),
        );
    }
    result
}
