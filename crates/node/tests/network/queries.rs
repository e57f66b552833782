//! What `peer channel`, the queries of SDKs and discovery ask, over real sockets.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use tidings_msp::{channel_config::ChannelConfig, crypto::sha256_parts};
use tidings_node::{clients::JoinWish, service::RunningNode};
use tidings_proto::{
    common::{Block, BlockchainInfo, ChannelHeader, Config, Header, HeaderType, SignatureHeader},
    discovery::{
        AuthInfo, ChaincodeQuery, ConfigQuery, LocalPeerQuery, PeerMembershipQuery, Query,
        QueryResult, Request, SignedRequest, discovery_client::DiscoveryClient,
        query::Query as Question, query_result::Result as Answer,
    },
    gossip::{GossipMessage, gossip_message::Content},
    protos::{
        ChaincodeAction, ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput,
        ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec, ChannelQueryResponse,
        ProcessedTransaction, Proposal, ProposalResponse, ProposalResponsePayload, SignedProposal,
        endorser_client::EndorserClient,
    },
};
use tokio::sync::mpsc;
use tonic::{Code, transport::Channel};

use crate::{
    chain::Chain,
    clients::{connect, now},
    leader,
    material::{CHANNEL, Member, Organization},
    ordering,
    peer::{Seat, channel, reaches, shows, soon},
};

/// A proposal, with whatever is to be wrong about it.
pub(crate) struct Proposed {
    channel: String,
    chaincode: String,
    args: Vec<Bytes>,
    tx_id: Option<String>,
    header_type: HeaderType,
    at: i64,
}

pub(crate) fn asking(channel: &str, chaincode: &str, args: &[&[u8]]) -> Proposed {
    Proposed {
        channel: channel.to_owned(),
        chaincode: chaincode.to_owned(),
        args: args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect(),
        tx_id: None,
        header_type: HeaderType::EndorserTransaction,
        at: now(),
    }
}

impl Proposed {
    pub(crate) fn by(self, client: &Member) -> SignedProposal {
        let nonce = vec![5; 24];
        let id = hex::encode(sha256_parts(&[&nonce, &client.identity]));
        let name = ChaincodeId {
            name: self.chaincode,
            ..ChaincodeId::default()
        };
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(name.clone()),
        };
        let channel_header = ChannelHeader {
            r#type: self.header_type.into(),
            channel_id: self.channel,
            tx_id: self.tx_id.unwrap_or(id),
            extension: extension.encode_to_vec().into(),
            timestamp: Some(Timestamp {
                seconds: self.at,
                nanos: 0,
            }),
            ..ChannelHeader::default()
        };
        let signature_header = SignatureHeader {
            creator: client.identity.clone(),
            nonce: nonce.into(),
        };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let spec = ChaincodeInvocationSpec {
            chaincode_spec: Some(ChaincodeSpec {
                chaincode_id: Some(name),
                input: Some(ChaincodeInput {
                    args: self.args,
                    ..ChaincodeInput::default()
                }),
                ..ChaincodeSpec::default()
            }),
        };
        let payload = ChaincodeProposalPayload {
            input: spec.encode_to_vec().into(),
            ..ChaincodeProposalPayload::default()
        };
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            ..Proposal::default()
        };
        let proposal_bytes = Bytes::from(proposal.encode_to_vec());
        let signature = client.sign(&proposal_bytes);
        SignedProposal {
            proposal_bytes,
            signature,
        }
    }
}

async fn propose(
    to: &Channel,
    proposal: SignedProposal,
) -> Result<ProposalResponse, tonic::Status> {
    let mut client = EndorserClient::new(to.clone());
    let answer = soon(client.process_proposal(proposal)).await?;
    Ok(answer.into_inner())
}

/// The payload of an answer that succeeded.
async fn answered(to: &Channel, proposal: SignedProposal) -> Bytes {
    let response = propose(to, proposal).await.unwrap().response.unwrap();
    assert_eq!(response.status, 200, "{}", response.message);
    response.payload
}

