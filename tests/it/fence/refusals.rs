//! System calls, sockets and options that are refused, each beside what is allowed.

use super::{
    probe::{OTHER, Row, check, row},
    room::{USR, policy, with_room},
};

#[cfg(target_arch = "x86_64")]
const CALLS: &[Row] = &[
    row("keyctl", "call(250, 0, -3, 0)", "EPERM", "ok"),
    row(
        "add_key",
        "call(248, b'user', b'x', b'y', 1, -3)",
        "EPERM",
        "ok",
    ),
    row("ptrace", "call(101, 16, 1 << 22, 0, 0)", "EPERM", "ESRCH"),
    row("unshare", "call(272, 0x04000000)", "EPERM", "ok"),
    row("clone_newns", "clone(0x20000)", "EPERM", "ok"),
    row("setns", "call(308, 0, 0)", "EPERM", "EINVAL"),
    row(
        "mount",
        "call(165, b'x', b'/nonexistent', b'tmpfs', 0, 0)",
        "EPERM",
        "ENOENT",
    ),
    row("umount", "call(166, b'/nonexistent', 0)", "EPERM", "ENOENT"),
    row("open_tree", "call(428, -100, b'/', 1)", "EPERM", "ok"),
    row("fsopen", "call(430, b'tmpfs', 0)", "EPERM", "ok"),
    row(
        "pivot_root",
        "call(155, b'/nonexistent', b'/nonexistent')",
        "EPERM",
        "ENOENT",
    ),
    row("chroot", "os.chroot('/')", "EPERM", "ok"),
    row("clone3", "call(435, 0, 0)", "ENOSYS", "EINVAL"),
    row(
        "io_uring",
        "call(425, 1, ctypes.create_string_buffer(120))",
        "ENOSYS",
        "ok",
    ),
    row("userfaultfd", "call(323, 0)", "EPERM", OTHER),
    row("bpf", "call(321, 0, 0, 0)", "EPERM", "EINVAL"),
    row("perf", "call(298, 0, 0, 0, 0, 0)", "EPERM", OTHER),
    row("kexec", "call(246, 0, 0, 0, 1 << 30)", "EPERM", OTHER),
    row("module", "call(313, -1, b'', 0)", "EPERM", OTHER),
    row("quotactl", "call(179, 1 << 30, 0, 0, 0)", "EPERM", OTHER),
    row("handles", "call(304, -1, 0, 0)", "EPERM", "EFAULT"),
    row(
        "process_vm",
        "call(310, 0, 0, 0, 0, 0, 1)",
        "EPERM",
        "EINVAL",
    ),
    row("pidfd_getfd", "call(438, -1, 0, 0)", "EPERM", "EBADF"),
    row("syslog", "call(103, 10, 0, 0)", "EPERM", "ok"),
    row("personality", "call(135, 0x0040000)", "EPERM", "ok"),
    row("too_new", "call(600)", "ENOSYS", "ENOSYS"),
    row(
        "limits_of_init",
        "call(302, 1, 7, 0, ctypes.create_string_buffer(16))",
        "EPERM",
        "ok",
    ),
    row(
        "own_limits",
        "call(302, 0, 7, 0, ctypes.create_string_buffer(16))",
        "ok",
        "ok",
    ),
    row(
        "device_node",
        "os.mknod('/tmp/fence-null', 0o20600, os.makedev(1, 3)) or os.unlink('/tmp/fence-null')",
        "EPERM",
        "ok",
    ),
    row(
        "named_pipe",
        "os.mkfifo('/tmp/fence-pipe') or os.unlink('/tmp/fence-pipe')",
        "ok",
        "ok",
    ),
    row(
        "threads",
        "threading.Thread(target=int).start()",
        "ok",
        "ok",
    ),
    row(
        "children",
        "subprocess.run(['/usr/bin/true'], check=True) and None",
        "ok",
        "ok",
    ),
    row(
        "upper_bits",
        "call(435 | 1 << 32, 0, 0)",
        "ENOSYS",
        "EINVAL",
    ),
];

