//! How much of a thing a test does: more of it with `STOCKADE_LONG`.

fn times(ordinary: u32, long: u32) -> u32 {
    if std::env::var_os("STOCKADE_LONG").is_some_and(|value| value == "1") {
        long
    } else {
        ordinary
    }
}

/// Policy swaps under load.
pub(crate) fn swaps() -> u32 {
    times(100, 2_000)
}

/// Pushes of ten thousand rules under load.
pub(crate) fn pushes() -> u32 {
    times(4, 100)
}

/// Kills of an agent under everything at once.
pub(crate) fn kills() -> u32 {
    times(20, 500)
}

/// How long a mixed load lasts.
pub(crate) fn soak() -> std::time::Duration {
    std::time::Duration::from_secs(times(300, 7_200).into())
}

/// Kills of an agent while policies are pushed.
pub(crate) fn push_kills() -> u32 {
    times(30, 500)
}

/// Random policies held against the kernel.
pub(crate) fn policies() -> u32 {
    times(12, 400)
}

/// Random flows for each of them.
pub(crate) fn flows() -> u32 {
    times(150, 1_000)
}

/// Random policies that packets are held against.
pub(crate) fn packet_policies() -> u32 {
    times(40, 400)
}

/// Random packets for each of them.
pub(crate) fn packets() -> u32 {
    times(200, 1_000)
}

/// Sessions launched in parallel.
pub(crate) fn sessions() -> u32 {
    times(200, 2_000)
}

/// Sessions launched one after the other.
pub(crate) fn sessions_in_a_row() -> u32 {
    times(1_000, 3_500)
}

/// Names resolved and dialled at once.
pub(crate) fn rounds() -> u32 {
    times(10_000, 100_000)
}
