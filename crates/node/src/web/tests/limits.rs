//! Visitors of streams who are many, silent, or do not read. In paused time.

use super::*;
use crate::web::events::STREAM_TIME_MAX;

const STREAM: &str = "GET /v1/channels/mychannel/events/blocks?after=start HTTP/1.1\r\n\r\n";

async fn status(visit: &mut Visit) -> String {
    let mut status = [0; 12];
    visit.io.read_exact(&mut status).await.unwrap();
    String::from_utf8(status[9..].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn there_are_only_so_many_streams() {
    let scene = Scene::small();
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut visit = scene.visit(1 << 20, true);
        visit.io.write_all(STREAM.as_bytes()).await.unwrap();
        assert_eq!(status(&mut visit).await, "200");
        open.push(visit);
    }
    let mut next = scene.visit(1 << 20, true);
    next.io.write_all(STREAM.as_bytes()).await.unwrap();
    assert_eq!(status(&mut next).await, "503");
    let mut left = open.pop().unwrap();
    drop(left.io);
    left.served.join_next().await.unwrap().unwrap();
    let mut next = scene.visit(1 << 20, true);
    next.io.write_all(STREAM.as_bytes()).await.unwrap();
    assert_eq!(status(&mut next).await, "200");
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_other_answers_and_says_that_it_is_there() {
    let scene = Scene::small();
    let mut visit = scene.visit(1 << 20, true);
    visit.io.write_all(STREAM.as_bytes()).await.unwrap();
    sleep(2 * CONNECTION_TIME_MAX).await;
    let mut heard = vec![0; 1 << 16];
    let len = visit.io.read(&mut heard).await.unwrap();
    let heard = String::from_utf8_lossy(&heard[..len]).into_owned();
    let beats = heard.matches(": here\nid: 1\n\n").count() as u64;
    assert_eq!(beats, 2 * CONNECTION_TIME_MAX.as_secs() / 15 - 1, "{heard}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_a_stream_is_cut_off() {
    let scene = Scene::small();
    let started = time::Instant::now();
    let mut visit = scene.visit(64, true);
    visit.io.write_all(STREAM.as_bytes()).await.unwrap();
    visit.served.join_next().await.unwrap().unwrap();
    assert_eq!(started.elapsed().as_secs(), STALL_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_read_is_told_to_come_again() {
    let scene = Scene::small();
    let _held = scene.desk.reads.held();
    let started = time::Instant::now();
    let (status, body) = scene.ask("GET", "/v1/channels", "").await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(started.elapsed(), ANSWER_TIME_MAX);
}

#[tokio::test(start_paused = true)]
async fn channels_are_told_when_answers_with_blocks_have_no_room_left() {
    let scene = Scene::small();
    let fill = |out: &mut Json| {
        out.raw(&" ".repeat(out.room())).unwrap();
        Ok(())
    };
    let mut held = Vec::new();
    while let Ok(answer) = scene.desk.blocks.make(fill) {
        held.push(answer);
    }
    let base = format!("/v1/channels/{CHANNEL}");
    let newest = format!("{base}/blocks/newest");
    for (target, status) in [(&*newest, 503), (&base, 200), ("/v1/channels", 200)] {
        assert_eq!(scene.ask("GET", target, "").await.0, status, "{target}");
    }
    // They have a bound of their own.
    while let Ok(answer) = scene.desk.channels.make(fill) {
        held.push(answer);
    }
    assert_eq!(scene.ask("GET", &base, "").await.0, 503);
}

#[tokio::test]
async fn of_channels_that_fill_an_answer_none_is_told() {
    let scene = Scene::small();
    let each = scene.get("").await.to_string().len() + ",".len();
    let fit = (answer::CHANNELS_BYTES_MAX - 1) / each;
    for number in 1..=fit {
        let served = scene.served();
        let name = ChannelId::from(format!("{number:>9}").as_str());
        let (blocks, height) = (served.blocks.clone(), served.height.clone());
        let vault = Arc::clone(&served.vault);
        let directory = &scene.desk.directory;
        if number == fit {
            assert_eq!(scene.ask("GET", "/v1/channels", "").await.0, 200);
        }
        directory.open(name, blocks, height, vault, None);
    }
    assert_eq!(scene.ask("GET", "/v1/channels", "").await.0, 500);
    assert_eq!(scene.get("").await["height"], 2, "by itself");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_an_hour() {
    let scene = Scene::small();
    let started = time::Instant::now();
    let heard = scene.say(STREAM, true).await;
    assert_eq!(started.elapsed(), STREAM_TIME_MAX);
    assert!(heard.ends_with("\r\n0\r\n\r\n"), "{heard}");
}
