//! `bpf(2)`: elements of maps, by the types of `common`, which aya's own `Pod` can not be
//! implemented for. Knows no map by name.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use common::pod::Pod;

use super::bpf::{Attributes, address, call, map_info, number};

const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_DELETE_ELEM: i64 = 3;
const MAP_GET_NEXT_KEY: i64 = 4;
const MAP_LOOKUP_AND_DELETE_ELEM: i64 = 21;

/// The attributes of the commands on one element (`union bpf_attr`, linux/bpf.h).
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: laid out by hand as in linux/bpf.h; the functions below fill it from live references to
// buffers of the sizes that `Table::new` has checked against the map's.
unsafe impl Attributes for Element {}

/// When an element may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Write {
    /// Whether it exists or not.
    Any = 0,
    /// Only where there is none.
    New = 1,
    /// Only where there is one.
    Existing = 2,
}

/// A map with one value per key.
#[derive(Debug)]
pub struct Table<K, V> {
    fd: OwnedFd,
    capacity: u32,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Checks that the map's keys and values have these types' sizes.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "keys of {} and values of {} bytes, expected {} and {}",
                    info.key_size,
                    info.value_size,
                    size_of::<K>(),
                    size_of::<V>()
                ),
            ));
        }
        Ok(Self {
            fd,
            capacity: info.max_entries,
            types: PhantomData,
        })
    }

    /// Entries that fit.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes an element. `E2BIG` means that the map is full.
    pub fn write(&self, key: &K, value: &V, write: Write) -> io::Result<()> {
        let mut attributes = Element {
            map: number(self.fd.as_fd()),
            pad: 0,
            key: address(key.bytes()),
            value: address(value.bytes()),
            flags: write as u64,
        };
        call(MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    /// Reads an element.
    pub fn read(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = vec![0_u8; size_of::<V>()];
        let found = lookup(self.fd.as_fd(), key.bytes(), &mut value)?;
        Ok(if found { V::read(&value) } else { None })
    }

    /// Removes an element and returns what it was at that instant. Hash tables only.
    pub fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = vec![0_u8; size_of::<V>()];
        let found = ask(
            MAP_LOOKUP_AND_DELETE_ELEM,
            self.fd.as_fd(),
            key.bytes(),
            &mut value,
        )?;
        Ok(if found { V::read(&value) } else { None })
    }

    /// Removes an element; `false` where there was none.
    pub fn remove(&self, key: &K) -> io::Result<bool> {
        let mut attributes = Element {
            map: number(self.fd.as_fd()),
            pad: 0,
            key: address(key.bytes()),
            value: 0,
            flags: 0,
        };
        absent(call(MAP_DELETE_ELEM, &mut attributes))
    }

    /// All keys. Not a snapshot: elements that come or go meanwhile may be missed.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        keys(self.fd.as_fd(), self.capacity)
    }
}

/// A map with one value per key and processor.
#[derive(Debug)]
pub struct PerCpuTable<K, V> {
    fd: OwnedFd,
    capacity: u32,
    processors: usize,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod> PerCpuTable<K, u64> {
    /// `processors` is the number of *possible* processors: the kernel writes that many values.
    pub fn new(fd: OwnedFd, processors: usize) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        if info.key_size as usize != size_of::<K>() || info.value_size != 8 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "keys or values have another size",
            ));
        }
        Ok(Self {
            fd,
            capacity: info.max_entries,
            processors,
            types: PhantomData,
        })
    }

    /// Entries that fit.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The sum over all processors.
    pub fn sum(&self, key: &K) -> io::Result<Option<u64>> {
        let mut values = vec![0_u8; 8 * self.processors];
        if !lookup(self.fd.as_fd(), key.bytes(), &mut values)? {
            return Ok(None);
        }
        let (values, _) = values.as_chunks::<8>();
        Ok(Some(values.iter().map(|v| u64::from_ne_bytes(*v)).sum()))
    }

    /// All keys.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        keys(self.fd.as_fd(), self.capacity)
    }
}

fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    ask(MAP_LOOKUP_ELEM, map, key, value)
}

fn ask(command: i64, map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attributes = Element {
        map: number(map),
        pad: 0,
        key: address(key),
        value: value.as_mut_ptr().addr() as u64,
        flags: 0,
    };
    absent(call(command, &mut attributes))
}

fn keys<K: Pod>(map: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<K>> {
    let mut all = Vec::new();
    let mut next = vec![0_u8; size_of::<K>()];
    let mut before: Option<K> = None;
    // A key that is removed while we stand on it sends us back to the first one: bounded.
    for _ in 0..=capacity.saturating_mul(2) {
        let mut attributes = Element {
            map: number(map),
            pad: 0,
            key: before.as_ref().map_or(0, |key| address(key.bytes())),
            value: next.as_mut_ptr().addr() as u64,
            flags: 0,
        };
        if !absent(call(MAP_GET_NEXT_KEY, &mut attributes))? {
            break;
        }
        before = K::read(&next);
        all.extend(before);
    }
    Ok(all)
}

/// Turns "no such element" into `false`.
fn absent(result: io::Result<RawFd>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
