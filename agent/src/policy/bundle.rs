//! The files of a policy set as bytes: what is pushed, kept and put back. Each file has the name that
//! it has in the policy folder; a schema that a policy names by an absolute path has that path.
//!
//! Names are judged here, once, so that no name that is written leads out of the folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::compiled::Digest;

/// Bytes of a set, all files together.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;
/// Files of a set: a policy, its lock and some schemas for each of 255 tools.
pub const BUNDLE_FILES_MAX: usize = 8_192;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 255;
/// Folders and file in a name.
const NAME_PARTS_MAX: usize = 8;
/// Bytes of the line that lists the files.
const HEAD_BYTES_MAX: usize = BUNDLE_FILES_MAX * (NAME_BYTES_MAX + 64);
const VERSION: u32 = 1;

/// The files of a set, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
}

/// Bytes that are no set of files.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    /// The list of the files can not be read.
    #[error("policy set: its list of files is not readable")]
    Head,
    /// Another version wrote it.
    #[error("policy set: version {0} is unknown")]
    Version(u32),
    /// A name that could lead out of the folder, or hide.
    #[error("policy set: `{}` is no name of a policy, lock or schema file", .0.escape_debug())]
    Name(String),
    /// Names are not in order, or one is there twice.
    #[error("policy set: its files are not in order")]
    Order,
    /// Bytes are missing or left over.
    #[error("policy set: {found} bytes of files, not {due}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        due: usize,
    },
    /// Too many files or bytes.
    #[error("policy set: more than {BUNDLE_FILES_MAX} files or {BUNDLE_BYTES_MAX} bytes")]
    TooLarge,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    stockade_policy_set: u32,
    files: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    bytes: usize,
}

impl Bundle {
    /// Adds a file, in the place of one of the same name.
    pub fn insert(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), BundleError> {
        if key(name).as_deref() != Some(name) {
            return Err(BundleError::Name(name.to_owned()));
        }
        self.files.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// The bytes of a file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        self.files.remove(name)
    }

    /// All files, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter();
        files.map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Keeps the files that a question is answered with yes for.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.files.retain(|name, _| keep(name));
    }

    /// Names of the policy files: at the top, ending in `.toml`, no lock.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        let names = self.files.keys().map(String::as_str);
        names.filter(|name| is_policy(name))
    }

    /// The files as bytes: the same for the same files.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let files = self.files.iter().map(|(name, bytes)| Listed {
            name: name.clone(),
            bytes: bytes.len(),
        });
        let head = Head {
            stockade_policy_set: VERSION,
            files: files.collect(),
        };
        // Strings and numbers always have a JSON form.
        let mut out = serde_json::to_vec(&head).unwrap_or_default();
        out.push(b'\n');
        for bytes in self.files.values() {
            out.extend_from_slice(bytes);
        }
        out
    }

    /// Reads what [`Bundle::encode`] made. Nothing may be missing or left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX + HEAD_BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        let window = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        let end = window.iter().position(|byte| *byte == b'\n');
        let (head, rest) = bytes
            .split_at_checked(end.ok_or(BundleError::Head)?)
            .ok_or(BundleError::Head)?;
        let mut rest = rest.get(1..).unwrap_or_default();
        let head: Head = serde_json::from_slice(head).or(Err(BundleError::Head))?;
        if head.stockade_policy_set != VERSION {
            return Err(BundleError::Version(head.stockade_policy_set));
        }
        let lengths = head.files.iter().map(|file| file.bytes);
        let due = lengths.fold(0_usize, usize::saturating_add);
        if head.files.len() > BUNDLE_FILES_MAX || due > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        let found = rest.len();
        if found != due {
            return Err(BundleError::Length { found, due });
        }
        let mut bundle = Self::default();
        let mut last: Option<String> = None;
        for Listed { name, bytes } in head.files {
            if last.as_ref().is_some_and(|last| *last >= name) {
                return Err(BundleError::Order);
            }
            let (file, after) = rest
                .split_at_checked(bytes)
                .ok_or(BundleError::Length { found, due })?;
            bundle.insert(&name, file.to_vec())?;
            (rest, last) = (after, Some(name));
        }
        Ok(bundle)
    }

    /// What the set is known by: SHA-256 of names and bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.encode()).into())
    }

    /// Bytes of all files.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let lengths = self.files.values().map(Vec::len);
        lengths.fold(0, usize::saturating_add)
    }
}

/// Whether a name is that of a policy file: at the top of the folder, and no lock.
#[must_use]
pub fn is_policy(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    !name.contains('/') && ending == Some("toml") && !name.ends_with(".lock.toml")
}

/// Whether a name is a path of the host, outside the policy folder.
#[must_use]
pub fn is_of_host(name: &str) -> bool {
    name.starts_with('/')
}

