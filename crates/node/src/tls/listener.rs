//! TLS where HTTP is spoken: for people and their programs, not for peers.
//!
//! As in Fabric: 1.2 or 1.3, and a client certificate that is shown must chain to the roots of the
//! settings; whether one must be shown is a setting, too. Without roots none is good.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{ServerConfig, server::NoServerSessionStorage, sign::SingleCertAndKey};

use super::{
    TlsError, TlsFiles,
    material::{self, KeyPair, Source, since_epoch_s},
    verify::ClientVerifier,
};

/// Keys of `core.yaml` that make a listener, as they are called in its section.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) listen: &'static str,
    pub(crate) tls_enabled: &'static str,
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
    pub(crate) client_auth_required: &'static str,
    pub(crate) client_roots: &'static str,
    /// What is said where certificates are asked for and there is no TLS.
    pub(crate) asked_in_vain: &'static str,
}

macro_rules! section {
    ($name:literal) => {
        Section {
            name: $name,
            listen: concat!($name, ".listenAddress"),
            tls_enabled: concat!($name, ".tls.enabled"),
            certificate: concat!($name, ".tls.cert.file"),
            key: concat!($name, ".tls.key.file"),
            client_auth_required: concat!($name, ".tls.clientAuthRequired"),
            client_roots: concat!($name, ".tls.clientRootCAs.files"),
            asked_in_vain: concat!(
                $name,
                ".tls.clientAuthRequired is true but ",
                $name,
                ".tls.enabled is not, so that nobody would be asked for a certificate: set both or neither"
            ),
        }
    };
}

impl Section {
    /// Of the operations server.
    pub(crate) const OPERATIONS: &Self = &section!("operations");
    /// Of blocks and transactions by HTTP.
    pub(crate) const HTTP: &Self = &section!("http");
}

/// What `tls` in a section names, as read from its files. PEM throughout.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ListenerTls {
    /// `tls.cert.file`.
    pub certificate: Vec<u8>,
    /// `tls.key.file`.
    pub key: Vec<u8>,
    /// `tls.clientAuthRequired`.
    pub client_auth_required: bool,
    /// `tls.clientRootCAs.files`.
    pub client_roots: Vec<Vec<u8>>,
    /// Which files these were read from, for what is said of them.
    pub files: TlsFiles,
}

impl ListenerTls {
    /// Checks everything that the settings name, as for the TLS between peers.
    pub(crate) fn server_config(
        &self,
        section: &'static Section,
        now: SystemTime,
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pair = KeyPair::parse(
            &provider,
            Source::Listener(section),
            &self.files,
            &self.certificate,
            &self.key,
            since_epoch_s(now),
        )?;
        let (files, roots) = (&self.files, &self.client_roots);
        let roots = material::roots(section.client_roots, files, roots)?;
        let clients = ClientVerifier::by_roots(&provider, roots, self.client_auth_required)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(Arc::new(clients))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for ListenerTls {
    /// Keeps keys out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls")
            .field("client_auth_required", &self.client_auth_required)
            .finish_non_exhaustive()
    }
}
