//! A peer that does everything right in its handshake but one thing.
//!
//! Other test targets take this in by its path.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tidings_msp::crypto::{PrivateKey, sha256, sha256_parts};
use tidings_proto::{
    Message as _,
    gossip::{
        ConnEstablish, Empty, Envelope, GossipMessage,
        gossip_client::GossipClient,
        gossip_message::{Content, Tag},
    },
    msp::SerializedIdentity,
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{node::Node, wait::measured};

/// Whoever is refused is told within two seconds; a loaded machine takes longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// The order of the group of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing: a handshake that everybody accepts.
    Nothing,
    /// It signs for another TLS certificate than it shows.
    TlsHash,
    /// Its PKI-ID is of another identity.
    PkiId,
    /// Its organization is not on any channel.
    Msp,
    /// Its signature is the other one of the two that fit.
    HighS,
    /// It shows no TLS certificate.
    NoCertificate,
    /// It begins with something else than a handshake.
    FirstMessage,
}

/// Every fault with the rule that it breaks.
const FAULTS: [(Wrong, &str); 6] = [
    (Wrong::NoCertificate, "C-S1"),
    (Wrong::TlsHash, "C-S2"),
    (Wrong::PkiId, "C-S3"),
    (Wrong::Msp, "C-S5"),
    (Wrong::HighS, "C-S6"),
    (Wrong::FirstMessage, "C-S7"),
];

/// Somebody with an identity and TLS material.
pub(crate) struct Intruder {
    /// Its organization's MSP.
    pub(crate) msp_id: String,
    certificate: Bytes,
    key: PrivateKey,
    tls_certificate: CertificateDer<'static>,
    tls_key: PrivateKeyDer<'static>,
}

impl Intruder {
    /// The owner of an MSP folder and of a folder with `server.crt` and `server.key`.
    pub(crate) fn new(msp_id: &str, msp_dir: &Path, tls_dir: &Path) -> Self {
        let only = |folder: &str| {
            let mut files = fs::read_dir(msp_dir.join(folder)).unwrap();
            fs::read(files.next().unwrap().unwrap().path()).unwrap()
        };
        Self {
            msp_id: msp_id.to_owned(),
            certificate: only("signcerts").into(),
            key: PrivateKey::from_pem(&only("keystore")).unwrap(),
            tls_certificate: CertificateDer::from_pem_file(tls_dir.join("server.crt")).unwrap(),
            tls_key: PrivateKeyDer::from_pem_file(tls_dir.join("server.key")).unwrap(),
        }
    }

