//! Where an orderer is dialled, and whom it is taken for.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidings_msp::channel_config::OrdererEndpoints;

use super::AddressOverride;

/// Where an orderer is dialled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `host:port`.
    pub(super) address: String,
    /// What it may chain to.
    pub(super) roots: Vec<Bytes>,
    pub(super) overridden: bool,
}

impl Place {
    pub(super) fn why_without_roots(&self) -> &'static str {
        if self.overridden {
            "has an entry without caCertsFile in peer.deliveryclient.addressOverrides: name one"
        } else {
            "has no TLS root in the channel configuration, or is no longer in it"
        }
    }
}

/// Where the orderer is that the channel configuration names so. It is trusted by the TLS roots of
/// everybody who names it; an override replaces the address and the roots.
pub(super) fn place(
    overrides: &BTreeMap<String, AddressOverride>,
    groups: Vec<OrdererEndpoints>,
    endpoint: String,
) -> Place {
    if let Some(AddressOverride { to, tls_roots }) = overrides.get(&endpoint) {
        return Place {
            address: to.clone(),
            roots: tls_roots
                .iter()
                .map(|root| Bytes::copy_from_slice(root))
                .collect(),
            overridden: true,
        };
    }
    let names = |group: &OrdererEndpoints| group.addresses.contains(&endpoint);
    Place {
        roots: groups
            .into_iter()
            .filter(names)
            .flat_map(|group| group.tls_roots)
            .collect(),
        address: endpoint,
        overridden: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<OrdererEndpoints> {
        let group = |addresses: &[&str], root: &'static str| OrdererEndpoints {
            organization: None,
            addresses: addresses.iter().map(|each| (*each).to_owned()).collect(),
            tls_roots: (!root.is_empty())
                .then(|| Bytes::from(root))
                .into_iter()
                .collect(),
        };
        vec![
            group(&["a:1", "b:1"], "x"),
            group(&["b:1"], "y"),
            group(&["c:1"], ""),
        ]
    }

    #[test]
    fn an_orderer_is_trusted_by_the_roots_of_those_who_name_it() {
        let found = |endpoint: &str| place(&BTreeMap::new(), groups(), endpoint.to_owned());
        for (endpoint, roots) in [
            ("a:1", &["x"][..]),
            ("b:1", &["x", "y"]),
            ("c:1", &[]),
            ("d:1", &[]),
        ] {
            let expected = Place {
                address: endpoint.to_owned(),
                roots: roots.iter().map(|root| Bytes::from(*root)).collect(),
                overridden: false,
            };
            assert_eq!(found(endpoint), expected);
        }
    }

    #[test]
    fn an_overridden_address_is_reached_elsewhere_and_trusted_by_other_roots_only() {
        let instead = |to: &str, roots: &[&str]| AddressOverride {
            to: to.to_owned(),
            tls_roots: roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
        };
        let overrides = BTreeMap::from([
            ("a:1".to_owned(), instead("b:1", &["z"])),
            ("b:1".to_owned(), instead("a:1", &[])),
            ("e:1".to_owned(), instead("f:1", &["z"])),
        ]);
        let found = |endpoint: &str| {
            let place = place(&overrides, groups(), endpoint.to_owned());
            (place.address, place.roots, place.overridden)
        };
        let z = vec![Bytes::from("z")];
        assert_eq!(found("a:1"), ("b:1".to_owned(), z, true));
        // Neither the roots of its old address nor those of the new one.
        assert_eq!(found("b:1"), ("a:1".to_owned(), Vec::new(), true));
        assert_eq!(found("c:1"), ("c:1".to_owned(), Vec::new(), false));
    }
}
