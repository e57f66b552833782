//! Identities and messages as gossip asks about them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    channel_config::ChannelConfig,
    crypto::PrivateKey,
    msp::{Msp, MspVersion},
    services::{CryptoServices, MessageRefused, ResolveRefused, Voucher},
    verify_block::BlockRefused,
};
use tidings_proto::{
    common::{ConfigEnvelope, HeaderType, msp_role::MspRoleType},
    msp::SerializedIdentity,
};

use crate::material::{self, CHANNEL, Material, Member, Organization, tree};

const MESSAGE: &[u8] = b"message";

/// Services of a peer of the first organization that is on no channel.
fn alone(material: &Material) -> CryptoServices {
    let local = Msp::from_config(&material.org1.msp(), MspVersion::V3_0).unwrap();
    let key = PrivateKey::from_pem(material.peer1.key_pem.as_bytes()).unwrap();
    let certificate = material.peer1.certificate_pem.as_bytes();
    let signer = local.signing_identity(certificate, key, 0).unwrap();
    CryptoServices::new(Arc::new(local), Arc::new(signer))
}

fn channel(material: &Material) -> Arc<ChannelConfig> {
    Arc::new(ChannelConfig::from_config_block(&material.genesis(material.group())).unwrap())
}

fn on_channel(material: &Material) -> CryptoServices {
    alone(material).with_channel(channel(material))
}

fn voucher(services: &CryptoServices, member: &Member) -> Result<Voucher, ResolveRefused> {
    services
        .validate_identity(&member.identity)
        .map(|resolved| resolved.voucher)
}

fn verify(services: &CryptoServices, member: &Member) -> Result<(), MessageRefused> {
    services.verify(&member.identity, &member.sign(MESSAGE), MESSAGE)
}

fn not_a_reader(verdict: Result<(), MessageRefused>) -> bool {
    matches!(verdict, Err(MessageRefused::NotAReader { channel, .. }) if channel == CHANNEL)
}

#[test]
fn own_members_are_resolved_by_our_msp_and_others_by_a_channel() {
    let material = Material::new();
    let (alone, services) = (alone(&material), on_channel(&material));
    let here = || Ok(Voucher::Channel(CHANNEL.into()));
    let unknown = |msp_id: &str| {
        Err(ResolveRefused::Unknown {
            msp_id: msp_id.into(),
        })
    };
    assert_eq!(
        voucher(&alone, &material.peer1),
        Ok(Voucher::OwnOrganization)
    );
    assert_eq!(voucher(&alone, &material.peer2), unknown("Org2MSP"));
    assert_eq!(
        voucher(&services, &material.peer1),
        Ok(Voucher::OwnOrganization)
    );
    assert_eq!(voucher(&services, &material.peer2), here());
    // Orderer organizations vouch for peers as well as any other.
    assert_eq!(voucher(&services, &material.orderers[0]), here());
    let stranger = Organization::new("Org9").member("peer0.org9", "peer");
    assert_eq!(voucher(&services, &stranger), unknown("Org9MSP"));
    let impostor = Organization::new("Org2").member("peer0.org2", "peer");
    assert_eq!(voucher(&services, &impostor), unknown("Org2MSP"));
    // Leaving takes the voucher away again.
    assert_eq!(
        voucher(&services.without_channel(CHANNEL), &material.peer2),
        unknown("Org2MSP")
    );
    assert!(alone.channels().is_empty() && services.channel(CHANNEL).is_some());
}

#[test]
fn our_msp_has_the_last_word_on_our_own() {
    let material = Material::new();
    let services = on_channel(&material);
    // Recognised by its chain, refused for its role; the channel is not asked.
    let idle = material.org1.member("somebody", "nothing");
    let refused = voucher(&services, &idle).unwrap_err();
    assert!(
        matches!(refused, ResolveRefused::OwnOrganization(_)),
        "{refused}"
    );
    let foreign = material.org2.member("somebody", "nothing");
    let refused = voucher(&services, &foreign).unwrap_err();
    assert_eq!(
        refused,
        ResolveRefused::Unknown {
            msp_id: "Org2MSP".into()
        }
    );
}

