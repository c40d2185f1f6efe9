//! Calls that pass only with certain arguments. All of them are `int`s or flags whose upper half
//! the kernel ignores.

use super::{
    Check,
    Test::{Is, Masked},
};
use crate::policy::compiled::Profile;

/// The namespace flags of clone(2).
const CLONE_NEW: u32 = 0x7e02_0000;
/// File type bits of a mode, and those of a pipe and of a plain file.
const MODE_TYPE: u32 = 0o170_000;
const MODE_PIPE: u32 = 0o010_000;
const MODE_FILE: u32 = 0o100_000;
/// `PROT_WRITE` and `PROT_EXEC`.
const WRITE: u32 = 2;
const EXECUTE: u32 = 4;

/// The alternatives under which a call passes; none: always.
pub(super) fn checks(number: i64, profile: Profile) -> Vec<Check> {
    let one_of = |argument: u8, values: &[u32]| -> Vec<Check> {
        values
            .iter()
            .map(|value| vec![(argument, Is(*value))])
            .collect()
    };
    match number {
        libc::SYS_clone => vec![vec![(0, Masked(CLONE_NEW, 0))]],
        libc::SYS_ioctl => one_of(1, IOCTLS),
        libc::SYS_prctl => one_of(0, PRCTLS),
        libc::SYS_personality => one_of(0, &[0, u32::MAX]),
        // Its own limits only: process 1 of the session has the same user.
        libc::SYS_prlimit64 => one_of(0, &[0]),
        libc::SYS_mknodat => mode(2),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => mode(1),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_arch_prctl => one_of(0, ARCH_PRCTLS),
        libc::SYS_setsockopt => OPTIONS
            .iter()
            .flat_map(|(level, names)| {
                names
                    .iter()
                    .map(|name| vec![(1, Is(*level)), (2, Is(*name))])
            })
            .collect(),
        // Programs under `strict` make no code at run time.
        libc::SYS_mmap | libc::SYS_mprotect if profile == Profile::Strict => {
            vec![vec![(2, Masked(EXECUTE, 0))], vec![(2, Masked(WRITE, 0))]]
        }
        _ => Vec::new(),
    }
}

/// Pipes and plain files; device nodes and sockets by no name.
fn mode(argument: u8) -> Vec<Check> {
    [MODE_PIPE, MODE_FILE, 0]
        .map(|kind| vec![(argument, Masked(MODE_TYPE, kind))])
        .to_vec()
}

/// Asking what a descriptor is and how much waits in it. Nothing that feeds a terminal (`TIOCSTI`,
/// `TIOCLINUX`), changes one, or speaks to a device.
const IOCTLS: &[u32] = &[
    0x541B,      // FIONREAD
    0x5421,      // FIONBIO
    0x5450,      // FIONCLEX
    0x5451,      // FIOCLEX
    0x5452,      // FIOASYNC
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x540F,      // TIOCGPGRP
    0x802C_542A, // TCGETS2
];

/// Names, death signals, sub-reapers, and asking.
const PRCTLS: &[u32] = &[
    1,           // PR_SET_PDEATHSIG
    2,           // PR_GET_PDEATHSIG
    3,           // PR_GET_DUMPABLE
    4,           // PR_SET_DUMPABLE
    7,           // PR_GET_KEEPCAPS
    15,          // PR_SET_NAME
    16,          // PR_GET_NAME
    21,          // PR_GET_SECCOMP
    23,          // PR_CAPBSET_READ
    27,          // PR_GET_SECUREBITS
    29,          // PR_SET_TIMERSLACK
    30,          // PR_GET_TIMERSLACK
    36,          // PR_SET_CHILD_SUBREAPER
    37,          // PR_GET_CHILD_SUBREAPER
    38,          // PR_SET_NO_NEW_PRIVS
    39,          // PR_GET_NO_NEW_PRIVS
    41,          // PR_SET_THP_DISABLE
    42,          // PR_GET_THP_DISABLE
    65,          // PR_SET_MDWE
    66,          // PR_GET_MDWE
    0x4155_5856, // PR_GET_AUXV
    0x5356_4d41, // PR_SET_VMA
];

/// Thread-local storage, and what libc asks about shadow stacks.
#[cfg(target_arch = "x86_64")]
const ARCH_PRCTLS: &[u32] = &[
    0x1002, // ARCH_SET_FS
    0x1003, // ARCH_GET_FS
    0x3001, // ARCH_CET_STATUS
    0x5001, // ARCH_SHSTK_ENABLE
    0x5002, // ARCH_SHSTK_DISABLE
    0x5003, // ARCH_SHSTK_LOCK
    0x5005, // ARCH_SHSTK_STATUS
];

/// Socket options by level. Not here: IP options, routing and hop headers, group joins, device
/// binding, marks, transparent binding, socket filters, upper-layer protocols (their name is in
/// memory, where a filter can not tell TLS from others).
const OPTIONS: &[(u32, &[u32])] = &[
    (
        1, // SOL_SOCKET
        &[
            2,  // SO_REUSEADDR
            7,  // SO_SNDBUF
            8,  // SO_RCVBUF
            9,  // SO_KEEPALIVE
            10, // SO_OOBINLINE
            13, // SO_LINGER
            15, // SO_REUSEPORT
            16, // SO_PASSCRED
            18, // SO_RCVLOWAT
            20, // SO_RCVTIMEO
            21, // SO_SNDTIMEO
            66, // SO_RCVTIMEO_NEW
            67, // SO_SNDTIMEO_NEW
        ],
    ),
    (
        0, // IPPROTO_IP
        &[
            1,  // IP_TOS
            2,  // IP_TTL
            8,  // IP_PKTINFO
            10, // IP_MTU_DISCOVER
            11, // IP_RECVERR
            12, // IP_RECVTTL
            13, // IP_RECVTOS
            24, // IP_BIND_ADDRESS_NO_PORT
        ],
    ),
    (
        41, // IPPROTO_IPV6
        &[
            16, // IPV6_UNICAST_HOPS
            23, // IPV6_MTU_DISCOVER
            25, // IPV6_RECVERR
            26, // IPV6_V6ONLY
            49, // IPV6_RECVPKTINFO
            51, // IPV6_RECVHOPLIMIT
            62, // IPV6_DONTFRAG
            66, // IPV6_RECVTCLASS
            67, // IPV6_TCLASS
            72, // IPV6_ADDR_PREFERENCES
        ],
    ),
    (
        6, // IPPROTO_TCP
        &[
            1,  // TCP_NODELAY
            2,  // TCP_MAXSEG
            3,  // TCP_CORK
            4,  // TCP_KEEPIDLE
            5,  // TCP_KEEPINTVL
            6,  // TCP_KEEPCNT
            7,  // TCP_SYNCNT
            8,  // TCP_LINGER2
            10, // TCP_WINDOW_CLAMP
            12, // TCP_QUICKACK
            18, // TCP_USER_TIMEOUT
            25, // TCP_NOTSENT_LOWAT
            30, // TCP_FASTOPEN_CONNECT
            36, // TCP_INQ
        ],
    ),
    (
        270, // SOL_NETLINK
        &[
            3,  // NETLINK_PKTINFO
            10, // NETLINK_CAP_ACK
            11, // NETLINK_EXT_ACK
            12, // NETLINK_GET_STRICT_CHK
        ],
    ),
];