/// The name under which a file is kept: `./a//b.json` is `a/b.json`. None for one that could lead
/// somewhere else (`..`), is hidden, or can not be shown.
#[must_use]
pub fn key(name: &str) -> Option<String> {
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let odd = |part: &&str| part.starts_with('.') || part.chars().any(char::is_control);
    let joined = parts.join("/");
    let key = if is_of_host(name) {
        format!("/{joined}")
    } else {
        joined
    };
    // How deep a path of the host goes is the host's affair, and nothing is written there.
    let deep = parts.len() > NAME_PARTS_MAX && !is_of_host(name);
    let long = key.len() > NAME_BYTES_MAX && !is_of_host(name);
    let hidden = if is_of_host(name) {
        parts.contains(&"..")
    } else {
        parts.iter().any(odd)
    };
    (!parts.is_empty() && !deep && !long && !hidden && key.len() <= 4_096).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::{Bundle, BundleError, key};

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let mut bundle = Bundle::default();
        for (name, text) in files {
            bundle.insert(name, text.as_bytes().to_vec()).unwrap();
        }
        bundle
    }

    #[test]
    fn a_set_survives_its_bytes_and_its_digest_tells_each_difference() {
        let one = bundle(&[
            ("a.toml", "x = 1\n"),
            ("schemas/c.json", "{}"),
            ("/etc/s.json", "1"),
        ]);
        let bytes = one.encode();
        assert_eq!(Bundle::decode(&bytes).unwrap(), one);
        assert_eq!(Bundle::decode(&bytes).unwrap().encode(), bytes);
        for other in [
            bundle(&[
                ("a.toml", "x = 2\n"),
                ("schemas/c.json", "{}"),
                ("/etc/s.json", "1"),
            ]),
            bundle(&[
                ("b.toml", "x = 1\n"),
                ("schemas/c.json", "{}"),
                ("/etc/s.json", "1"),
            ]),
            bundle(&[
                ("a.toml", "x = 1\n{}"),
                ("schemas/c.json", ""),
                ("/etc/s.json", "1"),
            ]),
        ] {
            assert_ne!(other.digest(), one.digest());
        }
        assert_eq!(
            Bundle::decode(&Bundle::default().encode()).unwrap(),
            Bundle::default()
        );
    }

    #[test]
    fn every_cut_and_every_addition_is_seen() {
        let bytes = bundle(&[("a.toml", "x = 1\n"), ("b.toml", "y")]).encode();
        for end in 0..bytes.len() {
            assert!(Bundle::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut more = bytes.clone();
        more.push(b'x');
        assert_eq!(
            Bundle::decode(&more),
            Err(BundleError::Length { found: 8, due: 7 })
        );
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for (name, kept) in [
            ("a.toml", Some("a.toml")),
            ("./schemas//c.json", Some("schemas/c.json")),
            ("/etc/x.json", Some("/etc/x.json")),
            ("../a.toml", None),
            ("a/../../b.json", None),
            ("schemas/..", None),
            ("/etc/../x", None),
            (".hidden.toml", None),
            ("a/.b", None),
            ("a\n.toml", None),
            ("a\0", None),
            ("", None),
            (".", None),
            ("/", None),
        ] {
            assert_eq!(key(name).as_deref(), kept, "{name:?}");
        }
        assert!(key(&"a/".repeat(9)).is_none());
        assert!(key(&"a".repeat(256)).is_none());
        for name in ["../x", "a//b", "./a", "..", "a/"] {
            let head = format!(
                "{{\"stockade_policy_set\":1,\"files\":[{{\"name\":\"{name}\",\"bytes\":0}}]}}\n"
            );
            let refused = Bundle::decode(head.as_bytes());
            assert_eq!(refused, Err(BundleError::Name(name.to_owned())));
        }
    }

    #[test]
    fn order_versions_and_sizes_are_held_to() {
        let decode = |head: &str| Bundle::decode(format!("{head}\n").as_bytes());
        let file = |name: &str, bytes: usize| format!("{{\"name\":\"{name}\",\"bytes\":{bytes}}}");
        let of = |files: &[String]| {
            format!(
                "{{\"stockade_policy_set\":1,\"files\":[{}]}}",
                files.join(",")
            )
        };
        let twice = of(&[file("a.toml", 0), file("a.toml", 0)]);
        assert_eq!(decode(&twice), Err(BundleError::Order));
        let large = of(&[file("a.toml", usize::MAX), file("b.toml", 2)]);
        assert_eq!(decode(&large), Err(BundleError::TooLarge));
        let newer = "{\"stockade_policy_set\":2,\"files\":[]}";
        assert_eq!(decode(newer), Err(BundleError::Version(2)));
        assert_eq!(decode("{}"), Err(BundleError::Head));
    }
}
