//! Identities, signatures and MSP folders recorded from Go peers, and Go's verdicts on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::Value;
use tidings_msp::crypto::{PrivateKey, SignatureRefused};
use tidings_msp::folder::{CONFIG_FILE, LocalMsp, MspFolder, NamedFile, SUB_FOLDERS};
use tidings_msp::folder::{LocalMspRefused, referenced_files};
use tidings_msp::identity::{SigningIdentityRefused, pki_id};
use tidings_msp::msp::{IdentityRefused, Msp, MspManager, MspVersion};
use tidings_proto::common::msp_role::MspRoleType;
use tidings_proto::common::{
    Block, ConfigEnvelope, ConfigGroup, Envelope, MspPrincipal, MspRole, Payload,
};
use tidings_proto::msp::{FabricMspConfig, MspConfig};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
/// A moment at which the recorded certificates are valid: 2027.
const NOW: i64 = 1_800_000_000;

fn fixtures(untested: &str) -> Option<PathBuf> {
    let path = PathBuf::from(FIXTURES);
    if path.is_dir() {
        return Some(path);
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("SKIPPED: ../shared is not here: {untested}\n"),
    );
    None
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a fixture")).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a string")
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    STANDARD.decode(text(value, key)).expect("base64")
}

fn read_folder(path: &Path) -> MspFolder {
    let mut folder = MspFolder {
        place: path.display().to_string(),
        ..MspFolder::default()
    };
    for name in SUB_FOLDERS {
        let Ok(entries) = fs::read_dir(path.join(name)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("an entry");
            let name_of_file = entry.file_name().into_string().expect("UTF-8");
            let content = fs::read(entry.path()).expect("a file");
            let files = folder.files_mut(name).expect("a known folder");
            files.push(NamedFile {
                name: name_of_file,
                content,
            });
        }
    }
    if let Ok(yaml) = fs::read(path.join(CONFIG_FILE)) {
        for file in referenced_files(&folder.place, &yaml).expect("a good file") {
            folder
                .referenced
                .insert(file.clone(), fs::read(path.join(&file)).expect("a file"));
        }
        folder.config_yaml = Some(yaml);
    }
    folder
}

fn organizations(root: &Path) -> MspManager {
    let orgs = [
        ("Org1MSP", "peerOrganizations/org1.test"),
        ("Org2MSP", "peerOrganizations/org2.test"),
        ("OrdererMSP", "ordererOrganizations/orderer.test"),
    ];
    let msps = orgs.map(|(id, place)| {
        let (config, warnings) = read_folder(&root.join("crypto").join(place).join("msp"))
            .config(id)
            .expect("an MSP");
        assert_eq!(warnings, []);
        Msp::from_config(&config, MspVersion::V3_0).expect("a good MSP")
    });
    MspManager::new(msps.into()).expect("three MSPs")
}

#[test]
fn identities_are_what_go_says() {
    let Some(root) = fixtures("PKI-IDs, expiry and validity of recorded identities") else {
        return;
    };
    let orgs = organizations(&root);
    let recorded = json(root.join("identities.json"));
    for one in recorded["identities"].as_array().expect("a list") {
        let name = text(one, "name");
        let serialized = bytes(one, "serialized_identity");
        let id = pki_id(&serialized).expect("an identity");
        assert_eq!(hex::encode(id), text(one, "pki_id"), "{name}");
        let identity = orgs.deserialize(&serialized).expect("a known MSP");
        assert_eq!(
            &**identity.msp_id(),
            text(one, "org_by_peer_identity"),
            "{name}"
        );
        assert_eq!(identity.serialized(), &serialized, "{name}");
        let ends = time::OffsetDateTime::parse(
            text(one, "expires"),
            &time::format_description::well_known::Rfc3339,
        );
        assert_eq!(
            identity.expires_at(),
            ends.expect("a date").unix_timestamp(),
            "{name}"
        );
        assert!(one["validate_identity_error"].is_null(), "{name}");
        assert_eq!(orgs.validate(&identity), Ok(()), "{name}");
        let msp = orgs.msp(identity.msp_id()).expect("its MSP");
        assert_eq!(msp.check_well_formed(&serialized), Ok(()), "{name}");
        // Cryptogen's certificates are canonical, so writing them gives the same bytes.
        let pem = identity.certificate().to_pem();
        assert!(serialized.ends_with(pem.as_bytes()), "{name}");
    }
}

