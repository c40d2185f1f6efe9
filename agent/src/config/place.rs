//! Values of the configuration file, and where in it they stand: each is checked here against its bounds.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use common::limits;

use super::{
    file::{Error, Metrics},
    instance::{Instance, InstanceNameError},
    log_level::log_level,
};

/// The set in force and the one before it, up to what a list of a few hundred kilobytes holds.
const HISTORY_BOUNDS: std::ops::RangeInclusive<usize> = 2..=1_000;
/// Tools with labels of their own at most.
const METRICS_TOOLS_MAX: u32 = 4_096;
/// Places that wait at most: each is a process, and two in-memory file systems.
const AHEAD_MAX: u32 = 256;
/// Longest time for sessions to end by themselves: below what the service's unit gives it to stop.
const DRAIN_MAX: Duration = Duration::from_mins(1);

/// Where the text lies, for errors.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Place<'_> {
    pub(super) fn instance(&self, name: &toml::Spanned<String>) -> Result<Instance, Error> {
        Instance::new(name.get_ref())
            .map_err(|error: InstanceNameError| self.value(name, "instance", error.to_string()))
    }

    pub(super) fn absolute(
        &self,
        path: &toml::Spanned<PathBuf>,
        key: &'static str,
    ) -> Result<PathBuf, Error> {
        if path.get_ref().is_absolute() {
            return Ok(path.get_ref().clone());
        }
        Err(self.value(path, key, "not an absolute path".to_owned()))
    }

    pub(super) fn metrics(&self, text: &toml::Spanned<String>) -> Result<Metrics, Error> {
        Metrics::parse(text.get_ref()).ok_or_else(|| {
            let message = format!(
                "`{}` is neither an address with a port nor `off`\nhint: `127.0.0.1:9464`",
                text.get_ref()
            );
            self.value(text, "metrics", message)
        })
    }

    pub(super) fn log_level(&self, text: &toml::Spanned<String>) -> Result<String, Error> {
        log_level(text.get_ref()).map_err(|message| self.value(text, "log.level", message))
    }

    pub(super) fn metrics_tools(&self, tools: &toml::Spanned<u32>) -> Result<usize, Error> {
        let number = *tools.get_ref();
        if (1..=METRICS_TOOLS_MAX).contains(&number) {
            return Ok(number as usize);
        }
        let message = format!("{number} is not within 1 and {METRICS_TOOLS_MAX}");
        Err(self.value(tools, "metrics_tools", message))
    }

    pub(super) fn history(&self, sets: &toml::Spanned<usize>) -> Result<usize, Error> {
        let number = *sets.get_ref();
        if HISTORY_BOUNDS.contains(&number) {
            return Ok(number);
        }
        let (least, most) = HISTORY_BOUNDS.into_inner();
        let message = format!("{number} is not within {least} and {most}");
        Err(self.value(sets, "policies_history", message))
    }

    pub(super) fn sessions(&self, max: &toml::Spanned<u32>) -> Result<u32, Error> {
        let number = *max.get_ref();
        if (1..=limits::SESSIONS_MAX).contains(&number) {
            return Ok(number);
        }
        let message = format!("{number} is not within 1 and {}", limits::SESSIONS_MAX);
        Err(self.value(max, "sessions.max", message))
    }

    pub(super) fn ahead(&self, ahead: &toml::Spanned<u32>) -> Result<u32, Error> {
        let number = *ahead.get_ref();
        if number <= AHEAD_MAX {
            return Ok(number);
        }
        let message = format!("{number} is more than {AHEAD_MAX}");
        Err(self.value(ahead, "sessions.ahead", message))
    }

    pub(super) fn drain(&self, text: &toml::Spanned<String>) -> Result<Duration, Error> {
        let seconds = text.get_ref().strip_suffix('s');
        let seconds = seconds.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let seconds = seconds.and_then(|text| text.parse().ok());
        let time = seconds.map(Duration::from_secs);
        time.filter(|time| *time <= DRAIN_MAX).ok_or_else(|| {
            let message = format!(
                "`{}` is no time up to {} seconds\nhint: `15s`",
                text.get_ref().escape_debug(),
                DRAIN_MAX.as_secs()
            );
            self.value(text, "sessions.drain", message)
        })
    }

    pub(super) fn value<T>(
        &self,
        spanned: &toml::Spanned<T>,
        key: &'static str,
        message: String,
    ) -> Error {
        Error::Value {
            path: self.path.to_owned(),
            line: line_and_column(self.text, spanned.span().start).0,
            key,
            message,
        }
    }
}

/// What the parser says, with its place.
pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, column) = line_and_column(text, offset);
    Error::Syntax {
        path: path.to_owned(),
        line,
        column,
        message: error.message().trim_end().replace('\n', ", "),
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let line = before.matches('\n').count().saturating_add(1);
    let column = before
        .get(line_start..)
        .map_or(1, |rest| rest.chars().count().saturating_add(1));
    (line, column)
}
