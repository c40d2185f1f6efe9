//! Process 1 of a session: a program of its own without a library, so that nothing of whoever started
//! it is in its memory. It waits for its errand (`worker`), which is to make the worker; then it reaps,
//! hands signals on to the worker, tells how the worker ended, and ends with it or with the template; the
//! kernel then ends everything in the namespace.
//!
//! It starts without privileges, with every signal blocked, the template's pipe as descriptor 0, the
//! status pipe as 1, the null device as 2 and the socket of its errand as 3. `build.rs` compiles it, the
//! launcher keeps it in a file that its user can not read: so it is not dumpable from its first
//! instruction on.

#![no_std]
#![no_main]

mod attempts;
mod calls;
mod errand;
mod worker;

use core::{arch::global_asm, panic::PanicInfo};

use self::calls::{
    POLLERR, POLLHUP, POLLIN, PollFd, address, address_mut, call, descriptor, end, number, poll,
};

/// The worker is the first process that process 1 makes; it leads a group of its own.
const WORKER: i32 = 2;
/// Hangs up when the template is gone.
const ALIVE: i32 = 0;
/// Where the worker's wait status goes, 4 bytes in the machine's order (`wait(2)`).
const STATUS: i32 = 1;

const WNOHANG: usize = 1;
const SIGCHLD: u32 = 17;
/// `O_CLOEXEC | O_NONBLOCK`
const SFD_FLAGS: usize = 0o2_004_000;
const MASK_BYTES: usize = 8;
/// Words of `struct signalfd_siginfo` (`signalfd(2)`), whose first one is the signal's number.
const SIGINFO_WORDS: usize = 32;
const PR_SET_DUMPABLE: usize = 4;
const PR_SET_NAME: usize = 15;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "bl {main}",
    "brk #1",
    main = sym main,
);

extern "C" fn main() -> ! {
    // Belt and braces: the file's mode has seen to it.
    call(number::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]);
    call(number::PRCTL, [PR_SET_NAME, address(c"init"), 0, 0, 0]);
    worker::start();
    let all = u64::MAX;
    let signals = call(
        number::SIGNALFD4,
        [usize::MAX, address(&all), MASK_BYTES, SFD_FLAGS, 0],
    );
    let Ok(signals) = i32::try_from(signals) else {
        end(0)
    };
    if signals < 0 {
        end(0);
    }
    loop {
        reap();
        wait(signals);
        hand_on(signals);
    }
}

/// Waits for a signal; ends when the template is gone, or when nobody reads the status any more: then
/// nobody owns the session.
fn wait(signals: i32) {
    let mut fds = [
        PollFd::new(signals, POLLIN),
        PollFd::new(ALIVE, 0),
        PollFd::new(STATUS, 0),
    ];
    poll(&mut fds);
    if fds[1].seen & POLLHUP != 0 || fds[2].seen & POLLERR != 0 {
        // The death signal is on its way as well; without a word is how it looks either way.
        end(0);
    }
}

/// Hands signals on to the worker's group, as a terminal would: a shell and what it waits for.
fn hand_on(signals: i32) {
    let mut info = [0_u32; SIGINFO_WORDS];
    let size = size_of_val(&info);
    loop {
        let read = call(
            number::READ,
            [descriptor(signals), address_mut(&mut info), size, 0, 0],
        );
        if read.cast_unsigned() != size {
            return;
        }
        let signal = info[0];
        if signal != SIGCHLD {
            // It may end in this moment; the next turn of the loop sees that.
            call(
                number::KILL,
                [descriptor(-WORKER), signal as usize, 0, 0, 0],
            );
        }
    }
}

/// Reaps what ended; when the worker did, tells how and ends.
fn reap() {
    loop {
        let mut status = 0_i32;
        let pid = call(
            number::WAIT4,
            [usize::MAX, address_mut(&mut status), WNOHANG, 0, 0],
        );
        if pid <= 0 {
            return;
        }
        if pid == WORKER as isize {
            // When the agent does not listen any more there is nobody left to tell.
            let size = size_of_val(&status);
            call(
                number::WRITE,
                [descriptor(STATUS), address(&status), size, 0, 0],
            );
            end(0);
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    end(0)
}