/// The message of an answer that says why not.
pub(crate) async fn failed(to: &Channel, proposal: SignedProposal) -> String {
    let response = propose(to, proposal).await.unwrap().response.unwrap();
    assert_eq!(response.status, 500);
    response.message
}

async fn scene(height: u64) -> (Chain, crate::orderer::Orderer, Seat, RunningNode, Channel) {
    let (chain, orderer) = ordering(height).await;
    let (seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, height).await;
    let to = connect(&node).await;
    (chain, orderer, seat, node, to)
}

#[tokio::test]
async fn a_channel_is_joined_by_an_administrators_client_only() {
    let chain = Chain::new("127.0.0.1:1");
    let (seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let mut config = seat.config(listener);
    let (wishes, mut joins) = mpsc::channel(1);
    config.clients.joins = Some(wishes);
    let mut node = Box::pin(RunningNode::start(config)).await.unwrap();
    let to = connect(&node).await;
    let org = &chain.material.org1;
    let (admin, app) = (org.member("admin", "admin"), org.member("app", "client"));
    let genesis = &chain.blocks[0];
    let join = |client: &Member| asking("", "cscc", &[b"JoinChain", genesis]).by(client);
    let list = || asking("", "cscc", &[b"GetChannels"]).by(&app);
    let denied = failed(&to, join(&app)).await;
    assert!(denied.contains("access denied for [JoinChain]"), "{denied}");
    let channels = |payload: Bytes| ChannelQueryResponse::decode(payload).unwrap().channels;
    assert_eq!(channels(answered(&to, list()).await), []);
    for expected in [200, 500] {
        let asked = propose(&to, join(&admin));
        let owner = async {
            let JoinWish { genesis, done } = joins.recv().await.unwrap();
            let joined = node.join(genesis).await;
            done.send(joined.map(drop).map_err(|error| error.to_string()))
                .unwrap();
        };
        let (asked, ()) = tokio::join!(asked, owner);
        let response = asked.unwrap();
        // What no channel stands for is not signed.
        assert_eq!(response.endorsement, None);
        assert_eq!(
            response.response.unwrap().status,
            expected,
            "the second time it is there"
        );
    }
    let [listed] = &channels(answered(&to, list()).await)[..] else {
        panic!("not one channel");
    };
    assert_eq!(listed.channel_id, CHANNEL);
    node.stop().await;
}

#[tokio::test]
async fn proposals_are_read_up_to_their_length() {
    let (chain, _orderer, _seat, node, to) = scene(1).await;
    let app = chain.material.org1.member("app", "client");
    let proposal = asking("", "cscc", &[b"GetChannels"]).by(&app);
    let of = |signature_len: usize| SignedProposal {
        signature: vec![0; signature_len].into(),
        ..proposal.clone()
    };
    const MOST: usize = 4 << 20;
    let beside = of(MOST / 2).encoded_len() - MOST / 2;
    for (more, is_too_long) in [(0, false), (1, true)] {
        let proposal = of(MOST - beside + more);
        assert_eq!(proposal.encoded_len(), MOST + more);
        let code = propose(&to, proposal).await.map_err(|error| error.code());
        assert_eq!(code.err() == Some(Code::OutOfRange), is_too_long, "{more}");
    }
    node.stop().await;
}

#[tokio::test]
async fn the_ledger_is_asked_for_its_blocks_and_transactions() {
    let (chain, _orderer, _seat, node, to) = scene(4).await;
    let app = chain.material.org2.member("app", "client");
    let ask = |args: &[&[u8]]| asking(CHANNEL, "qscc", args).by(&app);
    let name = CHANNEL.as_bytes();
    let info = answered(&to, ask(&[b"GetChainInfo", name])).await;
    let info = BlockchainInfo::decode(info).unwrap();
    let blocks = chain.blocks.iter().cloned();
    let blocks: Vec<Block> = blocks.map(|block| Block::decode(block).unwrap()).collect();
    let previous = |number: usize| &blocks[number].header.as_ref().unwrap().previous_hash;
    assert_eq!(info.height, 4);
    assert_eq!(info.previous_block_hash, previous(3));
    let by_number = |text: &'static str| ask(&[b"GetBlockByNumber", name, text.as_bytes()]);
    let number_of = |block: Bytes| Block::decode(block).unwrap().header.unwrap().number;
    assert_eq!(number_of(answered(&to, by_number("2")).await), 2);
    // The largest number stands for the last block.
    assert_eq!(
        number_of(answered(&to, by_number("18446744073709551615")).await),
        3
    );
    let by_hash = ask(&[b"GetBlockByHash", name, previous(3)]);
    assert_eq!(number_of(answered(&to, by_hash).await), 2);
    let by_id = ask(&[b"GetBlockByTxID", name, b"an id"]);
    assert_eq!(number_of(answered(&to, by_id).await), 0);
    let transaction = ask(&[b"GetTransactionByID", name, b"an id"]);
    let transaction = ProcessedTransaction::decode(answered(&to, transaction).await).unwrap();
    assert!(transaction.transaction_envelope.is_some());
    for (reason, query) in [
        ("is not in the ledger", by_number("9")),
        ("parse", by_number("two")),
        ("hash", ask(&[b"GetBlockByHash", name, b"short"])),
        ("hash", ask(&[b"GetBlockByHash", name, &[7; 32]])),
        ("no such", ask(&[b"GetTransactionByID", name, b"unknown"])),
        ("missing 3rd argument", ask(&[b"GetBlockByNumber", name])),
        ("Invalid chain ID", ask(&[b"GetChainInfo", b"elsewhere"])),
        (
            "not found",
            asking("elsewhere", "qscc", &[b"GetChainInfo", name]).by(&app),
        ),
    ] {
        let message = failed(&to, query).await;
        assert!(message.contains(reason), "{reason}: {message}");
    }
    node.stop().await;
}

#[tokio::test]
async fn the_configuration_is_told_as_block_and_as_it_is() {
    let (chain, _orderer, _seat, node, to) = scene(3).await;
    let app = chain.material.org1.member("app", "client");
    let ask = |function: &[u8]| asking("", "cscc", &[function, CHANNEL.as_bytes()]).by(&app);
    let block = answered(&to, ask(b"GetConfigBlock")).await;
    assert_eq!(Block::decode(block).unwrap().header.unwrap().number, 0);
    let config = Config::decode(answered(&to, ask(b"GetChannelConfig")).await).unwrap();
    let ours = ChannelConfig::from_config_block(&chain.blocks[0]).unwrap();
    assert_eq!(config.channel_group.as_ref(), Some(ours.group()));
    node.stop().await;
}

#[tokio::test]
async fn answers_in_a_channel_are_signed_by_the_node() {
    let (chain, _orderer, _seat, node, to) = scene(2).await;
    let app = chain.material.org1.member("app", "client");
    let query = asking(CHANNEL, "qscc", &[b"GetChainInfo", CHANNEL.as_bytes()]).by(&app);
    let proposed = Proposal::decode(query.proposal_bytes.clone()).unwrap();
    let header = Header::decode(proposed.header).unwrap();
    let hash = sha256_parts(&[
        &header.channel_header,
        &header.signature_header,
        &proposed.payload,
    ]);
    let response = propose(&to, query).await.unwrap();
    assert_eq!(response.version, 1);
    let endorsement = response.endorsement.unwrap();
    assert_eq!(endorsement.endorser, node.me().identity.serialized);
    let config = Arc::new(ChannelConfig::from_config_block(&chain.blocks[0]).unwrap());
    let endorser = config.msps().deserialize(&endorsement.endorser).unwrap();
    let signed = [&response.payload[..], &endorsement.endorser].concat();
    endorser.verify(&signed, &endorsement.signature).unwrap();
    let payload = ProposalResponsePayload::decode(response.payload).unwrap();
    assert_eq!(payload.proposal_hash, hash[..]);
    let action = ChaincodeAction::decode(payload.extension).unwrap();
    assert_eq!(
        (action.results.is_empty(), action.events.is_empty()),
        (true, true)
    );
    assert_eq!(action.response, response.response);
    assert_eq!(action.chaincode_id.unwrap().name, "qscc");
    node.stop().await;
}

#[tokio::test]
async fn proposals_that_are_wrong_or_of_nobody_are_errors() {
    let (chain, _orderer, _seat, node, to) = scene(1).await;
    let app = chain.material.org1.member("app", "client");
    let stranger = Organization::new("Strange").member("app", "client");
    let info = || asking(CHANNEL, "qscc", &[b"GetChainInfo", CHANNEL.as_bytes()]);
    let mut altered = info().by(&app);
    altered.signature = stranger.sign(&altered.proposal_bytes);
    let garbage = SignedProposal {
        proposal_bytes: Bytes::from_static(b"\xff"),
        signature: Bytes::new(),
    };
    let other_id = Proposed {
        tx_id: Some("mine".to_owned()),
        ..info()
    };
    let old = Proposed {
        at: now() - 16 * 60,
        ..info()
    };
    let long = Proposed {
        channel: "c".repeat(250),
        ..info()
    };
    let other_type = Proposed {
        header_type: HeaderType::Message,
        ..info()
    };
    for (reason, proposal) in [
        ("decode", garbage),
        ("lacks", SignedProposal::default()),
        ("txid", other_id.by(&app)),
        ("header type", other_type.by(&app)),
        ("15 minutes", old.by(&app)),
        ("longer than any", long.by(&app)),
        ("access denied", altered),
        ("creator org unknown", info().by(&stranger)),
        (
            "creator org unknown",
            asking("", "cscc", &[b"GetChannels"]).by(&stranger),
        ),
    ] {
        let refused = propose(&to, proposal).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unknown);
        assert!(refused.message().contains(reason), "{refused}");
    }
    for (chaincode, function) in [("basic", "Transfer"), ("_lifecycle", ""), ("cscc", "Fly")] {
        let query = asking(CHANNEL, chaincode, &[function.as_bytes()]).by(&app);
        let refused = propose(&to, query).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("endorsing peer"), "{refused}");
    }
    node.stop().await;
}

