//! A made network for tests: keys and genesis block in a temporary folder, no sockets.

use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidings_proto::Message;

use super::genesis::{self, Batch, Channel};
use super::keys::{self, Kind, Plan};
use super::material::Material;

/// Makes a channel `sample` of so many organizations with two peers each.
pub(crate) fn network(orgs: usize) -> (TempDir, Material) {
    let dir = tempfile::tempdir().unwrap();
    let crypto = dir.path().join("crypto");
    let mut application = Vec::new();
    for number in 1..=orgs {
        let domain = format!("org{number}.demo");
        let hosts = vec!["peer0".into(), "peer1".into()];
        keys::make(
            &crypto,
            &Plan {
                kind: Kind::Peers,
                domain: domain.clone(),
                hosts,
            },
        )
        .unwrap();
        application.push(genesis::Member {
            name: format!("Org{number}"),
            msp_id: format!("Org{number}MSP"),
            domain,
            addresses: vec![("127.0.0.1".into(), 7000 + u16::try_from(number).unwrap())],
        });
    }
    let domain = "orderer.demo".to_owned();
    let hosts = vec!["orderer".into()];
    keys::make(
        &crypto,
        &Plan {
            kind: Kind::Orderers,
            domain: domain.clone(),
            hosts,
        },
    )
    .unwrap();
    let channel = Channel {
        id: "sample".into(),
        orderer: genesis::Member {
            name: "OrdererOrg".into(),
            msp_id: "OrdererMSP".into(),
            domain,
            addresses: vec![("127.0.0.1".into(), 7000)],
        },
        orderer_host: "orderer.orderer.demo".into(),
        application,
        batch: Batch {
            messages_max: 2,
            bytes_max: 100_000,
            bytes_preferred: 50_000,
            timeout: Duration::from_millis(1500),
        },
    };
    let block = genesis::make(&crypto, &channel, SystemTime::now()).unwrap();
    std::fs::write(dir.path().join("genesis.block"), block.encode_to_vec()).unwrap();
    let material = Material::read(dir.path()).unwrap();
    (dir, material)
}
