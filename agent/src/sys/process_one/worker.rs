//! The errand: waits for it, makes the worker's process, and has that take the steps that it lists. What
//! they are the template has decided; nothing is computed here.

use core::{
    arch::asm,
    cell::UnsafeCell,
    sync::atomic::{AtomicI32, Ordering},
};

use crate::{
    ALIVE, STATUS, attempts,
    calls::{POLLERR, POLLHUP, PollFd, address, address_mut, call, descriptor, end, number, poll},
    errand::{
        ANSWER_WORDS, ANY, ARGUMENTS, DESCRIPTORS, DONE, ERRAND_BYTES_MAX, FAILED,
        FIRST_DESCRIPTOR, HEAD_WORDS, KILLED, REPORT, STEP_WORDS, THEN_PROGRAM, THEN_SELF_TEST,
        UNREADABLE,
    },
};

/// Where the errand comes.
const ERRAND: i32 = 3;
const WORDS: usize = ERRAND_BYTES_MAX / size_of::<u64>();
const STACK_BYTES: usize = 1 << 14;
const MADV_DONTNEED: usize = 4;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
/// `MSG_TRUNC | MSG_CTRUNC`
const CUT: i32 = 0x20 | 0x8;
/// `SOL_SOCKET`, and `SCM_RIGHTS`
const RIGHTS: (i32, i32) = (1, 1);
/// The steps name them: nothing else is open when they come.
const NUMBERS: [i32; DESCRIPTORS] = {
    let first = FIRST_DESCRIPTOR;
    [first, first + 1, first + 2, first + 3, first + 4]
};
/// `CLONE_VM | CLONE_VFORK | SIGCHLD`: nothing is copied, and this process waits until the new one has
/// executed its program or ended.
const LIKE_A_CALL: usize = 0x100 | 0x4000 | 17;
/// Exit code of a worker's process that executed nothing.
const NOT_EXECUTED: u8 = 125;

/// How far the worker's process has come: still at its steps, or one of the answers.
static REACHED: AtomicI32 = AtomicI32::new(AT_STEPS);
const AT_STEPS: i32 = 0;
static TAG: AtomicI32 = AtomicI32::new(0);
static ERRNO: AtomicI32 = AtomicI32::new(0);

/// Memory that one part of this program uses at a time.
#[repr(C, align(4096))]
struct Place<T>(UnsafeCell<T>);

// SAFETY: this program has one thread, and its maker waits while the worker's process uses its memory.
unsafe impl<T> Sync for Place<T> {}

static MESSAGE: Place<[u64; WORDS]> = Place(UnsafeCell::new([0; WORDS]));
static STACK: Place<[u8; STACK_BYTES]> = Place(UnsafeCell::new([0; STACK_BYTES]));

/// `struct iovec`
#[repr(C)]
struct Piece {
    start: usize,
    bytes: usize,
}

/// `struct msghdr` (`recvmsg(2)`)
#[repr(C)]
struct Header {
    name: usize,
    name_bytes: usize,
    pieces: usize,
    piece_count: usize,
    control: usize,
    control_bytes: usize,
    flags: i32,
}

/// `struct cmsghdr` with descriptors (`cmsg(3)`)
#[repr(C, align(8))]
struct Control {
    bytes: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; DESCRIPTORS + 1],
}

const CONTROL_BYTES: usize = size_of::<usize>() + (2 + DESCRIPTORS) * size_of::<i32>();

/// Waits for the errand and carries it out. Returns when the worker runs its program; ends where it does
/// not come to that.
pub(crate) fn start() {
    wait();
    let answer = match receive() {
        Some(errand) => carry_out(&errand),
        None => [UNREADABLE, 0, 0],
    };
    let size = size_of_val(&answer);
    let told = call(
        number::WRITE,
        [descriptor(STATUS), address(&answer), size, 0, 0],
    );
    if answer[0] != DONE || told.cast_unsigned() != size {
        end(0);
    }
    call(
        number::CLOSE_RANGE,
        [descriptor(ERRAND), u32::MAX as usize, 0, 0, 0],
    );
    // Arguments and environment are the worker's own matter.
    let message = MESSAGE.0.get().expose_provenance();
    call(
        number::MADVISE,
        [message, ERRAND_BYTES_MAX, MADV_DONTNEED, 0, 0],
    );
}

/// Waits for the errand; ends with the template, and when nobody will ask for this session any more.
fn wait() {
    loop {
        let mut fds = [
            PollFd::new(ERRAND, crate::calls::POLLIN),
            PollFd::new(ALIVE, 0),
            PollFd::new(STATUS, 0),
        ];
        poll(&mut fds);
        if fds[1].seen & POLLHUP != 0 || fds[2].seen & POLLERR != 0 {
            end(0);
        }
        if fds[0].seen != 0 {
            return;
        }
    }
}

/// An errand in the memory of this process.
struct Errand {
    steps: &'static [[u64; STEP_WORDS]],
    then: u64,
}

