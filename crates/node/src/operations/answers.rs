//! What is answered at which path.
//!
//! The paths that change or tell much are closed to those who are not trusted, before anything of
//! their request is looked at. Bodies and status codes are Fabric's, whose programs read them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS},
};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use serde::Serialize;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{Shown, dashboard, process};
use crate::{
    crypto::random,
    health::FailedCheck,
    logging::{ChangeRefused, Logging, Seldom},
};

static NOT_TRUSTED: Seldom = Seldom::new();

/// Longest body of a request: a logging spec.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Time for the body of a request, as in Fabric.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of an answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Whoever is at the other end of one connection.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) shown: Arc<Shown>,
    /// Metrics are served.
    pub(super) metrics: bool,
    /// The dashboard is served.
    pub(super) dashboard: bool,
    /// The visitor has shown a good certificate, or none is asked for.
    pub(super) trusted: bool,
}

/// What can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Dashboard,
    DashboardState,
    Healthz,
    Logspec,
    Metrics,
    Version,
}

impl Visitor {
    /// Answers one request.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let page = match request.uri().path() {
            "/dashboard" if self.dashboard => Page::Dashboard,
            "/dashboard/state" if self.dashboard => Page::DashboardState,
            "/healthz" => Page::Healthz,
            "/logspec" => Page::Logspec,
            "/metrics" if self.metrics => Page::Metrics,
            "/version" => Page::Version,
            _ => return not_found(),
        };
        if !matches!(page, Page::Healthz | Page::Version) && !self.trusted {
            if let Some(left_out) = NOT_TRUSTED.line(Instant::now()) {
                tracing::warn!(
                    target: "operations", path = request.uri().path(), left_out,
                    "refused: this path needs a client certificate"
                );
            }
            return empty(StatusCode::UNAUTHORIZED);
        }
        let id = request.headers().get(REQUEST_ID).cloned();
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(request_id);
        let mut answer = match page {
            Page::Dashboard | Page::DashboardState if request.method() != Method::GET => {
                empty(StatusCode::METHOD_NOT_ALLOWED)
            }
            Page::Dashboard => dashboard::page(&self.shown.vitals).await,
            Page::DashboardState => dashboard::state(&self.shown.vitals).await,
            Page::Healthz => self.healthz(request.method()).await,
            Page::Logspec => self.logspec(request).await,
            Page::Metrics => self.metrics(),
            Page::Version => version(request.method()),
        };
        answer.headers_mut().insert(REQUEST_ID, id);
        answer
    }

    async fn healthz(&self, method: &Method) -> Answer {
        if method != Method::GET {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let failed_checks = self.shown.vitals.health.failed_checks().await;
        let (code, status) = if failed_checks.is_empty() {
            (StatusCode::OK, "OK")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        };
        let time = OffsetDateTime::now_utc().format(&Rfc3339);
        let health = Health {
            status,
            time: time.expect("the clock shows a year of four digits"),
            failed_checks,
        };
        json(code, &health, "")
    }

    async fn logspec<B>(&self, request: Request<B>) -> Answer
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match *request.method() {
            Method::GET => match self.shown.logging.as_ref().and_then(Logging::spec) {
                Some(spec) => json(StatusCode::OK, &LogSpec { spec }, "\n"),
                None => unwilling(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &ChangeRefused::NotOurs.to_string(),
                ),
            },
            Method::PUT => match self.change(request.into_body()).await {
                Ok(()) => empty(StatusCode::NO_CONTENT),
                Err((code, error)) => unwilling(code, &error),
            },
            ref other => unwilling(StatusCode::BAD_REQUEST, &method_refused(other)),
        }
    }

    /// Puts the spec of a request into force.
    async fn change<B>(&self, body: B) -> Result<(), (StatusCode, String)>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let bad = |error: String| (StatusCode::BAD_REQUEST, error);
        let body = timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect())
            .await
            .map_err(|_elapsed| {
                let slow = format!("the body took longer than {BODY_TIME_MAX:?}");
                (StatusCode::REQUEST_TIMEOUT, slow)
            })?
            .map_err(|error| match error.downcast_ref() {
                Some(http_body_util::LengthLimitError { .. }) => (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is longer than {BODY_BYTES_MAX} bytes"),
                ),
                None => bad(error.to_string()),
            })?
            .to_bytes();
        let spec = asked_spec(&body).map_err(bad)?;
        let logging = self.shown.logging.as_ref();
        logging
            .ok_or(ChangeRefused::NotOurs)
            .and_then(|logging| logging.change(&spec))
            .map_err(|refused| match refused {
                ChangeRefused::Spec(refused) => bad(refused.to_string()),
                ChangeRefused::NotOurs => (StatusCode::INTERNAL_SERVER_ERROR, refused.to_string()),
            })?;
        Ok(())
    }

    fn metrics(&self) -> Answer {
        let mut text = self.shown.vitals.metrics.text();
        text.push_str(&process::metrics());
        with_type("text/plain; version=0.0.4; charset=utf-8", text.into())
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_checks: Vec<FailedCheck>,
}

#[derive(Serialize)]
struct LogSpec {
    spec: String,
}

/// The spec in a body. As in Fabric the case of the key does not matter, what follows the first
/// value is ignored, and no spec is the default one.
fn asked_spec(body: &[u8]) -> Result<String, String> {
    let asked = serde_json::Deserializer::from_slice(body)
        .into_iter::<Option<Map<String, Value>>>()
        .next()
        .ok_or_else(|| wanted("there is no JSON in the body"))?
        .map_err(|error| wanted(&error.to_string()))?;
    let mut members = asked.unwrap_or_default().into_iter();
    let spec = members.find(|(key, _)| key.eq_ignore_ascii_case("spec"));
    match spec.map(|(_, spec)| spec) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(spec)) => Ok(spec),
        Some(other) => Err(wanted(&format!("the spec is not a text: {other}"))),
    }
}

fn wanted(wrong: &str) -> String {
    format!("{wrong}; give {{\"spec\":\"info\"}}")
}

fn version(method: &Method) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Version {
        #[serde(rename = "CommitSHA")]
        commit: &'static str,
        version: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refused {
        error: String,
    }
    if method != Method::GET {
        let error = method_refused(method);
        return json(StatusCode::BAD_REQUEST, &Refused { error }, "");
    }
    let version = Version {
        commit: option_env!("TIDINGS_COMMIT").unwrap_or("development build"),
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &version, "")
}

fn method_refused(method: &Method) -> String {
    format!("invalid request method: {method}")
}

pub(super) fn unwilling(code: StatusCode, error: &str) -> Answer {
    #[derive(Serialize)]
    struct Unwilling<'a> {
        error: &'a str,
    }
    json(code, &Unwilling { error }, "\n")
}

/// Some of Fabric's answers end with a line break.
fn json(code: StatusCode, body: &impl Serialize, end: &str) -> Answer {
    let mut text = serde_json::to_string(body).expect("texts and lists of texts are JSON");
    text.push_str(end);
    let mut answer = with_type("application/json", text.into());
    *answer.status_mut() = code;
    answer
}

fn not_found() -> Answer {
    let mut answer = with_type(
        "text/plain; charset=utf-8",
        Bytes::from_static(b"404 page not found\n"),
    );
    *answer.status_mut() = StatusCode::NOT_FOUND;
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(super) fn with_type(content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn empty(code: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = code;
    answer
}

/// A random UUID, for a request that names itself by none.
fn request_id() -> HeaderValue {
    let mut bytes: [u8; 16] = random();
    // Version 4, variant 1.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    HeaderValue::try_from(parts.join("-")).expect("hexadecimal digits make a header value")
}
