//! Reads one TOML table key by key: reports every value of another type and every key that nobody
//! asked for, and goes on.
//!
//! It knows types and spelling, not what a policy means.

use toml::de::{DeArray, DeTable, DeValue};

use super::{
    error::{Code, Findings, Span},
    example::example,
    raw::{Choice, Field, List, Located, RawPort},
};

/// Most similar words are suggested down to this Jaro-Winkler similarity.
const SUGGESTION_MIN: f64 = 0.75;

/// The word of a list that was probably meant.
pub(super) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SUGGESTION_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A table that is being read.
pub(super) struct TableReader<'a, 'i> {
    path: &'static str,
    table: DeTable<'i>,
    asked: Vec<&'static str>,
    findings: &'a mut Findings,
}

type Taken<T> = Result<T, &'static str>;

impl<'a, 'i> TableReader<'a, 'i> {
    /// Begins; `path` names the table in messages and is empty for the file's top level.
    pub(super) fn new(path: &'static str, table: DeTable<'i>, findings: &'a mut Findings) -> Self {
        Self {
            path,
            table,
            asked: Vec::new(),
            findings,
        }
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Field<String> {
        self.value(key, "a string", |_, value, _| string(value))
    }

    /// A whole number.
    pub(super) fn integer(&mut self, key: &'static str) -> Field<i64> {
        self.value(key, "a whole number", |_, value, _| integer(&value))
    }

    /// A number.
    pub(super) fn number(&mut self, key: &'static str) -> Field<f64> {
        self.value(key, "a number", |_, value, _| number(&value))
    }

    /// A truth value.
    pub(super) fn boolean(&mut self, key: &'static str) -> Field<bool> {
        self.value(key, "true or false", |_, value, _| {
            if let DeValue::Boolean(truth) = value {
                return Ok(truth);
            }
            Err(value.type_str())
        })
    }

    /// A word out of a list.
    pub(super) fn choice<T: Choice>(&mut self, key: &'static str) -> Field<T> {
        let field = self.value(key, "a string", |reader, value, span| {
            Ok(reader.word(key, &string(value)?, span))
        });
        match field {
            Field::Given(Located {
                value: Some(value),
                span,
            }) => Field::Given(Located { value, span }),
            Field::Given(_) | Field::Unreadable => Field::Unreadable,
            Field::Absent => Field::Absent,
        }
    }

    /// A list of words.
    pub(super) fn choices<T: Choice>(&mut self, key: &'static str) -> Field<List<T>> {
        self.list(key, "a list of strings", |reader, value, span| {
            Ok(reader.word(key, &string(value)?, span))
        })
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, key: &'static str) -> Field<List<String>> {
        self.list(key, "a list of strings", |_, value, _| {
            string(value).map(Some)
        })
    }

    /// A string, or a list of them.
    pub(super) fn texts(&mut self, key: &'static str) -> Field<List<String>> {
        let single = self
            .table
            .get(key)
            .is_some_and(|value| matches!(value.as_ref(), DeValue::String(_)));
        if !single {
            return self.strings(key);
        }
        let Field::Given(Located { value, span }) = self.string(key) else {
            return Field::Unreadable;
        };
        let value = vec![Located { value, span }];
        Field::Given(Located { value, span })
    }

    /// A list of ports and port ranges.
    pub(super) fn ports(&mut self, key: &'static str) -> Field<List<RawPort>> {
        self.list(key, "a list of ports", |_, value, _| {
            if let DeValue::String(text) = value {
                return Ok(Some(RawPort::Range(text.into_owned())));
            }
            integer(&value).map(|number| Some(RawPort::Number(number)))
        })
    }

    /// A table of strings whose keys are free.
    pub(super) fn string_map(
        &mut self,
        key: &'static str,
    ) -> Field<Vec<(Located<String>, Located<String>)>> {
        self.value(key, "a table of strings", |reader, value, _| {
            let DeValue::Table(table) = value else {
                return Err(value.type_str());
            };
            let mut pairs = Vec::new();
            for (name, value) in table {
                let (name_span, span) = (name.span().into(), value.span().into());
                match string(value.into_inner()) {
                    Ok(value) => pairs.push((
                        Located {
                            value: name.into_inner().into_owned(),
                            span: name_span,
                        },
                        Located { value, span },
                    )),
                    Err(found) => reader.mismatch(key, span, "a string", found),
                }
            }
            Ok(pairs)
        })
    }

    /// A table.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        path: &'static str,
        read: impl FnOnce(TableReader<'_, 'i>) -> T,
    ) -> Field<T> {
        self.value(key, "a table", |reader, value, _| {
            let DeValue::Table(table) = value else {
                return Err(value.type_str());
            };
            Ok(read(TableReader::new(path, table, reader.findings)))
        })
    }

