//! The maps, by name and type. The only file of the agent that knows map names; `ebpf/src/maps.rs`
//! declares them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya::{Ebpf, maps::MapData};
use common::{
    flow::Address,
    id::{RuleId, SessionId},
    layout::{
        Client, ClientKey, CounterKey, ExactKey, GrantKey, Limits, LimitsKey, LiveKey, PrefixKey,
        SocketState, Usage, Worker,
    },
    limits::POLICIES_MAX,
    name::NameKey,
    pod::Pod,
    rule::{GrantSet, RuleSet},
    unix::UnixKey,
};

use super::error::Error;
use crate::sys::{
    bpf_map::{PerCpuTable, Table, Write},
    mapping::Words,
};

/// Maps that are pinned, so that a new agent goes on with the old one's.
pub(in crate::kernel) const PINNED: &[&str] = &[
    "WORKERS",
    "POLICY_WORDS",
    "EXACT",
    "PREFIXES",
    "NAMES",
    "LIVE",
    "LIMITS",
    "UNIX_DOORS",
    "GRANTS",
    "CLIENTS",
    "RESOLVERS",
    "USAGE",
    "LOCALS",
    "CONFIG",
    "COUNTERS",
    "TALLY",
    "EVENTS",
    "DESTROY",
    "SOCKETS",
];

/// A map, its name for errors.
#[derive(Debug)]
pub(in crate::kernel) struct Named<T> {
    pub(in crate::kernel) name: &'static str,
    pub(in crate::kernel) table: T,
}

impl<K: Pod, V: Pod> Named<Table<K, V>> {
    fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, Error> {
        let table =
            Table::new(descriptor(ebpf, name)?).map_err(|source| Error::Map { name, source })?;
        Ok(Self { name, table })
    }

    pub(in crate::kernel) fn write(&self, key: &K, value: &V, write: Write) -> Result<(), Error> {
        self.table
            .write(key, value, write)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::E2BIG | libc::ENOSPC) => Error::Full {
                    name: self.name,
                    capacity: self.table.capacity(),
                },
                _ => self.failed(source),
            })
    }

    pub(in crate::kernel) fn read(&self, key: &K) -> Result<Option<V>, Error> {
        self.table.read(key).map_err(|source| self.failed(source))
    }

    pub(in crate::kernel) fn remove(&self, key: &K) -> Result<bool, Error> {
        self.table.remove(key).map_err(|source| self.failed(source))
    }

    pub(in crate::kernel) fn take(&self, key: &K) -> Result<Option<V>, Error> {
        self.table.take(key).map_err(|source| self.failed(source))
    }

    pub(in crate::kernel) fn keys(&self) -> Result<Vec<K>, Error> {
        self.table.keys().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Map {
            name: self.name,
            source,
        }
    }
}

/// All maps.
#[derive(Debug)]
pub(in crate::kernel) struct Maps {
    pub(in crate::kernel) workers: Named<Table<u64, Worker>>,
    pub(in crate::kernel) words: Words,
    pub(in crate::kernel) exact: Named<Table<ExactKey, RuleSet>>,
    pub(in crate::kernel) prefixes: Named<Table<PrefixKey, RuleSet>>,
    pub(in crate::kernel) names: Named<Table<NameKey, RuleSet>>,
    pub(in crate::kernel) live: Named<Table<LiveKey, u32>>,
    pub(in crate::kernel) limits: Named<Table<LimitsKey, Limits>>,
    pub(in crate::kernel) unix_doors: Named<Table<UnixKey, RuleId>>,
    pub(in crate::kernel) grants: Named<Table<GrantKey, GrantSet>>,
    pub(in crate::kernel) clients: Named<Table<ClientKey, Client>>,
    pub(in crate::kernel) resolvers: Named<Table<u64, u32>>,
    pub(in crate::kernel) usage: Named<Table<SessionId, Usage>>,
    pub(in crate::kernel) locals: Named<Table<Address, u32>>,
    pub(in crate::kernel) config: Named<Table<u32, u64>>,
    pub(in crate::kernel) counters: Named<PerCpuTable<CounterKey, u64>>,
    pub(in crate::kernel) tallies: Named<PerCpuTable<u32, u64>>,
    events: OwnedFd,
    destroy: OwnedFd,
    sockets: Named<Table<u32, SocketState>>,
}

impl Maps {
    /// Takes the maps of a loaded object, checking the size of every key and value.
    pub(in crate::kernel) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let words = descriptor(ebpf, "POLICY_WORDS")?;
        let words = Words::map(&words, POLICIES_MAX as usize).map_err(|source| Error::Map {
            name: "POLICY_WORDS",
            source,
        })?;
        Ok(Self {
            workers: Named::open(ebpf, "WORKERS")?,
            words,
            exact: Named::open(ebpf, "EXACT")?,
            prefixes: Named::open(ebpf, "PREFIXES")?,
            names: Named::open(ebpf, "NAMES")?,
            live: Named::open(ebpf, "LIVE")?,
            limits: Named::open(ebpf, "LIMITS")?,
            unix_doors: Named::open(ebpf, "UNIX_DOORS")?,
            grants: Named::open(ebpf, "GRANTS")?,
            clients: Named::open(ebpf, "CLIENTS")?,
            resolvers: Named::open(ebpf, "RESOLVERS")?,
            usage: Named::open(ebpf, "USAGE")?,
            locals: Named::open(ebpf, "LOCALS")?,
            config: Named::open(ebpf, "CONFIG")?,
            counters: per_cpu(ebpf, "COUNTERS")?,
            tallies: per_cpu(ebpf, "TALLY")?,
            events: descriptor(ebpf, "EVENTS")?,
            destroy: descriptor(ebpf, "DESTROY")?,
            sockets: Named::open(ebpf, "SOCKETS")?,
        })
    }

    /// The event ring, for a reader of its own.
    pub(in crate::kernel) fn events(&self) -> Result<MapData, Error> {
        ring(&self.events, "EVENTS")
    }

    /// The ring of orders to destroy, for a reader of its own.
    pub(in crate::kernel) fn destroy(&self) -> Result<MapData, Error> {
        ring(&self.destroy, "DESTROY")
    }

    /// The socket storage, for `sock_diag`.
    pub(in crate::kernel) fn sockets(&self) -> BorrowedFd<'_> {
        self.sockets.table.fd()
    }
}

fn ring(fd: &OwnedFd, name: &'static str) -> Result<MapData, Error> {
    let failed = |message: String| Error::Ring { name, message };
    let fd = fd.try_clone().map_err(|e| failed(e.to_string()))?;
    MapData::from_fd(fd).map_err(|e| failed(e.to_string()))
}

fn per_cpu<K: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Named<PerCpuTable<K, u64>>, Error> {
    let fd = descriptor(ebpf, name)?;
    let processors = aya::util::nr_cpus().map_err(|(_, source)| Error::Map { name, source })?;
    let table = PerCpuTable::new(fd, processors).map_err(|source| Error::Map { name, source })?;
    Ok(Named { name, table })
}

/// The descriptor of a map of the object.
fn descriptor(ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, Error> {
    let map = ebpf.map(name).ok_or(Error::Missing { name })?;
    map_fd(map)
        .ok_or(Error::Missing { name })?
        .try_clone_to_owned()
        .map_err(|source| Error::Map { name, source })
}

pub(in crate::kernel) fn map_fd(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "our object has maps of these kinds only; `descriptor` reports any other"
    )]
    match map {
        Map::HashMap(data)
        | Map::Array(data)
        | Map::LpmTrie(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}
