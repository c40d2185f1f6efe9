//! `[match]`: units that somebody else starts, and that this policy fences.

use super::{
    super::{
        error::{Code, Span},
        raw::{Located, RawMatch},
        unit::UnitGlob,
    },
    Context,
};

/// Names of one policy.
const UNITS_MAX: usize = 64;

impl Context<'_> {
    /// Ordered, each once, and the place of each.
    pub(super) fn units(&mut self, raw: Option<RawMatch>) -> Vec<(UnitGlob, Span)> {
        let Some(RawMatch { units }) = raw else {
            return Vec::new();
        };
        let Some(list) = self.required("match", "units", units, Span::default()) else {
            return Vec::new();
        };
        if list.value.is_empty() || list.value.len() > UNITS_MAX {
            let message = format!("`match.units` names {} units", list.value.len());
            let hint = format!("1 to {UNITS_MAX} names, or no `[match]`");
            self.findings
                .hinted(Code::OutOfBounds, list.span, message, hint);
        }
        let mut globs = Vec::new();
        for Located { value, span } in list.value {
            match UnitGlob::parse(&value) {
                Ok(glob) => globs.push((glob, span)),
                Err(error) => {
                    let hint =
                        "a service or scope, and more of its name than `*`: \"weather-*.service\"";
                    self.findings
                        .hinted(Code::BadValue, span, error.to_string(), hint);
                }
            }
        }
        globs.sort_by(|(one, _), (other, _)| one.cmp(other));
        globs.dedup_by(|(one, _), (other, _)| one == other);
        globs
    }
}
