//! What visitors get, over pipes: from a ledger on disk, without a node around it.

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tidings_gossip::id::ChannelId;
use tidings_ledger::{Ledger, Retention, Settings};
use tidings_proto::{
    common::{ChannelHeader, Envelope, Header, Payload, SignatureHeader},
    kvrwset::{KvWrite, KvrwSet},
    msp::SerializedIdentity,
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeEvent,
        ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload,
        ChaincodeSpec, Endorsement, ProposalResponsePayload, Transaction, TransactionAction,
    },
    rwset::{NsReadWriteSet, TxReadWriteSet},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::watch,
    task::JoinSet,
    time::{self, sleep},
};

use super::*;
use crate::{
    private::tests::some_vault,
    reception::{CONNECTION_TIME_MAX, Reception, STALL_MAX},
};

mod limits;
mod pruned;
mod tls;

#[path = "../../../ledger/tests/made/mod.rs"]
pub(super) mod made;

pub(super) const CHANNEL: &str = "mychannel";

/// A call of a chaincode that writes its value under `k`, by a creator of that organization.
pub(super) struct Call {
    pub(super) id: &'static str,
    pub(super) chaincode: &'static str,
    pub(super) organization: &'static str,
    pub(super) certificate: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            id: "an id",
            chaincode: "cc",
            organization: "Org1MSP",
            certificate: b"none".to_vec(),
            value: b"v".to_vec(),
        }
    }
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

impl Call {
    pub(super) fn envelope(&self) -> Bytes {
        let identity = |mspid: &str, id: &[u8]| {
            bytes(&SerializedIdentity {
                mspid: mspid.to_owned(),
                id_bytes: Bytes::copy_from_slice(id),
            })
        };
        let channel_header = ChannelHeader {
            r#type: 3,
            channel_id: CHANNEL.to_owned(),
            tx_id: self.id.to_owned(),
            timestamp: Some(prost_types::Timestamp {
                seconds: 1_600_000_000,
                nanos: 5,
            }),
            ..ChannelHeader::default()
        };
        let signature_header = SignatureHeader {
            creator: identity(self.organization, &self.certificate),
            nonce: Bytes::new(),
        };
        let header = Some(Header {
            channel_header: bytes(&channel_header),
            signature_header: bytes(&signature_header),
        });
        let payload = ChaincodeActionPayload {
            chaincode_proposal_payload: self.proposal(),
            action: Some(ChaincodeEndorsedAction {
                proposal_response_payload: bytes(&ProposalResponsePayload {
                    proposal_hash: Bytes::new(),
                    extension: self.action(),
                }),
                endorsements: vec![Endorsement {
                    endorser: identity("Org2MSP", b"none"),
                    signature: Bytes::new(),
                }],
            }),
        };
        let data = bytes(&Transaction {
            actions: vec![TransactionAction {
                header: Bytes::new(),
                payload: bytes(&payload),
            }],
        });
        bytes(&Envelope {
            payload: bytes(&Payload { header, data }),
            signature: Bytes::new(),
        })
    }

    fn proposal(&self) -> Bytes {
        let input = ChaincodeInput {
            args: vec!["put".into(), Bytes::from_static(b"\xff")],
            ..ChaincodeInput::default()
        };
        let spec = ChaincodeSpec {
            input: Some(input),
            ..ChaincodeSpec::default()
        };
        bytes(&ChaincodeProposalPayload {
            input: bytes(&ChaincodeInvocationSpec {
                chaincode_spec: Some(spec),
            }),
            ..ChaincodeProposalPayload::default()
        })
    }

    fn action(&self) -> Bytes {
        let write = KvWrite {
            key: "k".to_owned(),
            is_delete: false,
            value: self.value.clone().into(),
        };
        let set = NsReadWriteSet {
            namespace: self.chaincode.to_owned(),
            rwset: bytes(&KvrwSet {
                writes: vec![write],
                ..KvrwSet::default()
            }),
            ..NsReadWriteSet::default()
        };
        bytes(&ChaincodeAction {
            results: bytes(&TxReadWriteSet {
                data_model: 0,
                ns_rwset: vec![set],
            }),
            events: bytes(&ChaincodeEvent {
                chaincode_id: self.chaincode.to_owned(),
                event_name: "was put".to_owned(),
                payload: "there".into(),
                ..ChaincodeEvent::default()
            }),
            chaincode_id: Some(ChaincodeId {
                name: self.chaincode.to_owned(),
                version: "1.0".to_owned(),
                ..ChaincodeId::default()
            }),
            ..ChaincodeAction::default()
        })
    }
}

