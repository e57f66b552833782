//! Faults that are planted, each found with the setting to change.

use std::{fs, net::TcpListener, path::PathBuf};

use tidings_proto::{Message as _, common::ChannelHeader};

use crate::{
    devnet::Devnet,
    genesis::{change, organization, reconfigure, replace_tls_roots},
    node::Node,
    told::Told,
};

/// A network and its first peer, which does not run.
fn place(orgs: u16, peers: u16) -> (Devnet, Node) {
    let network = Devnet::up(orgs, peers);
    let mut node = network.node(1, 0);
    // A busy machine is no fault.
    node.set("CORE_PEER_GOSSIP_DIALTIMEOUT", "6s");
    node.set("CORE_PEER_GOSSIP_CONNTIMEOUT", "60s");
    node.set("CORE_PEER_DELIVERYCLIENT_CONNTIMEOUT", "60s");
    (network, node)
}

/// A file beside the genesis block.
fn beside(network: &Devnet, name: &str) -> PathBuf {
    network.genesis().with_file_name(name)
}

#[test]
fn no_anchor() {
    let (network, node) = place(2, 1);
    let without = beside(&network, "without.block");
    change(&network.genesis(), &without, |payload| {
        reconfigure(payload, |channel| {
            organization(channel, "Application", "Org1")
                .values
                .remove("AnchorPeers");
        });
    });
    let told = Told::of(&node, &[&without]);
    told.fault(
        "anchor peers",
        "names no anchor peer of Org1MSP",
        "AnchorPeers of Org1MSP",
    );
}

#[test]
fn foreign_bootstrap() {
    let (network, mut node) = place(2, 1);
    let foreign = network.join(2, 0);
    node.set("CORE_PEER_GOSSIP_BOOTSTRAP", foreign.endpoint.as_str());
    let genesis = network.genesis();
    let told = Told::of(&node, &[&genesis]);
    told.only_fault(
        "bootstrap",
        "is of Org2MSP, not of Org1MSP",
        "peer.gossip.bootstrap",
    );
    // Without a channel nothing is known of that organization but that it is not ours.
    let told = Told::of(&node, &[]);
    told.only_fault("bootstrap", "tlsca.org2.demo", "peer.gossip.bootstrap");
    drop(foreign);
    let told = Told::of(&node, &[&genesis]);
    told.only_fault(
        "bootstrap",
        "of Org2MSP, not of Org1MSP, whose anchor peer",
        "peer.gossip.bootstrap",
    );
}

#[test]
fn wrong_msp_id() {
    let (network, mut node) = place(2, 1);
    for wrong in ["Org2MSP", "Org9MSP"] {
        node.set("CORE_PEER_LOCALMSPID", wrong);
        let told = Told::of(&node, &[&network.genesis()]);
        let says = format!(
            "peer.localMspId is {wrong}, and channel tidings knows our certificate as one of Org1MSP"
        );
        // What follows from it is none.
        told.only_fault("organization", &says, "peer.localMspId");
    }
}

#[test]
fn a_shell_of_somebody_else() {
    let (network, mut node) = place(2, 1);
    node.start(&network.genesis());
    let user = |org: u16, name: &str| {
        let msp = format!("users/{name}@org{org}.demo/msp");
        network.crypto(org).join(msp).to_str().unwrap().to_owned()
    };
    for (id, msp, setting) in [
        ("Org9MSP", None, "peer.localMspId"),
        ("Org1MSP", Some(user(1, "User1")), "peer.mspConfigPath"),
        (
            "Org2MSP",
            Some(user(2, "Admin")),
            "peer.mspConfigPath, peer.localMspId",
        ),
    ] {
        node.set("CORE_PEER_LOCALMSPID", id);
        if let Some(msp) = msp {
            node.set("CORE_PEER_MSPCONFIGPATH", msp);
        }
        let told = Told::of(&node, &[]);
        assert_eq!(told.code, Some(0), "{:#?}", told.complaints());
        let complaints = told.complaints();
        let of_identity = complaints.iter().find(|each| each["check"] == "identity");
        let told = of_identity.unwrap_or_else(|| panic!("{complaints:#?}"));
        assert_eq!(told["setting"], setting, "{told:#}");
        let found = told["found"].as_str().unwrap();
        assert!(
            found.contains("of Org1MSP") && found.contains(id),
            "{found}"
        );
        // Of our organization it may be what the node is to be next.
        let next = complaints.iter().any(|each| {
            let found = each["found"].as_str().unwrap();
            found.starts_with("at the next start: ") && found.contains("makes it client")
        });
        assert_eq!(next, (id, setting) == ("Org1MSP", "peer.mspConfigPath"));
    }
}

