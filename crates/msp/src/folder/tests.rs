//! MSP folders: what is taken from them, and what operators are told.

use super::*;
use crate::testing::Made;

const NOW: i64 = 1_800_000_000;

fn file(name: &str, content: impl Into<Vec<u8>>) -> NamedFile {
    NamedFile {
        name: name.to_owned(),
        content: content.into(),
    }
}

/// A folder as cryptogen makes it, and the people in it.
fn folder() -> (MspFolder, Made, Made) {
    let root = Made::root("ca.org1.test");
    let peer = root.member("peer0.org1.test", &["peer"]);
    let yaml = "NodeOUs:\n  Enable: true\n  PeerOUIdentifier:\n    Certificate: cacerts/ca.pem\n    \
                OrganizationalUnitIdentifier: peer\n  AdminOUIdentifier:\n    \
                OrganizationalUnitIdentifier: admin\n";
    let folder = MspFolder {
        place: "/etc/msp".to_owned(),
        cacerts: vec![file("ca.pem", root.pem.clone())],
        signcerts: vec![file("peer.pem", peer.pem.clone())],
        keystore: vec![file("priv_sk", peer.key.serialize_pem())],
        tlscacerts: vec![file("tls.pem", Made::root("tls").pem)],
        config_yaml: Some(yaml.as_bytes().to_vec()),
        referenced: BTreeMap::from([("cacerts/ca.pem".to_owned(), root.pem.clone().into_bytes())]),
        ..MspFolder::default()
    };
    (folder, root, peer)
}

fn set_up(folder: &MspFolder) -> Result<LocalMsp, LocalMspRefused> {
    LocalMsp::set_up("Org1MSP", folder, MspVersion::V3_0, NOW)
}

fn refused(folder: &MspFolder) -> LocalMspRefused {
    set_up(folder).expect_err("refused")
}

#[test]
fn a_good_folder_makes_a_node() {
    let (folder, _, peer) = folder();
    let local = set_up(&folder).expect("a node");
    assert_eq!(local.warnings, []);
    assert_eq!(local.signer.certificate().common_name(), "peer0.org1.test");
    let seen = local
        .msp
        .deserialize(local.signer.serialized())
        .expect("recognised");
    assert_eq!(local.msp.validate(&seen), Ok(()));
    assert_eq!(seen.certificate().tbs(), peer.certificate().tbs());
}

#[test]
fn missing_parts_are_named() {
    let (good, root, peer) = folder();
    let with = |change: &dyn Fn(&mut MspFolder)| {
        let mut folder = good.clone();
        change(&mut folder);
        refused(&folder).to_string()
    };
    let place = || "/etc/msp".to_owned();
    let no_roots = with(&|folder| folder.cacerts.clear());
    assert_eq!(
        no_roots,
        FolderRefused::NoRoots { place: place() }.to_string()
    );
    assert!(
        no_roots.starts_with("/etc/msp/cacerts has no PEM file; put "),
        "{no_roots}"
    );
    let not_pem = with(&|folder| folder.cacerts = vec![file("README", "hello")]);
    assert_eq!(not_pem, no_roots);
    let no_signer = with(&|folder| folder.signcerts.clear());
    assert!(
        no_signer.starts_with("/etc/msp/signcerts has no PEM file"),
        "{no_signer}"
    );
    let other = root.member("other", &["peer"]);
    for keys in [vec![], vec![file("priv_sk", other.key.serialize_pem())]] {
        let text = with(&|folder| folder.keystore = keys.clone());
        let ski = hex::encode(peer.private_key().ski());
        assert!(
            text.contains("keystore has no private key for signcerts/peer.pem"),
            "{text}"
        );
        assert!(text.contains(&format!("{ski}_sk")), "{text}");
    }
    let foreign = with(&|folder| folder.cacerts = vec![file("ca.pem", Made::root("x").pem)]);
    assert!(foreign.starts_with("MSP folder /etc/msp: "), "{foreign}");
}

#[test]
fn files_count_in_the_order_of_their_names() {
    let (mut folder, root, _) = folder();
    let second = Made::root("second");
    folder.cacerts.insert(0, file("z.pem", second.pem.clone()));
    let other = root.member("other", &["peer"]);
    folder.signcerts.insert(0, file("z.pem", other.pem));
    folder.signcerts.insert(0, file("a.txt", "no PEM"));
    let (config, _) = folder.config("Org1MSP").expect("a configuration");
    assert_eq!(config.root_certs, [root.pem, second.pem]);
    let local = set_up(&folder).expect("a node");
    assert_eq!(local.signer.certificate().common_name(), "peer0.org1.test");
    let skipped = FolderWarning::NotPem {
        file: "signcerts/a.txt".to_owned(),
    };
    assert_eq!(local.warnings, [skipped]);
}

#[test]
fn the_key_is_found_under_any_name_but_not_in_a_large_file() {
    let (mut folder, root, peer) = folder();
    let key = peer.key.serialize_pem();
    let other = root.member("other", &["peer"]).key.serialize_pem();
    folder.keystore = vec![
        file("a", other.clone()),
        file("b", "junk"),
        file("c", key.clone()),
    ];
    assert!(set_up(&folder).is_ok());
    let canonical = format!("{}_sk", hex::encode(peer.private_key().ski()));
    folder.keystore = vec![file("a", other), file(&canonical, key.clone())];
    assert!(set_up(&folder).is_ok());
    let padded = |length: usize| format!("{key}{}", " ".repeat(length - key.len()));
    folder.keystore = vec![file("a", padded(KEY_FILE_BYTES_MAX))];
    assert!(set_up(&folder).is_ok());
    folder.keystore = vec![file("a", padded(KEY_FILE_BYTES_MAX + 1))];
    assert!(matches!(
        refused(&folder),
        LocalMspRefused::Folder(FolderRefused::NoKey { .. })
    ));
}

