//! TLS of a node, in both roles, as gossip and the ordering service need it.
//!
//! Promises: whoever talks through here has shown that it holds the key of the certificate it
//! presented, and both ends know the hash of the other's certificate; a server that we dial
//! chains to known roots and carries the name that was dialled. Both ends speak `h2` only, and
//! sessions are never resumed. Certificates and roots can be replaced while the node runs, for
//! connections to come. Knows nothing of
//! Fabric identities: which certificate belongs to whom is the handshake's business.
//!
//! Rules: docs/protocol/connections.md.

mod buffered;
mod chains;
mod dial;
mod fault;
mod incoming;
mod listener;
mod look;
mod material;
#[cfg(test)]
pub(crate) mod memory;
mod own;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
};
use tokio::sync::watch;

use self::{chains::ServerVerifier, material::KeyPair, own::Own, verify::ClientVerifier};
pub(crate) use self::{
    dial::{CONNECTION_WINDOW, FRAME_LEN_MAX, KEEPALIVE_TIMEOUT, STREAM_WINDOW},
    fault::Fault,
    listener::Section,
};
pub use self::{
    dial::{Dial, DialError, Dialed, TcpDial, channel, connect},
    incoming::{Arrival, Closer, Incoming, Listen},
    listener::ListenerTls,
    look::{Blamed, objection, objection_to_der, presented, wrong_name},
    material::{Place, TlsError, TlsFiles},
    stream::{Io, ServerStream, TlsInfo},
};

/// The only application protocol. A Go client hangs up when the server selects none (C-G4).
const ALPN: &[u8] = b"h2";

/// What the settings name, as read from its files. PEM throughout.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// `peer.tls.cert.file`.
    pub certificate: Vec<u8>,
    /// `peer.tls.key.file`.
    pub key: Vec<u8>,
    /// `peer.tls.clientCert.file`; the server's when neither this nor its key is set.
    pub client_certificate: Option<Vec<u8>>,
    /// `peer.tls.clientKey.file`.
    pub client_key: Option<Vec<u8>>,
    /// `peer.tls.clientAuthRequired`.
    pub client_auth_required: bool,
    /// `peer.tls.clientRootCAs.files`.
    pub client_roots: Vec<Vec<u8>>,
    /// `peer.tls.rootcert.file`.
    pub roots: Vec<Vec<u8>>,
    /// Where all this was read, for errors; may be empty.
    pub files: TlsFiles,
}

impl fmt::Debug for TlsSettings {
    /// Keeps keys out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("client_auth_required", &self.client_auth_required)
            .finish_non_exhaustive()
    }
}

/// The TLS of a node: its certificates, and whom it trusts at the moment. Copies share all of it.
#[derive(Clone)]
pub struct Tls {
    parts: Arc<Parts>,
}

struct Parts {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    /// As it was set at the start.
    client_auth_required: bool,
    current: watch::Sender<Current>,
    /// Held from reading what there is until what comes of it is in force.
    replacing: Mutex<()>,
}

/// What new connections use. Replaced as a whole.
struct Current {
    own: Own,
    /// Roots and intermediates of the joined channels, PEM or DER.
    channel_roots: Vec<Vec<u8>>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// One side of a connection to be, and SHA-256 of the certificate that it presents.
pub(crate) struct Side<C> {
    pub(crate) config: Arc<C>,
    pub(crate) certificate_sha256: [u8; 32],
}

impl Tls {
    /// Checks everything that the settings name: pairs that belong together and have not
    /// expired at `now`, roots that are certificates.
    pub fn new(settings: &TlsSettings, now: SystemTime) -> Result<Self, TlsError> {
        Self::with_versions(settings, now, rustls::ALL_VERSIONS)
    }

