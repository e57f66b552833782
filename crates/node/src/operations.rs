//! The operations server: health, metrics, log levels and version over HTTP, as Fabric serves them.
//!
//! Promises Fabric's paths, methods, status codes and bodies. With TLS, what tells or changes
//! more than health and version needs a client certificate. Changes nothing but what is logged.

mod answers;
mod dashboard;
mod process;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use self::answers::Visitor;
pub use self::dashboard::dressed;
use crate::{
    logging::Logging,
    reception::{Answers, Door, ListenRefused, Serving},
    tls::{ListenerTls, Section},
    vitals::Vitals,
};

/// What `operations` and `metrics` in `core.yaml` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationsSettings {
    /// `operations.listenAddress`: host and port.
    pub listen: (String, u16),
    /// `operations.tls`; none if that is not enabled.
    pub tls: Option<ListenerTls>,
    /// Metrics are served: `metrics.provider` is `prometheus`.
    pub metrics: bool,
    /// `operations.dashboard.enabled`: the dashboard is served.
    pub dashboard: bool,
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// `/healthz`, and `/metrics` and `/dashboard` if they are served.
    pub vitals: Vitals,
    /// `/logspec`; none if nothing that this program writes can be changed.
    pub logging: Option<Logging>,
}

/// Opens the port and serves. Meant to come before the node is started, which it can show in
/// every state.
pub async fn start(settings: &OperationsSettings, shown: Shown) -> Result<Serving, ListenRefused> {
    let door = Door::open(Section::OPERATIONS, &settings.listen, settings.tls.as_ref()).await?;
    let address = door.address();
    let serving = door.serve(Pages {
        shown: Arc::new(shown),
        metrics: settings.metrics,
        dashboard: settings.dashboard,
    });
    tracing::info!(target: "operations", %address, "the operations server is up");
    Ok(serving)
}

/// What every connection needs.
#[derive(Clone)]
struct Pages {
    shown: Arc<Shown>,
    metrics: bool,
    dashboard: bool,
}

impl Answers for Pages {
    type Body = Full<Bytes>;

    fn refusal(status: StatusCode, sentence: &'static str) -> Response<Full<Bytes>> {
        answers::unwilling(status, sentence)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        is_certified: bool,
    ) -> Response<Full<Bytes>> {
        let visitor = Visitor {
            shown: Arc::clone(&self.shown),
            metrics: self.metrics,
            dashboard: self.dashboard,
            trusted: is_certified,
        };
        visitor.answer(request).await
    }
}
