//! An MSP as operators keep it: a folder of certificate files and a `config.yaml`.
//!
//! Works on contents that somebody else has read, so it touches no disk. Takes the layout and the
//! rules of Fabric's loader; every refusal says which folder is meant and what belongs there.
//! Reading a folder is: fill [`MspFolder::files_mut`] for each of [`SUB_FOLDERS`], set
//! `config_yaml` if the file exists, and put every file of [`referenced_files`] into `referenced`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tidings_proto::msp::{FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use crate::certificate::{Certificate, CertificateRefused};
use crate::crypto::PrivateKey;
use crate::identity::{SigningIdentity, SigningIdentityRefused};
use crate::msp::{Msp, MspRefused, MspVersion};
use crate::pem;

/// The folders that an MSP folder may have. Only regular files directly in them count.
pub const SUB_FOLDERS: [&str; 8] = [
    "cacerts",
    "intermediatecerts",
    "admincerts",
    "signcerts",
    "keystore",
    "crls",
    "tlscacerts",
    "tlsintermediatecerts",
];

/// Name of the optional configuration file.
pub const CONFIG_FILE: &str = "config.yaml";

/// Larger files in the key store are not looked at: no key is that long.
pub const KEY_FILE_BYTES_MAX: usize = 64 * 1024;

/// A file and its name without path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The name.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The contents of an MSP folder.
#[derive(Debug, Clone, Default)]
pub struct MspFolder {
    /// Where it is, for messages.
    pub place: String,
    /// Root CAs; at least one.
    pub cacerts: Vec<NamedFile>,
    /// Intermediate CAs.
    pub intermediatecerts: Vec<NamedFile>,
    /// Explicit administrators.
    pub admincerts: Vec<NamedFile>,
    /// Own certificate; the first in name order counts.
    pub signcerts: Vec<NamedFile>,
    /// Own private key under any name.
    pub keystore: Vec<NamedFile>,
    /// Revocation lists.
    pub crls: Vec<NamedFile>,
    /// Root CAs of TLS.
    pub tlscacerts: Vec<NamedFile>,
    /// Intermediate CAs of TLS; count only beside root ones.
    pub tlsintermediatecerts: Vec<NamedFile>,
    /// Content of `config.yaml`, where there is one.
    pub config_yaml: Option<Vec<u8>>,
    /// Files that `config.yaml` refers to, by the path written there. Absent: not readable.
    pub referenced: BTreeMap<String, Vec<u8>>,
}

/// Something odd in a folder that does not keep it from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderWarning {
    /// A file without PEM was passed over.
    NotPem {
        /// Folder and file.
        file: String,
    },
    /// The certificate of a role cannot be read, so any CA may give that role.
    UnreadableRoleCertificate {
        /// The path as written.
        path: String,
    },
}

impl fmt::Display for FolderWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPem { file } => write!(f, "{file} holds no PEM and is ignored"),
            Self::UnreadableRoleCertificate { path } => write!(
                f,
                "{path}, named under NodeOUs in {CONFIG_FILE}, cannot be read: any CA of the MSP \
                 may give that role"
            ),
        }
    }
}

/// Why an MSP folder is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderRefused {
    /// No root CA.
    #[error("{place}/cacerts has no PEM file; put the organization's root CA certificate there")]
    NoRoots {
        /// The MSP folder.
        place: String,
    },
    /// No own certificate.
    #[error("{place}/signcerts has no PEM file; put the node's own certificate there")]
    NoSigner {
        /// The MSP folder.
        place: String,
    },
    /// The own certificate does not parse.
    #[error("{place}/signcerts/{file}: {reason}")]
    Signer {
        /// The MSP folder.
        place: String,
        /// The file.
        file: String,
        /// What is wrong.
        reason: CertificateRefused,
    },
    /// No key for the own certificate.
    #[error(
        "{place}/keystore has no private key for signcerts/{file}; put it there, \
         unencrypted, as {ski}_sk or under any other name"
    )]
    NoKey {
        /// The MSP folder.
        place: String,
        /// File of the own certificate.
        file: String,
        /// Key identifier in hex.
        ski: String,
    },
    /// The configuration file does not parse.
    #[error("{place}/{CONFIG_FILE}: {reason}")]
    Config {
        /// The MSP folder.
        place: String,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A certificate of the list of organizational units cannot be read.
    #[error(
        "{place}/{path}, named under OrganizationalUnitIdentifiers in {CONFIG_FILE}, cannot be read"
    )]
    UnreadableUnitCertificate {
        /// The MSP folder.
        place: String,
        /// The path as written.
        path: String,
    },
}

