//! Private data over real sockets: pushed, committed, pulled, kept from others, reconciled, expired.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tidings_gossip::PvtDataConfig;
use tidings_ledger::{private::Counts, transient::WriteSetName};
use tidings_msp::{collection::implicit_name, crypto::sha256};
use tidings_node::{
    private::{DistributeRefused, Handout, Presence},
    service::RunningNode,
};
use tidings_proto::{
    gossip::{
        PrivateDataMessage, PrivatePayload, PvtDataDigest, PvtDataElement, PvtDataPayload,
        RemotePvtDataRequest, RemoteStateRequest, gossip_message::Content,
    },
    protos::{CollectionConfigPackage, StaticCollectionConfig},
    rwset::TxPvtReadWriteSet,
};
use tokio::net::TcpListener;

use crate::{
    chain::Chain,
    draft::{self, Draft},
    is_peer,
    material::Organization,
    ordering,
    peer::{Seat, channel, reaches, shows},
    talker::Talker,
};

const CHAINCODE: &str = "cc";

/// What a transaction writes in private.
pub(crate) struct Write {
    nonce: Vec<u8>,
    pub(crate) tx_id: String,
    collection: String,
    pub(crate) rwset: Bytes,
    configs: CollectionConfigPackage,
}

/// The collections of the chaincode.
fn collections() -> Vec<StaticCollectionConfig> {
    let short = StaticCollectionConfig {
        block_to_live: 2,
        ..draft::collection("short", &["Org1MSP"])
    };
    let must = StaticCollectionConfig {
        required_peer_count: 1,
        maximum_peer_count: 2,
        ..draft::collection("must", &["Org1MSP"])
    };
    vec![
        must,
        draft::collection("one", &["Org1MSP"]),
        draft::collection("two", &["Org2MSP"]),
        short,
    ]
}

impl Write {
    pub(crate) fn new(chain: &Chain, collection: &str, text: &str) -> Self {
        let nonce = text.as_bytes().to_vec();
        let configs = collections();
        let config = configs.into_iter().find(|each| each.name == collection);
        let config = config.unwrap_or_else(|| draft::collection(collection, &["Org1MSP"]));
        Self {
            tx_id: draft::tx_id(&nonce, &chain.material.admin1.identity),
            nonce,
            collection: collection.to_owned(),
            rwset: Bytes::copy_from_slice(text.as_bytes()),
            configs: draft::package(&[config]),
        }
    }

    /// Puts it into a block of its own.
    fn order(&self, chain: &mut Chain) {
        let hash = Bytes::copy_from_slice(&sha256(&self.rwset));
        let mut draft = Draft::of(Vec::new());
        draft.namespaces = vec![draft::private_of(CHAINCODE, &self.collection, hash)];
        draft.nonce.clone_from(&self.nonce);
        let envelope = draft
            .by(&chain.material.admin1, &[&chain.material.peer1])
            .envelope();
        chain.add([envelope]);
    }

    pub(crate) fn push(&self) -> Content {
        Content::PrivateData(PrivateDataMessage {
            payload: Some(PrivatePayload {
                collection_name: self.collection.clone(),
                namespace: CHAINCODE.to_owned(),
                tx_id: self.tx_id.clone(),
                private_rwset: self.rwset.clone(),
                private_sim_height: 2,
                collection_configs: Some(self.configs.clone()),
            }),
        })
    }

    pub(crate) fn name(&self) -> WriteSetName<'_> {
        WriteSetName {
            tx_id: &self.tx_id,
            namespace: CHAINCODE,
            collection: &self.collection,
        }
    }

    fn digest(&self, block: u64, tx_id: &str) -> PvtDataDigest {
        PvtDataDigest {
            tx_id: tx_id.to_owned(),
            namespace: CHAINCODE.to_owned(),
            collection: self.collection.clone(),
            block_seq: block,
            seq_in_block: 0,
        }
    }
}

/// Puts the definition of the chaincode into a block.
fn define(chain: &mut Chain) {
    let package = draft::package(&collections());
    let draft = Draft::of(draft::first(CHAINCODE, &package));
    let material = &chain.material;
    let endorsers = [&material.peer1, &material.peer2];
    let envelope = draft.by(&material.admin1, &endorsers).envelope();
    chain.add([envelope]);
}

/// A chain with the definition, and a node of the first organization that leads it and has it.
pub(crate) async fn scene() -> (Chain, crate::orderer::Orderer, Seat, RunningNode) {
    let (mut chain, orderer) = ordering(1).await;
    define(&mut chain);
    orderer.serve(chain.blocks.clone());
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    seat.pvt_data = patient();
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, 2).await;
    (chain, orderer, seat, node)
}

/// Nothing is waited for that does not come.
fn patient() -> PvtDataConfig {
    PvtDataConfig {
        reconcile_sleep_interval: Duration::from_secs(1),
        ..PvtDataConfig::default()
    }
}

