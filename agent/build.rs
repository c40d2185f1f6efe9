//! Embeds the kernel object that `cargo xtask build` made; builds nothing itself.

use std::{env, path::PathBuf, process};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    // Not `CARGO_TARGET_DIR`: the object belongs to the workspace, whichever folder cargo builds in.
    let object = root.join("target/ebpf/ebpf.o");
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env=STOCKADE_EBPF_OBJECT={}", object.display());
    if !object.is_file() {
        eprintln!("error: the kernel object is missing\nhint: run `cargo xtask build`");
        process::exit(1);
    }
}
