//! Log lines: text for people, fields for journald, JSON for machines. Messages are constant; what varies
//! stands in dotted fields (`session.id`, `policy.rule`, `dst.ip`).
//!
//! Bytes that a worker chose never reach a line unescaped: fields print with `Debug` or are numbers,
//! and `tracing-subscriber` escapes control characters in strings.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::fs::MetadataExt as _,
};

use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{
    journald::{Journald, priority},
    line_limit::{self, LineLimit},
};
use crate::config::LogFormat;

/// The filter or the logger can not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is not a filter.
    #[error("log level `{level}`: not a filter\nhint: `info`, `debug`, `agent::daemon=debug,info`")]
    Level {
        /// What was asked for.
        level: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a logger already.
    #[error("log: is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends log lines to stderr, or to journald where stderr leads there, from now on. Each source may
/// write so many lines; what is over is counted ([`suppressed`]).
pub fn start(level: &str, format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|source| Error::Level {
            level: level.to_owned(),
            source,
        })?;
    let lines = fmt::layer().with_writer(io::stderr);
    let lines: Box<dyn Layer<_> + Send + Sync> = match Shape::of(format) {
        Shape::Terminal => lines.with_target(false).boxed(),
        Shape::Text => lines.with_ansi(false).with_target(false).boxed(),
        Shape::Journal => {
            if let Ok(journald) = Journald::connect() {
                journald.boxed()
            } else {
                // Its stream takes lines all the same.
                let lines = lines.with_ansi(false).with_target(false).without_time();
                lines.with_level(false).with_writer(JournalWriter).boxed()
            }
        }
        Shape::Json => {
            let lines = lines.json().flatten_event(true);
            lines.with_current_span(false).with_span_list(false).boxed()
        }
    };
    let logger = tracing_subscriber::registry()
        .with(lines)
        .with(LineLimit::default())
        .with(filter);
    logger
        .try_init()
        .map_err(|error| Error::Twice(error.into()))
}

/// Log lines that the limits suppressed so far.
#[must_use]
pub fn suppressed() -> u64 {
    line_limit::suppressed()
}

#[derive(Clone, Copy)]
enum Shape {
    Terminal,
    Text,
    Journal,
    Json,
}

impl Shape {
    fn of(format: LogFormat) -> Self {
        let journal = stderr_is_the_journal();
        match format {
            LogFormat::Text | LogFormat::Auto if io::stderr().is_terminal() => Self::Terminal,
            LogFormat::Text => Self::Text,
            LogFormat::Auto if journal => Self::Journal,
            LogFormat::Auto | LogFormat::Json => Self::Json,
        }
    }
}

/// Whether standard error leads to journald: systemd says which file that is (`systemd.exec(5)`,
/// `$JOURNAL_STREAM`), and the variable may be inherited where the file is not.
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let Ok(file) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    device.parse() == Ok(file.dev()) && inode.parse() == Ok(file.ino())
}

/// Puts the priority before each line, as journald reads it from stderr (`sd-daemon(3)`).
struct JournalWriter;

struct Prioritised(u8);

impl<'a> MakeWriter<'a> for JournalWriter {
    type Writer = Prioritised;

    fn make_writer(&'a self) -> Prioritised {
        Prioritised(priority(tracing::Level::INFO))
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Prioritised {
        Prioritised(priority(*meta.level()))
    }
}

impl Write for Prioritised {
    /// The formatter hands over one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let priority = format!("<{}>", self.0);
        io::stderr()
            .lock()
            .write_all(&[priority.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
