//! The committed Rust types are what the .proto files say. After an edit of a .proto file run
//! `REGENERATE=1 cargo test -p tidings-proto --test generated` and commit what changed.

use std::{fs, path::Path};

const ROOTS: &[&str] = &[
    "common/common.proto",
    "common/configtx.proto",
    "common/configuration.proto",
    "common/ledger.proto",
    "common/policies.proto",
    "discovery/protocol.proto",
    "gossip/message.proto",
    "ledger/rwset/kvrwset/kv_rwset.proto",
    "ledger/rwset/rwset.proto",
    "msp/identities.proto",
    "msp/msp_config.proto",
    "msp/msp_principal.proto",
    "orderer/ab.proto",
    "orderer/configuration.proto",
    "peer/collection.proto",
    "peer/configuration.proto",
    "peer/events.proto",
    "peer/lifecycle/lifecycle.proto",
    "peer/proposal.proto",
    "peer/transaction.proto",
    "transientstore/transientstore.proto",
];

fn generate(into: &Path) {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let roots: Vec<_> = ROOTS.iter().map(|root| proto.join(root)).collect();
    let descriptors = protox::compile(&roots, [&proto]).expect("the .proto files compile");
    let mut builder = tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(into);
    for package in ["discovery", "gossip", "orderer", "protos"] {
        builder = builder
            .client_mod_attribute(package, "#[cfg(feature = \"grpc\")]")
            .server_mod_attribute(package, "#[cfg(feature = \"grpc\")]");
    }
    builder
        .compile_fds(descriptors)
        .expect("the generator takes the descriptors");
}

#[test]
fn the_committed_types_are_what_the_proto_files_say() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("REGENERATE").is_some() {
        fs::create_dir_all(&committed).unwrap();
        generate(&committed);
        return;
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    let mut names: Vec<_> = fs::read_dir(fresh.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let new = fs::read_to_string(fresh.path().join(&name)).unwrap();
        let old = fs::read_to_string(committed.join(&name)).unwrap_or_default();
        assert!(new == old, "{name:?} is stale: see the head of this test");
    }
}