#[test]
fn identities_have_the_roles_that_cryptogen_gave_them() {
    let Some(root) = fixtures("roles of recorded identities") else {
        return;
    };
    let orgs = organizations(&root);
    let recorded = json(root.join("identities.json"));
    for one in recorded["identities"].as_array().expect("a list") {
        let name = text(one, "name");
        let identity = orgs
            .deserialize(&bytes(one, "serialized_identity"))
            .expect("an identity");
        let roles: Vec<MspRoleType> = [
            MspRoleType::Member,
            MspRoleType::Admin,
            MspRoleType::Client,
            MspRoleType::Peer,
            MspRoleType::Orderer,
        ]
        .into_iter()
        .filter(|role| {
            let wanted = MspRole {
                msp_identifier: identity.msp_id().to_string(),
                role: *role as i32,
            };
            let principal = MspPrincipal {
                principal_classification: 0,
                principal: wanted.encode_to_vec().into(),
            };
            orgs.satisfies(&identity, &principal).is_ok()
        })
        .collect();
        let own = match name.split('@').next() {
            Some("Admin") => MspRoleType::Admin,
            Some("User1") => MspRoleType::Client,
            _ => MspRoleType::Peer,
        };
        assert_eq!(roles, [MspRoleType::Member, own], "{name}");
    }
}

#[test]
fn i_s4_the_orderers_msp_does_not_know_a_peer() {
    let Some(root) = fixtures("a recorded identity at another organization's MSP") else {
        return;
    };
    let orgs = organizations(&root);
    let orderer = orgs.msp("OrdererMSP").expect("it is there");
    let recorded = json(root.join("identities.json"));
    let serialized = bytes(&recorded["identities"][0], "serialized_identity");
    let refused = orderer.deserialize(&serialized).err();
    let (expected, got) = ("OrdererMSP".to_owned(), "Org1MSP".to_owned());
    assert_eq!(refused, Some(IdentityRefused::OtherMsp { expected, got }));
    // The same certificate under the orderer's name is not its CA's.
    let parsed = tidings_proto::msp::SerializedIdentity::decode(serialized.as_slice());
    let mut parsed = parsed.expect("an identity");
    parsed.mspid = "OrdererMSP".to_owned();
    let refused = orderer.deserialize(&parsed.encode_to_vec()).err();
    assert!(
        matches!(refused, Some(IdentityRefused::Chain(_))),
        "{refused:?}"
    );
}

#[test]
fn signatures_have_gos_verdict() {
    let Some(root) = fixtures("Go's verdict on recorded signatures") else {
        return;
    };
    let orgs = organizations(&root);
    let recorded = json(root.join("signatures.json"));
    let vectors = recorded["vectors"].as_array().expect("a list");
    assert!(!vectors.is_empty());
    for vector in vectors {
        let name = text(vector, "name");
        let identity = orgs
            .deserialize(&bytes(vector, "identity"))
            .expect("an identity");
        let verdict = identity.verify(&bytes(vector, "message"), &bytes(vector, "signature"));
        assert_eq!(
            verdict.is_ok(),
            vector["valid"].as_bool().expect("a verdict"),
            "{name}"
        );
        if vector["low_s"] == false && name.ends_with("high_s") {
            assert_eq!(verdict, Err(SignatureRefused::HighS), "{name}");
        }
    }
}

