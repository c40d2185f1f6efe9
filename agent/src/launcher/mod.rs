//! Starting sessions.
//!
//! ```text
//! agent ──Prepare(plan)──▶ launcher ──fork──▶ template, one a policy: its mount namespace holds the
//!   │                                         policy's root and nothing else
//!   ├───────Reserve(cgroup, user)───────────▶ template ──clone3──▶ init, process 1 of a session, waits
//!   │   (somebody asks for a session)
//!   ├───────Launch(work, stdio)─────────────▶ template ──errand──▶ init ──clone──▶ worker
//!   │   (or, where the template has found the program before and it is the same still)
//!   └───────errand───────────────────────────────────────────────▶ init ──clone──▶ worker
//!   ◀───────────────status pipe────────────────────────────────── init
//! ```
//!
//! The agent has threads, secrets and a big address space, so it clones nothing itself. Launcher and
//! templates have one thread, an empty environment, no secret and no descriptor but their sockets.
//! They end when the agent does (their socket closes), and each session with its template (death
//! signal, and a pipe that hangs up).
//!
//! A template copies no memory for a session: init runs in the template's until it executes its program,
//! and the template waits. Init's program is some kilobytes of ours; the worker runs in its memory, and
//! it waits, until the worker executes its own.

mod again;
mod channel;
mod client;
mod error;
mod hand_out;
mod handle;
mod init;
mod privileges;
mod program;
pub mod protocol;
mod running;
mod seat;
mod server;
mod streams;
mod template;
mod visit;

pub use client::{Hatched, LaunchRequest, Launcher};
pub use error::LaunchError;
pub use protocol::Work;
pub use running::{Exit, Running};
pub use seat::{Fit, Place, Seat};
pub use server::launcher_main;
pub use visit::{Namespace, Visit, Visited};
