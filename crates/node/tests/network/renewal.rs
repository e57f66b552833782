//! Certificates that are renewed, our own and those of others.

use std::time::{Duration, SystemTime};

use tidings_node::{
    status::Status,
    tls::{TcpDial, Tls, TlsSettings, connect},
};
use tokio::time::timeout;

use super::*;
use crate::{
    material::{Member, Organization},
    peer::{tls_settings, write_msp},
};

/// Five of the intervals of these nodes: time for all that would come.
const SOON: Duration = Duration::from_secs(1);

/// Waits until the node sees exactly these members alive.
async fn sees(node: &RunningNode, others: &[&RunningNode]) {
    let mut expected: Vec<_> = others
        .iter()
        .map(|node| node.me().identity.pki_id)
        .collect();
    expected.sort();
    let seen = |status: &Status| {
        let mut seen: Vec<_> = status.members.iter().map(|member| member.peer).collect();
        seen.sort();
        seen == expected
    };
    soon(node.status().wait_for(seen)).await.unwrap();
}

#[tokio::test]
async fn a_node_takes_up_new_tls_certificates_without_restart() {
    let chain = Chain::new("orderer.invalid:7050");
    let org = &chain.material.org1;
    let (mut first, listener) = Seat::new(org, "peer0", None).await;
    let (mut second, other) = Seat::new(org, "peer1", Some(first.address)).await;
    first.tls = Some(tls_settings(org));
    second.tls = Some(tls_settings(org));
    let node = first.start(listener).await;
    let peer = second.start(other).await;
    sees(&node, &[&peer]).await;
    sees(&peer, &[&node]).await;

    let new = tls_settings(org);
    assert!(!node.renew_tls(first.tls.as_ref().unwrap()).unwrap());
    assert!(node.renew_tls(&new).unwrap());
    assert!(!node.renew_tls(&new).unwrap());
    let shown = {
        let client = Tls::new(&tls_settings(org), SystemTime::now()).unwrap();
        // Any authority of the organization will do for the client's own.
        let dialed = connect(&TcpDial, &first.address.to_string(), Some(&client), SOON).await;
        dialed.unwrap().peer_certificate_sha256
    };
    let expected = Tls::new(&new, SystemTime::now()).unwrap();
    assert_eq!(shown, Some(expected.server_certificate_sha256()));
    // Both sides know which certificate a connection was made with, old or new.
    let mut status = peer.status();
    let lost = timeout(SOON, status.wait_for(|status| status.members.is_empty()));
    assert!(lost.await.is_err(), "a connection that was there went");
    peer.stop().await;
    let listener = TcpListener::bind(second.address).await.unwrap();
    let peer = second.start(listener).await;
    sees(&peer, &[&node]).await;
    sees(&node, &[&peer]).await;
    let bad = TlsSettings {
        key: tls_settings(org).key,
        ..new
    };
    assert!(node.renew_tls(&bad).is_err());
    for node in [node, peer] {
        node.stop().await;
    }
}

/// A peer that is certified again: under the same key, or another.
fn renewed(org: &Organization, before: &Member, same_key: bool) -> Member {
    if same_key {
        org.certified_again(before, "peer1", "peer")
    } else {
        org.member("peer1", "peer")
    }
}

#[tokio::test]
async fn a_peer_that_comes_back_with_a_renewed_certificate_is_taken_up() {
    for same_key in [true, false] {
        let (mut chain, orderer) = ordering(3).await;
        let (first, mut node) = leader(&chain).await;
        let org = &chain.material.org1;
        let (second, listener) = Seat::new(org, "peer1", Some(first.address)).await;
        let before = org.member("peer1", "peer");
        write_msp(&second.home.path().join("msp"), org, &before);
        let mut peer = second.start(listener).await;
        for node in [&mut node, &mut peer] {
            node.join(chain.blocks[0].clone()).await.unwrap();
            reaches(node, 3).await;
        }
        sees(&node, &[&peer]).await;
        let old = peer.me().identity.pki_id;
        peer.stop().await;

        let after = renewed(org, &before, same_key);
        assert_ne!(after.certificate_pem, before.certificate_pem);
        assert_eq!(after.key_pem == before.key_pem, same_key);
        write_msp(&second.home.path().join("msp"), org, &after);
        let listener = TcpListener::bind(second.address).await.unwrap();
        let peer = second.start(listener).await;
        assert_ne!(peer.me().identity.pki_id, old);
        sees(&node, &[&peer]).await;
        chain.grow_to(6);
        orderer.serve(chain.blocks.clone());
        reaches(&node, 6).await;
        reaches(&peer, 6).await;
        node.stop().await;
        peer.stop().await;
    }
}

#[tokio::test]
async fn a_peer_that_the_channel_revokes_is_dropped_and_gets_nothing_more() {
    let (mut chain, orderer) = ordering(3).await;
    let (mut first, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    // One of another organization that has the blocks from the first only.
    let org = &chain.material.org2;
    let (mut second, other) = Seat::new(org, "peer0", None).await;
    second.leader = false;
    let revoked = org.member("peer0", "peer");
    write_msp(&second.home.path().join("msp"), org, &revoked);
    for seat in [&mut first, &mut second] {
        seat.external_endpoint = seat.address.to_string();
    }
    chain.anchor(second.address);
    orderer.serve(chain.blocks.clone());
    let mut node = first.start(listener).await;
    let mut peer = second.start(other).await;
    for node in [&mut node, &mut peer] {
        node.join(chain.blocks[0].clone()).await.unwrap();
    }
    reaches(&node, 4).await;
    reaches(&peer, 4).await;
    sees(&node, &[&peer]).await;

    chain.revoke(&revoked);
    orderer.serve(chain.blocks.clone());
    sees(&node, &[]).await;
    chain.grow_to(8);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 8).await;
    sees(&node, &[]).await;
    let more = |status: &Status| status.channels[0].height > 5;
    let mut status = peer.status();
    let given = timeout(SOON, status.wait_for(more));
    assert!(given.await.is_err(), "a revoked peer was given a block");
    node.stop().await;
    peer.stop().await;
}
