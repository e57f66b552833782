//! Addresses as Go writes them: what to listen on, and under which name others reach us.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
};

use super::ConfigRefused;

/// An address for documentation, far away; nothing is sent to it.
const FAR: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

const WANTED: &str = "host:port";

/// Host and port, brackets of an IPv6 address removed.
pub(super) fn split<'a>(key: &'static str, text: &'a str) -> Result<(&'a str, u16), ConfigRefused> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok()?;
        match host.strip_prefix('[') {
            Some(host) => Some((host.strip_suffix(']')?, port)),
            None if host.contains(':') => None,
            None => Some((host, port)),
        }
    });
    parts.ok_or_else(|| ConfigRefused::Value {
        key,
        value: text.to_owned(),
        wanted: WANTED,
    })
}

/// What the system understands under a listening address: Go takes one without host as all.
pub(super) fn to_listen_on(key: &'static str, text: &str) -> Result<(String, u16), ConfigRefused> {
    let (host, port) = split(key, text)?;
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok((host.to_owned(), port))
}

/// The address that others are told: as configured, or with the address of this machine where
/// that says "any" or detection is wanted.
pub(super) fn to_announce(
    key: &'static str,
    configured: &str,
    detect: bool,
    own: impl FnOnce() -> io::Result<IpAddr>,
) -> Result<String, ConfigRefused> {
    let (host, port) = split(key, configured)?;
    let any = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    if !any && !detect {
        return Ok(configured.to_owned());
    }
    let own = own().map_err(ConfigRefused::NoAddress)?;
    Ok(format!("{own}:{port}"))
}

/// The IPv4 address of this machine from which others are reached.
pub(super) fn own() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // This only chooses a route.
    socket.connect(FAR)?;
    Ok(socket.local_addr()?.ip())
}
