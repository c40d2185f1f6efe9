//! Writes down the steps that process 1 has the worker's process take. Knows their form, not their sense.

use std::ffi::CString;

use super::error::{Step, StepError};
use crate::sys::errand::{ANY, ARGUMENTS, ERRAND_BYTES_MAX, HEAD_WORDS, STEP_WORDS};

pub(super) use crate::sys::errand::{THEN_PROGRAM, THEN_SELF_TEST};

const WORD: usize = size_of::<u64>();

/// An argument of a step, or a word of its data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Number(u64),
    /// The address of data of the errand, given by its place among them, bytes.
    Data(usize),
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i32> for Value {
    /// As the kernel takes an `int`: of the register it looks at the lower half.
    fn from(number: i32) -> Self {
        Self::Number(number.cast_unsigned().into())
    }
}

/// An errand that is being written.
#[derive(Debug, Default)]
pub(super) struct Errand {
    steps: Vec<[Value; STEP_WORDS]>,
    data: Vec<u8>,
    /// Which words of the data are addresses of data, bytes from their beginning.
    addresses: Vec<usize>,
}

impl Errand {
    /// Adds a system call that may answer anything but an errno.
    pub(super) fn step(&mut self, tag: u64, number: i64, arguments: &[Value]) {
        self.step_answering(tag, number, arguments, ANY);
    }

    /// Adds a system call that must answer this.
    pub(super) fn step_answering(
        &mut self,
        tag: u64,
        number: i64,
        arguments: &[Value],
        wanted: u64,
    ) {
        let mut step = [Value::Number(0); STEP_WORDS];
        let given = arguments.iter().take(ARGUMENTS).copied();
        let number = Value::Number(number.cast_unsigned());
        for (word, value) in step.iter_mut().zip(std::iter::once(number).chain(given)) {
            *word = value;
        }
        let [.., last_but_one, last] = &mut step;
        (*last_but_one, *last) = (Value::Number(wanted), Value::Number(tag));
        self.steps.push(step);
    }

    /// Adds data; an argument that points to them.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Value {
        let at = self.data.len();
        self.data.extend(bytes);
        let whole = self.data.len().next_multiple_of(WORD);
        self.data.resize(whole, 0);
        Value::Data(at)
    }

    /// Adds words; an argument that points to them.
    pub(super) fn words(&mut self, words: &[Value]) -> Value {
        let at = self.data.len();
        for word in words {
            let number = match *word {
                Value::Number(number) => number,
                Value::Data(place) => {
                    self.addresses.push(self.data.len());
                    place as u64
                }
            };
            self.data.extend(number.to_ne_bytes());
        }
        Value::Data(at)
    }

    /// Adds strings and the list of them that an execution wants.
    pub(super) fn strings<'a>(&mut self, strings: impl Iterator<Item = &'a CString>) -> Value {
        let mut list: Vec<_> = strings
            .map(|string| self.data(string.as_bytes_with_nul()))
            .collect();
        list.push(Value::Number(0));
        self.words(&list)
    }

    /// The errand as it travels.
    pub(super) fn finish(self, then: u64) -> Result<Vec<u8>, StepError> {
        let Self {
            steps,
            data,
            addresses,
        } = self;
        let steps_words = steps.len().saturating_mul(STEP_WORDS);
        let in_steps = steps.iter().flatten().enumerate();
        let in_steps = in_steps
            .filter(|(_, value)| matches!(value, Value::Data(_)))
            .map(|(word, _)| HEAD_WORDS.saturating_add(word));
        let mut relocations: Vec<_> = in_steps.collect();
        let count = relocations.len().saturating_add(addresses.len());
        let base = HEAD_WORDS.saturating_add(steps_words).saturating_add(count);
        relocations.extend(
            addresses
                .iter()
                .map(|place| base.saturating_add(place / WORD)),
        );
        let base_bytes = base.saturating_mul(WORD);
        let mut message = Vec::with_capacity(base_bytes.saturating_add(data.len()));
        for number in [steps.len() as u64, relocations.len() as u64, then] {
            message.extend(number.to_ne_bytes());
        }
        for value in steps.into_iter().flatten() {
            let number = match value {
                Value::Number(number) => number,
                Value::Data(place) => base_bytes.saturating_add(place) as u64,
            };
            message.extend(number.to_ne_bytes());
        }
        for word in relocations {
            message.extend((word as u64).to_ne_bytes());
        }
        let begin = message.len();
        message.extend(data);
        // What points from data to data counts from the beginning of the message as well.
        for place in addresses {
            let at = begin.saturating_add(place);
            if let Some(word) = message
                .get_mut(at..)
                .and_then(|rest| rest.first_chunk_mut())
            {
                let number = u64::from_ne_bytes(*word).saturating_add(base_bytes as u64);
                *word = number.to_ne_bytes();
            }
        }
        if message.len() > ERRAND_BYTES_MAX {
            return Err(StepError::new(
                Step::Request,
                format!(
                    "arguments and environment: {} bytes, more than {ERRAND_BYTES_MAX}",
                    message.len()
                ),
            ));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::{Errand, Step, THEN_PROGRAM, Value};

    fn words(message: &[u8]) -> Vec<u64> {
        let (words, rest) = message.as_chunks();
        assert!(rest.is_empty());
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    #[test]
    fn what_points_to_data_is_listed_and_points_there() {
        let mut errand = Errand::default();
        let strings = [c"one".to_owned(), c"longer than a word".to_owned()];
        let list = errand.strings(strings.iter());
        errand.step(7, 59, &[Value::from(3_u32), list]);
        errand.step_answering(8, 110, &[], 1);
        let message = errand.finish(THEN_PROGRAM).expect("short");
        let words = words(&message);
        assert_eq!(words.get(..3), Some(&[2, 3, THEN_PROGRAM][..]));
        assert_eq!(words.get(3..7), Some(&[59, 3, words[5], 0][..]));
        assert_eq!(words.get(9..11), Some(&[u64::MAX, 7][..]));
        assert_eq!(words.get(17..19), Some(&[1, 8][..]));
        // An address in a step, and two in the list, whose end is none.
        assert_eq!(words.get(19), Some(&5));
        let list = usize::try_from(words[5]).expect("a place") / 8;
        assert_eq!(words.get(20..22), Some(&[list as u64, list as u64 + 1][..]));
        assert_eq!(words.get(list + 2), Some(&0));
        for (place, string) in strings.iter().enumerate() {
            let at = usize::try_from(words[list + place]).expect("a place");
            assert!(message[at..].starts_with(string.as_bytes_with_nul()));
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut errand = Errand::default();
        let long = CString::new(vec![b'a'; 600_000]).expect("no zero");
        let list = errand.strings(std::iter::once(&long));
        errand.step(1, 59, &[list]);
        let refused = errand.finish(THEN_PROGRAM).expect_err("too long");
        assert_eq!(refused.step, Step::Request);
    }
}
