//! What one organization lets another know about its peers.
//!
//! Pure rules over names of organizations and endpoints. Whoever cannot be placed in an
//! organization gets nothing, and internal endpoints never leave the own one.
//!
//! Rules: docs/protocol/membership.md.

use tidings_proto::gossip::Envelope;

use crate::id::OrgId;

/// A peer as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its organization, if that is known.
    pub org: Option<&'a OrgId>,
    /// Its endpoint for other organizations; empty if it has none.
    pub external_endpoint: &'a str,
}

/// Whether `to` may learn of `subject`, which is a member, from us.
pub fn may_disclose(own: &OrgId, subject: Party<'_>, to: Party<'_>) -> bool {
    let (Some(subject_org), Some(to_org)) = (subject.org, to.org) else {
        return false;
    };
    if subject_org == to_org {
        return true;
    }
    subject_org == own && !subject.external_endpoint.is_empty() && !to.external_endpoint.is_empty()
}

/// Whether we and a peer of the organization `with` may both know of `subject`, and tell each other.
pub fn is_shared(own: &OrgId, subject: Party<'_>, with: &OrgId) -> bool {
    if with == own {
        return subject.org == Some(own);
    }
    let is_ours = subject.org == Some(own) || subject.org == Some(with);
    is_ours && !subject.external_endpoint.is_empty()
}

/// Whether `to` may be given the identity of `subject` when it pulls. Who it is is not looked up where
/// that says nothing.
pub fn may_serve_identity<'a>(
    own: &OrgId,
    subject: impl FnOnce() -> Party<'a>,
    to: Option<&OrgId>,
) -> bool {
    match to {
        None => false,
        Some(to) if to == own => true,
        Some(to) => {
            let subject = subject();
            !subject.external_endpoint.is_empty()
                && subject.org.is_some_and(|org| org == own || org == to)
        }
    }
}

/// The envelope as a peer of this organization may see it: without its secret, unless the peer
/// is known to be of the own organization.
pub fn for_org(own: &OrgId, to: Option<&OrgId>, envelope: &Envelope) -> Envelope {
    if to == Some(own) {
        envelope.clone()
    } else {
        Envelope {
            payload: envelope.payload.clone(),
            signature: envelope.signature.clone(),
            secret_envelope: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_proto::gossip::SecretEnvelope;

    use super::*;

    fn party<'a>(org: Option<&'a OrgId>, external_endpoint: &'a str) -> Party<'a> {
        Party {
            org,
            external_endpoint,
        }
    }

    #[test]
    fn d_s8_nothing_of_a_third_organization_and_nothing_hidden() {
        let (a, b, c) = ("A".into(), "B".into(), "C".into());
        let told = |subject: (&OrgId, &str), to: (&OrgId, &str)| {
            may_disclose(
                &a,
                party(Some(subject.0), subject.1),
                party(Some(to.0), to.1),
            )
        };
        for external in ["", "x:1"] {
            for to_external in ["", "y:1"] {
                assert!(told((&a, external), (&a, to_external)));
                assert!(told((&c, external), (&c, to_external)));
                assert!(!told((&b, external), (&c, to_external)));
                assert!(!told((&c, external), (&a, to_external)));
                let both = !external.is_empty() && !to_external.is_empty();
                assert_eq!(told((&a, external), (&c, to_external)), both);
            }
        }
    }

    #[test]
    fn d_s9_a_requester_without_organization_gets_nothing() {
        let a: OrgId = "A".into();
        let known = party(Some(&a), "x:1");
        let unknown = party(None, "y:1");
        assert!(!may_disclose(&a, known, unknown));
        assert!(!may_disclose(&a, unknown, known));
        assert!(!may_disclose(&a, unknown, unknown));
    }

    #[test]
    fn s_n14_identities_without_external_endpoint_stay_inside() {
        let (a, b, c) = ("A".into(), "B".into(), "C".into());
        let served = |subject: Option<&OrgId>, external, to| {
            may_serve_identity(&a, || party(subject, external), to)
        };
        assert!(served(Some(&a), "", Some(&a)));
        assert!(served(Some(&c), "", Some(&a)));
        assert!(served(None, "", Some(&a)));
        assert!(!served(Some(&a), "", Some(&c)));
        assert!(!served(Some(&c), "", Some(&c)));
        assert!(served(Some(&a), "x:1", Some(&c)));
        assert!(served(Some(&c), "x:1", Some(&c)));
        assert!(!served(Some(&b), "x:1", Some(&c)));
        assert!(!served(None, "x:1", Some(&c)));
        assert!(!served(Some(&a), "x:1", None));
    }

    #[test]
    fn s_n16_the_secret_goes_only_to_whom_is_positively_one_of_us() {
        let (a, b) = (OrgId::from("A"), OrgId::from("B"));
        let envelope = Envelope {
            payload: b"p".as_slice().into(),
            signature: b"s".as_slice().into(),
            secret_envelope: Some(SecretEnvelope::default()),
        };
        assert_eq!(for_org(&a, Some(&a), &envelope), envelope);
        for to in [Some(&b), None] {
            let stripped = for_org(&a, to, &envelope);
            assert_eq!(stripped.secret_envelope, None);
            assert_eq!(stripped.payload, envelope.payload);
            assert_eq!(stripped.signature, envelope.signature);
        }
    }
}
