//! What an operator may say about how orderers are reached.

use std::{collections::BTreeMap, time::Duration};

/// Keys under `peer.deliveryclient` that concern connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// `peer.deliveryclient.connTimeout`: TCP and TLS.
    pub connect_timeout: Duration,
    /// `peer.deliveryclient.addressOverrides`, by the address (`host:port`) in the channel
    /// configuration, which is then never dialled itself.
    pub address_overrides: BTreeMap<String, AddressOverride>,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            address_overrides: BTreeMap::new(),
        }
    }
}

/// Where an orderer is reached in place of its address in the channel configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressOverride {
    /// `host:port`.
    pub to: String,
    /// The only certificates (PEM or DER) that it may chain to, whatever the channel configuration
    /// says. With TLS it is not reached when there are none.
    pub tls_roots: Vec<Vec<u8>>,
}
