//! The handshake of a gossip stream: what each side must show before anything else is listened to.
//!
//! Promises the rules of docs/protocol/connections.md, cheap checks first: nothing is computed, and
//! nothing learned, for a peer whose certificate and claim do not fit together. Identities and
//! signatures are judged behind [`Authenticator`].

use std::sync::Arc;

use tidings_gossip::{
    PeerIdentity,
    id::{OrgId, PkiId},
};
use tidings_proto::{
    gossip::{ConnEstablish, Envelope, GossipMessage, gossip_message::Content},
    tag::Kind,
};
use tonic::Status;

/// What the handshake needs to know of identities and keys. Called from many tasks at once; each
/// call may take as long as checking a signature.
pub trait Authenticator: Send + Sync + 'static {
    /// Our own `conn` message, signed, with this hash of the certificate that we present; empty
    /// without TLS.
    fn own_handshake(&self, certificate_sha256: Option<[u8; 32]>, probe: bool) -> Envelope;

    /// Validates the identity in `claim` (valid, not expired, its PKI-ID is the one claimed), then
    /// the signatures of the envelope under it; only after that may the identity be remembered.
    /// The claim is what the envelope's payload says; the certificate's hash was compared.
    fn authenticate(
        &self,
        handshake: &Envelope,
        claim: &ConnEstablish,
    ) -> Result<Arc<PeerIdentity>, Refused>;

    /// The organization of the identity that is known under this PKI-ID.
    fn org(&self, peer: &PkiId) -> Option<OrgId>;
}

/// Why a peer did not become a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// TLS is on and the peer presented no certificate.
    #[error("no TLS certificate")]
    NoCertificate,
    /// The stream ended or broke before the handshake was complete.
    #[error("the stream ended during the handshake: {0}")]
    Ended(String),
    /// Nothing came in time.
    #[error("no handshake in time")]
    Silent,
    /// The first message is no gossip message.
    #[error("the first message does not decode")]
    Undecodable,
    /// The first message is something else.
    #[error("wrong type: the first message is {}", name(*.0))]
    WrongType(Option<Kind>),
    /// An empty PKI-ID.
    #[error("no PKI-ID")]
    NoPkiId,
    /// An empty identity.
    #[error("no identity")]
    NoIdentity,
    /// The certificate of the TLS session is not the one that was signed for.
    #[error("the TLS certificate is not the one of the handshake")]
    TlsHash,
    /// An empty signature, of the message or of its secret.
    #[error("not signed")]
    NotSigned,
    /// The identity is not valid here.
    #[error("identity: {0}")]
    Identity(String),
    /// The PKI-ID does not belong to the identity.
    #[error("the PKI-ID does not belong to the identity")]
    PkiId,
    /// A signature does not verify.
    #[error("signature: {0}")]
    Signature(String),
    /// Somebody of another organization answered where a peer was expected.
    #[error("authentication failure: expected {expected}, found {found} of another organization")]
    Unexpected {
        /// Who should be there.
        expected: PkiId,
        /// Who is.
        found: PkiId,
    },
    /// The peer only probes; as an answer to our dial that makes no connection.
    #[error("the peer answered with a probe")]
    Probe,
    /// We dialled ourselves, or somebody uses our identity.
    #[error("the peer presents our own identity")]
    Ourselves,
    /// Too many handshakes or connections at once.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// We are going down.
    #[error("stopping")]
    Stopping,
}

fn name(kind: Option<Kind>) -> &'static str {
    kind.map_or("of unknown content", Kind::name)
}

