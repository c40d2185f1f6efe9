//! The table of this host's addresses: with it, a connect to one of them is refused at once.
//!
//! It may lag; egress decides by the device and needs no list.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use common::flow::Address;
use nix::sys::socket::{SockFlag, SockProtocol};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Inner, error::Error, maps::Maps};
use crate::sys::{bpf_map::Write, netlink, readiness};

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`, linux/rtnetlink.h
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Hears of addresses that come and go.
#[derive(Debug)]
pub struct LocalAddresses {
    inner: Arc<Inner>,
    socket: AsyncFd<netlink::Socket>,
}

/// The addresses of this host, to be looked up.
#[derive(Clone, Debug)]
pub struct Locals {
    inner: Arc<Inner>,
}

impl Locals {
    pub(in crate::kernel) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
        }
    }

    /// Whether an address is this host's. Where the table can not be read it is.
    #[must_use]
    pub fn holds(&self, address: Address) -> bool {
        let found = self.inner.maps.locals.read(&address);
        !matches!(found, Ok(None))
    }
}

impl LocalAddresses {
    pub(in crate::kernel) fn watch(inner: &Arc<Inner>) -> Result<Self, Error> {
        let failed = |source| Error::Addresses {
            action: "watching",
            source,
        };
        let socket = netlink::Socket::open(
            SockProtocol::NetlinkRoute,
            ADDRESS_GROUPS,
            SockFlag::SOCK_NONBLOCK,
        )
        .map_err(failed)?;
        let watch = Self {
            inner: Arc::clone(inner),
            socket: readiness::watch(socket, Interest::READABLE).map_err(failed)?,
        };
        // What changed before the watch began.
        update(&inner.maps)?;
        Ok(watch)
    }

    /// Waits for a change and brings the table up to date. Call it in a loop.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Addresses {
            action: "watching",
            source,
        };
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            ready.clear_ready();
            if ready.get_inner().drain().map_err(failed)? {
                return update(&self.inner.maps);
            }
        }
    }
}

/// Adds what is missing in the table, then takes out what is gone.
pub(in crate::kernel) fn update(maps: &Maps) -> Result<(), Error> {
    let now = addresses()?;
    let known: BTreeSet<Address> = maps.locals.keys()?.into_iter().collect();
    for address in now.difference(&known) {
        maps.locals.write(address, &1, Write::Any)?;
    }
    for address in known.difference(&now) {
        maps.locals.remove(address)?;
    }
    Ok(())
}

fn addresses() -> Result<BTreeSet<Address>, Error> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|errno| Error::Addresses {
        action: "reading",
        source: errno.into(),
    })?;
    Ok(interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            v4.or(v6).map(Address::from)
        })
        .collect())
}
