//! Calls that pass with some arguments only, and the entries into the kernel beside the usual one.

use agent::launcher::Exit;

use super::{numbers, with_profile};
use crate::fence::{
    probe::{OTHER, Row, check_with, row},
    room::with_room,
};

/// `passing`: the values for which a call is made, refused being `EPERM`.
const DEFINITIONS: &str = r"
UP = 1 << 32
def made(name, *arguments):
    try:
        call(NUMBERS[name], *arguments)
    except OSError as error:
        return error.errno != errno.EPERM
    return True
def passing(values, act):
    return ','.join('%x' % value for value in values if act(value)) or 'none'
def executed(flags):
    name = ctypes.c_char_p(b'copy')
    fd = libc.syscall(NUMBERS['memfd_create'], name, flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), 'memfd_create')
    os.write(fd, open('/usr/bin/true', 'rb').read())
    path = '/proc/self/fd/%d' % fd
    subprocess.run([path], check=True, pass_fds=[fd])
def mapped(protection, flags=0x22, fd=-1, upper=0):
    mapping = libc.syscall
    mapping.restype = ctypes.c_long
    address = mapping(NUMBERS['mmap'], None, ctypes.c_long(4096), ctypes.c_long(protection | upper),
                      ctypes.c_long(flags), ctypes.c_long(fd), ctypes.c_long(0))
    mapping.restype = ctypes.c_int
    if address == -1:
        raise OSError(ctypes.get_errno(), 'mmap')
    return ctypes.c_long(address)
def changed(protection, first=3):
    call(NUMBERS['mprotect'], mapped(first), 4096, protection)
";

const ROWS: &[Row] = &[
    row(
        "clone: namespaces",
        "passing([1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)], lambda flag: made('clone', flag | 0x10000, 0, 0, 0, 0))",
        "none",
        OTHER,
    ),
    row(
        "clone: a child",
        "os.waitpid(os.fork() or os._exit(0), 0) and None",
        "ok",
        "ok",
    ),
    row(
        "clone: upper half",
        "made('clone', UP | 0x10010000, 0, 0, 0, 0)",
        "False",
        "True",
    ),
    // EINVAL: threads want shared memory. The kernel judges, no filter.
    row(
        "clone: a thread",
        "made('clone', 0x10000, 0, 0, 0, 0)",
        "True",
        "True",
    ),
    row(
        "clone3: any",
        "call(NUMBERS['clone3'], 0, 0)",
        "ENOSYS",
        "EINVAL",
    ),
    row(
        "personality: others",
        "passing([0x0040000, 0x0400000, 0x0200000, 8, 6, 0], lambda it: made('personality', it))",
        "0",
        "40000,400000,200000,8,6,0",
    ),
    row(
        "personality: asking",
        "made('personality', 0xffffffff)",
        "True",
        "True",
    ),
    row(
        "personality: upper half",
        "made('personality', UP | 6) + made('personality', 0) == 2",
        "False",
        "True",
    ),
    row(
        "prlimit: of another",
        "made('prlimit64', os.getpid(), 7, 0, 0)",
        "False",
        "True",
    ),
    row(
        "prlimit: its own",
        "made('prlimit64', 0, 7, 0, 0)",
        "True",
        "True",
    ),
    row(
        "mknod: by type",
        "passing([0o010600, 0o020600, 0o040600, 0o060600, 0o100600, 0o140600], lambda mode: made('mknodat', -1, b'x', mode, 0))",
        "1180,8180",
        "1180,2180,6180,8180,c180",
    ),
    row(
        "memfd: flags",
        "passing([1 << bit for bit in range(32)], lambda flag: made('memfd_create', b'x', flag))",
        "1,2,8",
        OTHER,
    ),
    row(
        "memfd: no flag",
        "made('memfd_create', b'x', 0)",
        "True",
        "True",
    ),
    row("memfd: executed", "executed(0)", "EACCES", "ok"),
    row(
        "memfd: executed as asked for",
        "executed(0x10)",
        "EPERM",
        "ok",
    ),
    row("mmap: code", "mapped(7) and None", "ok", "ok"),
    row(
        "mmap: huge pages of the host",
        "mapped(3, 0x40022) and None",
        "EPERM",
        OTHER,
    ),
    row(
        "mmap: huge pages, upper half",
        "mapped(3, 0x40022 | UP) and None",
        "EPERM",
        OTHER,
    ),
    row("limits: core", "resource.getrlimit(4)", "(1, 1)", OTHER),
    row(
        "dumps: what is in them",
        "int(open('/proc/self/coredump_filter').read(), 16)",
        "0",
        OTHER,
    ),
    row(
        "dumps: what is to be in them",
        "open('/proc/self/coredump_filter', 'w').write('ff') and None",
        "EACCES",
        "ok",
    ),
    row(
        "ioctl: of terminals",
        "passing(range(0x5400, 0x5480), lambda it: made('ioctl', 0, it, 1))",
        "5401,540f,5413,541b,5421,5450,5451,5452",
        OTHER,
    ),
    row(
        "ioctl: TIOCSTI",
        "made('ioctl', 0, 0x5412, 1)",
        "False",
        "True",
    ),
    row(
        "ioctl: TIOCLINUX",
        "made('ioctl', 0, 0x541c, 1)",
        "False",
        "True",
    ),
    row(
        "ioctl: TIOCSTI, upper half",
        "made('ioctl', 0, UP | 0x5412, 1)",
        "False",
        "True",
    ),
    row(
        "ioctl: of sockets",
        "passing(range(0x8900, 0x8a00), lambda it: made('ioctl', 0, it, 1))",
        "none",
        OTHER,
    ),
    row(
        "ioctl: of files",
        "passing([0x40049409, 0xc0189436, 0x80086601, 0x40086602, 0xc0045877, 0xc0045878, 0x80047601, 0xb703], lambda it: made('ioctl', 0, it, 1))",
        "none",
        OTHER,
    ),
    row(
        "prctl: others",
        "passing([22, 24, 26, 33, 35, 43, 47, 53, 57, 59, 62, 67, 0x59616d61], lambda it: made('prctl', it, 0xdead, 0, 0, 0))",
        "none",
        OTHER,
    ),
    row(
        "prctl: securebits",
        "made('prctl', 28, 0, 0, 0, 0)",
        "False",
        "True",
    ),
    row(
        "prctl: a name",
        "made('prctl', 15, b'named', 0, 0, 0)",
        "True",
        "True",
    ),
    row(
        "prctl: upper half",
        "made('prctl', UP | 28, 0, 0, 0, 0)",
        "False",
        "True",
    ),
    row("unshare: nothing", "made('unshare', 0)", "False", "True"),
    row(
        "number: upper half",
        "call(NUMBERS['clone3'] | UP, 0, 0)",
        "ENOSYS",
        "EINVAL",
    ),
];

