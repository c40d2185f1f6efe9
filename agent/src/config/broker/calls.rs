//! `[broker.calls]` of the agent's configuration: whether calls are taken, of whom, how large and how
//! long.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{file::Error, place::Place};

/// Where the file says nothing.
const GROUP_DEFAULT: &str = "stockade";
const CALL_TIME_DEFAULT: Duration = Duration::from_mins(10);
const WARM_TIME_DEFAULT: Duration = Duration::from_mins(1);
const WARM_DEFAULT: u32 = 64;
const BYTES_IN_DEFAULT: u32 = 1 << 20;
const BYTES_OUT_DEFAULT: u32 = 8 << 20;
const DEPTH_DEFAULT: u32 = 64;
/// The most that it may say.
const TIME_MAX: Duration = Duration::from_hours(24);
const WARM_MAX: u32 = 4_096;
const BYTES_MAX: u32 = 64 << 20;
const DEPTH_MAX: u32 = 256;

/// How calls are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Whether they are.
    pub enabled: bool,
    /// Group whose members may use the broker's socket beside root. Where the group does not exist,
    /// root alone may.
    pub group: String,
    /// How long a call may take, whatever its policy says.
    pub time: Duration,
    /// How long an idle worker is kept, whatever its policy says.
    pub warm_time: Duration,
    /// How many idle workers are kept.
    pub warm: u32,
    /// Bytes of a request.
    pub bytes_in: u32,
    /// Bytes of a reply.
    pub bytes_out: u32,
    /// Arrays and objects within each other.
    pub depth: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCalls {
    enabled: Option<bool>,
    group: Option<String>,
    time: Option<toml::Spanned<String>>,
    warm_time: Option<toml::Spanned<String>>,
    warm: Option<toml::Spanned<u32>>,
    bytes_in: Option<toml::Spanned<u32>>,
    bytes_out: Option<toml::Spanned<u32>>,
    depth: Option<toml::Spanned<u32>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            enabled: true,
            group: GROUP_DEFAULT.to_owned(),
            time: CALL_TIME_DEFAULT,
            warm_time: WARM_TIME_DEFAULT,
            warm: WARM_DEFAULT,
            bytes_in: BYTES_IN_DEFAULT,
            bytes_out: BYTES_OUT_DEFAULT,
            depth: DEPTH_DEFAULT,
        }
    }
}

impl RawCalls {
    pub(in crate::config) fn check(self, place: &Place<'_>) -> Result<Calls, Error> {
        let Self {
            enabled,
            group,
            time,
            warm_time,
            warm,
            bytes_in,
            bytes_out,
            depth,
        } = self;
        let default = Calls::default();
        let number = |value: Option<toml::Spanned<u32>>, key, default, least, most| match value {
            None => Ok(default),
            Some(value) if (least..=most).contains(value.get_ref()) => Ok(*value.get_ref()),
            Some(value) => {
                let message = format!("{} is not within {least} and {most}", value.get_ref());
                Err(place.value(&value, key, message))
            }
        };
        let span = |value: Option<toml::Spanned<String>>, key, default| match value {
            None => Ok(default),
            Some(value) => duration(place, &value, key),
        };
        Ok(Calls {
            enabled: enabled.unwrap_or(default.enabled),
            group: group.unwrap_or(default.group),
            time: span(time, "broker.calls.time", default.time)?,
            warm_time: span(warm_time, "broker.calls.warm_time", default.warm_time)?,
            warm: number(warm, "broker.calls.warm", default.warm, 0, WARM_MAX)?,
            bytes_in: number(
                bytes_in,
                "broker.calls.bytes_in",
                default.bytes_in,
                1_024,
                BYTES_MAX,
            )?,
            bytes_out: number(
                bytes_out,
                "broker.calls.bytes_out",
                default.bytes_out,
                1_024,
                BYTES_MAX,
            )?,
            depth: number(depth, "broker.calls.depth", default.depth, 8, DEPTH_MAX)?,
        })
    }
}

/// `90s`, `10m`, `1h`
pub(in crate::config) fn duration(
    place: &Place<'_>,
    text: &toml::Spanned<String>,
    key: &'static str,
) -> Result<Duration, Error> {
    let said = text.get_ref();
    let unit = [("s", 1_u64), ("m", 60), ("h", 3_600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((said.strip_suffix(unit)?, seconds)));
    let seconds = unit.and_then(|(count, seconds)| digits(count)?.checked_mul(seconds));
    let time = seconds.map(Duration::from_secs);
    time.filter(|time| !time.is_zero() && *time <= TIME_MAX)
        .ok_or_else(|| {
            let message = format!(
                "`{}` is no time up to 24h\nhint: `90s`, `10m`, `1h`",
                said.escape_debug()
            );
            place.value(text, key, message)
        })
}

/// `u64::from_str` takes a sign too.
fn digits(text: &str) -> Option<u64> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| all)
}
