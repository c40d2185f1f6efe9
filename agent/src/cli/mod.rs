//! The command line: one file a verb.

use std::process::ExitCode;

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything that could start a thread.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == "launcher")
    {
        crate::launcher::launcher_main();
    }
    ExitCode::SUCCESS
}
