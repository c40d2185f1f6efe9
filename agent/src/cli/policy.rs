//! `stockade policy`: looks at policies without touching the host, and has the agent change them.

mod change;
mod check;
mod difference;
mod explain;
mod held;
mod history;
mod look;
mod named;
mod pin;
mod pinned;
pub(super) mod print;
mod push;
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
    /// Put policies in force: all of them or, with one mistake, none
    Push(push::Push),
    /// Take tools out: their sessions end
    Remove(push::Remove),
    /// List the sets that were in force
    History(history::Arguments),
    /// Put a set in force that was before
    Rollback(history::Rollback),
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
            Self::Push(arguments) => push::run(arguments),
            Self::Remove(arguments) => push::remove(arguments),
            Self::History(arguments) => history::run(arguments),
            Self::Rollback(arguments) => history::rollback(arguments),
            Self::Suggest(arguments) => suggest::run(arguments),
            Self::Schema => Answer::json(Code::Ok, &crate::policy::schema()),
        }
    }
}

#[cfg(test)]
mod tests;
