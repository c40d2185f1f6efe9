//! Network namespaces: which one a thread is in, and doing something in another one.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// Cookie of the calling thread's network namespace, as the programs see it. Asked of a socket
/// (`SO_NETNS_COOKIE`, Linux 5.14), because nothing else tells it.
pub fn cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the option's value is a u64, and `length` says that there is room for one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// Does something in another network namespace, on a thread of its own: the caller's stays where
/// it is.
pub fn run_in<T: Send>(
    namespace: &(impl AsFd + Sync),
    task: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
                task()
            })?;
        thread
            .join()
            .map_err(|_panic| io::Error::other("the thread in the namespace panicked"))?
    })
}