async fn push(talker: &mut Talker, node: &RunningNode, nonce: u64, write: &Write) -> String {
    talker.say(node, nonce, write.push());
    match talker.hears(nonce).await {
        Content::Ack(ack) => ack.error,
        other => panic!("a push is answered with {other:?}"),
    }
}

async fn ask(
    talker: &mut Talker,
    node: &RunningNode,
    nonce: u64,
    digests: Vec<PvtDataDigest>,
) -> Vec<PvtDataElement> {
    let request = RemotePvtDataRequest { digests };
    talker.say(node, nonce, Content::PrivateReq(request));
    match talker.hears(nonce).await {
        Content::PrivateRes(response) => response.elements,
        other => panic!("a request is answered with {other:?}"),
    }
}

fn held(node: &RunningNode, block: u64) -> Vec<Bytes> {
    let data = node.private_data(&channel()).unwrap();
    let sets = data.sets(block).unwrap();
    sets.into_iter().map(|set| set.rwset).collect()
}

fn counts(node: &RunningNode) -> Counts {
    let data = node.private_data(&channel()).unwrap();
    data.backlog().unwrap().total()
}

/// Waits until the node's account of private data is so.
async fn accounts(node: &RunningNode, wanted: impl Fn(Counts) -> bool) {
    let look = async {
        while !wanted(counts(node)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    crate::peer::soon(look).await;
}

async fn talker(chain: &Chain, org: &Organization, name: &str) -> Talker {
    let member = org.member(name, "peer");
    Talker::new(org, &member, &chain.blocks[0]).await
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart_and_goes_into_its_block() {
    let (mut chain, orderer, seat, node) = scene().await;
    let write = Write::new(&chain, "one", "secret");
    let mut endorser = talker(&chain, &chain.material.org1, "endorser").await;
    assert_eq!(push(&mut endorser, &node, 1, &write).await, "");
    assert_eq!(push(&mut endorser, &node, 2, &write).await, "", "once more");
    let foreign = Write::new(&chain, "two", "not for us");
    let refused = push(&mut endorser, &node, 3, &foreign).await;
    assert!(refused.contains("no member"), "{refused}");
    node.stop().await;
    let node = seat
        .start(TcpListener::bind(seat.address).await.unwrap())
        .await;
    assert_eq!(node.private_data(&channel()).unwrap().waiting(), Ok(1));
    write.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 3).await;
    assert_eq!(held(&node, 2), [write.rwset]);
    let look = node.private_data(&channel()).unwrap();
    let purged = async {
        while look.waiting() != Ok(0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    crate::peer::soon(purged).await;
    node.stop().await;
    assert!(look.sets(2).is_err(), "the store is closed");
}

#[tokio::test]
async fn members_are_given_data_and_others_are_not_and_are_counted() {
    let (mut chain, orderer, _seat, node) = scene().await;
    let (write, later) = (
        Write::new(&chain, "one", "secret"),
        Write::new(&chain, "one", "later"),
    );
    let own = Write::new(&chain, &implicit_name("Org1MSP"), "of the organization");
    let mut member = talker(&chain, &chain.material.org1, "member").await;
    let mut stranger = talker(&chain, &chain.material.org2, "stranger").await;
    for (nonce, write) in (1..).zip([&write, &later, &own]) {
        assert_eq!(push(&mut member, &node, nonce, write).await, "");
    }
    write.order(&mut chain);
    own.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 4).await;
    assert_eq!(held(&node, 3), std::slice::from_ref(&own.rwset));

    let digests = vec![
        write.digest(2, &write.tx_id),
        // As in a reconciliation.
        write.digest(2, ""),
        later.digest(9, &later.tx_id),
        later.digest(9, ""),
        own.digest(3, ""),
        write.digest(1, ""),
    ];
    let given = ask(&mut member, &node, 7, digests.clone()).await;
    let expected = [(0, &write), (1, &write), (2, &later), (4, &own)].map(
        |(index, write): (usize, &Write)| PvtDataElement {
            digest: Some(digests[index].clone()),
            payload: vec![write.rwset.clone()],
        },
    );
    assert_eq!(given, expected);
    let withheld = || {
        let withheld = &node.metrics().private_withheld;
        withheld.with_label_values(&["mychannel"]).get()
    };
    assert_eq!(withheld(), 0);
    assert_eq!(ask(&mut stranger, &node, 8, digests).await, []);
    assert_eq!(withheld(), 5, "one names nothing that there could be");
    node.stop().await;
}

#[tokio::test]
async fn what_was_not_pushed_is_pulled_and_what_nobody_has_is_missing() {
    let (mut chain, orderer, first, node) = scene().await;
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer1", Some(first.address)).await;
    seat.pvt_data = PvtDataConfig {
        pull_retry_threshold: Duration::from_secs(30),
        ..patient()
    };
    let mut other = seat.start(listener).await;
    other.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&other, 2).await;
    let id = other.me().identity.pki_id;
    shows(&node, |channel| is_peer(channel, id)).await;
    let id = node.me().identity.pki_id;
    shows(&other, |channel| is_peer(channel, id)).await;
    let write = Write::new(&chain, "one", "secret");
    let mut endorser = talker(&chain, &chain.material.org1, "endorser").await;
    assert_eq!(push(&mut endorser, &node, 1, &write).await, "");
    write.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    for node in [&node, &other] {
        reaches(node, 3).await;
        accounts(node, |counts| counts.held == 1 && counts.eligible == 0).await;
        assert_eq!(held(node, 2), std::slice::from_ref(&write.rwset));
    }
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn whoever_comes_late_has_everything_in_the_end_and_nothing_that_is_not_his() {
    let (mut chain, orderer, first, node) = scene().await;
    let mut talker = talker(&chain, &chain.material.org1, "talker").await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let write = Write::new(&chain, "one", &format!("secret {number}"));
        assert_eq!(push(&mut talker, &node, number, &write).await, "");
        write.order(&mut chain);
        expected.push(write.rwset);
    }
    Write::new(&chain, "two", "of others").order(&mut chain);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 23).await;
    assert_eq!(counts(&node).held, 20);
    assert_eq!(counts(&node).ineligible, 1);
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer1", Some(first.address)).await;
    seat.pvt_data = patient();
    let mut late = seat.start(listener).await;
    late.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&late, 23).await;
    accounts(&late, |counts| counts.held == 20).await;
    for (block, rwset) in (2..).zip(&expected) {
        assert_eq!(held(&late, block), std::slice::from_ref(rwset));
    }
    assert_eq!(counts(&late).ineligible, 1);
    late.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn blocks_bring_their_private_data_to_members_and_to_nobody_else() {
    let (mut chain, orderer, _seat, node) = scene().await;
    let write = Write::new(&chain, "one", "secret");
    let mut member = talker(&chain, &chain.material.org1, "member").await;
    let mut stranger = talker(&chain, &chain.material.org2, "stranger").await;
    assert_eq!(push(&mut member, &node, 1, &write).await, "");
    write.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 3).await;
    for (talker, expected) in [(&mut member, Some(&write.rwset)), (&mut stranger, None)] {
        let request = RemoteStateRequest {
            start_seq_num: 1,
            end_seq_num: 2,
        };
        talker.say(&node, 5, Content::StateRequest(request));
        let Content::StateResponse(response) = talker.hears(5).await else {
            panic!("blocks are answered with something else");
        };
        let [definition, with_private] = &response.payloads[..] else {
            panic!("two blocks were asked for: {response:?}");
        };
        assert_eq!(with_private.data, chain.blocks[2]);
        assert_eq!(definition.private_data, Vec::<Bytes>::new());
        let rwsets = with_private.private_data.iter().flat_map(|payload| {
            let payload = PvtDataPayload::decode(payload.clone()).unwrap();
            assert_eq!(payload.tx_seq_in_block, 0);
            let transaction = TxPvtReadWriteSet::decode(payload.payload).unwrap();
            let sets = transaction.ns_pvt_rwset.into_iter();
            sets.flat_map(|set| set.collection_pvt_rwset)
        });
        let rwsets: Vec<Bytes> = rwsets.map(|set| set.rwset).collect();
        assert_eq!(rwsets.iter().collect::<Vec<_>>(), Vec::from_iter(expected));
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_handed_out_is_with_others_and_here_before_it_is_ordered() {
    let (mut chain, orderer, first, node) = scene().await;
    let write = Write::new(&chain, "one", "secret");
    let handout = |collection: &str| Handout {
        namespace: CHAINCODE.to_owned(),
        collection: collection.to_owned(),
        rwset: write.rwset.clone(),
    };
    let (channel_id, must, none) = (channel(), [handout("must")], [handout("none")]);
    let alone = node.distribute(&channel_id, &write.tx_id, &must).await;
    let alone = alone.unwrap_err();
    assert!(matches!(alone, DistributeRefused::TooFew(_)), "{alone}");
    let unknown = node.distribute(&channel_id, &write.tx_id, &none).await;
    let unknown = unknown.unwrap_err();
    assert!(
        matches!(unknown, DistributeRefused::Collection { .. }),
        "{unknown}"
    );
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer1", Some(first.address)).await;
    seat.pvt_data = patient();
    let mut other = seat.start(listener).await;
    other.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&other, 2).await;
    let id = other.me().identity.pki_id;
    shows(&node, |channel| is_peer(channel, id)).await;
    let confirmed = node.distribute(&channel_id, &write.tx_id, &must).await;
    assert_eq!(confirmed.unwrap(), 1);
    let write = Write {
        collection: "must".to_owned(),
        ..write
    };
    for node in [&node, &other] {
        assert_eq!(node.private_data(&channel()).unwrap().waiting(), Ok(1));
    }
    write.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    for node in [&node, &other] {
        reaches(node, 3).await;
        assert_eq!(held(node, 2), std::slice::from_ref(&write.rwset));
    }
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn data_has_its_end() {
    let (mut chain, orderer, _seat, node) = scene().await;
    let write = Write::new(&chain, "short", "not for long");
    let mut talker = talker(&chain, &chain.material.org1, "talker").await;
    assert_eq!(push(&mut talker, &node, 1, &write).await, "");
    write.order(&mut chain);
    chain.grow_to(5);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 5).await;
    assert_eq!(held(&node, 2).len(), 1, "with block 4 it is still there");
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 6).await;
    assert!(held(&node, 2).is_empty());
    assert_eq!(
        ask(&mut talker, &node, 2, vec![write.digest(2, "")]).await,
        []
    );
    assert_eq!(counts(&node).held, 1, "in the file it waits for the others");
    chain.grow_to(101);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 101).await;
    accounts(&node, |counts| counts.held == 0).await;
    node.stop().await;
}

