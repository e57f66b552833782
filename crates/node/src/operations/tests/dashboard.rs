//! The dashboard's paths, and what its page may not do.

use std::collections::BTreeMap;

use tidings_gossip::id::ChannelId;

use super::*;
use crate::{
    comm::Traffic,
    health::FailedCheck,
    outlook::{Event, Matter},
    view::{Channel, KindBytes, Member, View},
};

#[path = "../../../tests/network/chromium.rs"]
mod chromium;

fn enabled() -> OperationsSettings {
    OperationsSettings {
        dashboard: true,
        ..plain()
    }
}

#[tokio::test]
async fn there_is_a_dashboard_only_where_it_is_enabled() {
    let scene = Scene::start(&plain()).await;
    for path in ["/dashboard", "/dashboard/state"] {
        let said = scene.ask("GET", path, "").await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }
    let scene = Scene::start(&enabled()).await;
    let page = scene.ask("GET", "/dashboard", "").await;
    let (head, body) = page.split_once("\n\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\nContent-Type: text/html"),
        "{head}"
    );
    assert!(body.starts_with("<!doctype html>") && body.ends_with("</html>\n"));
    for wanted in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "Cache-Control: no-store",
        "nosniff",
    ] {
        assert!(
            head.to_lowercase().contains(&wanted.to_lowercase()),
            "{wanted}: {head}"
        );
    }
    assert!(!head.contains("unsafe"), "{head}");
    let (_, nonce) = head.split_once("script-src 'nonce-").unwrap();
    let nonce = &nonce[..32];
    assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(
        !scene.ask("GET", "/dashboard", "").await.contains(nonce),
        "another each time"
    );

    let state = scene.ask("GET", "/dashboard/state", "").await;
    assert!(state.ends_with("\n\nnull\n"), "not started: {state}");
    for path in ["/dashboard", "/dashboard/state"] {
        let said = scene.ask("POST", path, "").await;
        assert!(said.starts_with("HTTP/1.1 405 "), "{said}");
    }
    for path in ["/dashboard/", "/dashboard/other"] {
        let said = scene.ask("GET", path, "").await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }
}

#[test]
fn the_page_asks_nobody_else_and_makes_markup_of_nothing() {
    let page = dressed(include_str!("../dashboard.html"));
    assert!(
        page.starts_with("<!doctype") && !page.contains("look."),
        "all is in place"
    );
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "Function(",
        " onclick",
        " onload",
        " style=",
        "src=\"http",
        "href=\"http",
        "url(http",
        "@import",
        "import ",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

/// A view in which every text that somebody else chooses wants to be markup.
fn hostile() -> View {
    let odd = |what: &str| format!("<img src=x onerror=console.error(1)>{what}</script><b>");
    let peer = "ab".repeat(32);
    View {
        endpoint: odd("own"),
        organization: odd("ours"),
        failed: vec![FailedCheck {
            component: odd("component"),
            reason: odd("reason"),
        }],
        refused: [(odd("rule"), 3)].into(),
        members: vec![
            Member {
                peer: peer.clone(),
                organization: Some(odd("theirs")),
                endpoint: odd("endpoint"),
                heard_ms: Some(1),
                traffic: Some(Traffic::default()),
            },
            Member {
                peer: "javascript:alert(1)".to_owned(),
                organization: Some("__proto__".to_owned()),
                endpoint: String::new(),
                ..Member::default()
            },
        ],
        kinds: [(odd("kind"), KindBytes::default())].into(),
        channels: vec![Channel {
            channel: odd("channel"),
            height: 5,
            elected: Some(peer.clone()),
            heights: [(peer.clone(), 9)].into(),
            missing: Some(4),
            givers: [(odd("giver"), 1)].into(),
            blocks: BTreeMap::from([("push".to_owned(), 4), ("__proto__".to_owned(), 1)]),
            private: [("eligible".to_owned(), 2)].into(),
            orderers: vec![odd("orderer")],
            orderer_failures: 1,
            ..Channel::default()
        }],
        history: vec![Event {
            at_ms: 1,
            matter: Matter::Orderer,
            channel: odd("channel"),
            text: odd("event"),
            peer: Some(peer),
            times: 2,
        }],
        traffic_known: true,
        ..View::default()
    }
}

#[tokio::test]
async fn no_text_of_others_becomes_markup_in_a_browser() {
    let scene = Scene::start(&enabled()).await;
    scene.vitals.pretend(&hostile()).await;
    let page = scene.ask("GET", "/dashboard", "").await;
    let (_, first) = page.split_once("id=\"first\">").unwrap();
    let (first, rest) = first.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<View>(first).unwrap(), hostile());
    assert_eq!(rest.matches("</script>").count(), 1, "{page}");
    let url = format!("http://{}/dashboard", scene.server.address());
    let Some(seen) = chromium::look(url).await else {
        return;
    };
    assert_eq!(seen.console, Vec::<String>::new(), "{}", seen.dom);
    assert!(!seen.dom.contains("<img"), "{}", seen.dom);
    // It was the same view again and again, of which nothing can be said to go by in a second.
    let (shown, _script) = seen.dom.split_once("<script").unwrap();
    assert_eq!(shown.matches("measuring").count(), 4, "{shown}");
    for claim in ["nothing at the moment", "0.0/s", "live, ", "−4"] {
        assert!(!shown.contains(claim), "{claim}: {shown}");
    }
    for text in [
        "own",
        "ours",
        "component",
        "reason",
        "rule",
        "theirs",
        "endpoint",
        "channel",
        "orderer",
        "event",
    ] {
        let escaped = format!("&lt;img src=x onerror=console.error(1)&gt;{text}");
        assert!(seen.dom.contains(&escaped), "{text}: {}", seen.dom);
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_serves_all_who_ask_for_a_moment() {
    let vitals = Vitals::default();
    assert_eq!(vitals.drawn_view().await, "null");
    vitals
        .health
        .ledger_broke(&ChannelId::from("ch"), "no space");
    let first = vitals.drawn_view().await;
    let again = vitals.drawn_view().await;
    assert_eq!(first.as_ptr(), again.as_ptr(), "not made again");
    tokio::time::advance(crate::outlook::VIEW_AGE_MAX).await;
    assert_ne!(
        first.as_ptr(),
        vitals.drawn_view().await.as_ptr(),
        "made again"
    );
}