/// Why a node cannot take a folder for its own MSP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalMspRefused {
    /// The folder lacks something.
    #[error(transparent)]
    Folder(#[from] FolderRefused),
    /// What is in it makes no MSP.
    #[error("MSP folder {place}: {reason}")]
    Msp {
        /// The MSP folder.
        place: String,
        /// What is wrong.
        reason: MspRefused,
    },
    /// The own identity is not usable.
    #[error("MSP folder {place}: {reason}")]
    Signer {
        /// The MSP folder.
        place: String,
        /// What is wrong.
        reason: SigningIdentityRefused,
    },
}

/// A node's own MSP and identity.
#[derive(Debug)]
pub struct LocalMsp {
    /// The MSP of the own organization.
    pub msp: Arc<Msp>,
    /// The own identity.
    pub signer: SigningIdentity,
    /// What was odd in the folder.
    pub warnings: Vec<FolderWarning>,
}

impl LocalMsp {
    /// Makes a node's MSP and identity from its folder. `now` is in seconds since 1970; an
    /// expired certificate is refused.
    pub fn set_up(
        msp_id: &str,
        folder: &MspFolder,
        version: MspVersion,
        now: i64,
    ) -> Result<Self, LocalMspRefused> {
        let place = || folder.place.clone();
        let (config, mut warnings) = folder.config(msp_id)?;
        let msp = Msp::from_config(&config, version).map_err(|reason| LocalMspRefused::Msp {
            place: place(),
            reason,
        })?;
        let (certificate, key) = folder.signer(&mut warnings)?;
        let signer = msp
            .signing_identity(certificate, key, now)
            .map_err(|reason| LocalMspRefused::Signer {
                place: place(),
                reason,
            })?;
        Ok(Self {
            msp: Arc::new(msp),
            signer,
            warnings,
        })
    }
}

impl MspFolder {
    /// The files of one of [`SUB_FOLDERS`], to be filled.
    pub fn files_mut(&mut self, sub_folder: &str) -> Option<&mut Vec<NamedFile>> {
        Some(match sub_folder {
            "cacerts" => &mut self.cacerts,
            "intermediatecerts" => &mut self.intermediatecerts,
            "admincerts" => &mut self.admincerts,
            "signcerts" => &mut self.signcerts,
            "keystore" => &mut self.keystore,
            "crls" => &mut self.crls,
            "tlscacerts" => &mut self.tlscacerts,
            "tlsintermediatecerts" => &mut self.tlsintermediatecerts,
            _ => return None,
        })
    }