const STRICT: &[Row] = &[
    row(
        "a child",
        "os.waitpid(os.fork() or os._exit(0), 0) and None",
        "EPERM",
        "ok",
    ),
    row(
        "a thread",
        "threading.Thread(target=int).start()",
        "ok",
        "ok",
    ),
    row("data", "mapped(3) and None", "ok", "ok"),
    row(
        "code that can be written",
        "mapped(7) and None",
        "EPERM",
        "ok",
    ),
    row("code of no file", "mapped(5) and None", "EPERM", "ok"),
    row(
        "code of a file",
        "mapped(5, 2, os.open('/usr/bin/true', os.O_RDONLY)) and None",
        "ok",
        "ok",
    ),
    row(
        "code of a file that can be written",
        "mapped(7, 2, os.open('/usr/bin/true', os.O_RDONLY)) and None",
        "EPERM",
        "ok",
    ),
    row(
        "code of no file, upper half",
        "mapped(5, upper=UP) and None",
        "EPERM",
        OTHER,
    ),
    row("data that becomes code", "changed(5)", "EPERM", "ok"),
    row("data that becomes less", "changed(1)", "ok", "ok"),
    row(
        "a memory file",
        "os.close(os.memfd_create('x'))",
        "EPERM",
        "ok",
    ),
    row("a listener", "socket.socket().listen()", "EPERM", "ok"),
];

#[test]
fn calls_pass_with_their_listed_arguments_only() {
    let definitions = numbers() + DEFINITIONS;
    with_room(async |room| check_with(room, &with_profile("default"), &definitions, ROWS).await);
}

#[test]
fn strict_makes_threads_and_no_code() {
    let definitions = numbers() + DEFINITIONS;
    with_room(async |room| check_with(room, &with_profile("strict"), &definitions, STRICT).await);
}

/// Numbers that are another architecture's, or nobody's: the process ends. The control is the way of
/// the worker's process up to there.
#[test]
#[cfg(target_arch = "x86_64")]
fn foreign_numbers_end_the_process() {
    const NUMBERS: &[&str] = &[
        "0x40000000 | 41",
        "0x40000000 | 512",
        "0x40000000 | 520",
        "0x40000000 | 535",
        "0x7fffffff",
        "-1",
    ];
    with_room(async |room| {
        for number in NUMBERS {
            let program = format!(
                "import ctypes\nprint('here', flush=True)\n\
                 ctypes.CDLL(None).syscall(ctypes.c_long({number}), 0, 0, 0)\nprint('there')"
            );
            let inside = room.python(&with_profile("interpreter"), &program).await;
            assert_eq!(inside.exit, Exit::Signal(31), "{number}: {inside:?}");
            assert_eq!(inside.stdout, "here\n", "{number}");
            let control = std::process::Command::new("/usr/bin/python3")
                .args(["-c", &program])
                .output()
                .expect("python");
            assert_eq!(control.stdout, b"here\nthere\n", "{number}: {control:?}");
        }
    });
}