/// The errand with its addresses put right; none where it is not what it should be.
fn receive() -> Option<Errand> {
    let piece = Piece {
        start: MESSAGE.0.get().expose_provenance(),
        bytes: ERRAND_BYTES_MAX,
    };
    let mut control = Control {
        bytes: 0,
        level: 0,
        kind: 0,
        descriptors: [0; DESCRIPTORS + 1],
    };
    let mut header = Header {
        name: 0,
        name_bytes: 0,
        pieces: address(&piece),
        piece_count: 1,
        control: address_mut(&mut control),
        control_bytes: size_of::<Control>(),
        flags: 0,
    };
    let at = [
        descriptor(ERRAND),
        address_mut(&mut header),
        MSG_CMSG_CLOEXEC,
        0,
        0,
    ];
    let bytes = call(number::RECVMSG, at);
    if bytes == 0 {
        // Nobody can send one any more.
        end(0);
    }
    let bytes = usize::try_from(bytes).ok()?;
    if header.flags & CUT != 0
        || control.bytes != CONTROL_BYTES
        || (control.level, control.kind) != RIGHTS
        || control.descriptors.first_chunk() != Some(&NUMBERS)
    {
        return None;
    }
    // SAFETY: nothing else uses this memory: the kernel has filled it, and this is called once.
    let words = unsafe { &mut *MESSAGE.0.get() };
    put_right(words.get_mut(..bytes / size_of::<u64>())?)
}

fn put_right(words: &'static mut [u64]) -> Option<Errand> {
    let base = words.as_ptr().expose_provenance() as u64;
    let [steps, relocations, then] = *words.first_chunk::<HEAD_WORDS>()?;
    if then != THEN_PROGRAM && then != THEN_SELF_TEST {
        return None;
    }
    let steps = usize::try_from(steps).ok()?.checked_mul(STEP_WORDS)?;
    let relocations = usize::try_from(relocations).ok()?;
    let first = steps.checked_add(HEAD_WORDS)?;
    for place in first..first.checked_add(relocations)? {
        let word = usize::try_from(*words.get(place)?).ok()?;
        let word = words.get_mut(word)?;
        *word = word.wrapping_add(base);
    }
    let (steps, rest) = words.get(HEAD_WORDS..first)?.as_chunks();
    (rest.is_empty() && !steps.is_empty()).then_some(Errand { steps, then })
}

/// Makes the worker; tells what became of it.
fn carry_out(errand: &Errand) -> [i32; ANSWER_WORDS] {
    let made = spawn(errand);
    if made < 0 {
        return [KILLED, 0, i32::try_from(-made).unwrap_or(0)];
    }
    match REACHED.load(Ordering::Acquire) {
        AT_STEPS => [KILLED, 0, 0],
        reached => [
            reached,
            TAG.load(Ordering::Acquire),
            ERRNO.load(Ordering::Acquire),
        ],
    }
}

/// The first function of the worker's process.
extern "C" fn worker(errand: &Errand) -> ! {
    let last = errand.steps.len().wrapping_sub(1);
    for (place, step) in errand.steps.iter().enumerate() {
        if place == last && errand.then == THEN_PROGRAM {
            // Nothing can be told any more when this one succeeds.
            REACHED.store(DONE, Ordering::Release);
        }
        let mut arguments = [0; ARGUMENTS];
        for (argument, word) in arguments.iter_mut().zip(&step[1..]) {
            *argument = *word as usize;
        }
        let answer = call(step[0] as usize, arguments);
        let [.., wanted, tag] = *step;
        if answer < 0 || (wanted != ANY && answer as u64 != wanted) {
            TAG.store(tag as i32, Ordering::Release);
            let errno = if answer < 0 { -answer } else { 0 };
            ERRNO.store(errno as i32, Ordering::Release);
            REACHED.store(FAILED, Ordering::Release);
            end(NOT_EXECUTED);
        }
    }
    REACHED.store(DONE, Ordering::Release);
    end(REPORT | attempts::slipped(call));
}

/// `clone(2)` of a process that begins with `worker` on a stack of its own: its id, or an errno below
/// zero. This process waits meanwhile.
fn spawn(errand: &Errand) -> isize {
    let stack = STACK.0.get().expose_provenance() + STACK_BYTES;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this process goes through the call as through any other; the new one, which has the same
    // registers but a stack that nothing else uses, 16 bytes aligned at its top, never leaves `worker`.
    // `errand` outlives the call, which returns when the new process does not use this memory any more.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {errand}",
            "call {worker}",
            "ud2",
            "2:",
            inlateout("rax") number::CLONE => result,
            in("rdi") LIKE_A_CALL,
            in("rsi") stack,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            errand = in(reg) core::ptr::from_ref(errand),
            worker = sym worker,
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
            "bl {worker}",
            "brk #1",
            "2:",
            in("x8") number::CLONE,
            inlateout("x0") LIKE_A_CALL => result,
            in("x1") stack,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            errand = in(reg) core::ptr::from_ref(errand),
            worker = sym worker,
            lateout("x30") _,
        );
    }
    result
}
