//! Bytes of a worker as a terminal may show them: text, line ends and tabs. Everything that moves a
//! cursor, changes a title, a colour, the clipboard or the order of what is read becomes visible.

/// Longest beginning of a character of UTF-8 that may wait for its end.
const PART_BYTES_MAX: usize = 3;

/// A stream of bytes on its way to a terminal.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The beginning of a character whose end has not come yet.
    part: Vec<u8>,
}

impl Plain {
    /// The next bytes, made plain.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.part);
        whole.extend_from_slice(bytes);
        let mut out = String::with_capacity(whole.len());
        let mut chunks = whole.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| show(&mut out, c));
            let invalid = chunk.invalid();
            let may_go_on = chunks.peek().is_none() && is_beginning(invalid);
            if may_go_on {
                self.part = invalid.to_vec();
            } else {
                show_bytes(&mut out, invalid);
            }
        }
        out.into_bytes()
    }

    /// What was still waiting.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = String::new();
        show_bytes(&mut out, &std::mem::take(&mut self.part));
        out.into_bytes()
    }
}

/// Whether more bytes could make a character of these.
fn is_beginning(bytes: &[u8]) -> bool {
    let Err(error) = std::str::from_utf8(bytes) else {
        return false;
    };
    error.error_len().is_none() && bytes.len() <= PART_BYTES_MAX
}

fn show(out: &mut String, c: char) {
    match c {
        '\n' | '\t' => out.push(c),
        _ if c.is_control() || turns(c) => out.extend(c.escape_default()),
        _ => out.push(c),
    }
}

fn show_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.extend(byte.escape_ascii().map(char::from));
    }
}

/// Whether a character changes the direction of those after it (Unicode, UAX 9: explicit embeddings,
/// overrides, isolates and marks).
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::Plain;

    fn shown(parts: &[&[u8]]) -> String {
        let mut plain = Plain::default();
        let mut out: Vec<u8> = parts.iter().flat_map(|part| plain.push(part)).collect();
        out.extend(plain.end());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn text_stays_as_it_is() {
        let text = "a line\n\ttabs, ümläute, 日本語, e\u{301}, 🦀\n";
        assert_eq!(shown(&[text.as_bytes()]), text);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        for (bytes, wanted) in [
            (&b"\x1b[2J"[..], "\\u{1b}[2J"),
            (b"\x1b]52;c;ZXZpbA==\x07", "\\u{1b}]52;c;ZXZpbA==\\u{7}"),
            (b"ok\rno", "ok\\rno"),
            (b"\x08\x7f\x00", "\\u{8}\\u{7f}\\u{0}"),
            // C1: as a character, and as the byte that old terminals take for one.
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            (b"\x9b2J", "\\x9b2J"),
            ("\u{202e}cod.exe".as_bytes(), "\\u{202e}cod.exe"),
        ] {
            assert_eq!(shown(&[bytes]), wanted);
        }
    }

    #[test]
    fn characters_may_come_in_parts() {
        let text = "🦀é\u{9b}";
        let parts: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(shown(&parts), "🦀é\\u{9b}");
        // One that never ends, and one that goes on as another.
        assert_eq!(shown(&[b"x\xf0\x9f"]), "x\\xf0\\x9f");
        assert_eq!(shown(&[b"\xf0\x9f", b"x"]), "\\xf0\\x9fx");
    }
}
