//! TLS of a node, in both roles, as gossip and the ordering service need it.
//!
//! Promises: whoever talks through here has shown that it holds the key of the certificate it
//! presented, and both ends know the hash of the other's certificate; a server that we dial
//! chains to known roots and carries the name that was dialled. Both ends speak `h2` only, and
//! sessions are never resumed. Roots can be replaced while the node runs. Knows nothing of
//! Fabric identities: which certificate belongs to whom is the handshake's business.
//!
//! Rules: docs/protocol/connections.md.

mod dial;
mod incoming;
mod material;
#[cfg(test)]
pub(crate) mod memory;
mod operations;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
};
use tokio::sync::watch;

pub(crate) use self::dial::{CONNECTION_WINDOW, KEEPALIVE_TIMEOUT, STREAM_WINDOW};
pub use self::{
    dial::{Dial, DialError, Dialed, TcpDial, channel, connect},
    incoming::{Arrival, Closer, Incoming, Listen},
    material::{Place, TlsError, TlsFiles},
    operations::OperationsTls,
    stream::{Io, ServerStream, TlsInfo},
};
use self::{
    material::{KeyPair, Source},
    verify::ClientVerifier,
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

/// The TLS of a node: its certificates, and whom it trusts at the moment. Copies share roots.
#[derive(Clone)]
pub struct Tls {
    parts: Arc<Parts>,
}

struct Parts {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    server: KeyPair,
    client: KeyPair,
    /// Roots of the settings that servers we dial may chain to.
    roots: RootCertStore,
    /// Roots of the settings that clients must chain to; none when any certificate will do.
    client_roots: Option<RootCertStore>,
    current: watch::Sender<Configs>,
    /// Held from reading which roots there are until they are in force.
    replacing: Mutex<()>,
}

/// What new connections use. Replaced as a whole.
#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let now = since_epoch_s(now);
        let pair = |source, certificate: &[u8], key: &[u8]| {
            KeyPair::parse(&provider, source, &settings.files, certificate, key, now)
        };
        let server = pair(Source::Server, &settings.certificate, &settings.key)?;
        let client = match (&settings.client_certificate, &settings.client_key) {
            (None, None) => server.clone(),
            (Some(certificate), Some(key)) => pair(Source::Client, certificate, key)?,
            _ => return Err(TlsError::HalfPair),
        };
        let roots = material::roots("peer.tls.rootcert.file", &settings.files, &settings.roots)?;
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let client_roots = if settings.client_auth_required {
            let (files, roots) = (&settings.files, &settings.client_roots);
            Some(material::roots(
                "peer.tls.clientRootCAs.files",
                files,
                roots,
            )?)
        } else {
            None
        };
        let configs = configs(
            &provider,
            versions,
            (&server, &client),
            roots.clone(),
            client_roots.clone(),
        )?;
        let (current, _) = watch::channel(configs);
        let parts = Parts {
            provider,
            versions,
            server,
            client,
            roots,
            client_roots,
            current,
            replacing: Mutex::new(()),
        };
        Ok(Self {
            parts: Arc::new(parts),
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
        let parts = &*self.parts;
        let _turn = parts
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let certificates = certificates();
        let mut roots = parts.roots.clone();
        material::add_sound(&mut roots, &certificates);
        let client_roots = parts.client_roots.clone().map(|mut client_roots| {
            // Once a channel is joined, its peers and ours are clients that must be let in.
            if !certificates.is_empty() {
                client_roots.extend(roots.roots.iter().cloned());
            }
            client_roots
        });
        let pairs = (&parts.server, &parts.client);
        let configs = configs(&parts.provider, parts.versions, pairs, roots, client_roots)?;
        parts.current.send_replace(configs);
        Ok(())
    }

    /// SHA-256 of the certificate that we present when dialled.
    pub fn server_certificate_sha256(&self) -> [u8; 32] {
        self.parts.server.sha256
    }

    /// SHA-256 of the certificate that we present when dialling.
    pub fn client_certificate_sha256(&self) -> [u8; 32] {
        self.parts.client.sha256
    }

    /// When the certificates end that we present when dialled and when dialling, in seconds since
    /// the Unix epoch.
    pub fn certificates_end_at(&self) -> (i64, i64) {
        (self.parts.server.ends_at, self.parts.client.ends_at)
    }

    /// What we show when dialling, to be used with other roots.
    pub fn client_identity(&self) -> ClientIdentity {
        let Parts {
            provider,
            versions,
            client,
            ..
        } = &*self.parts;
        ClientIdentity {
            provider: provider.clone(),
            versions,
            pair: client.clone(),
        }
    }

    /// For the next connection that is accepted.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.parts.current.borrow().server.clone()
    }

    /// For the next connection that is dialled.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.parts.current.borrow().client.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("client_auth_required", &self.parts.client_roots.is_some())
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

/// Zero before 1970, when no certificate is good.
fn since_epoch_s(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn configs(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    (server, client): (&KeyPair, &KeyPair),
    roots: RootCertStore,
    client_roots: Option<RootCertStore>,
) -> Result<Configs, TlsError> {
    let clients = Arc::new(ClientVerifier::new(provider, client_roots)?);
    let mut server_config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(server.key.clone())));
    server_config.alpn_protocols = vec![ALPN.to_vec()];
    server_config.session_storage = Arc::new(NoServerSessionStorage {});
    server_config.send_tls13_tickets = 0;

    let client_config = client_config(provider, versions, Some(client), roots)?;
    Ok(Configs {
        server: Arc::new(server_config),
        client: Arc::new(client_config),
    })
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
        .with_webpki_verifier(servers);
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
