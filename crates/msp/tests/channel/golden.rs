//! What real peers recorded: every block, hash and identity of `../shared/fixtures`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use tidings_msp::{
    block,
    channel_config::{AnchorPeer, ChannelConfig, ConsensusType},
    crypto::{PrivateKey, sha256},
    msp::{Msp, MspVersion},
    services::{CryptoServices, Voucher},
    verify_block::verify_block,
};
use tidings_proto::{
    block::BlockView,
    common::{ConfigEnvelope, Envelope, Metadata, Payload},
    msp::{FabricMspConfig, MspConfig, SerializedIdentity},
};

fn fixtures(what: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/fixtures"
    ));
    if folder.exists() {
        return Some(folder.to_owned());
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("SKIPPED: ../shared is not here: {what}\n"),
    );
    None
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn bytes(path: PathBuf) -> Bytes {
    fs::read(path).unwrap().into()
}

/// The configurations after blocks 0, 1 and 2.
fn configurations(folder: &Path) -> Vec<ChannelConfig> {
    let block = |number: u8| bytes(folder.join(format!("blocks/ordered_{number:02}.pb")));
    let genesis = ChannelConfig::from_config_block(&block(0)).unwrap();
    let first = genesis.apply(&block(1)).unwrap();
    let second = first.apply(&block(2)).unwrap();
    vec![genesis, first, second]
}

/// What our verdict must say where Go's says this.
fn meaning(go: &str) -> &'static str {
    let known = [
        (
            "implicit policy evaluation failed - 0 sub-policies",
            "0 sub-policies 'Writers'",
        ),
        (
            "Claimed seqNum is [5] but actual",
            "claimed number is 5 but the number inside",
        ),
        (
            "Header.DataHash is different",
            "data hash in the header is not the hash",
        ),
        ("does not have metadata", "has no metadata"),
    ];
    known
        .iter()
        .find(|(text, _)| go.contains(text))
        .unwrap_or_else(|| panic!("new: {go}"))
        .1
}

fn check(config: &ChannelConfig, claimed: u64, block: &Bytes, go: &Value, what: &str) {
    let verdict = verify_block(config, "mychannel", claimed, block);
    match (verdict, go.as_str()) {
        (Ok(_), None) => assert!(go.is_null(), "{what}"),
        (Err(ours), Some(go)) => {
            assert!(
                ours.to_string().contains(meaning(go)),
                "{what}: {ours}, Go says {go}"
            );
        }
        (ours, go) => panic!("{what}: {ours:?}, Go says {go:?}"),
    }
}

