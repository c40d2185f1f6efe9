//! Embeds the kernel object that `cargo xtask build` made; builds nothing itself.

use std::{env, path::PathBuf, process};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let object = target.join("ebpf/ebpf.o");
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_DIR");
    println!("cargo:rustc-env=STOCKADE_EBPF_OBJECT={}", object.display());
    if !object.is_file() {
        eprintln!("error: the kernel object is missing\nhint: run `cargo xtask build`");
        process::exit(1);
    }
}