const SOCKETS: &[Row] = &[
    row("tcp4", "sock(socket.AF_INET)", "ok", "ok"),
    row("tcp6", "sock(socket.AF_INET6)", "ok", "ok"),
    row(
        "udp4",
        "sock(socket.AF_INET, socket.SOCK_DGRAM, 17)",
        "ok",
        "ok",
    ),
    row(
        "mptcp",
        "sock(socket.AF_INET, socket.SOCK_STREAM, 262)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "udplite",
        "sock(socket.AF_INET, socket.SOCK_DGRAM, 136)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "ping",
        "sock(socket.AF_INET, socket.SOCK_DGRAM, 1)",
        "EPROTONOSUPPORT",
        OTHER,
    ),
    row(
        "raw",
        "sock(socket.AF_INET, socket.SOCK_RAW, 1)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "raw6",
        "sock(socket.AF_INET6, socket.SOCK_RAW, 58)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "route",
        "sock(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
        "ok",
        "ok",
    ),
    row(
        "sock_diag",
        "sock(socket.AF_NETLINK, socket.SOCK_RAW, 4)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "uevent",
        "sock(socket.AF_NETLINK, socket.SOCK_RAW, 15)",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "packet",
        "sock(socket.AF_PACKET, socket.SOCK_RAW, 0)",
        "EAFNOSUPPORT",
        "ok",
    ),
    row("unix", "sock(socket.AF_UNIX)", "EAFNOSUPPORT", "ok"),
    row("vsock", "sock(40)", "EAFNOSUPPORT", "ok"),
    row(
        "upper_bits",
        "call(41, 40 | 1 << 32, 1, 0)",
        "EAFNOSUPPORT",
        "ok",
    ),
    row(
        "pair",
        "[s.close() for s in socket.socketpair()] and None",
        "ok",
        "ok",
    ),
    row(
        "pair_datagram",
        "[s.close() for s in socket.socketpair(type=socket.SOCK_DGRAM)] and None",
        "EPROTONOSUPPORT",
        "ok",
    ),
    row(
        "pair_packets",
        "[s.close() for s in socket.socketpair(type=socket.SOCK_SEQPACKET)] and None",
        "EPROTONOSUPPORT",
        "ok",
    ),
];

const OPTIONS: &[Row] = &[
    row("nodelay", "option(6, 1)", "ok", "ok"),
    row(
        "v6only",
        "option(41, 26, family=socket.AF_INET6)",
        "ok",
        "ok",
    ),
    row(
        "ip_options",
        "option(0, 4, bytes([131, 7, 4, 1, 2, 3, 4, 0]))",
        "EPERM",
        "ok",
    ),
    row(
        "join",
        "option(0, 35, socket.inet_aton('224.1.1.1') + socket.inet_aton('127.0.0.1') + bytes(4))",
        "EPERM",
        OTHER,
    ),
    row("device", "option(1, 25, b'lo')", "EPERM", "ok"),
    row("mark", "option(1, 36)", "EPERM", "ok"),
    row("transparent", "option(0, 19)", "EPERM", "ok"),
    row("filter", "option(1, 26, bytes(16))", "EPERM", "EINVAL"),
    row("ulp", "option(6, 31, b'nonexistent')", "EPERM", "ENOENT"),
    row(
        "rthdr",
        "option(41, 57, b'', family=socket.AF_INET6)",
        "EPERM",
        "ok",
    ),
    row(
        "hopopts",
        "option(41, 54, b'', family=socket.AF_INET6)",
        "EPERM",
        "ok",
    ),
    row(
        "fionread",
        "fcntl.ioctl(socket.socket(), 0x541B, bytes(4)) and None",
        "ok",
        "ok",
    ),
    row(
        "ifconf",
        "fcntl.ioctl(socket.socket(), 0x8912, bytes(16)) and None",
        "EPERM",
        "ok",
    ),
];

#[test]
#[cfg(target_arch = "x86_64")]
fn system_calls_beyond_the_profile_are_refused() {
    with_room(async |room| check(room, &policy(USR), CALLS).await);
}

#[test]
fn socket_families_and_protocols_beyond_the_client_are_refused() {
    with_room(async |room| check(room, &policy(USR), SOCKETS).await);
}

#[test]
fn socket_options_beyond_the_client_are_refused() {
    with_room(async |room| check(room, &policy(USR), OPTIONS).await);
}

#[test]
fn the_interpreter_profile_has_unix_streams_and_nothing_more() {
    let text = format!("{USR}\n[syscalls]\nprofile = \"interpreter\"\n");
    with_room(async |room| {
        let rows = [
            row("unix", "sock(socket.AF_UNIX)", "ok", "ok"),
            row(
                "unix_datagram",
                "sock(socket.AF_UNIX, socket.SOCK_DGRAM)",
                "EPROTONOSUPPORT",
                "ok",
            ),
            row("vsock", "sock(40)", "EAFNOSUPPORT", "ok"),
            row(
                "shared_memory",
                "libc.shmctl(libc.shmget(0, 4096, 0o600), 0, 0) or None",
                "ok",
                "ok",
            ),
        ];
        check(room, &policy(&text), &rows).await;
    });
}

#[test]
fn strict_makes_no_children_and_no_code() {
    let text = format!("{USR}\n[syscalls]\nprofile = \"strict\"\n");
    with_room(async |room| {
        let rows = [
            row("tcp", "sock(socket.AF_INET)", "ok", "ok"),
            row("code", "mmap.mmap(-1, 4096, prot=7).close()", "EPERM", "ok"),
            row("data", "mmap.mmap(-1, 4096, prot=3).close()", "ok", "ok"),
            row("wait", "os.wait()", "EPERM", "ECHILD"),
        ];
        check(room, &policy(&text), &rows).await;
    });
}
