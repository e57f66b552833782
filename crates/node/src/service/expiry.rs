//! Certificates of ours: taken up anew while the node runs, and warned of before they end.
//!
//! A TLS certificate is nobody's name, so it can be replaced at any time. The enrolment
//! certificate is: with another one a node is another peer, and that needs a start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_gossip::Input;
use tokio::sync::mpsc;

use super::RunningNode;
use crate::{
    metrics::Metrics,
    tls::{Tls, TlsError, TlsSettings},
};

/// How long before its end a certificate is warned of, in seconds: a week, as in Fabric.
const NOTICE_S: i64 = 7 * 24 * 3600;

/// Between two warnings of the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The certificates of a node, with their ends in seconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) identity_ends_at: i64,
    pub(super) tls: Option<Tls>,
}

impl RunningNode {
    /// Uses these TLS certificates and roots for every connection from now on; those that exist
    /// are left alone. False if they are the same as before. Nothing is changed by settings that
    /// are not good, and nothing in a node without TLS.
    pub fn renew_tls(&self, settings: &TlsSettings) -> Result<bool, TlsError> {
        let Some(tls) = &self.certificates.tls else {
            return Ok(false);
        };
        let is_new = tls.renew(settings, SystemTime::now())?;
        if is_new {
            self.certificates.show(&self.vitals.metrics);
            tracing::info!(
                target: "comm.tls",
                "new TLS certificates are in use for new connections: {}", tls.certificates_named()
            );
            let certificates = &self.certificates;
            for text in certificates
                .doubt()
                .chain(certificates.ending_soon(now_s()))
            {
                tracing::warn!(target: "peer", "{text}");
            }
        }
        Ok(is_new)
    }
}

impl Certificates {
    /// In the metrics.
    pub(super) fn show(&self, metrics: &Metrics) {
        for (name, end) in self.ends() {
            metrics.certificate_end.with_label_values(&[name]).set(end);
        }
    }

    /// Warns at once, and of those that end soon once a day, until the node ends.
    pub(super) async fn warn(self, node: mpsc::Sender<Input>) {
        for text in self.doubt() {
            tracing::warn!(target: "peer", "{text}");
        }
        let mut look = tokio::time::interval(WARN_EVERY);
        loop {
            tokio::select! {
                () = node.closed() => return,
                _ = look.tick() => {}
            }
            for text in self.ending_soon(now_s()) {
                tracing::warn!(target: "peer", "{text}");
            }
        }
    }

    /// Warnings of those that end within the notice.
    fn ending_soon(&self, now: i64) -> impl Iterator<Item = String> {
        self.each_once()
            .filter_map(move |(name, end)| warning(name, end, now))
    }

    /// A warning if others will not take what we show.
    fn doubt(&self) -> impl Iterator<Item = String> + use<> {
        self.tls.as_ref().and_then(Tls::doubt).into_iter()
    }

    /// Without the client's where it is the server's.
    fn each_once(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let hashes = |tls: &Tls| {
            (
                tls.server_certificate_sha256(),
                tls.client_certificate_sha256(),
            )
        };
        let is_one = self
            .tls
            .as_ref()
            .map(hashes)
            .is_some_and(|(server, client)| server == client);
        let ends = self.ends().into_iter();
        ends.filter(move |(name, _)| !is_one || *name != "tls client")
    }

    fn ends(&self) -> Vec<(&'static str, i64)> {
        let mut ends = vec![("identity", self.identity_ends_at)];
        if let Some((server, client)) = self.tls.as_ref().map(Tls::certificates_end_at) {
            ends.extend([("tls server", server), ("tls client", client)]);
        }
        ends
    }
}

fn now_s() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn warning(name: &str, end: i64, now: i64) -> Option<String> {
    let left = end.saturating_sub(now);
    if left > NOTICE_S {
        return None;
    }
    let what = match name {
        "identity" => "renew it and start the node again",
        _ => "replace its files",
    };
    Some(if left < 0 {
        format!("the own certificate ({name}) has expired: {what}")
    } else {
        let (days, hours) = (left / 86_400, left % 86_400 / 3600);
        format!("the own certificate ({name}) expires in {days} days and {hours} hours: {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_a_week_before() {
        const NOW: i64 = 1_800_000_000;
        let told = |name, left| warning(name, NOW + left, NOW);
        assert_eq!(told("identity", NOTICE_S + 1), None);
        assert_eq!(
            told("identity", NOTICE_S).unwrap(),
            "the own certificate (identity) expires in 7 days and 0 hours: \
             renew it and start the node again"
        );
        assert_eq!(
            told("tls server", 86_400 + 7200).unwrap(),
            "the own certificate (tls server) expires in 1 days and 2 hours: replace its files"
        );
        assert_eq!(
            told("tls client", -1).unwrap(),
            "the own certificate (tls client) has expired: replace its files"
        );
        assert_eq!(told("identity", i64::MIN), told("identity", -1));
    }

    #[tokio::test(start_paused = true)]
    async fn warnings_end_with_the_node() {
        let (node, core) = mpsc::channel(1);
        let certificates = Certificates {
            identity_ends_at: i64::MAX,
            tls: None,
        };
        let mut warning = Box::pin(certificates.warn(node));
        let end = tokio::time::timeout(3 * WARN_EVERY, &mut warning).await;
        assert!(end.is_err());
        drop(core);
        warning.await;
    }
}
