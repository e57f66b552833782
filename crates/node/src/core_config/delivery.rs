//! Keys under `peer.deliveryclient`.

use std::{collections::BTreeMap, fs};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Map, Value};
use tidings_gossip::ClusterConfig;

use super::{ConfigRefused, CoreConfig, bad};
use crate::service::{AddressOverride, DeliverySettings};

const OVERRIDES: &str = "peer.deliveryclient.addressOverrides";

const POLICY: &str = "peer.deliveryclient.policy";

const OVERRIDES_WANTED: &str = "a list of mappings with from, to and caCertsFile";

/// What concerns connections.
pub(super) fn settings(config: &CoreConfig) -> Result<DeliverySettings, ConfigRefused> {
    let default = DeliverySettings::default();
    Ok(DeliverySettings {
        connect_timeout: config
            .duration_or("peer.deliveryclient.connTimeout", default.connect_timeout)?,
        address_overrides: address_overrides(config)?,
    })
}

/// What concerns orderers that may be dishonest.
pub(super) fn cluster(config: &CoreConfig) -> Result<ClusterConfig, ConfigRefused> {
    let default = ClusterConfig::default();
    let policy = config.text(POLICY)?;
    let watch = match policy.as_deref() {
        None | Some("cluster") => true,
        Some("simple") => false,
        Some(other) => {
            config.warn(format!(
                "{POLICY}: {other:?} is neither cluster nor simple, and is taken as cluster"
            ));
            true
        }
    };
    Ok(ClusterConfig {
        watch,
        block_censorship_timeout: config.duration_or(
            "peer.deliveryclient.blockCensorshipTimeoutKey",
            default.block_censorship_timeout,
        )?,
        minimal_reconnect_interval: config.duration_or(
            "peer.deliveryclient.minimalReconnectInterval",
            default.minimal_reconnect_interval,
        )?,
    })
}

/// The list, or a text that is one in YAML, as a variable has it. Of two entries for one address
/// the later counts.
fn address_overrides(
    config: &CoreConfig,
) -> Result<BTreeMap<String, AddressOverride>, ConfigRefused> {
    let found = match config.find(OVERRIDES) {
        Some(Value::String(text)) => serde_saphyr::from_str::<Option<Value>>(&text)
            .map_err(|_syntax| bad(OVERRIDES, &text, OVERRIDES_WANTED))?,
        found => found,
    };
    let entries = match found {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(one) => vec![one],
    };
    let mut overrides = BTreeMap::new();
    for entry in entries {
        let Value::Object(entry) = entry else {
            return Err(bad(OVERRIDES, &entry.to_string(), OVERRIDES_WANTED));
        };
        let (from, to) = (field(&entry, "from")?, field(&entry, "to")?);
        let Some(tls_roots) = roots(config, &from, &field(&entry, "caCertsFile")?) else {
            continue;
        };
        overrides.insert(from, AddressOverride { to, tls_roots });
    }
    Ok(overrides)
}

/// A text of an entry; keys have no case.
fn field(entry: &Map<String, Value>, name: &str) -> Result<String, ConfigRefused> {
    let found = entry.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    match found.map(|(_, value)| value) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(bad(OVERRIDES, &other.to_string(), OVERRIDES_WANTED)),
    }
}

/// The certificates of the file that an entry names; none if the entry is of no use. Unlike the
/// paths of other keys this one begins at the working directory, as it does for a Go peer.
fn roots(config: &CoreConfig, from: &str, file: &str) -> Option<Vec<Vec<u8>>> {
    if file.is_empty() {
        return Some(Vec::new());
    }
    let reason = match fs::read(file) {
        Err(error) => error.to_string(),
        Ok(content) => {
            let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&content)
                .filter_map(Result::ok)
                .map(|certificate| certificate.to_vec())
                .collect();
            if !certificates.is_empty() {
                return Some(certificates);
            }
            "it holds no certificate in PEM form".to_owned()
        }
    };
    config.warn(format!(
        "the entry for {from} in {OVERRIDES} is passed over, cannot use its caCertsFile {file}: {reason}"
    ));
    None
}
