//! The dashboard of one node: a page that needs nothing else, and what it shows.
//!
//! Promises: the page loads nothing from elsewhere and runs no script but its own, and no text that
//! others had a hand in becomes anything but text. Both is left to the browser to enforce, too.
//! Its look, and what draws it, are shared with the page of the demo.

use http::{
    HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};

use super::answers::{Answer, with_type};
use crate::{crypto::random, vitals::Vitals};

const PAGE: &str = include_str!("dashboard.html");
/// What our pages share, each by what stands in a page in its place.
const SHARED: [(&str, &str); 4] = [
    ("<!--look.html-->\n", include_str!("look.html")),
    ("<!--look.svg-->\n", include_str!("look.svg")),
    ("/*look.css*/", include_str!("look.css")),
    ("/*look.js*/", include_str!("look.js")),
];

/// Stands in the page for a text that nobody can guess, by which the browser knows our script and
/// our styles.
const NONCE: &str = "{nonce}";

/// Stands in the page for what it shows first.
const FIRST: &str = "{first}";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A page with the head, mark, colours, shapes and tools that our pages share.
pub fn dressed(page: &str) -> String {
    let put = |page: String, (place, part): (&str, &str)| page.replace(place, part);
    SHARED.into_iter().fold(page.to_owned(), put)
}

/// The page, with what it shows first if that is to be had soon.
pub(super) async fn page(vitals: &Vitals) -> Answer {
    let first = vitals.drawn_view_soon().await;
    let first = first
        .as_deref()
        .map_or_else(|| "null".into(), String::from_utf8_lossy);
    let nonce = hex::encode(random::<16>());
    let page = dressed(PAGE).replace(NONCE, &nonce);
    // Only inside of texts JSON has this, which would else end the element or begin another.
    let page = page.replace(FIRST, &first.replace('<', "\\u003c"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let mut answer = with_type("text/html; charset=utf-8", page.into());
    let policy = HeaderValue::try_from(policy).expect("words and hexadecimal digits");
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for_this_page_only(answer)
}

/// What it shows.
pub(super) async fn state(vitals: &Vitals) -> Answer {
    for_this_page_only(with_type("application/json", vitals.drawn_view().await))
}

fn for_this_page_only(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    answer
}
