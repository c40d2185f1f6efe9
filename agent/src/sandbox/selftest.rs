//! The self-test of a fence: what the process that would become a worker tries, once per policy,
//! when every layer is in force and instead of its program. Each attempt is one that no policy can
//! allow; an answer that is not the fence's own is a hole, and nothing of that policy is launched.
//!
//! No attempt sends a packet even where every layer is missing, and none leaves anything behind. It
//! runs between the last layer and the end of the process: no allocation, no lock, no descriptor kept.

use std::{fmt, io, net::Ipv4Addr, os::fd::AsFd};

use crate::{
    launcher::Exit,
    sys::trial::{connect, list, make_and_remove, socket, unshare_nothing},
};

/// Cloud metadata: special-purpose, so no rule but a door opens it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// And no door can name this port.
const PORT: u16 = 0;
/// No policy can list it; only landlock keeps a worker from listing it.
const ROOT: &std::ffi::CStr = c"/";
/// No policy can list it; it is not in the root.
const ABSENT: &std::ffi::CStr = c"/sys";
/// A name in the root, which is read-only.
const FILE: &std::ffi::CStr = c"/.self-test";
/// `NETLINK_KOBJECT_UEVENT` (`netlink(7)`): every kernel has it, for every user.
const UEVENT: i32 = 15;

/// Exit code of a process that tried everything and met a refusal each time; the bits of what
/// slipped are added. Not 0: an end of any other kind must not look like success.
const REPORT: u8 = 0x40;
const _: () = assert!(REPORT & Slipped::ALL == 0);

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Attempt {
    /// A datagram socket connected to an address that no policy opens: the hooks' answer.
    Connect = 1,
    /// A folder that no policy lists: landlock's answer, and the built root's.
    Read = 1 << 1,
    /// A new file outside the workdir: the read-only root's answer, and landlock's.
    Write = 1 << 2,
    /// A socket of a family or protocol that no profile has: the filters' answer.
    Family = 1 << 3,
    /// A system call that no policy can add: the filters' answer.
    Call = 1 << 4,
}

const ATTEMPTS: [(Attempt, &str); 5] = [
    (Attempt::Connect, "connect"),
    (Attempt::Read, "read"),
    (Attempt::Write, "write"),
    (Attempt::Family, "socket family"),
    (Attempt::Call, "system call"),
];

/// The attempts that the fence did not refuse.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[must_use]
pub struct Slipped(u8);

impl Slipped {
    const ALL: u8 = Attempt::Connect as u8
        | Attempt::Read as u8
        | Attempt::Write as u8
        | Attempt::Family as u8
        | Attempt::Call as u8;

    /// Whether the fence held.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let slipped = move |attempt: Attempt| self.0 & attempt as u8 != 0;
        let all = ATTEMPTS.iter();
        all.filter_map(move |(attempt, name)| slipped(*attempt).then_some(*name))
    }

    /// The report, as an exit code.
    pub(crate) fn code(self) -> u8 {
        REPORT | self.0
    }

    /// Reads the report; none where the process ended in any other way.
    #[must_use]
    pub fn reported(exit: Exit) -> Option<Self> {
        match exit {
            Exit::Code(code) if code & !Self::ALL == REPORT => Some(Self(code & Self::ALL)),
            Exit::Code(_) | Exit::Signal(_) => None,
        }
    }

    fn note(&mut self, attempt: Attempt, refused: bool) {
        if !refused {
            self.0 |= attempt as u8;
        }
    }
}

impl fmt::Display for Slipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.names().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

/// Tries everything and notes what was not refused.
pub fn attempt(out: &mut Slipped) {
    out.note(Attempt::Connect, connect_is_refused());
    let listed = [list(ROOT), list(ABSENT)];
    let read = [libc::EACCES, libc::ENOENT, libc::EPERM];
    out.note(Attempt::Read, listed.iter().all(|l| refused(l, &read)));
    let write = [libc::EACCES, libc::EROFS, libc::EPERM];
    out.note(Attempt::Write, refused(&make_and_remove(FILE), &write));
    let family = [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::EPERM];
    let sockets = [
        socket(libc::AF_NETLINK, libc::SOCK_RAW, UEVENT),
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    ];
    out.note(
        Attempt::Family,
        sockets.iter().all(|socket| refused(socket, &family)),
    );
    let call = [libc::EPERM, libc::ENOSYS];
    out.note(Attempt::Call, refused(&unshare_nothing(), &call));
}

/// Connecting a datagram socket sends nothing. The hooks answer before the kernel looks for a route,
/// so that "no route" means that they are not there.
fn connect_is_refused() -> bool {
    let denied = [libc::EPERM, libc::EACCES];
    match socket(libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(socket) => refused(&connect(socket.as_fd(), ADDRESS, PORT), &denied),
        // A policy may take sockets away altogether.
        Err(error) => refused(&Err::<(), _>(error), &denied),
    }
}

/// Whether the answer is one that the fence gives. Any other error says that the kernel would have
/// gone on, or that the attempt could not be made.
fn refused<T>(answer: &io::Result<T>, by: &[i32]) -> bool {
    let errno = answer.as_ref().err().and_then(io::Error::raw_os_error);
    errno.is_some_and(|errno| by.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, Attempt, Slipped, attempt};
    use crate::launcher::Exit;

    #[test]
    fn a_report_survives_its_way_and_nothing_else_is_one() {
        for bits in 0..=Slipped::ALL {
            let slipped = Slipped(bits);
            assert_eq!(Slipped::reported(Exit::Code(slipped.code())), Some(slipped));
        }
        for code in [0, 1, 31, 0x60, 125, 126, 127, 255] {
            assert_eq!(Slipped::reported(Exit::Code(code)), None, "{code}");
        }
        assert_eq!(Slipped::reported(Exit::Signal(31)), None);
    }

    #[test]
    fn what_slipped_has_names() {
        let mut slipped = Slipped::default();
        assert_eq!(slipped.to_string(), "");
        slipped.note(Attempt::Connect, false);
        slipped.note(Attempt::Read, true);
        slipped.note(Attempt::Call, false);
        assert_eq!(slipped.to_string(), "connect, system call");
        assert_eq!(Slipped(Slipped::ALL).names().count(), ATTEMPTS.len());
    }

    /// The control: without a fence nothing is refused, so every attempt can succeed.
    #[test]
    fn without_a_fence_everything_slips() {
        let mut slipped = Slipped::default();
        attempt(&mut slipped);
        assert_eq!(slipped, Slipped(Slipped::ALL), "{slipped}");
    }
}