    fn with_versions(
        settings: &TlsSettings,
        now: SystemTime,
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let client_auth_required = settings.client_auth_required;
        let own = Own::check(&provider, settings, client_auth_required, now)?;
        let current = Current::new(&provider, versions, own, Vec::new())?;
        let parts = Parts {
            provider,
            versions,
            client_auth_required,
            current: watch::channel(current).0,
            replacing: Mutex::new(()),
        };
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// Uses what the settings name now for every new connection. Those that exist are left alone.
    /// False if it is the same as before; nothing is changed by settings that are not good, or not
    /// yet. Whether
    /// clients must show a certificate is not changed by this.
    pub fn renew(&self, settings: &TlsSettings, now: SystemTime) -> Result<bool, TlsError> {
        let Parts {
            provider,
            client_auth_required,
            ..
        } = &*self.parts;
        let own = Own::check(provider, settings, *client_auth_required, now)?;
        own.check_begun(settings, now)?;
        self.replace(|current| {
            let is_new = own.digest != current.own.digest;
            is_new.then(|| (own, current.channel_roots.clone()))
        })
    }

    /// Trusts these roots and intermediates (PEM or DER) of the joined channels beside those of
    /// the settings, in place of those given here before. Connections that exist are left alone.
    /// One that is no CA certificate is skipped with a warning: another organization must not
    /// be able to cut us off from all the rest. They are read here, one replacement after the
    /// other: what was read earlier must not come into force later.
    pub fn replace_channel_roots<C: AsRef<[u8]>>(
        &self,
        certificates: impl FnOnce() -> Vec<C>,
    ) -> Result<(), TlsError> {
        let replaced = self.replace(|current| {
            let roots = certificates();
            let roots = roots.iter().map(|root| root.as_ref().to_vec());
            Some((current.own.clone(), roots.collect()))
        });
        replaced.map(drop)
    }

    /// Replaces what is in force by what is made of it, if anything. Says whether it did.
    fn replace(
        &self,
        next: impl FnOnce(&Current) -> Option<(Own, Vec<Vec<u8>>)>,
    ) -> Result<bool, TlsError> {
        let parts = &*self.parts;
        let _turn = parts
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((own, roots)) = next(&parts.current.borrow()) else {
            return Ok(false);
        };
        let next = Current::new(&parts.provider, parts.versions, own, roots)?;
        parts.current.send_replace(next);
        Ok(true)
    }

    /// SHA-256 of the certificate that we present when dialled.
    pub fn server_certificate_sha256(&self) -> [u8; 32] {
        self.parts.current.borrow().own.server.sha256
    }

    /// SHA-256 of the certificate that we present when dialling.
    pub fn client_certificate_sha256(&self) -> [u8; 32] {
        self.parts.current.borrow().own.client.sha256
    }

    /// When the certificates end that we present when dialled and when dialling, in seconds since
    /// the Unix epoch.
    pub fn certificates_end_at(&self) -> (i64, i64) {
        let current = self.parts.current.borrow();
        (current.own.server.ends_at, current.own.client.ends_at)
    }

    /// Which certificates they are, for a person.
    pub(crate) fn certificates_named(&self) -> String {
        let Own { server, client, .. } = &self.parts.current.borrow().own;
        if server.sha256 == client.sha256 {
            server.name.clone()
        } else {
            format!("{}; for dialling {}", server.name, client.name)
        }
    }

    /// Why peers with our roots will not take our server's certificate, if so.
    pub(crate) fn doubt(&self) -> Option<String> {
        self.parts.current.borrow().own.doubt.clone()
    }

    /// What we show when dialling, to be used with other roots.
    pub fn client_identity(&self) -> ClientIdentity {
        let Parts {
            provider,
            versions,
            current,
            ..
        } = &*self.parts;
        ClientIdentity {
            provider: provider.clone(),
            versions,
            pair: current.borrow().own.client.clone(),
        }
    }

    /// For the next connection that is accepted.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server_side().config
    }

    /// For the next connection that is dialled.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client_side().config
    }

    pub(crate) fn server_side(&self) -> Side<ServerConfig> {
        let current = self.parts.current.borrow();
        Side {
            config: current.server.clone(),
            certificate_sha256: current.own.server.sha256,
        }
    }

    pub(crate) fn client_side(&self) -> Side<ClientConfig> {
        let current = self.parts.current.borrow();
        Side {
            config: current.client.clone(),
            certificate_sha256: current.own.client.sha256,
        }
    }
}

impl Current {
    fn new(
        provider: &Arc<CryptoProvider>,
        versions: &'static [&'static SupportedProtocolVersion],
        own: Own,
        channel_roots: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let mut roots = own.roots.clone();
        material::add_sound(&mut roots, &channel_roots);
        let client_roots = own.client_roots.clone().map(|mut client_roots| {
            // Once a channel is joined, its peers and ours are clients that must be let in.
            if !channel_roots.is_empty() {
                client_roots.extend(roots.roots.iter().cloned());
            }
            client_roots
        });
        Ok(Self {
            server: server_config(provider, versions, &own.server, client_roots).map(Arc::new)?,
            client: client_config(provider, versions, Some(&own.client), roots).map(Arc::new)?,
            own,
            channel_roots,
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("client_auth_required", &self.parts.client_auth_required)
            .finish_non_exhaustive()
    }
}

/// The certificate that a node shows when dialling, for servers with roots of their own: those of
/// the ordering service.
#[derive(Clone)]
pub struct ClientIdentity {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    pair: KeyPair,
}

impl ClientIdentity {
    /// SHA-256 of the certificate.
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.pair.sha256
    }

    fn config<C: AsRef<[u8]>>(
        &self,
        roots: &[C],
        show_certificate: bool,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let mut store = RootCertStore::empty();
        material::add_sound(&mut store, roots);
        let shown = show_certificate.then_some(&self.pair);
        client_config(&self.provider, self.versions, shown, store).map(Arc::new)
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// Offers what the library does, and TLS 1.3 with AES-128 first, as Go does: its transcript is
/// hashed by SHA-256, which processors have instructions for, unlike that of AES-256.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_first =
        |suite: &SupportedCipherSuite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| !is_first(suite));
    provider
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    shown: &KeyPair,
    client_roots: Option<RootCertStore>,
) -> Result<ServerConfig, TlsError> {
    let clients = Arc::new(ClientVerifier::new(provider, client_roots)?);
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown.key.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<&KeyPair>,
    roots: RootCertStore,
) -> Result<ClientConfig, TlsError> {
    let servers = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(TlsError::Verifier)?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        // Webpki judges, and is not asked the same twice.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(servers)));
    let mut config = match shown {
        // The resolver offers our certificate whatever issuers the server lists (C-G2).
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
