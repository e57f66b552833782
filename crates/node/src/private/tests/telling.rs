//! What goes into the log does not grow with what others do.

use tidings_msp::channel_config::ChannelConfig;

use super::*;
use crate::{
    logging::tests::to_memory,
    private::{pushes::tell_refused, registry::Registry},
};

/// More lines than one place writes in a while.
const MANY: usize = 100;

#[test]
fn pushes_that_are_refused_are_told_so_often_and_then_counted() {
    let scene = Scene::new();
    let vault = scene.open();
    let (_logging, subscriber, lines) = to_memory("info");
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..MANY {
            tell_refused(&vault, "there is no room");
        }
    });
    let told = lines.text().matches("is not stored").count();
    assert!((1..MANY / 2).contains(&told), "{told} lines");
}

#[test]
fn what_a_block_says_of_definitions_is_told_in_one_line() {
    let scene = Scene::new();
    let writes = |prefix: &str| {
        let names = (0..MANY).map(|n| format!("{prefix}{n}\n{}", "x".repeat(400)));
        names
            .flat_map(|name| draft::first(&name, &draft::of(&[])))
            .collect()
    };
    let material = &scene.material;
    let endorsers = [&material.peer1, &material.peer2];
    // Nobody has agreed to the one; the other is good.
    let odd = draft::Draft::of(writes("odd"))
        .by(&material.admin1, &[])
        .envelope();
    let good = draft::Draft::of(writes("good"))
        .by(&material.admin1, &endorsers)
        .envelope();
    let block = BlockView::parse(scene.block(0, vec![odd, good])).unwrap();
    let config: Arc<ChannelConfig> = scene.crypto.config(&ChannelId::from(CHANNEL)).unwrap();
    let registry = Registry::open(scene.dir.path(), 1).unwrap();
    let (_logging, subscriber, lines) = to_memory("info");
    let changed = tracing::subscriber::with_default(subscriber, || registry.take(&block, &config));
    assert_eq!(changed.len(), MANY);
    let text = lines.text();
    assert!(text.lines().count() <= 2, "{text}");
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
}
