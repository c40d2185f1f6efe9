//! The architecture written as absences: what a part of the tree does not know.

use super::{Finding, source::Source};

struct Absence {
    /// Paths that begin so …
    within: &'static [&'static str],
    /// … but not so.
    except: &'static [&'static str],
    /// Identifiers. One that ends in `::` counts only as the head of a path.
    words: &'static [&'static str],
    why: &'static str,
}

const ABSENCES: &[Absence] = &[
    Absence {
        within: &["agent/src/"],
        except: &["agent/src/cli/", "agent/src/main.rs"],
        words: &["anyhow"],
        why: "modules have error enums of their own; `anyhow` stands in `main` and `cli` only",
    },
    Absence {
        within: &["agent/src/policy/"],
        except: &["agent/src/policy/store.rs", "agent/src/policy/store/"],
        words: &[
            "fs::",
            "tokio::",
            "nix::",
            "TcpStream",
            "UdpSocket",
            "UnixStream",
        ],
        why: "`policy` does no I/O but in `store`",
    },
    Absence {
        within: &["agent/src/", "common/src/", "ebpf/src/"],
        except: &[],
        words: &[
            "LruHashMap",
            "LruPerCpuHashMap",
            "BPF_MAP_TYPE_LRU_HASH",
            "BPF_MAP_TYPE_LRU_PERCPU_HASH",
        ],
        why: "a map that forgets turns a full table into a wrong answer",
    },
    Absence {
        within: &["agent/src/"],
        except: &[],
        words: &["BestEffort"],
        why: "best effort drops rights without a word; require them and report",
    },
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let starts = |list: &[&str]| list.iter().any(|start| source.path.starts_with(start));
    let tests = source
        .inline_modules()
        .into_iter()
        .filter(|module| module.only_tests);
    let tests: Vec<_> = tests.collect();
    let applies = |absence: &&Absence| starts(absence.within) && !starts(absence.except);
    ABSENCES
        .iter()
        .filter(applies)
        .filter(|_| !source.is_tests())
        .flat_map(|absence| {
            source
                .words()
                .filter(|(at, word)| {
                    absence
                        .words
                        .iter()
                        .any(|wanted| is(source, *at, word, wanted))
                })
                .map(|(at, word)| source.finding(at, format!("`{word}`: {}", absence.why)))
                .collect::<Vec<_>>()
        })
        .filter(|finding| {
            let in_lines =
                |start, end| (source.line(start)..=source.line(end)).contains(&finding.line);
            !tests
                .iter()
                .any(|module| in_lines(module.start, module.end))
        })
        .collect()
}

fn is(source: &Source, at: usize, word: &str, wanted: &str) -> bool {
    match wanted.strip_suffix("::") {
        Some(head) => word == head && source.after(at + word.len()).starts_with("::"),
        None => word == wanted,
    }
}
