//! `[[broker.issuer]]`: whose tokens are believed beside the embedded issuer's, and where the keys of
//! each come from: a file, a URL, or what the issuer itself says of its keys (discovery).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{
    calls::duration,
    endpoint::{Endpoint, LoopbackHttp},
    uri,
};
use crate::config::{file::Error, place::Place};

/// Authorities that are trusted where the file names none.
pub(in crate::config) const CA_DEFAULT: &str = "/etc/ssl/certs/ca-certificates.crt";
const REFRESH_MIN_DEFAULT: Duration = Duration::from_mins(1);
const REFRESH_MAX_DEFAULT: Duration = Duration::from_mins(15);
const STALE_MAX_DEFAULT: Duration = Duration::from_hours(1);
const FETCH_PAUSE_DEFAULT: Duration = Duration::from_secs(10);

const _: () = assert!(REFRESH_MIN_DEFAULT.as_secs() <= REFRESH_MAX_DEFAULT.as_secs());
const _: () = assert!(REFRESH_MAX_DEFAULT.as_secs() <= STALE_MAX_DEFAULT.as_secs());

/// An issuer beside the embedded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its identifier, as `iss` has it.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWK set in a file.
    File(PathBuf),
    /// A JWK set that is fetched.
    Fetched(Fetching),
}

/// How keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// Where they are.
    pub place: KeyPlace,
    /// PEM file of the authorities that may have signed the server's certificate.
    pub ca: PathBuf,
    /// Whether `http` to an address of loopback is taken.
    pub http: LoopbackHttp,
    /// Shortest time until they are fetched again, whatever the server says.
    pub refresh_min: Duration,
    /// Longest time until they are fetched again, and the time where the server says nothing.
    pub refresh_max: Duration,
    /// Age at which keys are believed no more, where no younger ones can be had.
    pub stale_max: Duration,
    /// Shortest time from one fetch to the next that a call may ask for.
    pub pause: Duration,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// Where the document says that is found below this, the issuer's identifier.
    Discovery(Endpoint),
    /// There.
    Set(Endpoint),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    pub(super) issuer: toml::Spanned<String>,
    jwks: Option<toml::Spanned<PathBuf>>,
    jwks_uri: Option<toml::Spanned<String>>,
    ca: Option<toml::Spanned<PathBuf>>,
    loopback_http: Option<toml::Spanned<bool>>,
    refresh_min: Option<toml::Spanned<String>>,
    refresh_max: Option<toml::Spanned<String>>,
    stale_max: Option<toml::Spanned<String>>,
    fetch_pause: Option<toml::Spanned<String>>,
}

impl RawIssuer {
    pub(super) fn check(self, place: &Place<'_>) -> Result<Issuer, Error> {
        let name = uri(place, &self.issuer, "broker.issuer.issuer")?;
        let keys = match &self.jwks {
            Some(file) => {
                self.refuse_fetching(place)?;
                KeySource::File(place.absolute(file, "broker.issuer.jwks")?)
            }
            None => KeySource::Fetched(self.fetching(place)?),
        };
        Ok(Issuer { issuer: name, keys })
    }

    /// With keys in a file, nothing else may be said: who says it expects it to count.
    fn refuse_fetching(&self, place: &Place<'_>) -> Result<(), Error> {
        let Self {
            issuer: _,
            jwks: _,
            jwks_uri,
            ca,
            loopback_http,
            refresh_min,
            refresh_max,
            stale_max,
            fetch_pause,
        } = self;
        let message = || "is for keys that are fetched, and `jwks` is a file".to_owned();
        let texts = [
            (jwks_uri, "broker.issuer.jwks_uri"),
            (refresh_min, "broker.issuer.refresh_min"),
            (refresh_max, "broker.issuer.refresh_max"),
            (stale_max, "broker.issuer.stale_max"),
            (fetch_pause, "broker.issuer.fetch_pause"),
        ];
        for (value, key) in texts {
            if let Some(value) = value {
                return Err(place.value(value, key, message()));
            }
        }
        if let Some(ca) = ca {
            return Err(place.value(ca, "broker.issuer.ca", message()));
        }
        match loopback_http {
            Some(http) => Err(place.value(http, "broker.issuer.loopback_http", message())),
            None => Ok(()),
        }
    }

    fn fetching(&self, place: &Place<'_>) -> Result<Fetching, Error> {
        let http = match self.loopback_http.as_ref().map(toml::Spanned::get_ref) {
            Some(true) => LoopbackHttp::Taken,
            Some(false) | None => LoopbackHttp::Refused,
        };
        let endpoint = |text: &toml::Spanned<String>, key| {
            Endpoint::parse(text.get_ref(), http).ok_or_else(|| {
                let message = format!(
                    "`{}` is no `https` URL\nhint: `https://login.example`; keys in a file: `jwks = \"/…\"`; `loopback_http = true` takes `http` of 127.0.0.1 and [::1]",
                    text.get_ref().escape_debug()
                );
                place.value(text, key, message)
            })
        };
        let place_of_keys = match &self.jwks_uri {
            Some(text) => KeyPlace::Set(endpoint(text, "broker.issuer.jwks_uri")?),
            None => KeyPlace::Discovery(endpoint(&self.issuer, "broker.issuer.issuer")?),
        };
        let span = |value: Option<&toml::Spanned<String>>, key, default| match value {
            None => Ok(default),
            Some(value) => duration(place, value, key),
        };
        let fetching = Fetching {
            place: place_of_keys,
            ca: match &self.ca {
                Some(path) => place.absolute(path, "broker.issuer.ca")?,
                None => Path::new(CA_DEFAULT).to_owned(),
            },
            http,
            refresh_min: span(
                self.refresh_min.as_ref(),
                "broker.issuer.refresh_min",
                REFRESH_MIN_DEFAULT,
            )?,
            refresh_max: span(
                self.refresh_max.as_ref(),
                "broker.issuer.refresh_max",
                REFRESH_MAX_DEFAULT,
            )?,
            stale_max: span(
                self.stale_max.as_ref(),
                "broker.issuer.stale_max",
                STALE_MAX_DEFAULT,
            )?,
            pause: span(
                self.fetch_pause.as_ref(),
                "broker.issuer.fetch_pause",
                FETCH_PAUSE_DEFAULT,
            )?,
        };
        let Fetching {
            refresh_min,
            refresh_max,
            stale_max,
            ..
        } = &fetching;
        if refresh_min <= refresh_max && refresh_max <= stale_max {
            return Ok(fetching);
        }
        let message = format!(
            "`refresh_min` {refresh_min:?}, `refresh_max` {refresh_max:?} and `stale_max` {stale_max:?} do not rise\nhint: `refresh_min` is the shortest, `stale_max` the longest"
        );
        Err(place.value(&self.issuer, "broker.issuer", message))
    }
}
