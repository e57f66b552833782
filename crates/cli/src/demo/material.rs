//! The folders that a demo network is made of: identities, TLS and the genesis block.
//!
//! Promises: made and recorded networks are read by the same rules, so that what works with one
//! works with the other. The MSP of an organization is found by its CA certificate in the
//! channel's configuration, never by the name of a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use tidings_msp::certificate::Certificate;
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::Message;
use tidings_proto::common::ConfigGroup;
use tidings_proto::msp::{FabricMspConfig, MspConfig};

use super::keys::Kind;

/// Everything that the nodes and the orderer of a demo are started from.
pub(crate) struct Material {
    /// Block 0.
    pub(crate) genesis: Bytes,
    /// Its configuration.
    pub(crate) config: ChannelConfig,
    /// The orderer.
    pub(crate) orderer: Member,
    /// Organizations with peers, in the order of their domains.
    pub(crate) orgs: Vec<Organization>,
}

/// An organization with peers.
pub(crate) struct Organization {
    /// Its MSP.
    pub(crate) msp_id: String,
    /// Its peers, in the order of their names.
    pub(crate) peers: Vec<Member>,
    /// MSP folder of its first client.
    pub(crate) client: PathBuf,
}

/// A peer or an orderer.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Host name, such as `peer0.org1.demo`.
    pub(crate) name: String,
    /// Its MSP.
    pub(crate) msp_id: String,
    /// Its MSP folder.
    pub(crate) msp: PathBuf,
    /// Its TLS folder: `server.crt`, `server.key`, `ca.crt`.
    pub(crate) tls: PathBuf,
}

impl Material {
    /// Reads the layout of cryptogen and a genesis block: `dir/crypto`, `dir/genesis.block`.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("genesis.block");
        let genesis = Bytes::from(
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
        );
        let config = ChannelConfig::from_config_block(&genesis)
            .with_context(|| format!("cannot use {}", path.display()))?;
        let crypto = dir.join("crypto");
        let orderers = organizations(&crypto, Kind::Orderers, &config)?;
        let orderer = orderers
            .into_iter()
            .flat_map(|org| org.peers)
            .next()
            .ok_or_else(|| anyhow!("{} holds no orderer", crypto.display()))?;
        let orgs = organizations(&crypto, Kind::Peers, &config)?;
        ensure!(
            !orgs.is_empty(),
            "{} holds no organization with peers",
            crypto.display()
        );
        Ok(Self {
            genesis,
            config,
            orderer,
            orgs,
        })
    }

    /// At most so many peers of each organization take part.
    pub(crate) fn limit_peers(&mut self, peers: usize) {
        for org in &mut self.orgs {
            org.peers.truncate(peers);
        }
    }
}

impl Member {
    /// A file of its TLS folder.
    pub(crate) fn tls_file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.tls.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

fn organizations(crypto: &Path, kind: Kind, config: &ChannelConfig) -> Result<Vec<Organization>> {
    let mut organizations = Vec::new();
    for root in folders(&crypto.join(kind.folder()))? {
        let msp_id = msp_id(&root, config)?;
        let peers = folders(&root.join(kind.nodes()))?
            .into_iter()
            .map(|folder| Member {
                name: name(&folder),
                msp_id: msp_id.clone(),
                msp: folder.join("msp"),
                tls: folder.join("tls"),
            })
            .collect();
        let users = folders(&root.join("users"))?;
        let client = users
            .iter()
            .find(|user| !name(user).starts_with("Admin"))
            .or_else(|| users.first())
            .ok_or_else(|| anyhow!("{} holds no users", root.display()))?
            .join("msp");
        organizations.push(Organization {
            msp_id,
            peers,
            client,
        });
    }
    Ok(organizations)
}

/// The MSP of the channel that has the CA certificate of this organization's folder.
fn msp_id(root: &Path, config: &ChannelConfig) -> Result<String> {
    let folder = root.join("msp/cacerts");
    let ca = fs::read_dir(&folder)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .ok_or_else(|| anyhow!("{} holds no CA certificate", folder.display()))?
        .path();
    let ca = fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
    let ca =
        Certificate::from_pem(&ca).with_context(|| format!("cannot use {}", folder.display()))?;
    let sections = ["Application", "Orderer"].map(|name| config.group().groups.get(name));
    sections
        .into_iter()
        .flatten()
        .flat_map(|section| section.groups.values())
        .filter_map(fabric_msp)
        .find(|msp| {
            msp.root_certs.iter().any(|root| {
                Certificate::from_pem(root).is_ok_and(|root| root.fingerprint() == ca.fingerprint())
            })
        })
        .map(|msp| msp.name)
        .ok_or_else(|| {
            anyhow!(
                "no organization of channel {} has the CA of {}: the folder and the genesis \
                 block are not of one network",
                config.channel_id(),
                root.display()
            )
        })
}

fn fabric_msp(org: &ConfigGroup) -> Option<FabricMspConfig> {
    let msp = MspConfig::decode(org.values.get("MSP")?.value.clone()).ok()?;
    FabricMspConfig::decode(msp.config).ok()
}

/// Folders in a folder in the order of their names.
fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", root.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
