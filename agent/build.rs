//! Embeds the kernel object that `cargo xtask build` made, and compiles process 1 of the sessions: one
//! program without a library, which no package can be because it is no program of the standard library.
//! Both are of the target's architecture, which need not be the one of who compiles.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{self, Command},
};

/// Sources of process 1, and what it is compiled with: static, no start files, no address to relocate.
const INIT_FOLDER: &str = "src/sys/process_one";
const INIT_SOURCE: &str = "main.rs";
const INIT_OPTIONS: &[&str] = &[
    "--edition=2024",
    "--crate-name=init",
    "--crate-type=bin",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Coverflow-checks=off",
    "-Crelocation-model=static",
    "-Cstrip=symbols",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--build-id=none",
];

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    embed_object(&package.join(".."));
    compile_init(&package.join(INIT_FOLDER));
}

fn embed_object(root: &Path) {
    // Not `CARGO_TARGET_DIR`: the object belongs to the workspace, whichever folder cargo builds in.
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let object = root.join(format!("target/ebpf/{architecture}.o"));
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env=STOCKADE_EBPF_OBJECT={}", object.display());
    if !object.is_file() {
        let verb = if env::var_os("TARGET") == env::var_os("HOST") {
            "build"
        } else {
            "cross"
        };
        eprintln!(
            "error: the kernel object is missing: {}\nhint: run `cargo xtask {verb}`",
            object.display()
        );
        process::exit(1);
    }
}

fn compile_init(folder: &Path) {
    let source = folder.join(INIT_SOURCE);
    let program = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("init");
    println!("cargo:rerun-if-changed={}", folder.display());
    println!("cargo:rustc-env=STOCKADE_INIT={}", program.display());
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args(INIT_OPTIONS)
        .arg(&source)
        .arg("-o")
        .arg(&program);
    if let Some(target) = env::var_os("TARGET") {
        rustc.arg("--target").arg(target);
    }
    // Not all flags of the target: what instruments or links programs with a library has no place here.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        rustc.arg(option);
    }
    if let Some(sysroot) = sysroot() {
        rustc.arg("--sysroot").arg(sysroot);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        Ok(_) => process::exit(1),
        Err(error) => {
            eprintln!("error: {}: {error}", rustc.get_program().display());
            process::exit(1);
        }
    }
}

/// Where the compiler was told to look for `core`, if it was.
fn sysroot() -> Option<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").ok()?;
    let mut flags = flags.split('\u{1f}');
    while let Some(flag) = flags.next() {
        if flag == "--sysroot" {
            return flags.next().map(str::to_owned);
        }
        if let Some(folder) = flag.strip_prefix("--sysroot=") {
            return Some(folder.to_owned());
        }
    }
    None
}
