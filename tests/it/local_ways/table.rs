//! The ways that a worker's Python can try without ending, each with what stops it.

/// A way out: an act in Python that returns nothing where it works, and the answers that stop it.
pub(super) struct Way {
    pub(super) line: &'static str,
    pub(super) name: &'static str,
    pub(super) act: &'static str,
    pub(super) stopped_by: &'static [&'static str],
}

const fn way(
    line: &'static str,
    name: &'static str,
    act: &'static str,
    stopped_by: &'static [&'static str],
) -> Way {
    Way {
        line,
        name,
        act,
        stopped_by,
    }
}

const SOCKETS: &str = "sockets of the host by name";
const FAMILIES: &str = "socket families beyond the client";
const CALLS: &str = "calls into the kernel that nothing needs";
const PROC: &str = "/proc and /sys of others";
const OTHERS: &str = "other processes";
const NAMES: &str = "rename, link, truncate, symbolic links";
const BOMBS: &str = "core dumps, priorities and limits";

/// What a worker's Python can try without ending. `SHARED` is a folder of the host with a file `open`
/// that everybody may write and a socket that listens, `SIBLING` a process of the host.
pub(super) const WAYS: &[Way] = &[
    way(
        SOCKETS,
        "listening_path",
        "unix().connect(SHARED + '/socket')",
        &["EAFNOSUPPORT", "ENOENT"],
    ),
    way(
        SOCKETS,
        "listening_path_relative",
        "unix().connect(os.path.relpath(SHARED + '/socket'))",
        &["EAFNOSUPPORT", "ENOENT"],
    ),
    way(
        SOCKETS,
        "abstract",
        "unix().connect('\\0' + ABSTRACT)",
        &["EAFNOSUPPORT", "EPERM"],
    ),
    way(
        SOCKETS,
        "datagram_of_a_pair",
        "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', 0, SHARED + '/datagrams') and None",
        &["EPROTONOSUPPORT", "EAFNOSUPPORT"],
    ),
    way(FAMILIES, "vsock", "sock(40)", &["EAFNOSUPPORT"]),
    way(
        FAMILIES,
        "packet",
        "sock(socket.AF_PACKET, socket.SOCK_RAW, 0)",
        &["EAFNOSUPPORT"],
    ),
    way(
        FAMILIES,
        "netlink_sock_diag",
        "sock(socket.AF_NETLINK, socket.SOCK_RAW, 4)",
        &["EPROTONOSUPPORT"],
    ),
    way(
        FAMILIES,
        "netlink_uevent",
        "sock(socket.AF_NETLINK, socket.SOCK_RAW, 15)",
        &["EPROTONOSUPPORT"],
    ),
    way(CALLS, "keyring", "call(250, 0, -3, 0)", &["EPERM"]),
    way(
        CALLS,
        "io_uring",
        "call(425, 1, ctypes.create_string_buffer(120))",
        &["ENOSYS"],
    ),
    way(CALLS, "namespaces", "call(272, 0)", &["EPERM"]),
    way(CALLS, "mounts", "call(430, b'tmpfs', 0)", &["EPERM"]),
    way(
        CALLS,
        "handles",
        "call(303, -100, b'/usr', HANDLE, ctypes.byref(ctypes.c_int()), 0)",
        &["EPERM"],
    ),
    way(CALLS, "flags_in_memory", "clone3()", &["ENOSYS"]),
    way(
        CALLS,
        "upper_bits",
        "call(41, 40 | 1 << 32, 1, 0)",
        &["EAFNOSUPPORT"],
    ),
    way(
        PROC,
        "environment_of_others",
        "others(lambda pid: open('/proc/%d/environ' % pid).read())",
        &["ENOENT", "EACCES"],
    ),
    way(
        PROC,
        "memory_of_others",
        "others(lambda pid: open('/proc/%d/mem' % pid, 'rb'))",
        &["ENOENT", "EACCES"],
    ),
    way(
        PROC,
        "root_of_others",
        "others(lambda pid: os.listdir('/proc/%d/root/' % pid))",
        &["ENOENT", "EACCES"],
    ),
    way(
        PROC,
        "folder_of_others",
        "others(lambda pid: os.listdir('/proc/%d/cwd/' % pid))",
        &["ENOENT", "EACCES"],
    ),
    way(
        PROC,
        "descriptors_of_others",
        "others(lambda pid: os.listdir('/proc/%d/fd' % pid))",
        &["ENOENT", "EACCES"],
    ),
    way(
        PROC,
        "settings",
        "open('/proc/sys/kernel/hostname').read() and None",
        &["EACCES", "ENOENT"],
    ),
    way(PROC, "symbols", "filled('/proc/kallsyms')", &["ENODATA"]),
    way(
        PROC,
        "kernel_log",
        "open('/dev/kmsg') and None",
        &["ENOENT"],
    ),
    way(PROC, "sysfs", "os.listdir('/sys') and None", &["ENOENT"]),
    way(OTHERS, "signal_process_one", "os.kill(1, 0)", &["EPERM"]),
    way(
        OTHERS,
        "signal_a_sibling",
        "os.kill(SIBLING, 0)",
        &["ESRCH", "EPERM"],
    ),
    way(
        OTHERS,
        "trace_a_sibling",
        "call(101, 0x4206, SIBLING, 0, 0)",
        &["EPERM"],
    ),
    way(
        OTHERS,
        "memory_of_a_sibling",
        "call(310, SIBLING, 0, 0, 0, 0, ctypes.c_long(0))",
        &["EPERM"],
    ),
    way(
        OTHERS,
        "descriptor_of_a_sibling",
        "call(438, os.pidfd_open(SIBLING), 0, 0)",
        &["EPERM", "ESRCH"],
    ),
    way(
        NAMES,
        "truncate",
        "os.truncate(SHARED + '/open', 0)",
        &["ENOENT", "EACCES", "EROFS"],
    ),
    way(
        NAMES,
        "truncate_what_is_listed",
        "os.truncate(LISTED + '/open', 0)",
        &["EACCES", "EROFS"],
    ),
    way(
        NAMES,
        "write_what_is_listed",
        "open(LISTED + '/open', 'a').close()",
        &["EACCES", "EROFS"],
    ),
    way(
        NAMES,
        "rename_what_is_listed",
        "os.rename(LISTED + '/open', LISTED + '/moved') or os.rename(LISTED + '/moved', LISTED + '/open')",
        &["EACCES", "EROFS", "EXDEV"],
    ),
    way(
        NAMES,
        "link_out_of_a_list",
        "os.link(LISTED + '/open', (TMP if INSIDE else LISTED) + '/linked') or os.unlink(LISTED + '/linked')",
        &["EACCES", "EROFS", "EXDEV", "EPERM"],
    ),
    way(
        NAMES,
        "mode_of_what_is_listed",
        "os.chmod(LISTED + '/open', 0o666)",
        &["EACCES", "EROFS", "EPERM"],
    ),
    way(
        NAMES,
        "symbolic_link_to_outside",
        "os.symlink(SHARED + '/open', TMP + '/way') or open(TMP + '/way').close()",
        &["ENOENT", "EACCES"],
    ),
    way(
        NAMES,
        "parents_of_the_root",
        "open('/../../../../..' + SHARED + '/open').close()",
        &["ENOENT", "EACCES"],
    ),
    way(
        NAMES,
        "device_node",
        "os.mknod(TMP + '/null', 0o20666, os.makedev(1, 3))",
        &["EPERM", "EACCES"],
    ),
    way(
        BOMBS,
        "core_dumps",
        "resource.setrlimit(resource.RLIMIT_CORE, (2, 2))",
        &["ValueError", "EPERM"],
    ),
    way(
        BOMBS,
        "limits_of_a_sibling",
        "call(302, SIBLING, 7, 0, ctypes.create_string_buffer(16))",
        &["EPERM", "ESRCH"],
    ),
    way(
        BOMBS,
        "priority",
        "os.setpriority(os.PRIO_PROCESS, 0, -5)",
        &["EPERM", "EACCES"],
    ),
    way(
        BOMBS,
        "real_time",
        "os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))",
        &["EPERM", "EACCES"],
    ),
    way(
        BOMBS,
        "kill_protection",
        "open('/proc/self/oom_score_adj', 'w').write('-1000') and None",
        &["EACCES"],
    ),
];

/// What the acts know.
pub(super) const SCENE: &str = r"
SHARED, LISTED, SIBLING, ABSTRACT = {shared!}, {listed!}, {sibling}, {abstract!}
INSIDE = os.path.isdir('/workdir')
TMP = '/tmp' if INSIDE else tempfile.mkdtemp()
HANDLE = ctypes.create_string_buffer(struct.pack('II', 128, 0), 256)
def clone3():
    arguments = ctypes.create_string_buffer(struct.pack('11Q', 0, 0, 0, 0, 17, *[0] * 6))
    pid = libc.syscall(435, arguments, 88)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), 'clone3')
    os.waitpid(pid, 0)
def others(act):
    for pid in (1, SIBLING):
        try:
            act(pid)
            return
        except OSError as error:
            last = error
    raise last
def filled(path):
    if not open(path).read(1):
        raise OSError(errno.ENODATA, 'empty')
def unix():
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
";