#[tokio::test]
async fn a_ledger_without_stores_gets_them_and_says_what_is_missing() {
    let (mut chain, orderer, seat, node) = scene().await;
    let write = Write::new(&chain, "one", "secret");
    let mut talker = talker(&chain, &chain.material.org1, "talker").await;
    assert_eq!(push(&mut talker, &node, 1, &write).await, "");
    write.order(&mut chain);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 3).await;
    assert_eq!(held(&node, 2).len(), 1);
    node.stop().await;
    std::fs::remove_dir_all(seat.home.path().join("data/private")).unwrap();
    let node = seat
        .start(TcpListener::bind(seat.address).await.unwrap())
        .await;
    assert_eq!(counts(&node).eligible, 1);
    let missing = node.private_data(&channel()).unwrap().missing(9).unwrap();
    let blocks: BTreeSet<u64> = missing.iter().map(|set| set.place.block).collect();
    assert_eq!(blocks, [2].into());
    // Its definitions are those of the ledger again.
    let more = Write::new(&chain, "one", "more");
    assert_eq!(push(&mut talker, &node, 2, &more).await, "");
    assert_eq!(
        ask(&mut talker, &node, 3, vec![more.digest(9, &more.tx_id)])
            .await
            .len(),
        1
    );
    node.stop().await;
}