    /// A list of tables.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        path: &'static str,
        mut read: impl FnMut(TableReader<'_, 'i>) -> T,
    ) -> Field<List<T>> {
        self.list(key, "a list of tables", |reader, value, _| {
            let DeValue::Table(table) = value else {
                return Err(value.type_str());
            };
            Ok(Some(read(TableReader::new(path, table, reader.findings))))
        })
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in &self.table {
            let name: &str = key.as_ref();
            let message = format!("`{name}` is no key of {}", place(self.path));
            let near = nearest(name, self.asked.iter().copied());
            let hint = near.map_or_else(
                || format!("known here: {}", self.asked.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.findings
                .hinted(Code::UnknownKey, key.span().into(), message, hint);
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        convert: impl FnOnce(&mut Self, DeValue<'i>, Span) -> Taken<T>,
    ) -> Field<T> {
        self.asked.push(key);
        let Some(value) = self.table.remove(key) else {
            return Field::Absent;
        };
        let span = value.span().into();
        match convert(self, value.into_inner(), span) {
            Ok(value) => Field::Given(Located { value, span }),
            Err(found) => {
                self.mismatch(key, span, wanted, found);
                Field::Unreadable
            }
        }
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        mut convert: impl FnMut(&mut Self, DeValue<'i>, Span) -> Taken<Option<T>>,
    ) -> Field<List<T>> {
        let field = self.value(key, wanted, |reader, value, _| {
            let DeValue::Array(array) = value else {
                return Err(value.type_str());
            };
            let written = array.len();
            Ok((written, reader.items(key, wanted, array, &mut convert)))
        });
        match field {
            Field::Absent => Field::Absent,
            Field::Unreadable => Field::Unreadable,
            // A list of which nothing could be read is not an empty list.
            Field::Given(located) if located.value.0 > 0 && located.value.1.is_empty() => {
                Field::Unreadable
            }
            Field::Given(Located { value, span }) => Field::Given(Located {
                value: value.1,
                span,
            }),
        }
    }

    fn items<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        array: DeArray<'i>,
        convert: &mut impl FnMut(&mut Self, DeValue<'i>, Span) -> Taken<Option<T>>,
    ) -> List<T> {
        let mut items = Vec::with_capacity(array.len());
        for item in array {
            let span = item.span().into();
            match convert(self, item.into_inner(), span) {
                Ok(Some(value)) => items.push(Located { value, span }),
                Ok(None) => {}
                Err(found) => self.mismatch(key, span, wanted, found),
            }
        }
        items
    }

    fn word<T: Choice>(&mut self, key: &str, word: &str, span: Span) -> Option<T> {
        if let Some((_, value)) = T::WORDS.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let words: Vec<&str> = T::WORDS.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` can not be `{word}`");
        let hint = match nearest(word, words.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? known: {}", words.join(", ")),
            None => format!("known: {}", words.join(", ")),
        };
        self.findings
            .hinted(Code::UnknownValue, span, message, hint);
        None
    }

    fn mismatch(&mut self, key: &str, span: Span, wanted: &str, found: &str) {
        let message = format!("`{key}` holds {} where {wanted} is wanted", article(found));
        match example(self.path, key) {
            Some(line) => self.findings.hinted(
                Code::WrongType,
                span,
                message,
                format!("write it like `{line}`"),
            ),
            None => self.findings.add(Code::WrongType, span, message),
        }
    }
}

/// How a message names a table.
pub(super) fn place(path: &str) -> String {
    if path.is_empty() {
        "a policy's top level".to_owned()
    } else {
        format!("`{path}`")
    }
}

fn article(kind: &str) -> String {
    if kind.starts_with(['a', 'i']) {
        format!("an {kind}")
    } else {
        format!("a {kind}")
    }
}

fn string(value: DeValue<'_>) -> Taken<String> {
    if let DeValue::String(text) = value {
        return Ok(text.into_owned());
    }
    Err(value.type_str())
}

fn integer(value: &DeValue<'_>) -> Taken<i64> {
    let DeValue::Integer(number) = value else {
        return Err(value.type_str());
    };
    i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_too_large| "integer beyond 64 bits")
}

fn number(value: &DeValue<'_>) -> Taken<f64> {
    if let DeValue::Float(number) = value {
        return number
            .as_str()
            .parse()
            .map_err(|_malformed| "float that can not be read");
    }
    i32::try_from(integer(value)?)
        .map(f64::from)
        .map_err(|_too_large| "integer beyond 32 bits")
}