#[test]
fn what_is_no_identity_is_refused() {
    let material = Material::new();
    let services = on_channel(&material);
    assert_eq!(
        services.validate_identity(b"").map(drop),
        Err(ResolveRefused::Empty)
    );
    let noise = services
        .validate_identity(&[0xff; 8])
        .map(drop)
        .unwrap_err();
    assert!(matches!(noise, ResolveRefused::Undecodable(_)), "{noise}");
    for member in [&material.peer1, &material.peer2] {
        let mut padded = SerializedIdentity::decode(member.identity.clone()).unwrap();
        padded.id_bytes = [&padded.id_bytes[..], b"more"].concat().into();
        let refused = services
            .validate_identity(&padded.encode_to_vec())
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(refused, ResolveRefused::NotWellFormed(_)),
            "{refused}"
        );
    }
    assert_eq!(services.expiration(b""), Err(ResolveRefused::Empty));
}

#[test]
fn pki_ids_and_organizations_need_no_validation() {
    let material = Material::new();
    let services = on_channel(&material);
    let certificate = material.peer2.certificate_pem.as_bytes();
    let expect = tidings_msp::crypto::sha256(&[b"Org2MSP", certificate].concat());
    assert_eq!(services.pki_id_of(&material.peer2.identity), Some(expect));
    assert_eq!(services.pki_id_of(b""), None);
    assert_eq!(services.pki_id_of(&[0xff; 8]), None);
    let org = |identity: &[u8]| {
        services
            .org_by_peer_identity(identity)
            .map(|org| org.to_string())
    };
    assert_eq!(org(&material.peer1.identity).as_deref(), Some("Org1MSP"));
    assert_eq!(
        org(&material.orderers[0].identity).as_deref(),
        Some("OrdererAMSP")
    );
    let idle = material.org2.member("somebody", "nothing");
    assert_eq!(org(&idle.identity).as_deref(), Some("Org2MSP"));
    assert_eq!(
        org(&Organization::new("Org9").member("a", "peer").identity),
        None
    );
    assert_eq!(org(b""), None);
}

#[test]
fn messages_of_our_own_need_a_signature_and_those_of_others_the_right_to_read() {
    let material = Material::new();
    let services = on_channel(&material);
    assert_eq!(verify(&services, &material.peer1), Ok(()));
    assert_eq!(verify(&services, &material.peer2), Ok(()));
    // Valid through the channel, but no reader of its application.
    assert!(not_a_reader(verify(&services, &material.orderers[0])));
    let (own, other) = (&material.peer1, &material.peer2);
    let crossed = services.verify(&own.identity, &other.sign(MESSAGE), MESSAGE);
    assert!(
        matches!(crossed, Err(MessageRefused::Signature(_))),
        "{crossed:?}"
    );
    assert!(not_a_reader(services.verify(
        &other.identity,
        &own.sign(MESSAGE),
        MESSAGE
    )));
    let signature = services.sign(MESSAGE).unwrap();
    let signer = services.signer().serialized();
    assert_eq!(services.verify(signer, &signature, MESSAGE), Ok(()));
    let empty = services.verify(b"", &signature, MESSAGE);
    assert_eq!(empty, Err(MessageRefused::Identity(ResolveRefused::Empty)));
}

#[test]
fn a_channel_asks_its_readers() {
    let material = Material::new();
    let services = on_channel(&material);
    let by = |channel: &str, member: &Member| {
        services.verify_by_channel(channel, &member.identity, &member.sign(MESSAGE), MESSAGE)
    };
    assert_eq!(by(CHANNEL, &material.peer1), Ok(()));
    assert_eq!(by(CHANNEL, &material.peer2), Ok(()));
    assert!(not_a_reader(by(CHANNEL, &material.orderers[0])));
    let unknown = || Err(MessageRefused::UnknownChannel("other".into()));
    assert_eq!(by("other", &material.peer1), unknown());
    let empty = services.verify_by_channel(CHANNEL, b"", b"", MESSAGE);
    assert_eq!(empty, Err(MessageRefused::Identity(ResolveRefused::Empty)));
    let peer = &material.peer1;
    let wrong = services.verify_by_channel(CHANNEL, &peer.identity, &peer.sign(b"x"), MESSAGE);
    assert!(not_a_reader(wrong));

    let reader = |channel: &str, identity: &[u8]| services.check_reader(channel, identity);
    assert_eq!(reader(CHANNEL, &material.peer1.identity), Ok(()));
    assert_eq!(reader(CHANNEL, &material.peer2.identity), Ok(()));
    assert!(not_a_reader(reader(
        CHANNEL,
        &material.orderers[0].identity
    )));
    assert!(not_a_reader(reader(CHANNEL, b"nobody")));
    let idle = material.org2.member("somebody", "nothing");
    assert!(not_a_reader(reader(CHANNEL, &idle.identity)));
    assert_eq!(reader("other", &material.peer1.identity), unknown());
    let empty = MessageRefused::Identity(ResolveRefused::Empty);
    assert_eq!(reader(CHANNEL, b""), Err(empty));
}

