//! Whatever the bytes, the answer is a value.

use std::sync::OnceLock;

use bytes::Bytes;
use proptest::prelude::*;
use tidings_msp::{
    channel_config::ChannelConfig,
    verify_block::{verify_attestation, verify_block},
};
use tidings_proto::{Message, common::ConfigEnvelope};

use crate::material::{CHANNEL, Material, tree};

/// A configuration, its genesis block, the next configuration block, and a block after it.
struct Case {
    config: ChannelConfig,
    genesis: Bytes,
    update: Bytes,
    block: Bytes,
}

fn case() -> &'static Case {
    static CASE: OnceLock<Case> = OnceLock::new();
    CASE.get_or_init(|| {
        let material = Material::new();
        let group = material.group();
        let mut next = group.clone();
        let batch = tidings_proto::orderer::BatchTimeout {
            timeout: "3s".to_owned(),
        };
        tree::replace(tree::at(&mut next, &["Orderer"]), "BatchTimeout", &batch);
        let genesis = material.genesis(group.clone());
        Case {
            config: ChannelConfig::from_config_block(&genesis).unwrap(),
            update: material.update_block((0, &group), &next, &[&material.orderer_admin]),
            block: material.block(7).encode(),
            genesis,
        }
    })
}

fn feed(bytes: &Bytes) {
    let case = case();
    let _ = ChannelConfig::from_config_block(bytes);
    let _ = ChannelConfig::from_config_envelope(CHANNEL, bytes);
    let _ = case.config.apply(bytes);
    let _ = verify_block(&case.config, CHANNEL, 7, bytes);
    let _ = verify_attestation(&case.config, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        feed(&bytes.into());
    }

    #[test]
    fn damaged_blocks_never_panic(
        which in 0..3_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let case = case();
        let good = [&case.genesis, &case.update, &case.block][which];
        let mut bytes = good.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        feed(&bytes.into());
    }

    /// What was read from an envelope is what is read from its own encoding.
    #[test]
    fn a_configuration_survives_its_own_encoding(sequence in any::<u64>()) {
        let group = Some(case().config.group().clone());
        let config = Some(tidings_proto::common::Config { sequence, channel_group: group });
        let envelope = ConfigEnvelope { config, last_update: None }.encode_to_vec();
        let read = ChannelConfig::from_config_envelope(CHANNEL, &envelope).unwrap();
        prop_assert_eq!(read.sequence(), sequence);
        prop_assert_eq!(read.group(), case().config.group());
    }
}