async fn discover(to: &Channel, client: &Member, queries: Vec<Query>) -> Vec<Answer> {
    let results = ask(to, client, queries).await.unwrap();
    let answers = results
        .into_iter()
        .map(|QueryResult { result }| result.unwrap());
    answers.collect()
}

async fn ask(
    to: &Channel,
    client: &Member,
    queries: Vec<Query>,
) -> Result<Vec<QueryResult>, tonic::Status> {
    let request = Request {
        authentication: Some(AuthInfo {
            client_identity: client.identity.clone(),
            client_tls_cert_hash: Bytes::new(),
        }),
        queries,
    };
    let payload = Bytes::from(request.encode_to_vec());
    let signature = client.sign(&payload);
    let mut discovery = DiscoveryClient::new(to.clone());
    let asked = discovery.discover(SignedRequest { payload, signature });
    Ok(soon(asked).await?.into_inner().results)
}

#[tokio::test]
async fn questions_are_few() {
    let (chain, _orderer, _seat, node, to) = scene(1).await;
    let app = chain.material.org1.member("app", "client");
    let config = about(CHANNEL, Question::ConfigQuery(ConfigQuery {}));
    let most = ask(&to, &app, vec![config.clone(); 32]).await.unwrap();
    assert_eq!(most.len(), 32);
    let refused = ask(&to, &app, vec![config; 33]).await.unwrap_err();
    assert!(refused.message().contains("at most 32"), "{refused}");
    node.stop().await;
}

