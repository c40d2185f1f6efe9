//! `stockade policy`: looks at policies without touching the host.

mod check;
mod difference;
mod explain;
mod held;
mod look;
mod named;
mod pin;
mod pinned;
pub(super) mod print;
mod show;
mod suggest;
mod unix;

use clap::Subcommand;
use print::Answer;

use crate::exit::Code;

/// What to do with policies.
#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Compile policies and report every mistake with its place
    Check(check::Arguments),
    /// Write the sums of what a policy runs into a lock file beside it
    Pin(pin::Arguments),
    /// Print the compiled form of a policy: what the kernel and the sandbox are told
    Show(show::Arguments),
    /// Say whether a policy allows a destination, and by which rule or for which reason
    Explain(explain::Arguments),
    /// Say what a change of policies changes
    Diff(difference::Arguments),
    /// Propose the lines that would have allowed what a tool in `observe` mode did
    Suggest(suggest::Arguments),
    /// Print the JSON Schema of the policy file
    #[command(after_help = "Example:\n  stockade policy schema > policy.schema.json")]
    Schema,
}

impl PolicyCommand {
    /// Runs it. An error is a failure of the host or the command line; a bad policy is an answer,
    /// printed and told by the exit code.
    pub fn run(self) -> anyhow::Result<Code> {
        Ok(self.answer()?.tell()?)
    }

    fn answer(&self) -> anyhow::Result<Answer> {
        match self {
            Self::Check(arguments) => check::run(arguments),
            Self::Pin(arguments) => pin::run(arguments),
            Self::Show(arguments) => show::run(arguments),
            Self::Explain(arguments) => explain::run(arguments),
            Self::Diff(arguments) => difference::run(arguments),
            Self::Suggest(arguments) => suggest::run(arguments),
            Self::Schema => Answer::json(Code::Ok, &crate::policy::schema()),
        }
    }
}

#[cfg(test)]
mod tests;