#[test]
fn tls_intermediates_count_beside_roots_only() {
    let (mut folder, root, _) = folder();
    folder.tlscacerts = vec![file("tls.pem", root.pem.clone())];
    folder.tlsintermediatecerts = vec![file("tls.pem", root.intermediate("tls").pem)];
    let (config, _) = folder.config("Org1MSP").expect("a configuration");
    assert_eq!(config.tls_intermediate_certs.len(), 1);
    folder.tlscacerts.clear();
    let (config, _) = folder.config("Org1MSP").expect("a configuration");
    assert_eq!(config.tls_intermediate_certs.len(), 0);
}

#[test]
fn an_unreadable_role_certificate_is_a_warning_and_a_listed_one_is_fatal() {
    let (mut folder, _, _) = folder();
    folder.referenced.clear();
    let (config, warnings) = folder.config("Org1MSP").expect("a configuration");
    let path = || "cacerts/ca.pem".to_owned();
    assert_eq!(
        warnings,
        [FolderWarning::UnreadableRoleCertificate { path: path() }]
    );
    let peer = config
        .fabric_node_ous
        .expect("set")
        .peer_ou_identifier
        .expect("set");
    assert_eq!(peer.organizational_unit_identifier, "peer");
    assert!(peer.certificate.is_empty());

    let list = "OrganizationalUnitIdentifiers:\n  - Certificate: cacerts/ca.pem\n    \
                OrganizationalUnitIdentifier: blue\n";
    folder.config_yaml = Some(list.into());
    let place = || "/etc/msp".to_owned();
    let refused = folder.config("Org1MSP").expect_err("unreadable");
    let expected = FolderRefused::UnreadableUnitCertificate {
        place: place(),
        path: path(),
    };
    assert_eq!(refused, expected);
    folder.referenced.insert(path(), b"content".to_vec());
    let (config, _) = folder.config("Org1MSP").expect("a configuration");
    let listed = &config.organizational_unit_identifiers;
    assert_eq!(listed[0].certificate, "content");
    assert_eq!(listed[0].organizational_unit_identifier, "blue");
}

#[test]
fn config_yaml_is_read_as_fabric_reads_it() {
    let (mut folder, _, _) = folder();
    let mut node_ous = |yaml: &str| {
        folder.config_yaml = Some(yaml.into());
        folder
            .config("Org1MSP")
            .expect("a configuration")
            .0
            .fabric_node_ous
    };
    assert_eq!(node_ous(""), None);
    assert_eq!(node_ous("# nothing\n"), None);
    assert_eq!(node_ous("NodeOUs:\n"), None);
    assert_eq!(node_ous("NodeOUs:\n  Enable: false\n"), None);
    assert_eq!(
        node_ous("nodeous:\n  enable: true\n"),
        None,
        "keys are case sensitive"
    );
    let empty = FabricNodeOUs {
        enable: true,
        ..FabricNodeOUs::default()
    };
    assert_eq!(
        node_ous("Other: 1\nNodeOUs:\n  Enable: true\n"),
        Some(empty.clone())
    );
    let without_name = "NodeOUs:\n  Enable: true\n  PeerOUIdentifier:\n    Certificate: x\n";
    assert_eq!(
        node_ous(without_name),
        Some(empty),
        "an entry without a unit is dropped"
    );

    folder.config_yaml = Some(b"NodeOUs: [\n".to_vec());
    let text = folder.config("Org1MSP").expect_err("bad YAML").to_string();
    assert!(
        text.starts_with("/etc/msp/config.yaml: ") && text.contains("line") && !text.contains('\n'),
        "{text}"
    );
    folder.config_yaml = Some(vec![0xff]);
    assert!(folder.config("Org1MSP").is_err());
}

#[test]
fn a_reader_learns_what_to_read() {
    let yaml = "OrganizationalUnitIdentifiers:\n  - Certificate: b.pem\n  - Certificate: a.pem\n\
                NodeOUs:\n  ClientOUIdentifier:\n    Certificate: a.pem\n  AdminOUIdentifier:\n    \
                Certificate: \"\"\n  OrdererOUIdentifier:\n    Certificate: c.pem\n";
    let files = referenced_files("/etc/msp", yaml.as_bytes()).expect("good YAML");
    assert_eq!(files, ["a.pem", "b.pem", "c.pem"]);
    let mut folder = MspFolder::default();
    for name in SUB_FOLDERS {
        folder
            .files_mut(name)
            .expect("known")
            .push(file(name, name));
    }
    assert!(folder.files_mut("users").is_none());
    let lists = [
        &folder.cacerts,
        &folder.intermediatecerts,
        &folder.admincerts,
        &folder.signcerts,
        &folder.keystore,
        &folder.crls,
        &folder.tlscacerts,
        &folder.tlsintermediatecerts,
    ];
    for (list, name) in lists.into_iter().zip(SUB_FOLDERS) {
        assert_eq!(*list, [file(name, name)]);
    }
}

#[test]
fn an_expired_certificate_is_refused_at_start() {
    let (folder, _, peer) = folder();
    let end = peer.certificate().not_after();
    let refused = LocalMsp::set_up("Org1MSP", &folder, MspVersion::V3_0, end).expect_err("ended");
    let text = refused.to_string();
    assert!(
        text.starts_with("MSP folder /etc/msp: own certificate of CN=peer0"),
        "{text}"
    );
    assert!(text.contains("expired at"), "{text}");
}
