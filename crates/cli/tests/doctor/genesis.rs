//! Genesis blocks that are changed after they were made.

use std::{fs, path::Path};

use bytes::Bytes;
use tidings_proto::{
    Message as _,
    block::BlockView,
    common::{Block, ConfigEnvelope, ConfigGroup, Envelope, Payload},
    msp::{FabricMspConfig, MspConfig},
};

/// Writes a block that is like another but for a change of its only transaction.
pub(crate) fn change(from: &Path, to: &Path, change: impl FnOnce(&mut Payload)) {
    let mut block = Block::decode(fs::read(from).unwrap().as_slice()).unwrap();
    let data = block.data.as_mut().unwrap();
    let mut envelope = Envelope::decode(data.data[0].clone()).unwrap();
    let mut payload = Payload::decode(envelope.payload.clone()).unwrap();
    change(&mut payload);
    envelope.payload = payload.encode_to_vec().into();
    data.data[0] = envelope.encode_to_vec().into();
    let view = BlockView::parse(block.encode_to_vec().into()).unwrap();
    let hash = tidings_msp::block::data_hash(&view);
    block.header.as_mut().unwrap().data_hash = Bytes::copy_from_slice(&hash);
    fs::write(to, block.encode_to_vec()).unwrap();
}

/// Changes what the channel agrees on.
pub(crate) fn reconfigure(payload: &mut Payload, change: impl FnOnce(&mut ConfigGroup)) {
    let mut envelope = ConfigEnvelope::decode(payload.data.clone()).unwrap();
    let config = envelope.config.as_mut().unwrap();
    change(config.channel_group.as_mut().unwrap());
    payload.data = envelope.encode_to_vec().into();
}

/// An organization in a section of the channel's configuration.
pub(crate) fn organization<'a>(
    channel: &'a mut ConfigGroup,
    section: &str,
    name: &str,
) -> &'a mut ConfigGroup {
    let section = channel.groups.get_mut(section).unwrap();
    section.groups.get_mut(name).unwrap()
}

/// Has the TLS of an organization vouched for by another CA.
pub(crate) fn replace_tls_roots(organization: &mut ConfigGroup, root: &[u8]) {
    let value = organization.values.get_mut("MSP").unwrap();
    let mut msp = MspConfig::decode(value.value.clone()).unwrap();
    let mut fabric = FabricMspConfig::decode(msp.config.clone()).unwrap();
    fabric.tls_root_certs = vec![Bytes::copy_from_slice(root)];
    msp.config = fabric.encode_to_vec().into();
    value.value = msp.encode_to_vec().into();
}
