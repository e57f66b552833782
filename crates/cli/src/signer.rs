//! Signing identities out of MSP folders as cryptogen lays them out.
//!
//! Reads the first certificate of `signcerts` and the key of `keystore` that belongs to it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tidings_msp::certificate::Certificate;
use tidings_msp::crypto::{HashFamily, PrivateKey};
use tidings_msp::identity::SigningIdentity;

/// The identity whose certificate and key lie in `msp`.
pub(crate) fn read(msp: &Path, msp_id: &str) -> Result<SigningIdentity> {
    let certificates = files(&msp.join("signcerts"))?;
    let (path, text) = certificates
        .first()
        .ok_or_else(|| anyhow!("{} holds no certificate in signcerts", msp.display()))?;
    let certificate =
        || Certificate::from_pem(text).with_context(|| format!("cannot use {}", path.display()));
    let keystore = msp.join("keystore");
    let mut refused = None;
    for (path, text) in files(&keystore)? {
        let identity = PrivateKey::from_pem(&text)
            .map_err(anyhow::Error::from)
            .and_then(|key| {
                Ok(SigningIdentity::new(
                    msp_id,
                    certificate()?,
                    key,
                    HashFamily::Sha2,
                )?)
            })
            .with_context(|| format!("cannot use {}", path.display()));
        match identity {
            Ok(identity) => return Ok(identity),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(error),
        None => bail!("{} holds no private key", keystore.display()),
    }
}

/// Regular files of a folder in the order of their names.
fn files(folder: &Path) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>> {
    let context = || format!("cannot read {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_file() {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push((path, bytes));
        }
    }
    found.sort();
    Ok(found)
}
