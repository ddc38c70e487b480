//! One sandbox's way to the router: a pair of interfaces, an address, a route.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::named;
use super::router::{Router, connect, io_error, up};

/// Sandboxes have the upper half of 198.18.0.0/15, seen by their router alone: all workers use the same.
const BASE: u32 = u32::from_be_bytes([198, 19, 0, 0]);

/// The router as every sandbox sees it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

/// Addresses for sandboxes: all but the network's, the router's and the last.
const ADDRESSES: u32 = 65_536 - 3;

/// Index of `eth0`; 1 is the loopback device.
const INSIDE: u32 = 2;

/// Addresses tried when those of long-lived sandboxes come round again.
const TRIES_MAX: u32 = 4_096;

/// Connects the namespace that the calling thread is in to the router.
pub(super) fn attach(router: &Router, serial: &mut u32) -> io::Result<()> {
    let inside = connect(&router.runtime)?;
    router.runtime.block_on(async {
        for _ in 0..TRIES_MAX {
            *serial = (*serial + 1) % ADDRESSES;
            match pair(router, &inside, *serial).await {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => {}
                Err(error) => return Err(named("attach a sandbox to the network")(error)),
            }
        }
        Err(io::Error::other("every address for sandboxes is in use"))
    })
}

async fn pair(router: &Router, inside: &Handle, serial: u32) -> io::Result<()> {
    // The kernel takes the numbers we choose, so that nothing has to be looked up.
    let outside = 1_000 + serial;
    let address = Ipv4Addr::from_bits(BASE + 2 + serial);
    let peer = LinkUnspec::new_with_name(&format!("s{serial}"))
        .setns_by_fd(router.namespace.as_raw_fd())
        .index(outside)
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new("eth0", "unused")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .index(INSIDE)
        .up()
        .build();
    inside.link().add(pair).execute().await.map_err(io_error)?;
    up(&router.handle, outside).await?;
    let own = inside.address().add(INSIDE, IpAddr::V4(address), 32);
    own.execute().await.map_err(io_error)?;
    let out = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(GATEWAY)
        .output_interface(INSIDE)
        .onlink()
        .build();
    inside.route().add(out).execute().await.map_err(io_error)?;
    let gateway = router.handle.address();
    let gateway = gateway.add(outside, IpAddr::V4(GATEWAY), 32);
    gateway.execute().await.map_err(io_error)?;
    let back = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(outside)
        .scope(RouteScope::Link)
        .build();
    router
        .handle
        .route()
        .add(back)
        .execute()
        .await
        .map_err(io_error)
}
