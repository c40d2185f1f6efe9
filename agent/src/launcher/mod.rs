//! Starting sessions.
//!
//! ```text
//! agent ──Prepare(plan)──▶ launcher ──fork──▶ template, one a policy: its mount namespace holds the
//!   │                                         policy's root and nothing else
//!   └───────Launch(command, stdio)──────────▶ template ──clone3──▶ init, process 1 of the session
//!   ◀───────────────status pipe────────────────────────────────── init ──fork──▶ worker
//! ```
//!
//! The agent has threads, secrets and a big address space, so it clones nothing itself. Launcher and
//! templates have one thread, an empty environment, no secret and no descriptor but their sockets.
//! They end when the agent does (their socket closes), and each session with its template (death
//! signal, and a pipe that hangs up).

mod channel;
mod client;
mod error;
mod init;
pub mod protocol;
mod running;
mod server;
mod streams;
mod template;

pub use client::{LaunchRequest, Launcher};
pub use error::LaunchError;
pub use protocol::Work;
pub use running::{Exit, Running};
pub use server::launcher_main;