#[test]
fn every_node_folder_makes_a_signer() {
    let Some(root) = fixtures("recorded MSP folders") else {
        return;
    };
    let orgs = organizations(&root);
    let recorded = json(root.join("identities.json"));
    for one in recorded["identities"].as_array().expect("a list") {
        let name = text(one, "name");
        let folder = read_folder(&root.join(text(one, "msp_dir")));
        let local = LocalMsp::set_up(text(one, "msp_id"), &folder, MspVersion::V3_0, NOW);
        let LocalMsp {
            msp,
            signer,
            warnings,
        } = local.expect("a good folder");
        assert_eq!(warnings, [], "{name}");
        assert_eq!(hex::encode(signer.pki_id()), text(one, "pki_id"), "{name}");
        assert_eq!(
            signer.serialized(),
            &bytes(one, "serialized_identity"),
            "{name}"
        );
        let signature = signer.sign(name.as_bytes()).expect("a signature");
        let identity = orgs.deserialize(signer.serialized()).expect("known");
        assert_eq!(
            identity.verify(name.as_bytes(), &signature),
            Ok(()),
            "{name}"
        );
        assert_eq!(&**msp.id(), text(one, "msp_id"));
        assert_eq!(msp.tls_roots().len(), 1);
    }
}

#[test]
fn an_expired_own_certificate_is_refused() {
    let Some(root) = fixtures("a recorded folder after its certificate's end") else {
        return;
    };
    let recorded = json(root.join("identities.json"));
    let folder = read_folder(&root.join(text(&recorded["identities"][0], "msp_dir")));
    let set_up = |now| LocalMsp::set_up("Org1MSP", &folder, MspVersion::V3_0, now);
    let end = set_up(NOW).expect("valid now").signer.not_after();
    assert!(set_up(end - 1).is_ok());
    let refused = set_up(end).expect_err("ended");
    let expired = matches!(
        refused,
        LocalMspRefused::Signer {
            reason: SigningIdentityRefused::Expired { .. },
            ..
        }
    );
    assert!(expired, "{refused}");
}

#[test]
fn keys_are_named_by_the_hash_of_their_point() {
    let Some(root) = fixtures("key identifiers of recorded keys") else {
        return;
    };
    let recorded = json(root.join("identities.json"));
    let folder = read_folder(&root.join(text(&recorded["identities"][0], "msp_dir")));
    let key = PrivateKey::from_pem(&folder.keystore[0].content).expect("a key");
    let again = PrivateKey::from_pem(key.to_pkcs8_pem().expect("PEM").as_bytes()).expect("a key");
    assert_eq!(key.public_key(), again.public_key());
    assert_eq!(key.ski(), again.ski());
}

#[test]
fn folders_give_the_configuration_that_the_genesis_block_carries() {
    let Some(root) = fixtures("MSP configurations of the recorded genesis block") else {
        return;
    };
    let block = fs::read(root.join("genesis.block")).expect("a block");
    let block = Block::decode(block.as_slice()).expect("a block");
    let envelope = block.data.expect("data").data[0].clone();
    let payload = Envelope::decode(envelope).expect("an envelope").payload;
    let data = Payload::decode(payload).expect("a payload").data;
    let config = ConfigEnvelope::decode(data)
        .expect("a configuration")
        .config;
    let group = config
        .expect("a configuration")
        .channel_group
        .expect("the channel");
    let mut found = BTreeMap::new();
    collect(&group, &mut found);
    let places = [
        ("Org1MSP", "peerOrganizations/org1.test"),
        ("Org2MSP", "peerOrganizations/org2.test"),
        ("OrdererMSP", "ordererOrganizations/orderer.test"),
    ];
    assert_eq!(found.len(), places.len());
    for (id, place) in places {
        let folder = read_folder(&root.join("crypto").join(place).join("msp"));
        let (ours, _) = folder.config(id).expect("an MSP");
        assert_eq!(Some(&ours), found.get(id), "{id}");
        let msp = Msp::from_config(&ours, MspVersion::V1_4_3).expect("a good MSP");
        assert_eq!(&**msp.id(), id);
    }
}

fn collect(group: &ConfigGroup, found: &mut BTreeMap<String, FabricMspConfig>) {
    if let Some(value) = group.values.get("MSP") {
        let config = MspConfig::decode(value.value.clone()).expect("an MSP");
        let config = FabricMspConfig::decode(config.config).expect("an MSP");
        found.insert(config.name.clone(), config);
    }
    group
        .groups
        .values()
        .for_each(|child| collect(child, found));
}
