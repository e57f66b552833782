//! Keys and certificates of one organization: peers, and one orderer in the same MSP.
//!
//! All are real P-256, made anew for each run and left in folders that nodes start from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tidings_msp::crypto::PrivateKey;
use tidings_node::tls::TlsSettings;
use tidings_proto::{
    Message,
    msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, SerializedIdentity},
};

/// The MSP of everybody.
pub(crate) const MSP_ID: &str = "Org1MSP";

const CONFIG_YAML: &str = "NodeOUs:
  Enable: true
  ClientOUIdentifier: {OrganizationalUnitIdentifier: client}
  PeerOUIdentifier: {OrganizationalUnitIdentifier: peer}
  AdminOUIdentifier: {OrganizationalUnitIdentifier: admin}
  OrdererOUIdentifier: {OrganizationalUnitIdentifier: orderer}
";

/// The organization with its two authorities.
pub(crate) struct Organization {
    identities: CertifiedIssuer<'static, KeyPair>,
    tls: CertifiedIssuer<'static, KeyPair>,
}

/// What a node starts from.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its MSP folder.
    pub(crate) msp_dir: PathBuf,
    /// Where its stores go.
    pub(crate) data_dir: PathBuf,
    /// Its TLS.
    pub(crate) tls: TlsSettings,
}

/// Signs blocks.
pub(crate) struct Orderer {
    /// Its serialized identity.
    pub(crate) identity: Bytes,
    /// Its key.
    pub(crate) key: PrivateKey,
}

impl Organization {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            identities: authority("ca.org1")?,
            tls: authority("tlsca.org1")?,
        })
    }

    /// A peer with its folders below `home`.
    pub(crate) fn seat(&self, home: &Path, name: &str) -> Result<Seat> {
        let (certificate, key) = self.member(name, "peer")?;
        let (home, msp_dir) = (home.join(name), home.join(name).join("msp"));
        for (file, content) in [
            ("cacerts/ca.pem", self.identities.pem()),
            ("signcerts/cert.pem", certificate),
            ("keystore/key_sk", key.serialize_pem()),
            ("config.yaml", CONFIG_YAML.to_owned()),
        ] {
            let path = msp_dir.join(file);
            let folder = path.parent().unwrap_or(&msp_dir);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, unix_lines(&content)))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Seat {
            msp_dir,
            data_dir: home.join("data"),
            tls: self.tls_settings()?,
        })
    }

    /// A certificate for this machine, and trust in its own authority.
    pub(crate) fn tls_settings(&self) -> Result<TlsSettings> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &self.tls)?.pem();
        Ok(TlsSettings {
            certificate: certificate.into(),
            key: key.serialize_pem().into(),
            roots: vec![self.tls.pem().into()],
            ..TlsSettings::default()
        })
    }

    pub(crate) fn orderer(&self) -> Result<Orderer> {
        let (certificate, key) = self.member("orderer", "orderer")?;
        let identity = SerializedIdentity {
            mspid: MSP_ID.to_owned(),
            id_bytes: certificate.into(),
        };
        Ok(Orderer {
            identity: identity.encode_to_vec().into(),
            key: PrivateKey::from_pem(key.serialize_pem().as_bytes())?,
        })
    }

    /// The serialized identity of a peer.
    pub(crate) fn identity(&self, name: &str) -> Result<Bytes> {
        let (certificate, _) = self.member(name, "peer")?;
        let identity = SerializedIdentity {
            mspid: MSP_ID.to_owned(),
            id_bytes: certificate.into(),
        };
        Ok(identity.encode_to_vec().into())
    }

    /// Its MSP as a channel configuration defines it.
    pub(crate) fn msp(&self) -> FabricMspConfig {
        let unit = |unit: &str| {
            Some(FabricOuIdentifier {
                certificate: Bytes::new(),
                organizational_unit_identifier: unit.to_owned(),
            })
        };
        FabricMspConfig {
            name: MSP_ID.to_owned(),
            root_certs: vec![unix_lines(&self.identities.pem()).into()],
            tls_root_certs: vec![unix_lines(&self.tls.pem()).into()],
            fabric_node_ous: Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit("client"),
                peer_ou_identifier: unit("peer"),
                admin_ou_identifier: unit("admin"),
                orderer_ou_identifier: unit("orderer"),
            }),
            ..FabricMspConfig::default()
        }
    }

    fn member(&self, name: &str, unit: &str) -> Result<(String, KeyPair)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, name);
        subject.push(DnType::OrganizationalUnitName, unit);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.identities)?.pem();
        Ok((unix_lines(&certificate), key))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// One line feed after each line, as Go writes PEM.
fn unix_lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}
