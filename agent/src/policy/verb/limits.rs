//! `[verb.limits]`: texts such as `10/min per user` to numbers.

use std::time::Duration;

use crate::policy::{
    compiled::{Daily, Rate, Subject},
    error::{Code, Findings},
    raw::{Field, List, Located},
};

/// Units of time of a rate.
const UNITS: &[(&str, u64)] = &[("sec", 1), ("min", 60), ("hour", 3_600), ("day", 86_400)];
/// Calls of a rate or a day.
const COUNT_MAX: u32 = 1_000_000;
/// Rates of a verb, and as many daily quotas.
const LIMITS_MAX: usize = 8;
/// Calls of a verb that run at once, unless it says otherwise.
const CONCURRENCY_DEFAULT: u32 = 32;
/// Calls of a verb that run at once.
const CONCURRENCY_MAX: u32 = 4_096;
/// Equal calls in a row, unless the verb says otherwise: a model that polls says more.
const REPEATS_DEFAULT: u32 = 16;

pub(super) fn rates(field: Field<List<String>>, findings: &mut Findings) -> Vec<Rate> {
    let what = "rate";
    texts(field, findings, what, "10/min per user", rate)
}

pub(super) fn per_day(field: Field<List<String>>, findings: &mut Findings) -> Vec<Daily> {
    texts(field, findings, "daily quota", "100 per user", daily)
}

pub(super) fn concurrency(field: Field<i64>, findings: &mut Findings) -> u32 {
    let bounds = (CONCURRENCY_DEFAULT, CONCURRENCY_MAX);
    number("concurrency", field, bounds, findings)
}

pub(super) fn repeats(field: Field<i64>, findings: &mut Findings) -> u32 {
    number("repeats", field, (REPEATS_DEFAULT, COUNT_MAX), findings)
}

fn number(
    key: &str,
    field: Field<i64>,
    (default, max): (u32, u32),
    findings: &mut Findings,
) -> u32 {
    let Some(Located { value, span }) = field.given() else {
        return default;
    };
    let number = u32::try_from(value).ok();
    number
        .filter(|number| (1..=max).contains(number))
        .unwrap_or_else(|| {
            let message = format!("`{key}` is beyond its bounds");
            findings.hinted(Code::OutOfBounds, span, message, format!("1 to {max}"));
            default
        })
}

fn texts<T: Ord>(
    field: Field<List<String>>,
    findings: &mut Findings,
    what: &str,
    example: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let Some(Located { value: texts, span }) = field.given() else {
        return Vec::new();
    };
    if texts.is_empty() || texts.len() > LIMITS_MAX {
        let message = format!("1 to {LIMITS_MAX} of one kind of limit");
        findings.add(Code::OutOfBounds, span, message);
    }
    let mut out = Vec::new();
    for Located { value, span } in texts {
        let Some(limit) = read(&value) else {
            let message = format!("`{}` is no {what}", value.escape_debug());
            findings.hinted(Code::BadValue, span, message, hint(what, example));
            continue;
        };
        out.push(limit);
    }
    out.sort();
    out.dedup();
    out
}

fn hint(what: &str, example: &str) -> String {
    let subjects: Vec<&str> = Subject::ALL.iter().map(|subject| subject.word()).collect();
    let units: Vec<&str> = UNITS.iter().map(|(word, _)| *word).collect();
    let per = if what == "rate" {
        format!(", per {}", units.join(", "))
    } else {
        String::new()
    };
    let subjects = subjects.join(", ");
    format!("write it like \"{example}\": 1 to {COUNT_MAX} calls{per}, per {subjects}")
}

/// `10/min per user`
fn rate(text: &str) -> Option<Rate> {
    let (counted, rest) = text.split_once('/')?;
    let (unit, whose) = rest.split_once(" per ")?;
    let (_, seconds) = UNITS.iter().find(|(word, _)| *word == unit)?;
    Some(Rate {
        count: count(counted)?,
        per: Duration::from_secs(*seconds),
        subject: subject(whose)?,
    })
}

/// `100 per user`
fn daily(text: &str) -> Option<Daily> {
    let (counted, whose) = text.split_once(" per ")?;
    Some(Daily {
        count: count(counted)?,
        subject: subject(whose)?,
    })
}

fn count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|_| digits)?;
    (1..=COUNT_MAX).contains(&count).then_some(count)
}

fn subject(word: &str) -> Option<Subject> {
    let mut all = Subject::ALL.iter().copied();
    all.find(|subject| subject.word() == word)
}
