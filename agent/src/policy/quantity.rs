//! Sizes (`50MiB`), durations (`10m`) and the bounds of every number a policy may hold.

use std::time::Duration;

/// Inclusive bounds of a number.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Least.
    pub min: u64,
    /// Largest.
    pub max: u64,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECONDS_PER_DAY: u64 = 86_400;

/// `worker.idle_timeout`, `worker.wall_timeout` and `limits.cpu_time`, seconds.
pub const TIMEOUT_SECONDS: Bounds = Bounds {
    min: 1,
    max: 7 * SECONDS_PER_DAY,
};
/// `egress.limits.connections`.
pub const CONNECTIONS: Bounds = Bounds {
    min: 1,
    max: 1_000_000_000,
};
/// `egress.limits.bytes_out`, bytes.
pub const BYTES_OUT: Bounds = Bounds {
    min: 1,
    max: 1_024 * TIB,
};
/// `filesystem.workdir_size`, bytes.
pub const WORKDIR_BYTES: Bounds = Bounds {
    min: 64 * 1_024,
    max: 64 * GIB,
};
/// `filesystem.inodes`.
pub const INODES: Bounds = Bounds {
    min: 16,
    max: 16 << 20,
};
/// `filesystem.output.entries`.
pub const OUTPUT_ENTRIES: Bounds = Bounds {
    min: 1,
    max: 1 << 20,
};
/// `filesystem.output.depth`.
pub const OUTPUT_DEPTH: Bounds = Bounds { min: 1, max: 64 };
/// User and group ids; the last one means "none" to the kernel.
pub const IDS: Bounds = Bounds {
    min: 0,
    max: 0xffff_fffe,
};
/// `limits.memory`, bytes.
pub const MEMORY_BYTES: Bounds = Bounds {
    min: 4 * MIB,
    max: TIB,
};
/// `limits.processes`.
pub const PROCESSES: Bounds = Bounds {
    min: 1,
    max: 32_768,
};
/// `limits.cpus`, thousandths.
pub const CPUS_MILLI: Bounds = Bounds {
    min: 10,
    max: 1_024_000,
};
/// `limits.open_files`.
pub const OPEN_FILES: Bounds = Bounds {
    min: 16,
    max: 1_048_576,
};

/// `limits.output`, bytes.
pub const OUTPUT_BYTES: Bounds = Bounds {
    min: 4 * 1_024,
    max: TIB,
};

/// `worker.idle_timeout` of a policy that says nothing.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// `worker.wall_timeout` of a policy that says nothing.
pub const WALL_TIMEOUT_DEFAULT: Duration = Duration::from_mins(10);
/// `filesystem.workdir_size` of a policy that says nothing.
pub const WORKDIR_BYTES_DEFAULT: u64 = 64 * MIB;
/// A file or folder per this many bytes of a session's folder that says nothing else.
pub const BYTES_PER_INODE: u64 = 4_096;
/// And never fewer than these.
pub const INODES_LEAST: u64 = 1_024;
/// `filesystem.output.size` of a policy that says nothing.
pub const OUTPUT_FOLDER_BYTES_DEFAULT: u64 = 64 * MIB;
/// `filesystem.output.entries` of a policy that says nothing.
pub const OUTPUT_ENTRIES_DEFAULT: u64 = 4_096;
/// `filesystem.output.depth` of a policy that says nothing.
pub const OUTPUT_DEPTH_DEFAULT: u64 = 16;
/// `filesystem.output.umask` of a policy that says nothing.
pub const OUTPUT_UMASK_DEFAULT: u32 = 0o077;
/// `limits.memory` of a policy that says nothing.
pub const MEMORY_BYTES_DEFAULT: u64 = 512 * MIB;
/// `limits.processes` of a policy that says nothing.
pub const PROCESSES_DEFAULT: u32 = 64;
/// `limits.cpus` of a policy that says nothing, thousandths.
pub const CPUS_MILLI_DEFAULT: u32 = 1_000;
/// `limits.open_files` of a policy that says nothing.
pub const OPEN_FILES_DEFAULT: u32 = 256;
/// `limits.output` of a policy that says nothing, bytes.
pub const OUTPUT_BYTES_DEFAULT: u64 = 64 * MIB;

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", TIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", 1_024),
    ("B", 1),
];
const TIME_UNITS: &[(&str, u64)] = &[("d", SECONDS_PER_DAY), ("h", 3_600), ("m", 60), ("s", 1)];

/// The text is no size or duration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    /// Not a number and a unit of the list.
    #[error("`{text}` is no {what}")]
    Malformed {
        /// The text.
        text: String,
        /// `size` or `duration`.
        what: &'static str,
    },
}

impl QuantityError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self::Malformed { what, .. } = self;
        if *what == "size" {
            "write a whole number and B, KiB, MiB, GiB or TiB, like \"50MiB\"".to_owned()
        } else {
            "write a whole number and s, m, h or d, like \"10m\"".to_owned()
        }
    }
}

/// Reads `50MiB`, bytes.
pub fn size(text: &str) -> Result<u64, QuantityError> {
    with_unit(text, SIZE_UNITS).ok_or_else(|| QuantityError::Malformed {
        text: text.to_owned(),
        what: "size",
    })
}

/// Reads `10m`, seconds.
pub fn seconds(text: &str) -> Result<u64, QuantityError> {
    with_unit(text, TIME_UNITS).ok_or_else(|| QuantityError::Malformed {
        text: text.to_owned(),
        what: "duration",
    })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest exact text of a size.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    in_units(bytes, SIZE_UNITS)
}

/// The shortest exact text of a duration.
#[must_use]
pub fn seconds_text(seconds: u64) -> String {
    in_units(seconds, TIME_UNITS)
}

fn in_units(number: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find_map(|(name, factor)| {
            let count = number.checked_div(*factor)?;
            (count > 0 && number.checked_rem(*factor)? == 0).then(|| format!("{count}{name}"))
        })
        .unwrap_or_else(|| number.to_string())
}