fn about(channel: &str, question: Question) -> Query {
    Query {
        channel: channel.to_owned(),
        query: Some(question),
    }
}

fn is_denied(answer: &Answer) -> bool {
    matches!(answer, Answer::Error(error) if error.content == "access denied")
}

#[tokio::test]
async fn members_that_others_can_reach_are_discovered_with_their_heights() {
    let (chain, _orderer) = ordering(3).await;
    let (mut first, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    first.external_endpoint = "first.example:7051".to_owned();
    let mut node = first.start(listener).await;
    let (mut second, listener) =
        Seat::new(&chain.material.org1, "peer1", Some(first.address)).await;
    second.external_endpoint = "second.example:7051".to_owned();
    let mut other = second.start(listener).await;
    let (hidden, listener) = Seat::new(&chain.material.org1, "peer2", Some(first.address)).await;
    let mut inner = hidden.start(listener).await;
    for each in [&mut node, &mut other, &mut inner] {
        each.join(chain.blocks[0].clone()).await.unwrap();
    }
    shows(&node, |channel| {
        channel.height == 3
            && channel
                .peers
                .iter()
                .filter(|(_, height)| *height == 3)
                .count()
                == 2
    })
    .await;
    let to = connect(&node).await;
    let (app, admin) = (
        chain.material.org1.member("app", "client"),
        chain.material.org1.member("admin", "admin"),
    );
    let peers = || about(CHANNEL, Question::PeerQuery(PeerMembershipQuery::default()));
    let answers = discover(&to, &app, vec![peers()]).await;
    let [Answer::Members(members)] = &answers[..] else {
        panic!("{answers:?}");
    };
    let listed = &members.peers_by_org["Org1MSP"].peers;
    let mut endpoints = Vec::new();
    for peer in listed {
        let alive = peer.membership_info.as_ref().unwrap();
        assert_eq!(alive.secret_envelope, None, "it stays in the organization");
        let message = GossipMessage::decode(alive.payload.clone()).unwrap();
        let Some(Content::AliveMsg(alive)) = message.content else {
            panic!("no alive message");
        };
        endpoints.push(alive.membership.unwrap().endpoint);
        let info = peer.state_info.as_ref().unwrap().payload.clone();
        let Some(Content::StateInfo(info)) = GossipMessage::decode(info).unwrap().content else {
            panic!("no state info");
        };
        assert_eq!(info.properties.unwrap().ledger_height, 3);
    }
    endpoints.sort();
    assert_eq!(endpoints, ["first.example:7051", "second.example:7051"]);
    let network = || about("", Question::LocalPeers(LocalPeerQuery {}));
    let answers = discover(&to, &admin, vec![network()]).await;
    let [Answer::Members(members)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(members.peers_by_org["Org1MSP"].peers.len(), 2);
    let answers = discover(&to, &app, vec![network()]).await;
    assert!(is_denied(&answers[0]), "{answers:?}");
    for each in [node, other, inner] {
        each.stop().await;
    }
}

#[tokio::test]
async fn the_configuration_of_a_channel_is_discovered_by_its_writers() {
    let (chain, _orderer, _seat, node, to) = scene(1).await;
    let app = chain.material.org2.member("app", "client");
    let config = |channel| about(channel, Question::ConfigQuery(ConfigQuery {}));
    let endorsers = about(CHANNEL, Question::CcQuery(ChaincodeQuery {}));
    let answers = discover(
        &to,
        &app,
        vec![config(CHANNEL), config("elsewhere"), endorsers],
    )
    .await;
    let [
        Answer::ConfigResult(found),
        elsewhere,
        Answer::Error(endorsers),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    let ids: Vec<_> = found.msps.keys().collect();
    assert_eq!(ids, ["OrdererAMSP", "OrdererBMSP", "Org1MSP", "Org2MSP"]);
    assert_eq!(found.orderers["OrdererAMSP"].endpoint[0].host, "127.0.0.1");
    assert!(is_denied(elsewhere));
    assert!(
        endorsers.content.contains("endorsing peer"),
        "{endorsers:?}"
    );
    let stranger = Organization::new("Strange").member("app", "client");
    let answers = discover(&to, &stranger, vec![config(CHANNEL)]).await;
    assert!(is_denied(&answers[0]), "{answers:?}");
    assert!(node.reader(&channel()).is_some());
    node.stop().await;
}