    /// The configuration that others can verify this organization's identities with. It holds
    /// nothing secret, and is what a channel's configuration carries.
    pub fn config(
        &self,
        msp_id: &str,
    ) -> Result<(FabricMspConfig, Vec<FolderWarning>), FolderRefused> {
        let mut warnings = Vec::new();
        let mut items = |name, files: &[NamedFile]| pem_items(name, files, &mut warnings);
        let root_certs = items("cacerts", &self.cacerts);
        if root_certs.is_empty() {
            return Err(FolderRefused::NoRoots {
                place: self.place.clone(),
            });
        }
        let tls_root_certs = items("tlscacerts", &self.tlscacerts);
        let tls_intermediates: &[NamedFile] = if tls_root_certs.is_empty() {
            &[]
        } else {
            &self.tlsintermediatecerts
        };
        let mut config = FabricMspConfig {
            name: msp_id.to_owned(),
            root_certs,
            intermediate_certs: items("intermediatecerts", &self.intermediatecerts),
            admins: items("admincerts", &self.admincerts),
            revocation_list: items("crls", &self.crls),
            tls_intermediate_certs: items("tlsintermediatecerts", tls_intermediates),
            tls_root_certs,
            crypto_config: Some(FabricCryptoConfig {
                signature_hash_family: "SHA2".to_owned(),
                identity_identifier_hash_function: "SHA256".to_owned(),
            }),
            ..FabricMspConfig::default()
        };
        if let Some(yaml) = &self.config_yaml {
            let refuse = |reason| FolderRefused::Config {
                place: self.place.clone(),
                reason,
            };
            let yaml = parse_config(yaml).map_err(refuse)?;
            config.organizational_unit_identifiers = self.unit_list(&yaml)?;
            config.fabric_node_ous = self.node_ous(&yaml, &mut warnings);
        }
        Ok((config, warnings))
    }

    /// The own certificate, and the key in the key store that belongs to it.
    fn signer(
        &self,
        warnings: &mut Vec<FolderWarning>,
    ) -> Result<(&[u8], PrivateKey), FolderRefused> {
        let place = || self.place.clone();
        let file = in_name_order(&self.signcerts)
            .find(|file| is_pem("signcerts", file, warnings))
            .ok_or_else(|| FolderRefused::NoSigner { place: place() })?;
        let name = || file.name.clone();
        let certificate =
            Certificate::from_pem(&file.content).map_err(|reason| FolderRefused::Signer {
                place: place(),
                file: name(),
                reason,
            })?;
        let ski = hex::encode(certificate.public_key().ski().unwrap_or_default());
        let canonical =
            |file: &&NamedFile| file.name.starts_with(&ski) && file.name.ends_with("sk");
        let named = in_name_order(&self.keystore).filter(canonical);
        let others = in_name_order(&self.keystore).filter(|file| !canonical(file));
        let key = named
            .chain(others)
            .filter(|file| file.content.len() <= KEY_FILE_BYTES_MAX)
            .filter_map(|file| PrivateKey::from_pem(&file.content).ok())
            .find(|key| hex::encode(key.ski()) == ski);
        match key {
            Some(key) => Ok((&file.content, key)),
            None => Err(FolderRefused::NoKey {
                place: place(),
                file: name(),
                ski,
            }),
        }
    }

    fn unit_list(&self, yaml: &ConfigYaml) -> Result<Vec<FabricOuIdentifier>, FolderRefused> {
        let listed = yaml.organizational_unit_identifiers.iter().flatten();
        let units = listed.map(|unit| {
            let path = unit.certificate.clone().unwrap_or_default();
            match self.referenced.get(&path) {
                Some(content) => Ok(unit.to_proto(content)),
                None => {
                    let place = self.place.clone();
                    Err(FolderRefused::UnreadableUnitCertificate { place, path })
                }
            }
        });
        units.collect()
    }

    fn node_ous(
        &self,
        yaml: &ConfigYaml,
        warnings: &mut Vec<FolderWarning>,
    ) -> Option<FabricNodeOUs> {
        let node_ous = yaml
            .node_ous
            .as_ref()
            .filter(|node_ous| node_ous.enable == Some(true))?;
        let mut role = |unit: &Option<UnitYaml>| {
            let unit = unit.as_ref().filter(|unit| !unit.name().is_empty())?;
            let path = unit.certificate.as_deref().unwrap_or_default();
            let content = self.referenced.get(path).filter(|_| !path.is_empty());
            if content.is_none() && !path.is_empty() {
                let path = path.to_owned();
                warnings.push(FolderWarning::UnreadableRoleCertificate { path });
            }
            Some(unit.to_proto(content.map_or(&[], Vec::as_slice)))
        };
        Some(FabricNodeOUs {
            enable: true,
            client_ou_identifier: role(&node_ous.client),
            peer_ou_identifier: role(&node_ous.peer),
            admin_ou_identifier: role(&node_ous.admin),
            orderer_ou_identifier: role(&node_ous.orderer),
        })
    }
}

