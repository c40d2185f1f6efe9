//! Starting sessions.
//!
//! ```text
//! agent ──Prepare(plan)──▶ launcher ──fork──▶ template, one a policy: its mount namespace holds the
//!   │                                         policy's root and nothing else
//!   └───────Launch(work, stdio)─────────────▶ template ──clone3──▶ init, process 1 of the session
//!   ◀───────────────status pipe────────────────────────────────── init ──clone3──▶ worker
//! ```
//!
//! The agent has threads, secrets and a big address space, so it clones nothing itself. Launcher and
//! templates have one thread, an empty environment, no secret and no descriptor but their sockets.
//! They end when the agent does (their socket closes), and each session with its template (death
//! signal, and a pipe that hangs up).
//!
//! A template copies no memory for a session: init and worker run in the template's until each
//! executes its program, and the template waits. Init's program is a few hundred bytes of ours.

mod channel;
mod client;
mod error;
mod init;
mod program;
pub mod protocol;
mod running;
mod server;
mod streams;
mod template;

pub use client::{Hatched, LaunchRequest, Launcher};
pub use error::LaunchError;
pub use protocol::Work;
pub use running::{Exit, Running};
pub use server::launcher_main;
