//! Handshakes between Go peers, as they were recorded, and one of our own over real sockets.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use tidings_gossip::{
    PeerIdentity,
    effect::Destination,
    id::{OrgId, PkiId},
};
use tidings_msp::{certificate::Certificate, crypto::HashFamily};
use tidings_proto::{
    gossip::{ConnEstablish, Envelope},
    msp::SerializedIdentity,
};
use tokio::{net::TcpListener, time::timeout};

use super::toy::{World, hello, identity};
use crate::{
    comm::{
        Authenticator, Refused,
        handshake::{Presented, conclude},
    },
    tls::TcpDial,
};

/// Checks what Go signed, but not who vouches for it.
struct Recorded;

impl Authenticator for Recorded {
    fn own_handshake(&self, _: Option<[u8; 32]>, _: bool) -> Envelope {
        panic!("nothing is said here")
    }

    fn authenticate(
        &self,
        handshake: &Envelope,
        claim: &ConnEstablish,
    ) -> Result<Arc<PeerIdentity>, Refused> {
        let bad = || Refused::Identity("unreadable".to_owned());
        let parts = SerializedIdentity::decode(claim.identity.clone())
            .ok()
            .ok_or_else(bad)?;
        let certificate = Certificate::from_pem(&parts.id_bytes)
            .ok()
            .ok_or_else(bad)?;
        certificate
            .public_key()
            .verify(HashFamily::Sha2, &handshake.payload, &handshake.signature)
            .map_err(|refused| Refused::Signature(refused.to_string()))?;
        let pki_id = tidings_msp::identity::pki_id(&claim.identity).ok_or_else(bad)?;
        Ok(Arc::new(PeerIdentity {
            pki_id: PkiId::new(pki_id),
            org: OrgId::from(parts.mspid.as_str()),
            serialized: claim.identity.clone(),
            expires_at: certificate.not_after(),
        }))
    }

    fn org(&self, _: &PkiId) -> Option<OrgId> {
        None
    }
}

fn bytes(line: &Value, field: &str) -> Bytes {
    let text = line.get(field).and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).unwrap().into()
}

#[test]
fn recorded_handshakes_of_go_peers_are_accepted_and_altered_ones_are_not() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/wire");
    if !Path::new(fixtures).is_dir() {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: ../shared is not here: handshakes recorded between Go peers\n"),
        );
        return;
    }
    let files = ["vectors.jsonl", "sequence_peer0.org1.jsonl"];
    let read = |file| fs::read_to_string(Path::new(fixtures).join(file)).unwrap();
    let mut seen = 0;
    for line in files.map(read).iter().flat_map(|text| text.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["type"] != "Conn" || line["direction"] != "received" {
            continue;
        }
        seen += 1;
        let envelope = Envelope::signed(bytes(&line, "payload"), bytes(&line, "signature"));
        let mut shown = [0; 32];
        hex::decode_to_slice(line["remote_tls_cert_hash"].as_str().unwrap(), &mut shown).unwrap();
        let presented = Presented::Certificate(shown);
        let found = conclude(envelope.clone(), presented, &Recorded).unwrap();
        assert_eq!(found.handshake, envelope);
        assert!(["Org1MSP", "Org2MSP"].contains(&found.identity.org.as_str()));

        shown[0] ^= 1;
        let refused = conclude(envelope.clone(), Presented::Certificate(shown), &Recorded);
        assert_eq!(refused.unwrap_err(), Refused::TlsHash);
        let mut altered = envelope.payload.to_vec();
        // The tag is not looked at, but it is signed.
        altered[1] ^= 2;
        let altered = Envelope::signed(altered.into(), envelope.signature);
        let refused = conclude(altered, presented, &Recorded).unwrap_err();
        assert!(matches!(refused, Refused::Signature(_)), "{refused}");
    }
    assert!(seen >= 4, "only {seen} handshakes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_talk_over_real_sockets() {
    let world = World::new();
    let mut nodes = Vec::new();
    for name in ["one/a", "two/d"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let tls = Some(world.ca.tls("127.0.0.1"));
        nodes.push((
            world.node_on(name, tls, listener, Arc::new(TcpDial)),
            endpoint,
        ));
    }
    let (mut d, there) = nodes.pop().unwrap();
    let (mut a, _) = nodes.pop().unwrap();
    let talk = async {
        let to = Destination {
            peer: identity("two/d").pki_id,
            endpoint: there,
        };
        for number in 0..100 {
            a.comm.handle().send(to.clone(), hello(number));
        }
        for number in 0..100 {
            let (from, envelope) = d.message().await;
            assert_eq!(envelope, hello(number));
            d.comm.handle().reply(from.id, hello(1000 + number));
        }
        for number in 0..100 {
            assert_eq!(a.message().await.1, hello(1000 + number));
        }
        tokio::join!(a.comm.stop(), d.comm.stop());
    };
    timeout(Duration::from_secs(60), talk).await.unwrap();
}