impl Refused {
    /// The rule that was broken, as a label of `tidings_refused`.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoCertificate => "C-S1",
            Self::TlsHash => "C-S2",
            Self::PkiId => "C-S3",
            Self::NoPkiId | Self::NoIdentity => "C-S4",
            Self::Identity(_) => "C-S5",
            Self::NotSigned | Self::Signature(_) => "C-S6",
            Self::WrongType(_) => "C-S7",
            Self::Silent => "C-S8",
            Self::Unexpected { .. } => "C-S9",
            Self::Undecodable => "W-S1",
            Self::Ended(_) => "handshake ended",
            Self::Probe => "probe answered with a probe",
            Self::Ourselves => "own identity",
            Self::TooMany(_) => "too many",
            Self::Stopping => "stopping",
        }
    }

    /// How an RPC ends for this reason.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::TooMany(_) => Status::resource_exhausted(self.to_string()),
            Self::Stopping => Status::unavailable(self.to_string()),
            _ => Status::unknown(self.to_string()),
        }
    }
}

/// What TLS says about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// There is no TLS.
    Plaintext,
    /// SHA-256 of the certificate that it presented.
    Certificate([u8; 32]),
}

impl Presented {
    /// Step 1: with TLS there must be a certificate.
    pub(crate) fn of(tls: bool, sha256: Option<[u8; 32]>) -> Result<Self, Refused> {
        match (tls, sha256) {
            (false, _) => Ok(Self::Plaintext),
            (true, Some(sha256)) => Ok(Self::Certificate(sha256)),
            (true, None) => Err(Refused::NoCertificate),
        }
    }
}

/// Steps 4, 5 and 7, and whether there is anything to verify for the others.
pub(crate) fn examine(
    envelope: &Envelope,
    message: GossipMessage,
    presented: Presented,
) -> Result<ConnEstablish, Refused> {
    let kind = message.kind();
    let Some(Content::Conn(claim)) = message.content else {
        return Err(Refused::WrongType(kind));
    };
    if claim.pki_id.is_empty() {
        return Err(Refused::NoPkiId);
    }
    if claim.identity.is_empty() {
        return Err(Refused::NoIdentity);
    }
    match presented {
        Presented::Certificate(sha256) if claim.tls_cert_hash != sha256[..] => {
            return Err(Refused::TlsHash);
        }
        Presented::Certificate(_) | Presented::Plaintext => {}
    }
    let unsigned_secret = envelope
        .secret_envelope
        .as_ref()
        .is_some_and(|secret| secret.payload.is_empty() || secret.signature.is_empty());
    if envelope.signature.is_empty() || unsigned_secret {
        return Err(Refused::NotSigned);
    }
    Ok(claim)
}

/// Who is at the other end, as a completed handshake says.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) identity: Arc<PeerIdentity>,
    /// The envelope that says so.
    pub(crate) handshake: Envelope,
    pub(crate) probe: bool,
}

/// All steps after the peer's message has been read.
pub(crate) fn conclude(
    envelope: Envelope,
    presented: Presented,
    authenticator: &dyn Authenticator,
) -> Result<Introduction, Refused> {
    if envelope.payload.is_empty() {
        return Err(Refused::Undecodable);
    }
    let opened = envelope
        .open()
        .map_err(|_undecodable| Refused::Undecodable)?;
    let (envelope, message) = opened.into_parts();
    let claim = examine(&envelope, message, presented)?;
    let identity = authenticator.authenticate(&envelope, &claim)?;
    // Asserted here too: everything that follows is filed under this name.
    if PkiId::from_wire(&claim.pki_id) != Some(identity.pki_id) {
        return Err(Refused::PkiId);
    }
    Ok(Introduction {
        identity,
        handshake: envelope,
        probe: claim.probe,
    })
}

/// Whether the peer that was found may stand for the one that was expected (C-S9): it may if it
/// is of the same organization, because peers renew their certificates.
pub(crate) fn stands_for(
    expected: PkiId,
    found: &PeerIdentity,
    authenticator: &dyn Authenticator,
) -> Result<(), Refused> {
    if found.pki_id == expected || authenticator.org(&expected).as_ref() == Some(&found.org) {
        return Ok(());
    }
    Err(Refused::Unexpected {
        expected,
        found: found.pki_id,
    })
}