#[test]
fn a_channel_without_readers_believes_nobody() {
    let material = Material::new();
    let mut group = material.group();
    tree::at(&mut group, &["Application"])
        .policies
        .remove("Readers");
    let config = ChannelConfig::from_config_block(&material.genesis(group)).unwrap();
    let services = alone(&material).with_channel(Arc::new(config));
    let peer = &material.peer2;
    assert!(not_a_reader(verify(&services, peer)));
    assert!(not_a_reader(services.check_reader(CHANNEL, &peer.identity)));
}

#[test]
fn a_new_configuration_replaces_the_old_one() {
    let material = Material::new();
    let services = on_channel(&material);
    let mut group = material.group();
    let only_org1 = vec![tree::role(&material.org1.msp_id, MspRoleType::Member)];
    let application = tree::at(&mut group, &["Application"]);
    tree::put_policy(application, "Readers", tree::out_of(1, only_org1));
    let narrower = ChannelConfig::from_config_block(&material.genesis(group)).unwrap();
    let narrowed = services.with_channel(Arc::new(narrower));
    assert_eq!(verify(&services, &material.peer2), Ok(()));
    assert!(not_a_reader(verify(&narrowed, &material.peer2)));
    assert_eq!(narrowed.channels().len(), 1);
}

#[test]
fn the_first_channel_that_finds_an_identity_valid_vouches_for_it() {
    let material = Material::new();
    // On the first channel the second organization is somebody else of that name.
    let mut group = material.group();
    let impostor = Organization::new("Org2");
    let organization = tree::at(&mut group, &["Application", &material.org2.key]);
    tree::put(organization, "MSP", &tree::msp(&impostor.msp()));
    let config = tidings_proto::common::Config {
        sequence: 0,
        channel_group: Some(group),
    };
    let envelope = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    }
    .encode_to_vec();
    let first = ChannelConfig::from_config_envelope("a-channel", &envelope).unwrap();
    let services = on_channel(&material).with_channel(Arc::new(first));
    assert_eq!(
        voucher(&services, &material.peer2),
        Ok(Voucher::Channel(CHANNEL.into()))
    );
    let member = impostor.member("peer0.org2", "peer");
    assert_eq!(
        voucher(&services, &member),
        Ok(Voucher::Channel("a-channel".into()))
    );
    assert!(not_a_reader(
        services.check_reader(CHANNEL, &member.identity)
    ));
}

#[test]
fn blocks_are_judged_by_their_channel() {
    let material = Material::new();
    let services = on_channel(&material);
    let block = material.block(3).encode();
    assert_eq!(services.verify_block(CHANNEL, 3, &block).unwrap().number, 3);
    assert_eq!(
        services
            .verify_block_attestation(CHANNEL, &block)
            .unwrap()
            .number,
        3
    );
    let unknown = || BlockRefused::UnknownChannel("other".into());
    assert_eq!(
        services.verify_block("other", 3, &block).unwrap_err(),
        unknown()
    );
    assert_eq!(
        services
            .verify_block_attestation("other", &block)
            .unwrap_err(),
        unknown()
    );
    let kind = HeaderType::EndorserTransaction;
    let foreign = material::transaction(kind, "other", &material.peer1, vec![1]);
    let mut block = material::block(3, &[], [foreign]);
    block.sign(&[&material.orderers[0]]);
    let refused = services
        .verify_block(CHANNEL, 3, &block.encode())
        .unwrap_err();
    assert!(
        matches!(refused, BlockRefused::OtherChannel { .. }),
        "{refused}"
    );
    assert!(matches!(
        services.verify_block(CHANNEL, 3, &Bytes::from_static(&[0xff])),
        Err(BlockRefused::Malformed(_))
    ));
}

#[test]
fn our_own_msp_can_be_read_anew() {
    let material = Material::new();
    let services = on_channel(&material);
    let mut closed = material.org1.msp();
    let other = Organization::new("Org1").msp();
    closed.root_certs = other.root_certs;
    let closed = Arc::new(Msp::from_config(&closed, MspVersion::V3_0).unwrap());
    let services = services.with_local(closed);
    assert_eq!(&**services.local().id(), "Org1MSP");
    // Our MSP no longer recognises it, so the channel's copy is asked, as in Fabric.
    assert_eq!(
        voucher(&services, &material.peer1),
        Ok(Voucher::Channel(CHANNEL.into()))
    );
}