#[test]
fn every_recorded_block_has_go_s_verdict() {
    let Some(folder) = fixtures("verdicts on recorded blocks") else {
        return;
    };
    let expected = json(folder.join("blocks/expected.json"));
    let configurations = configurations(&folder);
    let blocks = expected["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 20);
    for each in blocks {
        let number = each["number"].as_u64().unwrap();
        for (file, verdict) in [
            ("file", "verify_block_error"),
            ("from_orderer_file", "verify_block_error_as_ordered"),
        ] {
            let file = each[file].as_str().unwrap();
            let block = bytes(folder.join("blocks").join(file));
            // Go judged under the genesis configuration; the later ones say the same.
            for config in &configurations {
                let what = format!("{file} at sequence {}", config.sequence());
                check(config, number, &block, &each[verdict], &what);
            }
        }
    }
}

#[test]
fn every_altered_block_has_go_s_verdict() {
    let Some(folder) = fixtures("verdicts on altered blocks") else {
        return;
    };
    let expected = json(folder.join("blocks/expected.json"));
    let genesis = &configurations(&folder)[0];
    let altered = expected["altered"].as_array().unwrap();
    assert_eq!(altered.len(), 8);
    for each in altered {
        let file = each["file"].as_str().unwrap();
        let block = bytes(folder.join("blocks").join(file));
        let claimed = each["claimed_number"].as_u64().unwrap();
        check(genesis, claimed, &block, &each["verify_block_error"], file);
    }
}

#[test]
fn hashes_and_facts_are_those_that_go_computed() {
    let Some(folder) = fixtures("hashes of recorded blocks") else {
        return;
    };
    let expected = json(folder.join("blocks/expected.json"));
    let genesis = &configurations(&folder)[0];
    for each in expected["blocks"].as_array().unwrap() {
        let number = each["number"].as_u64().unwrap();
        let bytes = bytes(folder.join("blocks").join(each["file"].as_str().unwrap()));
        let view = BlockView::parse(bytes.clone()).unwrap();
        let header = view.header().unwrap();
        let hash = block::header_hash(number, &header.previous_hash, &header.data_hash);
        assert_eq!(hex::encode(hash), each["header_hash"].as_str().unwrap());
        let data_hash = hex::encode(block::data_hash(&view));
        assert_eq!(data_hash, each["data_hash_computed"].as_str().unwrap());
        assert_eq!(
            block::last_config_index(&view),
            each["last_config_index"].as_u64()
        );
        if number == 0 {
            continue;
        }
        let facts = verify_block(genesis, "mychannel", number, &bytes).unwrap();
        assert_eq!((facts.number, facts.header_hash), (number, hash));
        assert_eq!(
            hex::encode(&facts.previous_hash),
            each["previous_hash"].as_str().unwrap()
        );
        assert_eq!(
            hex::encode(&facts.data_hash),
            each["data_hash"].as_str().unwrap()
        );
        assert_eq!(facts.last_config_index, each["last_config_index"].as_u64());
        let transactions = each["transactions"].as_array().unwrap();
        assert_eq!(facts.transactions, transactions.len());
        assert_eq!(facts.is_config, transactions[0]["type"] == "CONFIG");
    }
}

#[test]
fn orderers_signed_the_bytes_that_go_says() {
    let Some(folder) = fixtures("signed bytes of recorded blocks") else {
        return;
    };
    let expected = json(folder.join("blocks/expected.json"));
    let mut seen = 0;
    for each in expected["blocks"].as_array().unwrap() {
        let Some(signatures) = each["orderer_signatures"].as_array() else {
            continue;
        };
        let bytes = bytes(folder.join("blocks").join(each["file"].as_str().unwrap()));
        let view = BlockView::parse(bytes).unwrap();
        let metadata = Metadata::decode(view.metadata().next().unwrap()).unwrap();
        for (ours, go) in metadata.signatures.iter().zip(signatures) {
            let asn1 = view.header_asn1().unwrap();
            let signed = [&metadata.value[..], &ours.signature_header[..], &asn1[..]].concat();
            assert_eq!(
                go["signed_bytes_len"].as_u64(),
                u64::try_from(signed.len()).ok()
            );
            let hash = hex::encode(sha256(&signed));
            assert_eq!(hash, go["signed_bytes_sha256"].as_str().unwrap());
            seen += 1;
        }
    }
    assert_eq!(seen, 19);
}

#[test]
fn the_recorded_configuration_reads_as_it_was_made() {
    let Some(folder) = fixtures("the recorded genesis block and its updates") else {
        return;
    };
    let configurations = configurations(&folder);
    let sequences: Vec<_> = configurations.iter().map(ChannelConfig::sequence).collect();
    let [genesis, first, second] = &configurations[..] else {
        panic!("three configurations")
    };
    assert_eq!(sequences[1..], [sequences[0] + 1, sequences[0] + 2]);
    let organizations = |config: &ChannelConfig| -> Vec<_> {
        config
            .application_organizations()
            .values()
            .map(|each| (each.msp_id.clone(), each.anchors.clone()))
            .collect()
    };
    let anchors = |config| -> Vec<usize> {
        organizations(config)
            .iter()
            .map(|(_, anchors)| anchors.len())
            .collect()
    };
    assert_eq!(genesis.channel_id(), "mychannel");
    let ids: Vec<_> = organizations(genesis)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, ["Org1MSP", "Org2MSP"]);
    assert_eq!(anchors(genesis), [0, 0]);
    assert_eq!(anchors(first).iter().sum::<usize>(), 1);
    assert_eq!(anchors(second), [1, 1]);
    for (_, anchors) in organizations(second) {
        let [AnchorPeer { host, port }] = &anchors[..] else {
            panic!("one anchor each")
        };
        assert!(!host.is_empty() && *port != 0);
    }
    assert_eq!(genesis.consensus(), &ConsensusType::EtcdRaft);
    let endpoints = genesis.orderer_endpoints();
    assert_eq!(endpoints.len(), 1);
    assert!(!endpoints[0].addresses.is_empty());
    let tls_ca = folder.join("crypto/ordererOrganizations/orderer.test/msp/tlscacerts");
    assert_eq!(
        endpoints[0].tls_roots,
        [der(&tls_ca.join("tlsca.orderer.test-cert.pem"))]
    );
    let roots = ["org1.test", "org2.test"].map(|org| {
        let path = format!("crypto/peerOrganizations/{org}/msp/tlscacerts/tlsca.{org}-cert.pem");
        der(&folder.join(path))
    });
    assert_eq!(genesis.application_tls_roots(), roots);
    // An update does not apply twice, nor before its turn.
    let block = |number: u8| bytes(folder.join(format!("blocks/ordered_{number:02}.pb")));
    assert!(first.apply(&block(1)).is_err());
    assert!(genesis.apply(&block(2)).is_err());
    // Applying the update in a served block, whose unsigned metadata differs, is the same.
    let served = bytes(folder.join("blocks/block_01.pb"));
    assert_eq!(genesis.apply(&served).unwrap().group(), first.group());
}

fn der(pem: &Path) -> Bytes {
    let text = fs::read_to_string(pem).unwrap();
    let base64: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    BASE64_STANDARD.decode(base64).unwrap().into()
}

