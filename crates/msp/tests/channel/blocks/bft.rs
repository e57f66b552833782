//! Blocks of channels whose orderers do not trust each other: a quorum signs.

use super::*;

#[test]
fn bft_blocks_need_a_quorum_by_header_or_by_number() {
    let (material, config) = bft();
    let [a, b, c, d] = &material.orderers[..] else {
        panic!("four orderers")
    };
    let mut block = material.block(7);
    for signers in [&[a, b, c][..], &[d, c, b], &[a, b, c, d]] {
        block.sign(signers);
        assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
    }
    let block = signed_by_number(&material, &[(1, 0), (4, 3), (2, 1)]);
    assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
    // Both forms in one block; where both headers are given, the certificate's counts.
    let mut block = signed_by_number(&material, &[(1, 0), (2, 1)]);
    let mut third = block.clone();
    third.sign(&[c]);
    for mut signature in signatures(&mut third) {
        signature.identifier_header = Bytes::from_static(b"\x08\x63");
        block.alter_signatures(|metadata| metadata.signatures.push(signature));
    }
    assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
}

fn signatures(block: &mut Draft) -> Vec<MetadataSignature> {
    let mut signatures = Vec::new();
    block.alter_signatures(|metadata| signatures.clone_from(&metadata.signatures));
    signatures
}

#[test]
fn nt_2_3_bft_with_quorum_minus_one() {
    let (material, config) = bft();
    let mut block = material.block(7);
    block.sign(&[&material.orderers[0], &material.orderers[3]]);
    assert_eq!(refusal(&config, &block), too_few(2));
    let block = signed_by_number(&material, &[(1, 0), (4, 3)]);
    assert_eq!(refusal(&config, &block), too_few(2));
    // Somebody of the same organization who is no consenter does not help.
    let mut block = material.block(7);
    let colleague = material.orderer_a.member("orderer9", "orderer");
    block.sign(&[&material.orderers[0], &material.orderers[3], &colleague]);
    assert_eq!(refusal(&config, &block), too_few(3));
}

#[test]
fn nt_2_3_bft_with_the_same_consenter_repeated() {
    let (material, config) = bft();
    let block = signed_by_number(&material, &[(1, 0), (2, 1), (1, 0), (2, 1)]);
    assert_eq!(refusal(&config, &block), too_few(2));
    let mut block = material.block(7);
    let [a, b, ..] = &material.orderers[..] else {
        panic!("four orderers")
    };
    block.sign(&[a, b, b, a]);
    assert_eq!(refusal(&config, &block), too_few(2));
    // Once by certificate and once by number is still one consenter.
    let mut both = signed_by_number(&material, &[(1, 0), (2, 1)]);
    let mut by_certificate = both.clone();
    by_certificate.sign(&[a, b]);
    let more = signatures(&mut by_certificate);
    both.alter_signatures(|metadata| metadata.signatures.extend(more));
    assert_eq!(refusal(&config, &both), too_few(2));
    let mut third = both.clone();
    third.sign(&[&material.orderers[3]]);
    let more = signatures(&mut third);
    both.alter_signatures(|metadata| metadata.signatures.extend(more));
    assert!(verify_block(&config, CHANNEL, 7, &both.encode()).is_ok());
}

#[test]
fn nt_2_3_bft_with_unknown_consenter_ids_only() {
    let (material, config) = bft();
    let block = signed_by_number(&material, &[(0, 0), (5, 1), (u32::MAX, 2)]);
    assert_eq!(refusal(&config, &block), too_few(0));
    // One unknown number among enough known ones is passed over.
    let block = signed_by_number(&material, &[(9, 0), (1, 0), (2, 1), (3, 2)]);
    assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
}

#[test]
fn nt_2_3_bft_with_the_number_of_another() {
    let (material, config) = bft();
    let block = signed_by_number(&material, &[(1, 0), (2, 1), (3, 3)]);
    assert_eq!(refusal(&config, &block), too_few(2));
}

#[test]
fn nt_2_3_bft_with_a_malformed_identifier_header() {
    let (material, config) = bft();
    let mut block = signed_by_number(&material, &[(1, 0), (2, 1), (3, 2)]);
    block.alter_signatures(|metadata| {
        metadata.signatures[2].identifier_header = Bytes::from_static(&[0xff]);
    });
    let refused = refusal(&config, &block);
    assert!(
        matches!(
            refused,
            BlockRefused::Signatures {
                part: "identifier header",
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn nt_2_3_identifier_header_on_a_non_v3_0_channel() {
    let material = Material::new();
    // The same consenters and policy, without the capability.
    let mut group = material.bft_group();
    tree::put(&mut group, "Capabilities", &tree::capabilities(&["V2_0"]));
    let config = config(&material, group);
    let block = signed_by_number(&material, &[(1, 0), (2, 1), (3, 2)]);
    assert_eq!(refusal(&config, &block), too_few(0));
    let mut block = material.block(7);
    let [a, b, c, _] = &material.orderers[..] else {
        panic!("four orderers")
    };
    block.sign(&[a, b, c]);
    assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
}