/// A channel on disk, and the desk in front of it.
pub(crate) struct Scene {
    ledger: Ledger,
    pub(super) height: watch::Sender<u64>,
    desk: Desk,
    _dir: TempDir,
}

impl Scene {
    /// With no block.
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open_with(dir.path(), settings).unwrap();
        let (height, heights) = watch::channel(0);
        let directory = Directory::default();
        let channel = ChannelId::from(CHANNEL);
        directory.open(channel, ledger.reader(), heights, some_vault(), None);
        Self {
            ledger,
            height,
            desk: Desk::new(directory, false),
            _dir: dir,
        }
    }

    pub(crate) fn commit(&mut self, transactions: Vec<Bytes>) {
        let block = made::block_of(self.ledger.tip(), transactions);
        self.ledger.append(&[block]).unwrap();
        self.height.send_replace(self.ledger.height());
    }

    pub(crate) fn served(&self) -> Arc<Served> {
        self.desk.directory.channel(CHANNEL).unwrap()
    }

    /// Two blocks, of one transaction and of two.
    fn small() -> Self {
        let mut scene = Self::new();
        let call = |id| Call {
            id,
            ..Call::default()
        };
        scene.commit(vec![call("a").envelope()]);
        let other = Call {
            chaincode: "other",
            ..call("b")
        };
        let foreign = Call {
            organization: "Org2MSP",
            ..call("c/ö")
        };
        scene.commit(vec![other.envelope(), foreign.envelope()]);
        scene
    }

    fn visit(&self, pipe_len: usize, is_certified: bool) -> Visit {
        let (io, theirs) = duplex(pipe_len);
        let (stop, stopped) = watch::channel(());
        let reception = Reception {
            tls: None,
            only_here: None,
            answers: self.desk.clone(),
            stopped,
        };
        let mut served = JoinSet::new();
        served.spawn(reception.converse(theirs, is_certified));
        Visit {
            io,
            served,
            _stop: stop,
        }
    }

    /// All that comes until the connection ends, which the last request should ask for.
    async fn say(&self, requests: &str, is_certified: bool) -> String {
        let mut visit = self.visit(1 << 20, is_certified);
        visit.io.write_all(requests.as_bytes()).await.unwrap();
        let mut answers = String::new();
        visit.io.read_to_string(&mut answers).await.unwrap();
        answers
    }

    /// Status and body of the answer to one request.
    async fn ask(&self, method: &str, target: &str, headers: &str) -> (u16, Value) {
        let request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.say(&request, true).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Cache-Control: no-store"), "{head}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let text = || Value::from(body);
        (
            status,
            serde_json::from_str(body).unwrap_or_else(|_| text()),
        )
    }

    async fn get(&self, path: &str) -> Value {
        let target = format!("/v1/channels/{CHANNEL}{path}");
        let (status, body) = self.ask("GET", &target, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The lines of a stream that ends by its limit, without data.
    async fn stream(&self, path: &str, headers: &str) -> Vec<String> {
        let target = format!("/v1/channels/{CHANNEL}/events/{path}");
        let (status, body) = self.ask("GET", &target, headers).await;
        let text = body.as_str().unwrap_or_default();
        assert_eq!(status, 200, "{body}");
        let lines = text.lines().filter_map(|line| line.strip_prefix("id: "));
        lines.map(str::to_owned).collect()
    }
}

struct Visit {
    io: DuplexStream,
    served: JoinSet<()>,
    _stop: watch::Sender<()>,
}

#[tokio::test]
async fn blocks_and_transactions_are_found_by_all_their_names() {
    let scene = Scene::small();
    let (_, channels) = scene.ask("GET", "/v1/channels", "").await;
    let channel = scene.get("").await;
    assert_eq!(channels, Value::from(vec![channel.clone()]));
    assert_eq!(
        (&channel["firstBlock"], &channel["height"]),
        (&0.into(), &2.into())
    );
    let newest = scene.get("/blocks/newest").await;
    assert_eq!(newest["number"], 1);
    assert_eq!(newest["hash"], channel["newestHash"]);
    assert_eq!(newest["transactions"][1]["id"], "c/ö");
    assert_eq!(newest, scene.get("/blocks/1").await);
    let hash = newest["hash"].as_str().unwrap();
    let by_hash = format!("/blocks/by-hash/{}", hash.to_uppercase());
    assert_eq!(newest, scene.get(&by_hash).await);
    let found = scene.get("/transactions/c%2F%c3%b6").await;
    assert_eq!(found, newest["transactions"][1]);
    assert_eq!(found["validation"], "NOT_VALIDATED");
    let (status, description) = scene.ask("GET", "/openapi.json", "").await;
    assert_eq!((status, &description["openapi"]), (200, &"3.1.0".into()));
}

#[tokio::test]
async fn what_is_not_good_is_refused_with_a_sentence() {
    let scene = Scene::small();
    let base = format!("/v1/channels/{CHANNEL}");
    let (far, long) = (u64::MAX, "x".repeat(ask::KEY_LEN_MAX + 1));
    let unknown = "0".repeat(64);
    for (target, status, says) in [
        ("/v1/channels/", 404, "no such path"),
        ("/v1/channels/other", 404, "not in a channel other"),
        ("/v1/channels/%ff", 400, "not UTF-8"),
        (
            "/v1/channels?a=1",
            400,
            "a is no parameter of this path, which takes none",
        ),
        ("+/blocks/2", 404, "has 2 blocks"),
        ("+/blocks/-1", 400, "or newest"),
        ("+/blocks/+1", 400, "or newest"),
        (&format!("+/blocks/{far}"), 404, "has 2 blocks"),
        (&format!("+/blocks/{far}0"), 400, "or newest"),
        ("+/blocks/by-hash/00", 400, "64 hex"),
        (&format!("+/blocks/by-hash/{unknown}"), 404, "no block"),
        ("+/transactions/none", 404, "no transaction"),
        (&format!("+/transactions/{long}"), 400, "longer"),
        (
            "+/events/blocks?chaincode=cc",
            400,
            "chaincode is no parameter of this path, which takes after, limit",
        ),
        (
            "+/events/blocks?after=1&after=1",
            400,
            "after is given twice",
        ),
        ("+/events/blocks?after", 400, "or start"),
        ("+/events/blocks?after=0.0", 400, "17, or start"),
        ("+/events/blocks?after=2", 404, "has 2 blocks"),
        ("+/events/blocks?limit=0", 400, "from 1 on"),
        ("+/events/transactions?after=2.0", 404, "beyond"),
        ("+/events/transactions?after=1.2", 404, "cursor 1.2 is none"),
        ("+/events/transactions?after=0.7", 404, "block 0 has 1"),
        ("+/events/transactions?txid=%80", 400, "UTF-8"),
    ] {
        let target = match target.strip_prefix('+') {
            Some(rest) => format!("{base}{rest}"),
            None => target.to_owned(),
        };
        let (found, body) = scene.ask("GET", &target, "").await;
        assert_eq!(found, status, "{target}: {body}");
        let sentence = body["error"].as_str().unwrap();
        assert!(sentence.contains(says), "{target}: {sentence}");
    }
    let events = format!("{base}/events/blocks?after=start");
    for headers in [
        "Last-Event-ID: x\r\n",
        "Last-Event-ID: 0\r\nLast-Event-ID: 0\r\n",
    ] {
        assert_eq!(scene.ask("GET", &events, headers).await.0, 400, "{headers}");
    }
    let odd = format!("{base}/events/blocks?after=x");
    let good = "Last-Event-ID: 0\r\n";
    assert_eq!(
        scene.ask("GET", &odd, good).await.0,
        400,
        "which wins or not"
    );
    let newest = format!("{base}/blocks/newest");
    assert_eq!(Scene::new().ask("GET", &newest, "").await.0, 404);
}

#[tokio::test]
async fn only_get_is_answered_and_one_request_after_the_other() {
    let scene = Scene::small();
    for method in ["HEAD", "OPTIONS", "POST", "DELETE", "PROPFIND"] {
        let request = format!("{method} /v1/channels HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = scene.say(&request, true).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("Allow: GET\r\n"), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), method == "HEAD", "{answer}");
    }
    let two = "GET /v1/channels/mychannel/blocks/0 HTTP/1.1\r\n\r\n\
               GET /v1/channels/mychannel/blocks/9 HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answers = scene.say(two, true).await;
    let (first, second) = (answers.find("HTTP/1.1 200"), answers.find("HTTP/1.1 404"));
    assert!(first == Some(0) && second > first, "{answers}");
}

#[tokio::test]
async fn no_byte_breaks_anything() {
    let scene = Scene::small();
    let end = " HTTP/1.1\r\nConnection: close\r\n\r\n";
    for byte in 0..=u8::MAX {
        let escaped = format!("%{byte:02x}");
        for piece in [&[byte][..], escaped.as_bytes()] {
            for (before, after) in [
                ("", end),
                ("mychannel/transactions/", end),
                ("mychannel/events/blocks?limit=", end),
                ("mychannel/events/transactions?limit=1&after=start&", end),
                (
                    "mychannel/events/blocks HTTP/1.1\r\nLast-Event-ID: ",
                    "\r\n\r\n",
                ),
            ] {
                let before = format!("GET /v1/channels/{before}");
                let request = [before.as_bytes(), piece, after.as_bytes()].concat();
                let mut visit = scene.visit(1 << 20, true);
                visit.io.write_all(&request).await.unwrap();
                // Not to its end, which a stream may not have.
                let mut answer = [0; 10];
                let len = visit.io.read(&mut answer).await.unwrap();
                let status = String::from_utf8_lossy(&answer[..len]).into_owned();
                let is_sane = ["HTTP/1.1 2", "HTTP/1.1 4"].contains(&&*status);
                assert!(is_sane, "{status}: {}", String::from_utf8_lossy(&request));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_left() {
    let mut scene = Scene::small();
    let blocks = "blocks?after=start&limit=2";
    assert_eq!(scene.stream(blocks, "").await, ["start", "0", "1"]);
    let header = "Last-Event-ID: 0\r\n";
    let rest = scene.stream("blocks?after=start&limit=1", header).await;
    assert_eq!(rest, ["0", "1"], "the header wins");
    let none = scene.stream("blocks?after=0&limit=1", "Last-Event-ID:\r\n");
    assert_eq!(none.await, ["0", "1"], "an empty one is none");
    for (query, found) in [
        ("limit=3", &["start", "0.0", "1.0", "1.1"][..]),
        ("limit=1&chaincode=other", &["start", "1.0"]),
        ("limit=1&organization=Org2MSP", &["start", "1.1"]),
        ("limit=2&chaincode=cc", &["start", "0.0", "1.1"]),
        ("limit=1&txid=c/%C3%B6&chaincode=cc", &["start", "1.1"]),
    ] {
        let path = format!("transactions?after=start&{query}");
        assert_eq!(scene.stream(&path, "").await, found, "{query}");
    }
    let path = "transactions?after=1.0&limit=1";
    assert_eq!(scene.stream(path, "").await, ["1.0", "1.1"]);
    let foreign = "/v1/channels/mychannel/events/transactions?after=1.0";
    let (status, body) = scene.ask("GET", foreign, "Last-Event-ID: 1.2\r\n").await;
    assert_eq!(status, 404, "{body}");
    // From now on, and beyond what was there when it was asked.
    let mut visit = scene.visit(1 << 20, true);
    let request = "GET /v1/channels/mychannel/events/transactions HTTP/1.1\r\n\r\n";
    visit.io.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.contains("id: 1\n\n") {
        heard.push(char::from(visit.io.read_u8().await.unwrap()));
    }
    scene.commit(vec![Call::default().envelope()]);
    while !heard.contains("id: 2.0\n") {
        heard.push(char::from(visit.io.read_u8().await.unwrap()));
    }
    // The channel is left: the stream ends.
    drop(scene);
    visit.io.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("\r\n0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn without_certificate_only_the_description_is_shown_where_one_is_needed() {
    let mut scene = Scene::small();
    scene.desk.needs_certificate = true;
    for (target, is_certified, status) in [
        ("/openapi.json", false, "200"),
        ("/v1/channels", false, "403"),
        ("/v1/channels/mychannel/blocks/%ff?x", false, "403"),
        ("/v1/channels/mychannel/events/blocks", false, "403"),
        ("/v1/channels", true, "200"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = scene.say(&request, is_certified).await;
        assert_eq!(&answer[9..12], status, "{target}: {answer}");
    }
}

#[test]
fn the_description_has_every_path_parameter_and_status_and_no_other() {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let resolved = |value: &Value| {
        match value["$ref"].as_str() {
            Some(place) => description.pointer(place.trim_start_matches('#')).unwrap(),
            None => value,
        }
        .clone()
    };
    let described = description["paths"].as_object().unwrap();
    let mut paths: Vec<_> = ask::PAGES.iter().map(|(_, path, _)| *path).collect();
    paths.sort_unstable();
    assert!(described.keys().eq(paths.iter()), "{paths:?}");
    for (page, path, parameters) in ask::PAGES {
        let operation = &described[path]["get"];
        let statuses = operation["responses"].as_object().unwrap();
        let known: Vec<_> = page.statuses().iter().map(u16::to_string).collect();
        assert!(statuses.keys().eq(known.iter()), "{path}");
        let mut names: Vec<String> = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(parameter);
            let name = parameter["name"].as_str().unwrap();
            match parameter["in"].as_str().unwrap() {
                "path" => assert!(path.contains(&format!("{{{name}}}")), "{path} {name}"),
                "query" => names.push(name.to_owned()),
                place => assert_eq!((place, name), ("header", "Last-Event-ID")),
            }
        }
        assert_eq!(names, parameters, "{path}");
    }
}
