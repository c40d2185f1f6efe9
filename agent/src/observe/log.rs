//! Log lines: text for people and journald, JSON for machines. Messages are constant; what varies
//! stands in dotted fields (`session.id`, `policy.rule`, `dst.ip`).
//!
//! Bytes that a worker chose never reach a line unescaped: fields print with `Debug` or are numbers,
//! and `tracing-subscriber` escapes control characters in strings.

use std::io::{self, IsTerminal, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

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

/// Sends log lines to stderr from now on.
pub fn start(level: &str, format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|source| Error::Level {
            level: level.to_owned(),
            source,
        })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match Shape::of(format) {
        Shape::Terminal => builder
            .with_writer(io::stderr)
            .with_target(false)
            .try_init(),
        Shape::Text => {
            let builder = builder.with_writer(io::stderr).with_ansi(false);
            builder.with_target(false).try_init()
        }
        Shape::Journal => {
            let builder = builder.with_writer(JournalWriter).with_ansi(false);
            builder
                .with_target(false)
                .without_time()
                .with_level(false)
                .try_init()
        }
        Shape::Json => {
            let builder = builder.json().flatten_event(true).with_writer(io::stderr);
            builder
                .with_current_span(false)
                .with_span_list(false)
                .try_init()
        }
    }
    .map_err(Error::Twice)
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
        let journal = std::env::var_os("JOURNAL_STREAM").is_some();
        match format {
            LogFormat::Text | LogFormat::Auto if io::stderr().is_terminal() => Self::Terminal,
            LogFormat::Text => Self::Text,
            LogFormat::Auto if journal => Self::Journal,
            LogFormat::Auto | LogFormat::Json => Self::Json,
        }
    }
}

/// Puts the priority before each line, as journald reads it from stderr (`sd-daemon(3)`).
struct JournalWriter;

struct Prioritised(&'static [u8]);

impl<'a> MakeWriter<'a> for JournalWriter {
    type Writer = Prioritised;

    fn make_writer(&'a self) -> Prioritised {
        Prioritised(b"<6>")
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Prioritised {
        Prioritised(match *meta.level() {
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            Level::DEBUG | Level::TRACE => b"<7>",
        })
    }
}

impl Write for Prioritised {
    /// The formatter hands over one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(&[self.0, line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
