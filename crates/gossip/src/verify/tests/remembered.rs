//! Whose identity is known afterwards: of those who signed, and of nobody else.

use super::*;

/// An alive message of one peer, with its certificate, signed by another.
fn alive(of: &Arc<PeerIdentity>, by: &Arc<PeerIdentity>) -> Envelope {
    let mut speech = speech(of);
    speech.message.identity = of.serialized.clone();
    speech.speaker = Arc::clone(by);
    speech.envelope()
}

#[test]
fn s_n15_a_certificate_is_remembered_only_of_whoever_signed() {
    let stage = Stage::new();
    let (newcomer, other) = (toy::identity("A", "newcomer"), &stage.other);
    let known = || stage.verifier.known(&newcomer.pki_id);
    let forged = alive(&newcomer, other);
    stage.refused(forged.clone(), "D-S3");
    stage.accepted(response(vec![forged.clone()], vec![forged]));
    assert_eq!(known(), None);
    stage.accepted(alive(&newcomer, &newcomer));
    assert_eq!(known(), Some(Arc::clone(&newcomer)));

    // Without the certificate from now on.
    stage.accepted(speech(&newcomer).envelope());
}

#[test]
fn p_s1_nothing_of_a_discarded_update_is_remembered() {
    let stage = Stage::new();
    let (newcomer, other) = (toy::identity("A", "newcomer"), &stage.other);
    let known = || stage.verifier.known(&newcomer.pki_id);
    let good = identity_envelope(&newcomer, &newcomer);
    let forged = identity_envelope(other, &newcomer);
    let update = |data| update(PullMsgType::IdentityMsg, data);
    stage.refused(update(vec![forged.clone()]), "P-S1");
    stage.refused(update(vec![good.clone(), forged]), "P-S1");
    assert_eq!(known(), None);
    stage.accepted(update(vec![good]));
    assert_eq!(known(), Some(newcomer.clone()));
}
