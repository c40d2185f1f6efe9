//! Names that a worker or a server of DNS sent, made harmless before anybody sees them.

/// Longest form of a shown name, bytes. A name of DNS has 255 bytes on the wire, and one of them is
/// shown as four at most.
pub const SHOWN_BYTES_MAX: usize = 1_024;

/// A name as it may stand on a terminal, in a log and in a record: printable ASCII as it is, all else
/// and the backslash as `\DDD` (RFC 1035, 5.1), cut at [`SHOWN_BYTES_MAX`].
///
/// One form for everybody, so that the same bytes are found again wherever they are looked for.
#[must_use]
pub fn shown(name: impl IntoIterator<Item = u8>) -> String {
    let mut shown = String::new();
    for byte in name {
        let before = shown.len();
        if byte.is_ascii_graphic() && byte != b'\\' {
            shown.push(char::from(byte));
        } else {
            shown.extend(['\\', digit(byte / 100), digit(byte / 10), digit(byte)]);
        }
        if shown.len() > SHOWN_BYTES_MAX {
            shown.truncate(before);
            break;
        }
    }
    shown
}

fn digit(number: u8) -> char {
    char::from(b'0'.saturating_add(number % 10))
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_BYTES_MAX, shown};

    #[test]
    fn names_stay_as_they_are() {
        assert_eq!(shown(*b"_dmarc.API-1.example"), "_dmarc.API-1.example");
    }

    #[test]
    fn what_moves_a_cursor_is_spelt_out() {
        assert_eq!(
            shown(*b"a\x1b[2J\n\\\x00\xff x"),
            r"a\027[2J\010\092\000\255\032x"
        );
        assert_eq!(shown("\u{202e}".bytes()), r"\226\128\174");
    }

    #[test]
    fn no_name_is_endless() {
        let long = shown(std::iter::repeat_n(0x1b, 100_000));
        assert_eq!(long.len(), SHOWN_BYTES_MAX);
        assert!(long.ends_with(r"\027"), "no escape is cut in two");
    }
}
