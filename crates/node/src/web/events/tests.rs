//! Steps through a chain, at their limits.

use super::*;
use crate::web::tests::{CHANNEL, Call, Scene};

fn source(scene: &Scene, filter: Option<Filter>) -> Source {
    Source {
        served: scene.served(),
        filter,
    }
}

fn step(source: &Source, from: &str, wanted: u64) -> (u64, String, String) {
    let height = source.served.blocks.height();
    let page = source.step(Cursor::parse(from).unwrap(), height, wanted);
    let page = page.unwrap();
    let text = String::from_utf8(page.text).unwrap();
    (page.events, page.next.to_string(), text)
}

fn nobodys() -> Option<Filter> {
    Some(Filter {
        organization: Some("nobody".to_owned()),
        ..Filter::default()
    })
}

#[test]
fn a_step_ends_after_so_many_blocks_transactions_and_bytes() {
    let mut scene = Scene::new();
    let small = Call::default().envelope();
    for _ in 0..STEP_BLOCKS_MAX + 1 {
        scene.commit(vec![small.clone()]);
    }
    let by_blocks = step(&source(&scene, nobodys()), "start", 1);
    let last = STEP_BLOCKS_MAX - 1;
    assert_eq!(by_blocks, (0, last.to_string(), String::new()));

    let mut scene = Scene::new();
    scene.commit(vec![small; STEP_TRANSACTIONS_MAX + 1]);
    let source_of = source(&scene, nobodys());
    let (_, next, _) = step(&source_of, "start", 1);
    assert_eq!(next, format!("0.{}", STEP_TRANSACTIONS_MAX - 1));
    assert_eq!(step(&source_of, &next, 1).1, "0");

    let mut scene = Scene::new();
    let large = Call {
        value: vec![7; STEP_BYTES_MAX / 2],
        ..Call::default()
    };
    for _ in 0..3 {
        scene.commit(vec![large.envelope()]);
    }
    assert_eq!(step(&source(&scene, nobodys()), "start", 1).1, "1");
}

#[test]
fn a_page_that_has_enough_ends_in_the_middle_of_a_block() {
    let mut scene = Scene::new();
    let call = Call {
        value: vec![0; PAGE_BYTES_MAX / 4],
        ..Call::default()
    };
    scene.commit(vec![call.envelope(); 8]);
    let source = source(&scene, Some(Filter::default()));
    let mut from = "start".to_owned();
    let mut ids = Vec::new();
    while from != "0" {
        let (events, next, text) = step(&source, &from, u64::MAX);
        assert!(events == 3 || next == "0", "{events}");
        assert!(text.len() < PAGE_BYTES_MAX + PAGE_BYTES_MAX / 2);
        let found = text.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.extend(found.map(str::to_owned));
        from = next;
    }
    let all: Vec<_> = (0..8).map(|position| format!("0.{position}")).collect();
    assert_eq!(ids, all);
    assert_eq!(step(&source, "start", 2).1, "0.1", "no more than wanted");
}

#[test]
fn what_was_found_before_an_error_is_given() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene.commit(vec![Call::default().envelope()]);
    }
    for filter in [None, Some(Filter::default())] {
        let source = source(&scene, filter);
        // There is no third block to be read.
        let page = source.step(Cursor::before(0), 3, u64::MAX).unwrap();
        assert_eq!((page.events, page.next), (2, Cursor::before(2)));
        assert_eq!(
            page.text.windows(4).filter(|text| text == b"id: ").count(),
            2
        );
        source.step(page.next, 3, u64::MAX).unwrap_err();
    }
}

#[test]
fn an_event_leaves_out_what_has_no_room() {
    let mut scene = Scene::new();
    let large = Call {
        id: "large",
        value: vec![0; EVENT_BYTES_MAX],
        ..Call::default()
    };
    scene.commit(vec![large.envelope(), Call::default().envelope()]);
    let (events, next, text) = step(&source(&scene, None), "start", 1);
    assert_eq!((events, &*next), (1, "0"));
    let data = text.strip_prefix("id: 0\nevent: block\ndata: ").unwrap();
    let block: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(block["channel"], CHANNEL);
    let large = &block["transactions"][0];
    assert_eq!(large["id"], "large");
    assert!(large["leftOut"].is_string() && large["namespaces"].is_null());
    assert_eq!(block["transactions"][1]["chaincode"], "cc");
    let (events, _, text) = step(&source(&scene, Some(Filter::default())), "start", 9);
    assert_eq!(events, 2);
    assert!(text.contains("\"leftOut\""), "{text}");
}
