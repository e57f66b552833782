//! A configuration block: taken or refused; what was taken can be asked everything, and judges
//! updates and identities of any shape.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::{
    Message,
    block::BlockView,
    common::{ConfigEnvelope, Envelope, Payload, SignatureHeader},
    msp::SerializedIdentity,
};

mod nested;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    nested::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let block = Bytes::copy_from_slice(bytes);
    let Ok(config) = ChannelConfig::from_config_block(&block) else {
        return;
    };
    let _ = (config.readers(), config.block_validation());
    for endpoints in config.orderer_endpoints() {
        assert!(!endpoints.addresses.is_empty());
    }
    for (name, organization) in config.application_organizations() {
        let msp = config.msp(&organization.msp_id);
        assert!(msp.is_some(), "{name} is of an MSP of the channel");
    }
    let _ = config.apply(&block);
    let Some((envelope, update)) = transaction_of(&block) else {
        return;
    };
    for signed in [Some(envelope), update].into_iter().flatten() {
        if let Some(creator) = creator_of(&signed) {
            judge(&config, &creator);
        }
        let _ = config.propose(signed);
    }
});

/// The first transaction of a block, and the update that it carries.
fn transaction_of(block: &Bytes) -> Option<(Envelope, Option<Envelope>)> {
    let view = BlockView::parse(block.clone()).ok()?;
    let envelope = Envelope::decode(view.transactions().next()?).ok()?;
    let payload = Payload::decode(envelope.payload.clone()).ok()?;
    let config = ConfigEnvelope::decode(payload.data).ok()?;
    Some((envelope, config.last_update))
}

fn creator_of(envelope: &Envelope) -> Option<Bytes> {
    let header = Payload::decode(envelope.payload.clone()).ok()?.header?;
    let header = SignatureHeader::decode(header.signature_header).ok()?;
    Some(header.creator)
}

fn judge(config: &ChannelConfig, serialized: &[u8]) {
    let Ok(parts) = SerializedIdentity::decode(serialized) else {
        return;
    };
    let Some(msp) = config.msp(&parts.mspid) else {
        return;
    };
    if let Ok(identity) = msp.deserialize(serialized) {
        let _ = (
            msp.validate(&identity),
            identity.verify(b"message", b"signature"),
        );
    }
}
