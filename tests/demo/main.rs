//! The demo: a lab, an agent, real programs as tool workers, and a table of what they tried, what
//! came back and what the kernel said. Ends clean, checks that, and says so.
//!
//! Exit code 1 where anything was not as it should be.

mod attempts;
mod namespaces;
mod scene;
mod table;

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    let before = namespaces::of_the_network()?;
    let mut wrong = Vec::new();
    let instance = scene::play(&mut wrong)?;
    let left = lab::leftovers::after(&instance, lab::agent::patience())?;
    wrong.extend(left.into_iter().map(|what| format!("left behind: {what}")));
    if namespaces::settle(&before)? {
        println!("\nClean: no process, cgroup, namespace, pin or mount is left.");
    } else {
        wrong.push("left behind: a network namespace".to_owned());
    }
    for what in &wrong {
        println!("WRONG: {what}");
    }
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
