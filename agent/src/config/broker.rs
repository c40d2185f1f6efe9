//! `[broker]` of the agent's configuration: whether calls are taken, of whom, how large and how long.
//! It knows nothing of tokens' claims or policies.

use std::time::Duration;

use serde::Deserialize;

use super::file::{Error, Place};

/// Where the file says nothing.
const CALL_TIME_DEFAULT: Duration = Duration::from_mins(10);
const WARM_TIME_DEFAULT: Duration = Duration::from_secs(60);
const WARM_DEFAULT: u32 = 64;
const BYTES_IN_DEFAULT: u32 = 1 << 20;
const BYTES_OUT_DEFAULT: u32 = 8 << 20;
const DEPTH_DEFAULT: u32 = 64;
/// The most that it may say.
const TIME_MAX: Duration = Duration::from_hours(24);
const WARM_MAX: u32 = 4_096;
const BYTES_MAX: u32 = 64 << 20;
const DEPTH_MAX: u32 = 256;
const RESOURCE_BYTES_MAX: usize = 512;

/// How calls are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Whether they are.
    pub enabled: bool,
    /// What tokens and proofs are for: an absolute URI; one of the host's and the instance's name where
    /// the file does not say.
    pub resource: Option<String>,
    /// Group whose members may use the broker's socket beside root; the control group where the file
    /// does not say.
    pub group: Option<String>,
    /// How long a call may take, whatever its policy says.
    pub call_time: Duration,
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
pub(super) struct RawBroker {
    enabled: Option<bool>,
    resource: Option<toml::Spanned<String>>,
    group: Option<String>,
    call_time: Option<toml::Spanned<String>>,
    warm_time: Option<toml::Spanned<String>>,
    warm: Option<toml::Spanned<u32>>,
    bytes_in: Option<toml::Spanned<u32>>,
    bytes_out: Option<toml::Spanned<u32>>,
    depth: Option<toml::Spanned<u32>>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            enabled: true,
            resource: None,
            group: None,
            call_time: CALL_TIME_DEFAULT,
            warm_time: WARM_TIME_DEFAULT,
            warm: WARM_DEFAULT,
            bytes_in: BYTES_IN_DEFAULT,
            bytes_out: BYTES_OUT_DEFAULT,
            depth: DEPTH_DEFAULT,
        }
    }
}

impl RawBroker {
    pub(super) fn check(self, place: &Place<'_>) -> Result<Broker, Error> {
        let Self {
            enabled,
            resource,
            group,
            call_time,
            warm_time,
            warm,
            bytes_in,
            bytes_out,
            depth,
        } = self;
        let default = Broker::default();
        let number = |value: Option<toml::Spanned<u32>>, key, default, least, most| match value {
            None => Ok(default),
            Some(value) if (least..=most).contains(value.get_ref()) => Ok(*value.get_ref()),
            Some(value) => {
                let message = format!("{} is not within {least} and {most}", value.get_ref());
                Err(place.value(&value, key, message))
            }
        };
        let time = |value: Option<toml::Spanned<String>>, key, default| match value {
            None => Ok(default),
            Some(value) => duration(place, &value, key),
        };
        Ok(Broker {
            enabled: enabled.unwrap_or(default.enabled),
            resource: resource.map(|uri| self::resource(place, &uri)).transpose()?,
            group,
            call_time: time(call_time, "broker.call_time", default.call_time)?,
            warm_time: time(warm_time, "broker.warm_time", default.warm_time)?,
            warm: number(warm, "broker.warm", default.warm, 0, WARM_MAX)?,
            bytes_in: number(bytes_in, "broker.bytes_in", default.bytes_in, 1_024, BYTES_MAX)?,
            bytes_out: number(bytes_out, "broker.bytes_out", default.bytes_out, 1_024, BYTES_MAX)?,
            depth: number(depth, "broker.depth", default.depth, 8, DEPTH_MAX)?,
        })
    }
}

/// An absolute http or https URI without query and fragment (RFC 9449, 4.2: `htu`).
fn resource(place: &Place<'_>, uri: &toml::Spanned<String>) -> Result<String, Error> {
    let text = uri.get_ref();
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let shaped = text.len() <= RESOURCE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains(['?', '#', '"', '\\', '@'])
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if shaped {
        return Ok(text.clone());
    }
    let message = format!(
        "`{}` is no absolute http or https URI without query and fragment\nhint: `https://tools.example/stockade`",
        text.escape_debug()
    );
    Err(place.value(uri, "broker.resource", message))
}

/// `90s`, `10m`, `1h`
fn duration(
    place: &Place<'_>,
    text: &toml::Spanned<String>,
    key: &'static str,
) -> Result<Duration, Error> {
    let said = text.get_ref();
    let unit = [("s", 1_u64), ("m", 60), ("h", 3_600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((said.strip_suffix(unit)?, seconds)));
    let seconds = unit.and_then(|(count, seconds)| count.parse::<u64>().ok()?.checked_mul(seconds));
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
