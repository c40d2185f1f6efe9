//! Names of units with `*` and `?`, as `[match]` has them.

use std::fmt;

/// Bytes of a unit's name that systemd takes (`UNIT_NAME_MAX`).
pub const UNIT_NAME_BYTES_MAX: usize = 255;
/// How such a name ends.
const KINDS: [&str; 2] = [".service", ".scope"];

/// A name of units, in which `*` stands for any letters, or none, and `?` for any one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitGlob(String);

/// No name of units.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` names no units")]
pub struct UnitGlobError(String);

impl UnitGlob {
    /// What a `[match]` may say. One that would name every unit is refused.
    pub fn parse(text: &str) -> Result<Self, UnitGlobError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@*?".contains(&byte);
        let stem = KINDS.iter().find_map(|kind| text.strip_suffix(kind));
        // The service manager, the agent and whatever the operator works by have names too.
        let says = |stem: &str| stem.bytes().any(|byte| byte != b'*' && byte != b'?');
        let good =
            text.len() <= UNIT_NAME_BYTES_MAX && text.bytes().all(known) && stem.is_some_and(says);
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(UnitGlobError(text.to_owned()))
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this unit.
    #[must_use]
    pub fn matches(&self, unit: &str) -> bool {
        let (glob, unit) = (self.0.as_bytes(), unit.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // Where the last `*` was, and up to where it has swallowed.
        let mut star: Option<(usize, usize)> = None;
        while let Some(letter) = unit.get(seen) {
            match glob.get(at) {
                Some(b'*') => {
                    star = Some((at, seen));
                    at = at.saturating_add(1);
                }
                Some(wanted) if *wanted == b'?' || wanted == letter => {
                    at = at.saturating_add(1);
                    seen = seen.saturating_add(1);
                }
                _ => {
                    let Some((place, swallowed)) = star else {
                        return false;
                    };
                    seen = swallowed.saturating_add(1);
                    star = Some((place, seen));
                    at = place.saturating_add(1);
                }
            }
        }
        glob.get(at..)
            .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }

    /// Whether one of the two surely names what the other names: they can be seen to collide.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        self.matches(&other.0) || other.matches(&self.0)
    }
}

impl fmt::Display for UnitGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::UnitGlob;

    fn glob(text: &str) -> UnitGlob {
        UnitGlob::parse(text).unwrap()
    }

    #[test]
    fn stars_swallow_and_marks_stand_for_one() {
        for (pattern, unit, is) in [
            ("weather-*.service", "weather-a.service", true),
            ("weather-*.service", "weather-.service", true),
            ("weather-*.service", "weather.service", false),
            ("weather-*.service", "weather-a.scope", false),
            ("w?ther.service", "wether.service", true),
            ("w?ther.service", "weather.service", false),
            ("w?ther.service", "wther.service", false),
            ("w?ther.service", "wxther.service", true),
            ("*a*b*.service", "xaxxbx.service", true),
            ("*a*b*.service", "xbxxax.service", false),
            ("*-x.service", "a-x-x.service", true),
        ] {
            assert_eq!(glob(pattern).matches(unit), is, "{pattern} {unit}");
        }
    }

    #[test]
    fn what_names_everything_or_nothing_is_refused() {
        for bad in [
            "*",
            "*.service",
            "?*.service",
            "weather",
            "../a.service",
            "a b.service",
            "a.slice",
            "",
        ] {
            assert!(UnitGlob::parse(bad).is_err(), "{bad}");
        }
        assert!(UnitGlob::parse(&format!("{}.service", "x".repeat(250))).is_err());
    }

    #[test]
    fn a_glob_collides_with_what_it_covers() {
        assert!(glob("a-*.service").collides(&glob("a-1.service")));
        assert!(glob("a-1.service").collides(&glob("a-*.service")));
        assert!(glob("a-*.service").collides(&glob("a-b-*.service")));
        assert!(!glob("a-*.service").collides(&glob("b-*.service")));
    }
}