/// The paths, relative to the MSP folder, of the files that a `config.yaml` refers to.
pub fn referenced_files(place: &str, config_yaml: &[u8]) -> Result<Vec<String>, FolderRefused> {
    let refuse = |reason| FolderRefused::Config {
        place: place.to_owned(),
        reason,
    };
    let yaml = parse_config(config_yaml).map_err(refuse)?;
    let listed = yaml.organizational_unit_identifiers.iter().flatten();
    let node_ous = yaml.node_ous.iter();
    let roles = node_ous
        .flat_map(|ous| [&ous.client, &ous.peer, &ous.admin, &ous.orderer])
        .flatten();
    let paths = listed
        .chain(roles)
        .filter_map(|unit| unit.certificate.clone());
    let mut paths: Vec<String> = paths.filter(|path| !path.is_empty()).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// What `config.yaml` may say. Other keys are ignored, as Fabric does.
#[derive(Debug, Default, Deserialize)]
struct ConfigYaml {
    #[serde(rename = "OrganizationalUnitIdentifiers", default)]
    organizational_unit_identifiers: Option<Vec<UnitYaml>>,
    #[serde(rename = "NodeOUs", default)]
    node_ous: Option<NodeOusYaml>,
}

#[derive(Debug, Deserialize)]
struct NodeOusYaml {
    #[serde(rename = "Enable", default)]
    enable: Option<bool>,
    #[serde(rename = "ClientOUIdentifier", default)]
    client: Option<UnitYaml>,
    #[serde(rename = "PeerOUIdentifier", default)]
    peer: Option<UnitYaml>,
    #[serde(rename = "AdminOUIdentifier", default)]
    admin: Option<UnitYaml>,
    #[serde(rename = "OrdererOUIdentifier", default)]
    orderer: Option<UnitYaml>,
}

#[derive(Debug, Deserialize)]
struct UnitYaml {
    #[serde(rename = "Certificate", default)]
    certificate: Option<String>,
    #[serde(rename = "OrganizationalUnitIdentifier", default)]
    name: Option<String>,
}

impl UnitYaml {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn to_proto(&self, certificate: &[u8]) -> FabricOuIdentifier {
        FabricOuIdentifier {
            certificate: Bytes::copy_from_slice(certificate),
            organizational_unit_identifier: self.name().to_owned(),
        }
    }
}

fn parse_config(yaml: &[u8]) -> Result<ConfigYaml, String> {
    let text = str::from_utf8(yaml).map_err(|reason| format!("not text in UTF-8: {reason}"))?;
    let parsed: Option<ConfigYaml> =
        // An excerpt of the file would take several lines.
        serde_saphyr::from_str(text).map_err(|reason| reason.without_snippet().to_string())?;
    Ok(parsed.unwrap_or_default())
}

fn in_name_order(files: &[NamedFile]) -> impl Iterator<Item = &NamedFile> {
    let mut ordered: Vec<&NamedFile> = files.iter().collect();
    ordered.sort_by(|left, right| left.name.cmp(&right.name));
    ordered.into_iter()
}

fn is_pem(sub_folder: &str, file: &NamedFile, warnings: &mut Vec<FolderWarning>) -> bool {
    let found = pem::first_block(&file.content).is_some();
    if !found {
        let file = format!("{sub_folder}/{}", file.name);
        warnings.push(FolderWarning::NotPem { file });
    }
    found
}

fn pem_items(
    sub_folder: &str,
    files: &[NamedFile],
    warnings: &mut Vec<FolderWarning>,
) -> Vec<Bytes> {
    in_name_order(files)
        .filter(|file| is_pem(sub_folder, file, warnings))
        .map(|file| Bytes::copy_from_slice(&file.content))
        .collect()
}

#[cfg(test)]
mod tests;
