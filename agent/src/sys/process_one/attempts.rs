//! What a worker's process tries instead of a program to test its fence: what no policy can allow. An
//! answer that is not the fence's own is a hole. Process 1's program and the agent's tests compile this
//! file; it allocates nothing, sends no packet even where every layer is missing, and leaves nothing.

use super::errand::{CALL, CONNECT, FAMILY, READ, WRITE};

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CLOSE: usize = 3;
    pub(super) const SOCKET: usize = 41;
    pub(super) const CONNECT: usize = 42;
    pub(super) const OPENAT: usize = 257;
    pub(super) const UNLINKAT: usize = 263;
    pub(super) const UNSHARE: usize = 272;
    pub(super) const O_DIRECTORY: usize = 0o200_000;
    pub(super) const O_NOFOLLOW: usize = 0o400_000;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const CLOSE: usize = 57;
    pub(super) const SOCKET: usize = 198;
    pub(super) const CONNECT: usize = 203;
    pub(super) const OPENAT: usize = 56;
    pub(super) const UNLINKAT: usize = 35;
    pub(super) const UNSHARE: usize = 97;
    pub(super) const O_DIRECTORY: usize = 0o40_000;
    pub(super) const O_NOFOLLOW: usize = 0o100_000;
}

const EPERM: isize = 1;
const ENOENT: isize = 2;
const EACCES: isize = 13;
const EROFS: isize = 30;
const ENOSYS: isize = 38;
const EPROTONOSUPPORT: isize = 93;
const EAFNOSUPPORT: isize = 97;

const AF_INET: u8 = 2;
const AF_NETLINK: usize = 16;
const AF_VSOCK: usize = 40;
const SOCK_STREAM: usize = 1;
const SOCK_DGRAM: usize = 2;
const SOCK_RAW: usize = 3;
/// `NETLINK_KOBJECT_UEVENT` (`netlink(7)`): every kernel has it, for every user.
const UEVENT: usize = 15;
/// `O_CLOEXEC` and `SOCK_CLOEXEC`
const CLOEXEC: usize = 0o2_000_000;
/// `O_WRONLY | O_CREAT | O_EXCL`
const NEW_FILE: usize = 0o1 | 0o100 | 0o200;
const AT_FDCWD: usize = (-100_isize).cast_unsigned();

/// `sockaddr_in` of cloud metadata: special-purpose, so no rule but a door opens it. Port 0: no door
/// can name it.
const METADATA: [u8; 16] = {
    let [low, high] = (AF_INET as u16).to_ne_bytes();
    [low, high, 0, 0, 169, 254, 169, 254, 0, 0, 0, 0, 0, 0, 0, 0]
};
/// No policy can list it; only landlock keeps a worker from listing it.
const ROOT: &core::ffi::CStr = c"/";
/// No policy can list it; it is not in the root.
const ABSENT: &core::ffi::CStr = c"/sys";
/// A name in the root, which is read-only.
const FILE: &core::ffi::CStr = c"/.self-test";

/// Tries everything; the sum of what was not refused. `call` makes a system call, and gives its result
/// or an errno below zero.
pub(crate) fn slipped(call: impl Fn(usize, [usize; 5]) -> isize) -> u8 {
    let mut slipped = 0;
    let mut note = |attempt: u8, refused: bool| {
        if !refused {
            slipped |= attempt;
        }
    };
    note(CONNECT, connect_is_refused(&call));
    let folder = |path| opened(&call, path, number::O_DIRECTORY | CLOEXEC, 0);
    let listed = [folder(ROOT), folder(ABSENT)];
    note(
        READ,
        listed
            .iter()
            .all(|answer| is(*answer, &[EACCES, ENOENT, EPERM])),
    );
    let made = opened(&call, FILE, NEW_FILE | number::O_NOFOLLOW | CLOEXEC, 0o600);
    if made >= 0 {
        call(
            number::UNLINKAT,
            [AT_FDCWD, FILE.as_ptr().expose_provenance(), 0, 0, 0],
        );
    }
    note(WRITE, is(made, &[EACCES, EROFS, EPERM]));
    let sockets = [
        socket(&call, AF_NETLINK, SOCK_RAW, UEVENT),
        socket(&call, AF_VSOCK, SOCK_STREAM, 0),
    ];
    for made in sockets {
        close(&call, made);
    }
    let family = [EAFNOSUPPORT, EPROTONOSUPPORT, EPERM];
    note(FAMILY, sockets.iter().all(|answer| is(*answer, &family)));
    // Of nothing: where the call is not refused it succeeds for every user, without effect.
    let unshared = call(number::UNSHARE, [0; 5]);
    note(CALL, is(unshared, &[EPERM, ENOSYS]));
    slipped
}

/// Connecting a datagram socket sends nothing. The hooks answer before the kernel looks for a route,
/// so that "no route" means that they are not there. A policy may take sockets away altogether.
fn connect_is_refused(call: &impl Fn(usize, [usize; 5]) -> isize) -> bool {
    let socket = socket(call, AF_INET.into(), SOCK_DGRAM, 0);
    if socket < 0 {
        return is(socket, &[EPERM, EACCES]);
    }
    let to = METADATA.as_ptr().expose_provenance();
    let answer = call(
        number::CONNECT,
        [socket.cast_unsigned(), to, METADATA.len(), 0, 0],
    );
    close(call, socket);
    is(answer, &[EPERM, EACCES])
}

fn socket(
    call: &impl Fn(usize, [usize; 5]) -> isize,
    family: usize,
    kind: usize,
    protocol: usize,
) -> isize {
    call(number::SOCKET, [family, kind | CLOEXEC, protocol, 0, 0])
}

/// The answer of opening; what was opened is closed again.
fn opened(
    call: &impl Fn(usize, [usize; 5]) -> isize,
    path: &core::ffi::CStr,
    flags: usize,
    mode: usize,
) -> isize {
    let path = path.as_ptr().expose_provenance();
    let answer = call(number::OPENAT, [AT_FDCWD, path, flags, mode, 0]);
    close(call, answer);
    answer
}

fn close(call: &impl Fn(usize, [usize; 5]) -> isize, made: isize) {
    if made >= 0 {
        call(number::CLOSE, [made.cast_unsigned(), 0, 0, 0, 0]);
    }
}

/// Whether an answer is one that the fence gives. Any other errno says that the kernel would have gone
/// on, or that the attempt could not be made.
fn is(answer: isize, errnos: &[isize]) -> bool {
    errnos.iter().any(|errno| answer == -*errno)
}
