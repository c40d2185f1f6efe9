//! Names what this machine lacks to build and test, each with its fix. Changes nothing.

use anyhow::bail;

use crate::{
    privileges,
    servers::SERVERS,
    setup::{self, Scope},
    toolchain::Toolchain,
};

/// The verb.
pub(crate) fn run() -> anyhow::Result<()> {
    let toolchain = Toolchain::choose()?;
    println!("kernel object   {}", toolchain.name());
    let mut lacks = 0;
    for need in setup::missing(Scope::All, toolchain) {
        lacks += 1;
        println!("missing         {}: {}", need.package, need.why);
        println!("                fix: cargo xtask setup");
    }
    for tool in setup::tools(Scope::All) {
        if !tool.is_installed()? {
            lacks += 1;
            println!(
                "missing         {} {}: {}",
                tool.name, tool.version, tool.why
            );
            println!("                fix: cargo xtask setup");
        }
    }
    for servers in SERVERS {
        if !servers.is_installed()? {
            lacks += 1;
            println!("missing         {}: {}", servers.registry, servers.why);
            println!("                fix: cargo xtask setup");
        }
    }
    for privilege in privileges::lacking() {
        lacks += 1;
        println!("missing         {privilege}");
        println!("                fix: run as root, outside of a container that takes it away");
    }
    if lacks > 0 {
        bail!("{lacks} missing; `stockade doctor` says what the kernel lacks");
    }
    println!("toolchain       complete");
    Ok(())
}