/// Blocks and write sets that are listed as held, in order.
fn listed(node: &RunningNode) -> Vec<u64> {
    let data = node.private_data(&channel()).unwrap();
    let sets = data.list((0, 0)).unwrap().sets.into_iter();
    let held = sets.filter(|set| matches!(set.state, Presence::Held(_)));
    held.map(|set| set.place.block).collect()
}

#[tokio::test]
async fn private_data_outlives_leaving_and_a_ledger_that_is_begun_anew() {
    let (mut chain, orderer, seat, mut node) = scene().await;
    let mut talker = talker(&chain, &chain.material.org1, "talker").await;
    for number in 0..3 {
        let write = Write::new(&chain, "one", &format!("secret {number}"));
        assert_eq!(push(&mut talker, &node, number, &write).await, "");
        write.order(&mut chain);
    }
    orderer.serve(chain.blocks.clone());
    reaches(&node, 5).await;
    assert_eq!(listed(&node), [2, 3, 4]);
    node.leave(&channel()).await.unwrap();
    assert!(node.private_data(&channel()).is_none());
    node.join(chain.blocks[0].clone()).await.unwrap();
    assert_eq!((listed(&node), counts(&node).held), (vec![2, 3, 4], 3));
    node.leave(&channel()).await.unwrap();
    node.stop().await;

    // Only what is in the ledger is shown, and what was kept is used when its block comes.
    orderer.serve(chain.blocks[..1].to_vec());
    let ledger = seat.home.path().join("data/channels/mychannel");
    std::fs::remove_dir_all(ledger).unwrap();
    let mut node = seat
        .start(TcpListener::bind(seat.address).await.unwrap())
        .await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    assert_eq!((listed(&node), counts(&node)), (vec![], Counts::default()));
    orderer.serve(chain.blocks.clone());
    reaches(&node, 5).await;
    accounts(&node, |counts| counts.held == 3 && counts.eligible == 0).await;
    assert_eq!(listed(&node), [2, 3, 4]);
    let received = &node.metrics().private_received;
    assert_eq!(received.with_label_values(&["mychannel", "asked"]).get(), 0);
    node.stop().await;
}
