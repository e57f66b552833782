//! What is said of blocks that were pruned, and of those that were only just written.

use std::time::SystemTime;

use super::*;

impl Scene {
    /// Twelve blocks, of which the last few are kept, and block 0.
    fn pruned() -> Self {
        let retention = Retention {
            blocks: Some(4),
            age: None,
        };
        let mut scene = Self::with(Settings {
            retention,
            ..made::SMALL
        });
        for _ in 0..12 {
            scene.commit(vec![Call::default().envelope()]);
        }
        scene.prune();
        scene
    }

    fn prune(&mut self) {
        let now = SystemTime::now();
        while self.ledger.prune(now, &|_| false).unwrap().is_some() {}
    }
}

#[tokio::test]
async fn what_was_pruned_is_not_found_and_no_error() {
    let scene = Scene::pruned();
    let first = scene.served().blocks.first();
    assert!(first > 2, "{first}");
    assert_eq!(scene.get("").await["firstBlock"], first);
    assert_eq!(scene.get("/blocks/0").await["number"], 0, "it is held");
    assert_eq!(
        scene.get(&format!("/blocks/{first}")).await["number"],
        first
    );
    let kept = format!("from after={} on", first - 1);
    let gone = format!("blocks from {first} on");
    for (path, says) in [
        ("blocks/1", &gone),
        ("events/blocks?after=start", &kept),
        ("events/transactions?after=start", &kept),
        ("events/transactions?after=1.0", &kept),
    ] {
        let target = format!("/v1/channels/{CHANNEL}/{path}");
        let (status, body) = scene.ask("GET", &target, "").await;
        assert_eq!(status, 404, "{path}: {body}");
        let sentence = body["error"].as_str().unwrap();
        assert!(sentence.contains(says.as_str()), "{path}: {sentence}");
    }
    let (before, first) = ((first - 1).to_string(), first.to_string());
    let path = format!("blocks?after={before}&limit=1");
    assert_eq!(scene.stream(&path, "").await, [before, first]);
}

#[tokio::test]
async fn a_stream_that_pruning_overtakes_ends() {
    let mut scene = Scene::pruned();
    let after = scene.served().blocks.first() - 1;
    // It has said where it is, and waits for its visitor.
    let mut visit = scene.visit(1, true);
    let request = format!(
        "GET /v1/channels/{CHANNEL}/events/transactions?after={after}&organization=none \
         HTTP/1.1\r\n\r\n"
    );
    visit.io.write_all(request.as_bytes()).await.unwrap();
    visit.io.read_u8().await.unwrap();
    for _ in 0..12 {
        scene.commit(vec![Call::default().envelope()]);
    }
    scene.prune();
    assert!(scene.served().blocks.first() > after + 1);
    let mut heard = String::new();
    visit.io.read_to_string(&mut heard).await.unwrap();
    let place = format!(": here\nid: {after}\n\n");
    assert_eq!(heard.matches("id: ").count(), 1, "{heard}");
    assert!(heard.contains(&place), "{heard}");
    assert!(heard.ends_with("\r\n0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn a_cursor_behind_a_block_that_was_just_written_is_good() {
    let mut scene = Scene::small();
    let block = made::block_of(scene.ledger.tip(), vec![Call::default().envelope()]);
    scene.ledger.append(&[block]).unwrap();
    let mut visit = scene.visit(1 << 20, true);
    let request = "GET /v1/channels/mychannel/events/blocks?after=2 HTTP/1.1\r\n\r\n";
    visit.io.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.contains("id: 2\n") {
        heard.push(char::from(visit.io.read_u8().await.unwrap()));
    }
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    scene.commit(vec![Call::default().envelope()]);
    while !heard.contains("id: 3\n") {
        heard.push(char::from(visit.io.read_u8().await.unwrap()));
    }
}
