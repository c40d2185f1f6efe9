//! The ways that end the program that tries them, or replace it.

/// Whole programs that say `through` where they get through. `FOLDER` is where a worker may write.
pub(super) const PROGRAMS: &[(&str, &str)] = &[
    (
        "a dropped ELF",
        "drop(open('/usr/bin/echo', 'rb').read()); os.execv(PATH, ['echo', 'through'])",
    ),
    (
        "a dropped script",
        "drop(b'#!/usr/bin/sh\\necho through\\n'); os.execv(PATH, [PATH])",
    ),
    (
        "a dropped library",
        "drop(open(ctypes.util.find_library and LIBC, 'rb').read()); ctypes.CDLL(PATH); print('through')",
    ),
    (
        "ld.so on a plain file",
        "drop(open('/usr/bin/echo', 'rb').read(), 0o644); os.execv(LOADER, [LOADER, PATH, 'through'])",
    ),
    (
        "a memory file",
        "fd = os.memfd_create('x', 0); os.write(fd, open('/usr/bin/echo', 'rb').read()); os.execv('/proc/self/fd/%d' % fd, ['echo', 'through'])",
    ),
    (
        "a memory file that asks for execution",
        "fd = libc.syscall(319, b'x', 0x10); os.write(fd, open('/usr/bin/echo', 'rb').read()); os.execv('/proc/self/fd/%d' % fd, ['echo', 'through'])",
    ),
    (
        "ld.so on a memory file",
        "fd = os.memfd_create('x', 0); os.write(fd, open('/usr/bin/echo', 'rb').read()); os.execv(LOADER, [LOADER, '/proc/self/fd/%d' % fd, 'through'])",
    ),
    (
        "a file in shared memory",
        "PATH = '/dev/shm/local-ways-dropped-%d' % os.getpid(); drop(open('/usr/bin/echo', 'rb').read()); os.execv(PATH, ['echo', 'through'])",
    ),
    (
        "code of another architecture",
        "code = mmap.mmap(-1, 4096, prot=7); code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3])); ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))(); print('through')",
    ),
    (
        "x32 numbers",
        "libc.syscall(0x40000000 | 39); print('through')",
    ),
    (
        "a process more than its limit",
        "flood(lambda: os.fork() or os._exit(0 if time.sleep(5) else 0))",
    ),
    (
        "a thread more than its limit",
        "flood(lambda: threading.Thread(target=time.sleep, args=(5,), daemon=True).start())",
    ),
    (
        "a file more than its limit",
        "flood(lambda: open(FOLDER + '/%d' % next(NUMBERS), 'w').close(), 3000)",
    ),
    (
        "a byte more than its limit",
        "open(FOLDER + '/big', 'wb').write(bytes(2 << 20)); print('through')",
    ),
    (
        "memory beyond its limit",
        "block = bytearray(400 << 20); print('through')",
    ),
];

/// Programs that only a policy shuts that denies this call: no layer looks at what is mapped as code.
pub(super) const SHUT_BY_DENY: &[(&str, &str)] = &[("ld.so on a memory file", "memfd_create")];

pub(super) const PROGRAM_SCENE: &str = r"
import ctypes.util, glob, itertools, shutil, time
FOLDER = '/workdir' if os.path.isdir('/workdir') else tempfile.mkdtemp()
PATH = FOLDER + '/dropped'
LOADER = '/lib64/ld-linux-x86-64.so.2'
LIBC = sorted(glob.glob('/usr/lib/x86_64-linux-gnu/libz.so*') + glob.glob('/usr/lib/x86_64-linux-gnu/libm.so.6'))[0]
NUMBERS = itertools.count()
def drop(content, mode=0o755):
    fd = os.open(PATH, os.O_CREAT | os.O_WRONLY, mode)
    while content: content = content[os.write(fd, content):]
    os.close(fd); os.chmod(PATH, mode)
def flood(act, times=40):
    for _ in range(times): act()
    print('through', flush=True)
    os._exit(0)
";
