//! The streams that a worker of `run` gets, and what becomes of what it writes.
//!
//! Its output goes through this process: counted against `limits.output` and, on a terminal, without
//! anything that steers one. A pipe or file gets every byte as it is.
//! With `--raw` the worker gets the streams of this process themselves.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::{sync::Notify, task::JoinSet};

use super::{plain::Plain, source::Source};
use crate::{
    cli::Failure,
    daemon::{Counter, Stdio},
    exit::Code,
};

/// Bytes at a time: what a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where the worker's output goes; nowhere through here if it has the streams of this process itself.
#[derive(Default)]
pub(in crate::cli) struct Outlets(Vec<Outlet>);

/// One stream: where it comes out of the worker and where it goes.
struct Outlet {
    from: File,
    to: File,
    terminal: bool,
}

/// Threads that hand on what a worker writes.
pub(super) struct Flowing {
    threads: Vec<JoinHandle<io::Result<()>>>,
    spent: Arc<Notify>,
    /// One for each stream: the bytes that were written to it, when nobody writes any more.
    counts: JoinSet<io::Result<u64>>,
    /// Bytes of the streams whose count is known; nothing when all were told, or there is none.
    written: Option<u64>,
}

/// What there is to tell of what a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is more than is allowed.
    Spent,
    /// Nobody writes any more; so many bytes were written, handed on or not.
    Written(u64),
}

/// Standard input, output and error of the worker, and where the last two go.
pub(super) fn open(raw: bool) -> Result<(Stdio, Outlets), Failure> {
    let own = [
        io::stdin().as_fd().try_clone_to_owned()?,
        io::stdout().as_fd().try_clone_to_owned()?,
        io::stderr().as_fd().try_clone_to_owned()?,
    ];
    if raw {
        return Ok((own, Outlets::default()));
    }
    let [input, output, errors] = own;
    let (output, out) = Outlet::to(output)?;
    let (errors, err) = Outlet::to(errors)?;
    let worker = [readable_only(input)?, out, err];
    Ok((worker, Outlets(vec![output, errors])))
}

impl Outlets {
    /// Who counts what the worker writes.
    pub(super) fn counter(&self) -> Counter {
        if self.0.is_empty() {
            Counter::Nobody
        } else {
            Counter::Caller
        }
    }

    /// Begins to hand on what the worker writes, up to so many bytes. It ends when nobody holds the
    /// worker's ends any more. Wants a runtime.
    pub(super) fn flow(self, max: u64) -> io::Result<Flowing> {
        let written = (self.counter() == Counter::Caller).then_some(0);
        let (left, spent) = (Arc::new(AtomicU64::new(max)), Arc::new(Notify::new()));
        let (mut threads, mut counts) = (Vec::new(), JoinSet::new());
        for Outlet { from, to, terminal } in self.0 {
            let (left, spent) = (Arc::clone(&left), Arc::clone(&spent));
            let (from, count) = Source::new(from)?;
            counts.spawn(count.written());
            let thread = thread::Builder::new().name("output".to_owned());
            threads.push(thread.spawn(move || hand_on(&from, to, terminal, &left, &spent))?);
        }
        Ok(Flowing {
            threads,
            spent,
            counts,
            written,
        })
    }
}

impl Flowing {
    /// Becomes ready when there is something to tell. May be cancelled and called again without loss.
    pub(super) async fn told(&mut self) -> Result<Told, Failure> {
        let Some(written) = &mut self.written else {
            self.spent.notified().await;
            return Ok(Told::Spent);
        };
        loop {
            let count = tokio::select! {
                () = self.spent.notified() => return Ok(Told::Spent),
                count = self.counts.join_next() => count,
            };
            let Some(count) = count else {
                let all = *written;
                self.written = None;
                return Ok(Told::Written(all));
            };
            let count = count.map_err(|_panic| Failure::said(Code::Software, "output: lost"))??;
            *written = written.saturating_add(count);
        }
    }

    /// Waits until all that was written is handed on. The session is over: nobody writes any more.
    pub(super) fn end(self) -> Result<(), Failure> {
        for thread in self.threads {
            let handed_on = thread.join();
            match handed_on.map_err(|_panic| Failure::said(Code::Software, "output: lost"))? {
                // Whoever read it has seen enough; the worker was told so.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Outlet {
    fn to(own: OwnedFd) -> io::Result<(Self, OwnedFd)> {
        let (from, worker) = pipe2(OFlag::O_CLOEXEC)?;
        let outlet = Self {
            from: from.into(),
            terminal: own.is_terminal(),
            to: own.into(),
        };
        Ok((outlet, worker))
    }
}

/// To the end of the stream, or of those who read it; then closes the pipe, so that a worker that goes
/// on writing is told. What is more than allowed is thrown away.
fn hand_on(
    mut from: &Source,
    mut to: File,
    terminal: bool,
    left: &AtomicU64,
    spent: &Notify,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut plain = Plain::default();
    loop {
        let length = match from.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let allowed = take(left, length);
        let bytes = chunk.get(..allowed).unwrap_or_default();
        if terminal {
            to.write_all(&plain.push(bytes))?;
        } else {
            to.write_all(bytes)?;
        }
        if length == 0 {
            return to.write_all(&plain.end());
        }
        if allowed < length {
            spent.notify_one();
            to.write_all(&plain.end())?;
            // It is ended for that, not by a pipe that broke before anybody could say why.
            return io::copy(&mut from, &mut io::sink()).map(drop);
        }
    }
}

/// Takes so many bytes of what is left, or all that is left.
fn take(left: &AtomicU64, length: usize) -> usize {
    let wanted = length as u64;
    let rest = |left: u64| Some(left.saturating_sub(wanted));
    let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    let (Ok(before) | Err(before)) = before;
    usize::try_from(before.min(wanted)).unwrap_or(length)
}

/// A terminal as standard input is mostly open for writing as well.
fn readable_only(input: OwnedFd) -> Result<OwnedFd, Failure> {
    if !input.is_terminal() {
        return Ok(input);
    }
    let again = File::open("/proc/self/fd/0");
    let again = again.map_err(|error| {
        let hint = "`< /dev/null`, or `--raw` where the worker may steer the terminal";
        let message = format!(
            "standard input: a terminal that can not be opened to read: {error}\nhint: {hint}"
        );
        Failure::said(Code::NotStarted, message)
    })?;
    Ok(again.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::take;

    #[test]
    fn no_more_is_taken_than_was_left() {
        let left = AtomicU64::new(10);
        assert_eq!([7, 7, 7, 0].map(|length| take(&left, length)), [7, 3, 0, 0]);
    }
}
