//! Keys under `operations` and `metrics`.

use super::{ConfigRefused, CoreConfig, address, settings::files};
use crate::{operations::OperationsSettings, tls::OperationsTls};

const LISTEN: &str = "operations.listenAddress";

const PROVIDER: &str = "metrics.provider";

/// None if there is nowhere to listen. (A Go peer would then listen at a port of the system's
/// choice, on all addresses.)
pub(super) fn settings(config: &CoreConfig) -> Result<Option<OperationsSettings>, ConfigRefused> {
    let listen = config.text(LISTEN)?;
    let tls = tls(config)?;
    let metrics = metrics(config)?;
    let Some(listen) = listen else {
        return Ok(None);
    };
    Ok(Some(OperationsSettings {
        listen: address::to_listen_on(LISTEN, &listen)?,
        tls,
        metrics,
    }))
}

fn tls(config: &CoreConfig) -> Result<Option<OperationsTls>, ConfigRefused> {
    if !config.flag("operations.tls.enabled", false)? {
        return Ok(None);
    }
    const CERTIFICATE: &str = "operations.tls.cert.file";
    const KEY: &str = "operations.tls.key.file";
    const ROOTS: &str = "operations.tls.clientRootCAs.files";
    let must = |key| {
        let wanted = "operations.tls.enabled is true";
        let content = config.content(key)?;
        content.ok_or(ConfigRefused::Missing { key, wanted })
    };
    Ok(Some(OperationsTls {
        certificate: must(CERTIFICATE)?,
        key: must(KEY)?,
        client_auth_required: config.flag("operations.tls.clientAuthRequired", false)?,
        client_roots: config.contents(ROOTS)?,
        files: files(config, &[CERTIFICATE, KEY], Some(ROOTS))?,
    }))
}

/// Whether `/metrics` is served. Never a reason not to start, as for a Go peer.
fn metrics(config: &CoreConfig) -> Result<bool, ConfigRefused> {
    let provider = config.text(PROVIDER)?;
    match provider.as_deref() {
        Some("prometheus") => return Ok(true),
        None | Some("disabled") => {}
        Some("statsd") => tracing::warn!(
            target: "peer",
            "{PROVIDER}: statsd is not supported, there are no metrics: use prometheus"
        ),
        Some(other) => tracing::warn!(
            target: "peer",
            "{PROVIDER}: {other:?} is not known, there are no metrics: use prometheus"
        ),
    }
    Ok(false)
}
