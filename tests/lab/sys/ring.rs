//! One operation through `io_uring`: a ring of its own for each.

use std::{
    mem::size_of,
    num::NonZeroUsize,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    errno::Errno,
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

use super::RawAddress;

const OP_SENDMSG: u8 = 9;
const OP_CONNECT: u8 = 16;
const OP_SOCKET: u8 = 45;
const ENTER_GETEVENTS: u32 = 1;
const OFFSET_RINGS: i64 = 0;
const OFFSET_ENTRIES: i64 = 0x1000_0000;
const RING_BYTES: usize = 4096;
const PARAMETER_WORDS: usize = 30;

/// A submission queue entry (`struct io_uring_sqe`), as far as it is used here.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

const _: () = assert!(size_of::<Entry>() == 64);

/// Connects through the ring.
pub fn connect(fd: BorrowedFd<'_>, address: &RawAddress) -> nix::Result<usize> {
    perform(Entry {
        opcode: OP_CONNECT,
        fd: fd.as_raw_fd(),
        offset: address.0.len() as u64,
        address: address.0.as_ptr() as u64,
        ..Entry::default()
    })
}

/// Sends one datagram through the ring.
pub fn sendmsg(fd: BorrowedFd<'_>, data: &[u8], address: &RawAddress) -> nix::Result<usize> {
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all zeroes is a value of a structure of numbers and pointers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = address.0.as_ptr().cast_mut().cast();
    header.msg_namelen = libc::socklen_t::try_from(address.0.len()).unwrap_or_default();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    perform(Entry {
        opcode: OP_SENDMSG,
        fd: fd.as_raw_fd(),
        address: &raw const header as u64,
        length: 1,
        ..Entry::default()
    })
}

/// Makes a stream socket of the address's family through the ring.
pub fn socket(address: &RawAddress) -> nix::Result<OwnedFd> {
    let family = match address.0.as_slice() {
        [low, high, ..] => u16::from_ne_bytes([*low, *high]),
        _ => return Err(Errno::EINVAL),
    };
    let fd = perform(Entry {
        opcode: OP_SOCKET,
        fd: i32::from(family),
        offset: u64::try_from(libc::SOCK_STREAM | libc::SOCK_NONBLOCK).unwrap_or_default(),
        ..Entry::default()
    })?;
    let fd = i32::try_from(fd).map_err(|_large| Errno::EBADF)?;
    // SAFETY: the ring has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Submits one entry and waits for its completion.
fn perform(entry: Entry) -> nix::Result<usize> {
    let mut parameters = [0_u32; PARAMETER_WORDS];
    // SAFETY: the kernel writes 120 bytes, which is the size of the array.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_large| Errno::EBADF)?;
    // SAFETY: the call has just made this descriptor for us.
    let ring = unsafe { OwnedFd::from_raw_fd(fd) };
    let rings = Mapping::new(&ring, OFFSET_RINGS)?;
    let entries = Mapping::new(&ring, OFFSET_ENTRIES)?;
    // Words of io_uring_params: sq_off begins at word 10 (head, tail, mask, entries, flags, dropped,
    // array), cq_off at word 20 (head, tail, mask, entries, overflow, cqes).
    let word = |index: usize| parameters.get(index).map_or(0, |offset| *offset as usize);
    entries.write(0, entry)?;
    rings.write(word(16), 0_u32)?;
    rings.atomic(word(11))?.store(1, Ordering::Release);
    // SAFETY: no pointers but a null signal mask.
    let entered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            ENTER_GETEVENTS,
            std::ptr::null::<u8>(),
            0,
        )
    };
    Errno::result(entered)?;
    let mut tries = 0;
    while rings.atomic(word(21))?.load(Ordering::Acquire) == 0 {
        tries += 1;
        if tries > 4000 {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    // A completion: user data (8 bytes), result, flags.
    let result: i32 = rings.read(word(25) + 8)?;
    usize::try_from(result).map_err(|_negative| Errno::from_raw(-result))
}

/// A page of the ring.
struct Mapping(NonNull<libc::c_void>);

impl Mapping {
    fn new(ring: &OwnedFd, offset: i64) -> nix::Result<Self> {
        let length = NonZeroUsize::new(RING_BYTES).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                ring.as_fd(),
                offset,
            )
        }?;
        Ok(Self(start))
    }

    fn place<T>(&self, offset: usize) -> nix::Result<*mut T> {
        if offset
            .checked_add(size_of::<T>())
            .is_none_or(|end| end > RING_BYTES)
        {
            return Err(Errno::EOVERFLOW);
        }
        // SAFETY: the offset was just found to lie inside the mapping.
        Ok(unsafe { self.0.as_ptr().byte_add(offset) }.cast())
    }

    fn write<T: Copy>(&self, offset: usize, value: T) -> nix::Result<()> {
        let place = self.place::<T>(offset)?;
        // SAFETY: `place` lies inside the mapping; nobody reads it before the tail is moved.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    fn read<T: Copy>(&self, offset: usize) -> nix::Result<T> {
        let place = self.place::<T>(offset)?;
        // SAFETY: `place` lies inside the mapping, and any bytes are a value of the integers read.
        Ok(unsafe { place.read_unaligned() })
    }

    fn atomic(&self, offset: usize) -> nix::Result<&AtomicU32> {
        let place = self.place::<u32>(offset)?;
        // SAFETY: the kernel aligns its indices to four bytes and lives with our atomics.
        Ok(unsafe { AtomicU32::from_ptr(place) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows from it any more.
        unsafe { munmap(self.0, RING_BYTES) }.ok();
    }
}
