//! TLS hellos as an attacker writes them: every field that a check of names looks at can be wrong.

use crate::steps::{Refused, parsed};

type Done<T = ()> = Result<T, Refused>;

const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
const PADDING: u16 = 21;
const ECH: u16 = 0xfe0d;

/// What a hello is made of.
#[derive(Default)]
struct Hello<'a> {
    names: Vec<&'a str>,
    /// A second extension of this name.
    twice: Option<&'a str>,
    has_ech: bool,
    pad: usize,
    /// Bytes of the handshake message in the first of two records.
    split: usize,
    content: u8,
}

/// `hello NAME…` with options: `-` for no name, `ech`, `twice=NAME`, `pad=BYTES`, `split=BYTES`,
/// `content=NUMBER`.
pub(crate) fn bytes(words: &[&str]) -> Done<Vec<u8>> {
    let mut hello = Hello {
        content: 22,
        ..Hello::default()
    };
    for word in words {
        match word.split_once('=') {
            None if *word == "-" => {}
            None if *word == "ech" => hello.has_ech = true,
            None => hello.names.push(word),
            Some(("twice", name)) => hello.twice = Some(name),
            Some(("pad", count)) => hello.pad = parsed(count)?,
            Some(("split", count)) => hello.split = parsed(count)?,
            Some(("content", number)) => hello.content = parsed(number)?,
            Some(_) => return Err(Refused::Script(format!("no such option: {word}"))),
        }
    }
    Ok(hello.records())
}

impl Hello<'_> {
    fn records(&self) -> Vec<u8> {
        let message = self.message();
        let (first, rest) = message
            .split_at_checked(self.split)
            .filter(|(first, _)| !first.is_empty())
            .unwrap_or((&message, &[]));
        let mut bytes = Vec::new();
        for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
            bytes.extend_from_slice(&[self.content, 3, 1]);
            bytes.extend(sized16(part));
        }
        bytes
    }

    fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if !self.names.is_empty() {
            extensions.extend(extension(SERVER_NAME, &server_names(&self.names)));
        }
        extensions.extend(extension(SUPPORTED_VERSIONS, &[2, 3, 4]));
        if let Some(name) = self.twice {
            extensions.extend(extension(SERVER_NAME, &server_names(&[name])));
        }
        if self.has_ech {
            extensions.extend(extension(ECH, &[0; 64]));
        }
        if self.pad > 0 {
            extensions.extend(extension(PADDING, &vec![0; self.pad]));
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(sized16(&extensions));
        let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
        let mut message = vec![1];
        message.extend(length.iter().skip(1));
        message.extend(body);
        message
    }
}

fn server_names(names: &[&str]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.push(0);
        list.extend(sized16(name.as_bytes()));
    }
    sized16(&list)
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), sized16(data)].concat()
}

fn sized16(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().to_vec(), data.to_vec()].concat()
}