/// Services as the recorded peer of Org1 had them.
fn services(folder: &Path) -> CryptoServices {
    let config = configurations(folder).remove(0);
    let definition = local_definition(folder);
    let local = Msp::from_config(&definition, MspVersion::V3_0).unwrap();
    let peer = folder.join("crypto/peerOrganizations/org1.test/peers/peer0.org1.test/msp");
    let certificate = fs::read(peer.join("signcerts/peer0.org1.test-cert.pem")).unwrap();
    let key = PrivateKey::from_pem(&fs::read(peer.join("keystore/priv_sk")).unwrap()).unwrap();
    let signer = local.signing_identity(&certificate, key, 0).unwrap();
    let services = CryptoServices::new(Arc::new(local), Arc::new(signer));
    services.with_channel(Arc::new(config))
}

/// Org1's MSP as its own members have it: the same material as in the channel.
fn local_definition(folder: &Path) -> FabricMspConfig {
    let genesis = BlockView::parse(bytes(folder.join("blocks/ordered_00.pb"))).unwrap();
    let envelope = Envelope::decode(genesis.transactions().next().unwrap()).unwrap();
    let payload = Payload::decode(envelope.payload).unwrap();
    let config = ConfigEnvelope::decode(payload.data)
        .unwrap()
        .config
        .unwrap();
    let application = &config.channel_group.unwrap().groups["Application"];
    application
        .groups
        .values()
        .map(|group| {
            MspConfig::decode(group.values["MSP"].value.as_ref())
                .unwrap()
                .config
        })
        .map(|config| FabricMspConfig::decode(config).unwrap())
        .find(|config| config.name == "Org1MSP")
        .unwrap()
}

#[test]
fn recorded_identities_have_go_s_verdicts() {
    let Some(folder) = fixtures("recorded identities") else {
        return;
    };
    let services = services(&folder);
    let expected = json(folder.join("identities.json"));
    let identities = expected["identities"].as_array().unwrap();
    assert!(identities.len() >= 6);
    for each in identities {
        let name = each["name"].as_str().unwrap();
        let identity = BASE64_STANDARD
            .decode(each["serialized_identity"].as_str().unwrap())
            .unwrap();
        let pki_id = services.pki_id_of(&identity).map(hex::encode);
        assert_eq!(pki_id.as_deref(), each["pki_id"].as_str(), "{name}");
        let org = services.org_by_peer_identity(&identity);
        assert_eq!(
            org.as_deref(),
            each["org_by_peer_identity"].as_str(),
            "{name}"
        );
        let resolved = services.validate_identity(&identity);
        let go = &each["validate_identity_error"];
        assert_eq!(
            resolved.is_ok(),
            go.is_null(),
            "{name}: {resolved:?}, Go says {go}"
        );
        let Ok(resolved) = resolved else { continue };
        let local = each["msp_id"] == "Org1MSP";
        assert_eq!(
            resolved.voucher == Voucher::OwnOrganization,
            local,
            "{name}"
        );
        let expires = time::OffsetDateTime::parse(
            each["expires"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        );
        let expires = expires.unwrap().unix_timestamp();
        assert_eq!(services.expiration(&identity), Ok(expires), "{name}");
        let reader = services.check_reader("mychannel", &identity);
        let peer_organization = each["msp_id"] != "OrdererMSP";
        assert_eq!(reader.is_ok(), peer_organization, "{name}: {reader:?}");
    }
}

#[test]
fn recorded_members_sign_and_are_believed() {
    let Some(folder) = fixtures("signing as a recorded peer") else {
        return;
    };
    let services = services(&folder);
    let own = services.signer().serialized().clone();
    let signature = services.sign(b"message").unwrap();
    assert_eq!(services.verify(&own, &signature, b"message"), Ok(()));
    assert_eq!(
        services.verify_by_channel("mychannel", &own, &signature, b"message"),
        Ok(())
    );
    assert!(services.verify(&own, &signature, b"massage").is_err());
    let parsed = SerializedIdentity::decode(own).unwrap();
    assert_eq!(parsed.mspid, "Org1MSP");
    // A member of Org2 is believed through the channel.
    let peer = folder.join("crypto/peerOrganizations/org2.test/peers/peer0.org2.test/msp");
    let key = PrivateKey::from_pem(&fs::read(peer.join("keystore/priv_sk")).unwrap()).unwrap();
    let other = SerializedIdentity {
        mspid: "Org2MSP".into(),
        id_bytes: fs::read(peer.join("signcerts/peer0.org2.test-cert.pem"))
            .unwrap()
            .into(),
    };
    let (other, signature) = (other.encode_to_vec(), key.sign(b"message").unwrap());
    assert_eq!(services.verify(&other, &signature, b"message"), Ok(()));
    assert!(services.verify(&other, &signature, b"massage").is_err());
}
