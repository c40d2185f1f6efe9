//! Which number texts have one exact meaning for every reader (RFC 7493, 2.2): those whose decimal
//! value is the shortest one of their double, and whole ones within ±(2^53 − 1).

use serde_json::{Number, Value};

/// Largest whole number that every double-based reader holds exactly: 2^53 − 1.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;
/// Digits of which every whole number is below 2^53.
const DIGITS_SURE: usize = 15;
/// Digits that the shortest text of a double has at most.
const DIGITS_MAX: usize = 17;

/// Whether this text, a number of JSON's grammar, is exact. Linear in its length.
pub(super) fn is_exact(text: &str) -> bool {
    // Most numbers are small and whole.
    if text.len() <= DIGITS_SURE && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let Ok(double) = text.parse::<f64>() else {
        return false;
    };
    if !double.is_finite() || (double.fract() == 0.0 && double.abs() > WHOLE_MAX) {
        return false;
    }
    let Some(written) = Decimal::read(text) else {
        return false;
    };
    // Where two texts are as short and as near, ECMAScript's readers and writers take the even one, and the
    // standard library the other.
    let shortest = [Some(format!("{double:e}")), even(double)];
    let mut shortest = shortest.iter().flatten();
    shortest.any(|text| Decimal::read(text).as_ref() == Some(&written))
}

fn even(double: f64) -> Option<String> {
    Number::from_f64(double).map(|number| number.to_string())
}

/// The value of a number that [`is_exact`]: whole ones are integers, however they were written.
pub(super) fn value(double: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and within ±(2^53 − 1): exact"
    )]
    if double.fract() == 0.0 && double.abs() <= WHOLE_MAX {
        return match double as i64 {
            whole if whole >= 0 => Value::from(whole.unsigned_abs()),
            whole => Value::from(whole),
        };
    }
    Number::from_f64(double).map_or(Value::Null, Value::Number)
}

/// Digits without zeros at either end, and the power of ten of the last one: one form per value.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// None where it has more digits than any exact one, or an exponent beyond all bounds.
    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: String = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            // Zero is zero, whatever its exponent.
            return Some(Self {
                digits: String::new(),
                exponent: 0,
            });
        }
        if kept.len() > DIGITS_MAX {
            return None;
        }
        let zeros = i64::try_from(digits.len().checked_sub(kept.len())?).ok()?;
        let places = i64::try_from(fraction.len()).ok()?;
        Some(Self {
            digits: kept.to_owned(),
            exponent: i64::from(exponent)
                .checked_add(zeros)?
                .checked_sub(places)?,
        })
    }
}
