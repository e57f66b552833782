//! Keys under `operations`, `http` and `metrics`.

use super::{ConfigRefused, CoreConfig, address, settings::files};
use crate::{
    operations::OperationsSettings,
    reception::{ListenerSettings, ListenersTls},
    tls::{ListenerTls, Section},
};

const PROVIDER: &str = "metrics.provider";

/// None if there is nowhere to listen. (A Go peer would then listen at a port of the system's
/// choice, on all addresses.)
pub(super) fn settings(config: &CoreConfig) -> Result<Option<OperationsSettings>, ConfigRefused> {
    let section = Section::OPERATIONS;
    let listener = listener(config, section)?;
    // A Go peer serves without a word: no reason not to start.
    if asks_in_vain(config, section, listener.as_ref())? {
        config.warn(section.asked_in_vain.to_owned());
    }
    let metrics = metrics(config)?;
    let dashboard = config.flag("operations.dashboard.enabled", false)?;
    Ok(
        listener.map(|ListenerSettings { listen, tls }| OperationsSettings {
            listen,
            tls,
            metrics,
            dashboard,
        }),
    )
}

/// None if there is nowhere to listen. Who wants certificates asked for is not served without.
pub(super) fn http(config: &CoreConfig) -> Result<Option<ListenerSettings>, ConfigRefused> {
    let section = Section::HTTP;
    let listener = listener(config, section)?;
    if asks_in_vain(config, section, listener.as_ref())? {
        return Err(ConfigRefused::Conflict(section.asked_in_vain));
    }
    Ok(listener)
}

/// Whether certificates are wanted where there is no TLS to show them in.
fn asks_in_vain(
    config: &CoreConfig,
    section: &Section,
    listener: Option<&ListenerSettings>,
) -> Result<bool, ConfigRefused> {
    let is_open = listener.is_some_and(|listener| listener.tls.is_none());
    Ok(config.flag(section.client_auth_required, false)? && is_open)
}

/// Of the sections in which it is enabled.
pub(super) fn listeners_tls(config: &CoreConfig) -> Result<ListenersTls, ConfigRefused> {
    let sections = [Section::OPERATIONS, Section::HTTP].into_iter();
    let read = sections.map(|section| Ok(tls(config, section)?.map(|tls| (section.name, tls))));
    read.filter_map(Result::transpose).collect()
}

/// None if there is nowhere to listen.
fn listener(
    config: &CoreConfig,
    section: &'static Section,
) -> Result<Option<ListenerSettings>, ConfigRefused> {
    let listen = config.text(section.listen)?;
    let tls = tls(config, section)?;
    let listen = listen.map(|listen| address::to_listen_on(section.listen, &listen));
    Ok(listen
        .transpose()?
        .map(|listen| ListenerSettings { listen, tls }))
}

fn tls(
    config: &CoreConfig,
    section: &'static Section,
) -> Result<Option<ListenerTls>, ConfigRefused> {
    if !config.flag(section.tls_enabled, false)? {
        return Ok(None);
    }
    let must = |key| {
        let wanted = "TLS is enabled there";
        let content = config.content(key)?;
        content.ok_or(ConfigRefused::Missing { key, wanted })
    };
    Ok(Some(ListenerTls {
        certificate: must(section.certificate)?,
        key: must(section.key)?,
        client_auth_required: config.flag(section.client_auth_required, false)?,
        client_roots: config.contents(section.client_roots)?,
        files: files(
            config,
            &[section.certificate, section.key],
            Some(section.client_roots),
        )?,
    }))
}

/// Whether `/metrics` is served. Never a reason not to start, as for a Go peer.
fn metrics(config: &CoreConfig) -> Result<bool, ConfigRefused> {
    let provider = config.text(PROVIDER)?;
    match provider.as_deref() {
        Some("prometheus") => return Ok(true),
        None | Some("disabled") => {}
        Some("statsd") => config.warn(format!(
            "{PROVIDER}: statsd is not supported, there are no metrics: use prometheus"
        )),
        Some(other) => config.warn(format!(
            "{PROVIDER}: {other:?} is not known, there are no metrics: use prometheus"
        )),
    }
    Ok(false)
}
