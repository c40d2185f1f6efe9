//! A program that tries to talk, one step after the other, and says what came of it.
//!
//! Each line of standard input (or the arguments, joined) is a script of steps divided by `;`. It
//! ends at the first step that fails; the answer is one line of JSON. The language is made for
//! attackers: every socket call with every argument, no check of its own.
//!
//! ```text
//! socket inet stream 0; connect 93.184.216.34:443; send 5; recv
//! socket inet6 dgram 0; sendto [::ffff:10.0.0.1]:53 5
//! ```
//!
//! `prober stamp` prints the monotonic clock as its first act: how long a launch has taken.

mod address;
mod ask;
mod flood;
mod hello;
mod load;
mod measure;
mod names;
mod payload;
mod script;
mod send;
mod steps;
mod tls;

use std::io::{BufRead as _, Write as _};

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("stamp") {
        let now = measure::stamp().unwrap_or_default();
        return writeln!(std::io::stdout(), "{now}");
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut probe = steps::Probe::default();
    let mut out = std::io::stdout().lock();
    if !arguments.is_empty() {
        return writeln!(out, "{}", script::run(&mut probe, &arguments.join(" ")));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        writeln!(out, "{}", script::run(&mut probe, &line))?;
        out.flush()?;
    }
    Ok(())
}