#[test]
fn a_user_for_a_node() {
    let (network, mut node) = place(1, 1);
    let msp = network.crypto(1).join("users/User1@org1.demo/msp");
    node.set("CORE_PEER_MSPCONFIGPATH", msp.to_str().unwrap());
    let told = Told::of(&node, &[&network.genesis()]);
    told.only_fault("identity", "makes it client", "peer.mspConfigPath");
}

#[test]
fn expired_tls_certificate() {
    let (network, mut node) = place(1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let (crt, pem) = (beside(&network, "old.crt"), beside(&network, "old.key"));
    fs::write(&crt, certificate.pem()).unwrap();
    fs::write(&pem, key.serialize_pem()).unwrap();
    node.set("CORE_PEER_TLS_CERT_FILE", crt.to_str().unwrap());
    node.set("CORE_PEER_TLS_KEY_FILE", pem.to_str().unwrap());
    let told = Told::of(&node, &[&network.genesis()]);
    told.only_fault(
        "tls",
        "the TLS certificate expired on 2021-01-01",
        "peer.tls.cert.file",
    );
}

#[test]
fn external_endpoint_unset() {
    let (network, mut node) = place(2, 1);
    node.set("CORE_PEER_GOSSIP_EXTERNALENDPOINT", "");
    let told = Told::of(&node, &[&network.genesis()]);
    told.only_fault(
        "external endpoint",
        "there are other organizations: Org2MSP",
        "peer.gossip.externalEndpoint",
    );
}

#[test]
fn follower_without_leader() {
    let (network, mut node) = place(1, 2);
    node.set("CORE_PEER_GOSSIP_USELEADERELECTION", "false");
    node.start(&network.genesis());
    let told = Told::of(&node, &[]);
    told.only_fault(
        "leader",
        "nobody pulls the blocks of channel tidings",
        "peer.gossip.useLeaderElection",
    );
    node.stop();
    // Whether another one leads cannot be seen then.
    let told = Told::of(&node, &[]);
    assert_eq!(told.code, Some(0), "{:#?}", told.complaints());
    let warned = told
        .complaints()
        .into_iter()
        .any(|finding| finding["check"] == "leader");
    assert!(warned, "{:#?}", told.complaints());
}

#[test]
fn leader_and_election_at_once() {
    let (_network, mut node) = place(1, 1);
    node.set("CORE_PEER_GOSSIP_ORGLEADER", "true");
    let told = Told::of(&node, &[]);
    told.only_fault(
        "configuration",
        "exclude each other",
        "peer.gossip.orgLeader, peer.gossip.useLeaderElection",
    );
}

#[test]
fn port_blocked() {
    let (network, node) = place(1, 1);
    let _other = TcpListener::bind(&node.endpoint).unwrap();
    let _operations = TcpListener::bind(&node.operations).unwrap();
    let told = Told::of(&node, &[&network.genesis()]);
    let ports: Vec<_> = told.complaints();
    for key in ["peer.listenAddress", "operations.listenAddress"] {
        let says = |finding: &&&serde_json::Value| finding["setting"] == key;
        let found = ports
            .iter()
            .find(says)
            .unwrap_or_else(|| panic!("{ports:#?}"));
        assert_eq!(found["severity"], "fault");
    }
    assert_eq!((told.code, &told.json["faults"]), (Some(1), &2.into()));
}

#[test]
fn a_node_that_is_not_asked() {
    let (network, mut node) = place(1, 1);
    node.start(&network.genesis());
    // As if it had been started with another --socket.
    fs::rename(
        node.data().join("admin.sock"),
        node.data().join("moved.sock"),
    )
    .unwrap();
    let told = Told::of(&node, &[]);
    assert_eq!(told.code, Some(0), "{:#?}", told.complaints());
    let complaints = told.complaints();
    let ports = complaints.iter().filter(|each| each["check"] == "ports");
    let ports: Vec<_> = ports.collect();
    assert_eq!(ports.len(), 2, "{complaints:#?}");
    // What it has joined is not known.
    let channel = complaints.iter().find(|each| each["check"] == "channel");
    let channel = channel.unwrap_or_else(|| panic!("{complaints:#?}"));
    let found = channel["found"].as_str().unwrap();
    assert!(found.starts_with("no channel is known here"), "{found}");
    assert!(channel["advice"].is_null(), "{channel:#}");
    // Its own ports are not to be taken from it.
    assert!(
        ports.iter().all(|each| each["advice"].is_null()),
        "{ports:#?}"
    );
}

#[test]
fn an_external_endpoint_that_leads_nowhere() {
    let (network, mut node) = place(2, 1);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = free.local_addr().unwrap().to_string();
    drop(free);
    node.set("CORE_PEER_GOSSIP_EXTERNALENDPOINT", nowhere.as_str());
    node.start(&network.genesis());
    let told = Told::of(&node, &[]);
    told.only_fault(
        "external endpoint",
        "is not reached",
        "peer.gossip.externalEndpoint",
    );
}

#[test]
fn wrong_channel_genesis() {
    let (network, mut node) = place(1, 1);
    let other = beside(&network, "other.block");
    // Made at another time, and like it in everything else.
    change(&network.genesis(), &other, |payload| {
        let header = payload.header.as_mut().unwrap();
        let mut channel = ChannelHeader::decode(header.channel_header.clone()).unwrap();
        channel.timestamp.as_mut().unwrap().seconds -= 1;
        header.channel_header = channel.encode_to_vec().into();
    });
    // What the orderer serves is something else.
    let told = Told::of(&node, &[&other]);
    told.only_fault(
        "genesis",
        "serves another chain of the name tidings",
        "--join",
    );
    node.start(&network.genesis());
    // The ledger begins with something else.
    let told = Told::of(&node, &[&other]);
    told.only_fault("genesis", "is of another channel tidings", "--join");
    node.stop();
    let told = Told::of(&node, &[&other]);
    told.only_fault("genesis", "is of another channel tidings", "--join");
    // The ledger is the wrong one, as a join with the wrong block leaves it.
    node.wipe();
    node.start(&other);
    let told = Told::of(&node, &[]);
    told.fault("genesis", "that of the ledger in", "peer.fileSystemPath");
}

#[test]
fn orderer_ca_wrong() {
    let (network, node) = place(1, 1);
    let wrong = beside(&network, "wrong.block");
    let root = network.crypto(1).join("peers/peer0.org1.demo/tls/ca.crt");
    let root = fs::read(root).unwrap();
    change(&network.genesis(), &wrong, |payload| {
        reconfigure(payload, |channel| {
            replace_tls_roots(organization(channel, "Orderer", "OrdererOrg"), &root);
        });
    });
    let told = Told::of(&node, &[&wrong]);
    told.only_fault(
        "orderer",
        "CN=tlsca.orderer.demo",
        "TLS roots in the MSP of OrdererOrg",
    );
}

#[test]
fn an_orderer_that_does_not_run() {
    let (mut network, node) = place(1, 1);
    network.kill_orderer();
    let told = Told::of(&node, &[&network.genesis()]);
    told.only_fault(
        "orderer",
        "is not reached",
        "peer.deliveryclient.addressOverrides",
    );
}