    /// Tries to get in. An error is the message of the status that ended the stream.
    pub(crate) fn tries(&self, endpoint: &str, wrong: Wrong) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let talk = async {
            let channel = self.connect(endpoint, wrong).await;
            let mut client = GossipClient::new(channel);
            client.ping(Empty::default()).await.unwrap();
            let (say, said) = mpsc::channel(1);
            say.send(self.first(wrong, true)).await.unwrap();
            let stream = client.gossip_stream(ReceiverStream::new(said)).await;
            let mut heard = stream
                .map_err(|status| status.message().to_owned())?
                .into_inner();
            loop {
                match heard.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(status.message().to_owned()),
                }
            }
        };
        let answer = runtime.block_on(async { timeout(ANSWER_TIME_MAX, talk).await });
        answer.expect("the stream ends")
    }

    /// A connection to whoever answers there.
    pub(crate) async fn connect(&self, endpoint: &str, wrong: Wrong) -> Channel {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let mut config = if wrong == Wrong::NoCertificate {
            config.with_no_client_auth()
        } else {
            let chain = vec![self.tls_certificate.clone()];
            config
                .with_client_auth_cert(chain, self.tls_key.clone_key())
                .unwrap()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let address = endpoint.to_owned();
        let dial = service_fn(move |_| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let stream = TcpStream::connect(&address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).unwrap();
        endpoint.connect_with_connector(dial).await.unwrap()
    }

    /// Its identity as others see it.
    pub(crate) fn identity(&self, msp_id: &str) -> Bytes {
        let identity = SerializedIdentity {
            mspid: msp_id.to_owned(),
            id_bytes: self.certificate.clone(),
        };
        identity.encode_to_vec().into()
    }

    /// Its signature.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(bytes).unwrap()
    }

    /// What it says first. Who only asks who is there has the stream ended.
    pub(crate) fn first(&self, wrong: Wrong, probe: bool) -> Envelope {
        let msp_id = match wrong {
            Wrong::Msp => "NowhereMSP",
            _ => &self.msp_id,
        };
        let mut claim = ConnEstablish {
            pki_id: sha256_parts(&[msp_id.as_bytes(), &self.certificate])
                .to_vec()
                .into(),
            identity: self.identity(msp_id),
            tls_cert_hash: sha256(&self.tls_certificate).to_vec().into(),
            probe,
        };
        match wrong {
            Wrong::TlsHash => claim.tls_cert_hash = vec![7; 32].into(),
            Wrong::PkiId => claim.pki_id = vec![7; 32].into(),
            _ => {}
        }
        let content = match wrong {
            Wrong::FirstMessage => Content::Empty(Empty::default()),
            _ => Content::Conn(claim),
        };
        let message = GossipMessage {
            tag: Tag::Empty.into(),
            content: Some(content),
            ..GossipMessage::default()
        };
        let payload = Bytes::from(message.encode_to_vec());
        let mut signature = self.sign(&payload);
        if wrong == Wrong::HighS {
            signature = high(&signature);
        }
        Envelope::signed(payload, signature.into())
    }
}

/// The other signature that fits: with the order of the group less `s` for `s`.
fn high(signature: &[u8]) -> Vec<u8> {
    // SEQUENCE { INTEGER r, INTEGER s }, all lengths in one byte.
    let integer = |at: usize| {
        let len = usize::from(signature[at + 1]);
        &signature[at + 2..at + 2 + len]
    };
    let r = integer(2);
    let s = integer(4 + r.len());
    let mut wide = [0; 32];
    let digits = &s[s.len().saturating_sub(32)..];
    wide[32 - digits.len()..].copy_from_slice(digits);
    let mut other = [0; 33];
    let mut borrow = 0;
    for index in (0..32).rev() {
        let digit = i16::from(ORDER[index]) - i16::from(wide[index]) - borrow;
        borrow = i16::from(digit < 0);
        other[index + 1] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    // A high one begins with a set bit, so it needs the zero before it.
    let body = [&[2, u8::try_from(r.len()).unwrap()], r, &[2, 33], &other].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

/// The node lets in who does nothing wrong; each fault costs one line and counts once. Told is
/// what others say to the same.
pub(crate) fn check_refusals(
    scenario: &str,
    node: &Node,
    intruder: &Intruder,
    others: impl Fn(Wrong) -> Option<String>,
) {
    assert_eq!(intruder.tries(&node.endpoint, Wrong::Nothing), Ok(()));
    for (wrong, rule) in FAULTS {
        let refused = || {
            node.sum("tidings_refused", &[("rule", rule)])
                .unwrap_or_default()
        };
        let (before, start) = (refused(), node.log_len());
        let ours = intruder.tries(&node.endpoint, wrong).unwrap_err();
        let lines = node.log_since(start).into_iter();
        let lines: Vec<_> = lines.filter(|line| line.fields["rule"] == rule).collect();
        assert_eq!(lines.len(), 1, "{wrong:?}: {lines:?}");
        assert_eq!(refused(), before + 1.0, "{wrong:?}");
        let theirs = others(wrong).map_or_else(String::new, |text| format!("; theirs: {text}"));
        measured(
            scenario,
            format_args!("{wrong:?}: {rule}, ours: {ours}{theirs}"),
        );
    }
}

/// Takes every server for the right one: who it is does not matter here.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
