//! What is written of blocks, whole and odd, with room and without.

use serde_json::{Value, json};
use tidings_ledger::Ledger;

use super::*;
use crate::{
    tls::tests::certificates::Authority,
    web::tests::{CHANNEL, Call, made},
};

fn view(transactions: Vec<Bytes>) -> BlockView {
    let dir = tempfile::tempdir().unwrap();
    made::block_of(Ledger::open(dir.path()).unwrap().tip(), transactions)
}

fn written(view: &BlockView, len_max: usize) -> Value {
    let mut out = Json::new(len_max);
    block(&mut out, CHANNEL, view, vec![0; view.transactions_len()]).unwrap();
    serde_json::from_slice(&out.finish()).unwrap()
}

#[test]
fn a_transaction_is_told_whole() {
    let certificate = Authority::new("clients").issue("somebody").certificate;
    let call = Call {
        certificate,
        ..Call::default()
    };
    let block = written(&view(vec![call.envelope()]), 1 << 20);
    assert_eq!(
        block["transactions"],
        json!([{
            "block": 0,
            "position": 0,
            "validation": "VALID",
            "id": "an id",
            "type": "ENDORSER_TRANSACTION",
            "timestamp": "2020-09-13T12:26:40.000000005Z",
            "creator": {"mspId": "Org1MSP", "subject": "CN=somebody"},
            "chaincode": "cc",
            "chaincodeVersion": "1.0",
            "arguments": [{"base64": "cHV0", "text": "put"}, {"base64": "/w=="}],
            "endorsers": ["Org2MSP"],
            "namespaces": [{
                "name": "cc",
                "writes": [{
                    "key": "k",
                    "isDelete": false,
                    "value": {"base64": "dg==", "text": "v"},
                }],
                "collections": [],
            }],
            "event": {"name": "was put", "payload": {"base64": "dGhlcmU=", "text": "there"}},
        }])
    );
    assert_eq!(block["transactionCount"], 1);
    assert_eq!(block["transactionsLeftOut"], 0);
}

#[test]
fn what_cannot_be_read_is_said_so_in_its_place() {
    let empty = made::transaction("b".to_owned(), 3, b'\xff');
    let block = written(&view(vec!["?".into(), empty, Bytes::new()]), 1 << 20);
    let transactions = block["transactions"].as_array().unwrap();
    assert!(
        transactions
            .iter()
            .all(|each| each["unreadable"].is_string())
    );
    assert_eq!(transactions[1]["id"], "b");
    assert_eq!(transactions[2]["position"], 2);
}

#[test]
fn certificates_are_looked_into_up_to_a_length() {
    let mut certificate = Authority::new("clients").issue("somebody").certificate;
    certificate.resize(CERTIFICATE_LEN_MAX, b'\n');
    let subject = |certificate: Vec<u8>| {
        let call = Call {
            certificate,
            ..Call::default()
        };
        written(&view(vec![call.envelope()]), 1 << 20)["transactions"][0]["creator"].clone()
    };
    assert_eq!(subject(certificate.clone())["subject"], "CN=somebody");
    certificate.push(b'\n');
    let longer = json!({"mspId": "Org1MSP", "subject": null});
    assert_eq!(subject(certificate), longer);
}

#[test]
fn whatever_room_there_is_the_rest_is_counted() {
    let call = Call {
        value: vec![b'v'; 300],
        ..Call::default()
    };
    let view = view(vec![call.envelope(); 5]);
    let whole = written(&view, 1 << 20).to_string().len() + END_LEN;
    let (mut shortest, mut seen) = (5, [false; 6]);
    for room in (400..=whole).rev() {
        let block = written(&view, room);
        let transactions = block["transactions"].as_array().unwrap();
        let left_out = block["transactionsLeftOut"].as_u64().unwrap();
        assert_eq!(transactions.len() as u64 + left_out, 5, "{room}");
        let full = transactions.iter().filter(|each| each["leftOut"].is_null());
        let full = full.count();
        assert!(full <= shortest, "{room}");
        shortest = full;
        seen[full] = true;
    }
    assert_eq!(seen, [true; 6], "each number of whole transactions");
}
