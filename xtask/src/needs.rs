//! What a machine must have, why, and the package that brings it.

use std::path::Path;

use crate::tree;

/// Which verbs need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum For {
    /// Building the kernel object with a rustup toolchain that has `rust-src`.
    AnyKernelObject,
    /// Building the kernel object with Debian's compiler.
    DebianKernelObject,
    /// The lab and its workers.
    Lab,
    /// Peers of the bench, and what those need that it builds.
    Bench,
    /// Machines with other kernels.
    Machine,
    /// Compiling for another processor.
    Cross,
}

/// One thing, where it is found, and its package in Debian 12.
pub(crate) struct Need {
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
    pub(crate) of: For,
    found: Found,
}

enum Found {
    Program(&'static str),
    File(&'static str),
}

impl Need {
    pub(crate) fn is_met(&self) -> bool {
        match self.found {
            Found::Program(name) => tree::program(name).is_some(),
            Found::File(path) => Path::new(path).exists(),
        }
    }
}

/// Where Debian's LLVM 22 lies; the linker of the kernel object is built against it.
pub(crate) const LLVM: &str = "/usr/lib/llvm-22";

/// Everything, in the order in which it is installed and shown.
#[rustfmt::skip]
pub(crate) const NEEDS: &[Need] = &[
    Need { package: "rustc-web", why: "compiler of the kernel object", of: For::DebianKernelObject, found: Found::File("/usr/share/doc/rustc-web") },
    Need { package: "cargo-web", why: "builds the kernel object", of: For::DebianKernelObject, found: Found::File("/usr/share/doc/cargo-web") },
    Need { package: "rust-web-src", why: "source of `core`, which has no build for BPF", of: For::DebianKernelObject, found: Found::File("/usr/lib/rustlib/src/rust/library/core/Cargo.toml") },
    Need { package: "rust-web-clippy", why: "lints the kernel object", of: For::DebianKernelObject, found: Found::File("/usr/bin/clippy-driver") },
    Need { package: "g++", why: "links bpf-linker with LLVM", of: For::AnyKernelObject, found: Found::Program("g++") },
    Need { package: "llvm-22-dev", why: "LLVM for bpf-linker", of: For::AnyKernelObject, found: Found::File("/usr/lib/llvm-22/bin/llvm-config") },
    Need { package: "libpolly-22-dev", why: "part of LLVM for bpf-linker", of: For::AnyKernelObject, found: Found::File("/usr/lib/llvm-22/lib/libPolly.a") },
    Need { package: "zlib1g-dev", why: "LLVM for bpf-linker links it", of: For::AnyKernelObject, found: Found::File("/usr/include/zlib.h") },
    Need { package: "libzstd-dev", why: "LLVM for bpf-linker links it", of: For::AnyKernelObject, found: Found::File("/usr/include/zstd.h") },
    Need { package: "iproute2", why: "links and addresses of the lab", of: For::Lab, found: Found::Program("ip") },
    Need { package: "procps", why: "process lists of the tests", of: For::Lab, found: Found::Program("ps") },
    Need { package: "util-linux", why: "namespaces of the lab", of: For::Lab, found: Found::Program("nsenter") },
    Need { package: "curl", why: "a worker of the demo and the tests", of: For::Lab, found: Found::File("/usr/bin/curl") },
    Need { package: "python3", why: "a worker of the demo and the tests", of: For::Lab, found: Found::File("/usr/bin/python3") },
    Need { package: "openssl", why: "a worker of the tests", of: For::Lab, found: Found::File("/usr/bin/openssl") },
    Need { package: "nodejs", why: "a worker of the tests", of: For::Lab, found: Found::File("/usr/bin/node") },
    Need { package: "npm", why: "installs a server that is a worker of the tests", of: For::Lab, found: Found::Program("npm") },
    Need { package: "python3-pip", why: "installs a server that is a worker of the tests", of: For::Lab, found: Found::File("/usr/lib/python3/dist-packages/pip/__main__.py") },
    Need { package: "git", why: "a worker of the tests", of: For::Lab, found: Found::File("/usr/bin/git") },
    Need { package: "linux-libc-dev", why: "the kernel's numbers of system calls, for the tests", of: For::Lab, found: Found::File("/usr/include/asm-generic/unistd.h") },
    Need { package: "bind9-dnsutils", why: "`dig`, a worker of the tests", of: For::Lab, found: Found::File("/usr/bin/dig") },
    Need { package: "systemd", why: "`systemd-socket-activate` hands a socket over to the agent in the tests", of: For::Lab, found: Found::Program("systemd-socket-activate") },
    Need { package: "prometheus", why: "`promtool` checks the metrics, and is a worker of the tests", of: For::Lab, found: Found::Program("promtool") },
    Need { package: "bubblewrap", why: "a peer of the bench", of: For::Bench, found: Found::Program("bwrap") },
    Need { package: "firejail", why: "a peer of the bench", of: For::Bench, found: Found::Program("firejail") },
    Need { package: "dnsmasq-base", why: "a peer of the bench", of: For::Bench, found: Found::File("/usr/sbin/dnsmasq") },
    Need { package: "unbound", why: "a peer of the bench", of: For::Bench, found: Found::File("/usr/sbin/unbound") },
    Need { package: "crun", why: "a peer of the bench", of: For::Bench, found: Found::Program("crun") },
    Need { package: "libseccomp-dev", why: "a peer of the bench links it", of: For::Bench, found: Found::File("/usr/include/seccomp.h") },
    Need { package: "pkg-config", why: "finds what peers of the bench link", of: For::Bench, found: Found::Program("pkg-config") },
    Need { package: "libnl-route-3-200", why: "a peer of the bench links it", of: For::Bench, found: Found::File("/usr/share/doc/libnl-route-3-200") },
    Need { package: "socat", why: "a peer of the bench calls it", of: For::Bench, found: Found::Program("socat") },
    Need { package: "ripgrep", why: "a peer of the bench calls it", of: For::Bench, found: Found::Program("rg") },
    Need { package: "debootstrap", why: "makes a Debian for machines with other kernels", of: For::Machine, found: Found::Program("debootstrap") },
    Need { package: "e2fsprogs", why: "makes the disks of machines", of: For::Machine, found: Found::Program("mkfs.ext4") },
    Need { package: "qemu-system-x86", why: "emulates machines with other kernels", of: For::Machine, found: Found::Program("qemu-system-x86_64") },
    Need { package: "gcc-aarch64-linux-gnu", why: "compiles C for aarch64 and links", of: For::Cross, found: Found::Program("aarch64-linux-gnu-gcc") },
    Need { package: "libc6-dev-arm64-cross", why: "the C library of aarch64", of: For::Cross, found: Found::File("/usr/aarch64-linux-gnu/include/stdlib.h") },
    Need { package: "qemu-user", why: "runs tests of aarch64 that ask no kernel", of: For::Cross, found: Found::Program("qemu-aarch64") },
];
