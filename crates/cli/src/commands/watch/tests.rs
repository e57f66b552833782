//! What is shown, line by line.

use tidings_node::comm::Counted;
use tidings_node::health::FailedCheck;
use tidings_node::outlook::{Event, Matter};
use tidings_node::view::Member;

use super::*;

fn view(second: u64, endpoint: &str) -> View {
    let counted = |bytes| Counted {
        messages: second,
        bytes: bytes * second,
        block_bytes: 0,
    };
    let traffic = Traffic {
        connection: 4,
        sent: counted(3000),
        received: counted(500),
        waiting: 0,
    };
    View {
        peer: "00".repeat(32),
        organization: "Org1MSP".into(),
        endpoint: "peer0:7051".into(),
        seen_at_ms: 1000 * second,
        up_ms: 1000 * second,
        traffic_known: true,
        refused: [("S-C7".to_owned(), 2)].into(),
        members: vec![Member {
            peer: "aa".repeat(32),
            organization: Some("Org2MSP".into()),
            endpoint: endpoint.into(),
            heard_ms: Some(300),
            traffic: Some(traffic),
        }],
        channels: vec![Channel {
            channel: "ch".into(),
            height: 10 * second,
            elected: Some("aa".repeat(32)),
            heights: [("aa".repeat(32), 10 * second + 2)].into(),
            blocks: [("push".to_owned(), 7)].into(),
            ..Channel::default()
        }],
        history: vec![Event {
            at_ms: 61_000,
            matter: Matter::Leadership,
            channel: "ch".into(),
            text: "leads".into(),
            peer: Some("aa".repeat(32)),
            times: 2,
        }],
        ..View::default()
    }
}

#[test]
fn a_picture_and_a_line_say_what_goes_by_in_a_second() {
    let (before, now) = (view(60, "peer1:7051"), view(62, "peer1:7051"));
    let expected = "\
00:01:02 UTC  peer0:7051 of Org1MSP  up 62 s
ch  height 620  10.0/s  lag 2  peer1:7051 leads
  blocks  push 7
refused   S-C7 2
00:01:01  peer1:7051 leads (2 times)
2 members, 0 behind                  height      heard  received/s     sent/s
Org1MSP
  this node                             620                  500 B     3.0 kB
Org2MSP
  peer1:7051                            622  0.3 s ago       500 B     3.0 kB";
    assert_eq!(picture(&now, Some(&before)).join("\n"), expected);
    let expected = "00:01:02  ch 620 lag 2  members 1  received 500 B/s  sent 3.0 kB/s  \
                    refused 2  well";
    assert_eq!(line(&now, Some(&before)), expected);
    let first = picture(&now, None).join("\n");
    assert!(
        first.contains(" …") && !first.contains("10.0/s") && !first.contains(" behind"),
        "{first}"
    );
    let restarted = picture(&before, Some(&now));
    assert_eq!(restarted, picture(&before, None), "counted from nothing");
    let later = View {
        seen_at_ms: now.seen_at_ms + START_MOVES_MAX,
        ..now
    };
    let restarted = picture(&later, Some(&before));
    assert_eq!(
        restarted,
        picture(&later, None),
        "up for longer than before"
    );
}

#[test]
fn who_is_far_behind_is_marked_and_the_table_fits_a_terminal_of_old() {
    let name = "peer1.org2.example.com:7051";
    let (mut before, mut now) = (view(60, name), view(62, name));
    (before.channels[0].height, now.channels[0].height) = (100_600, 100_620);
    for (height, expected) in [(622, "622 (-99998)"), (100_601, "100601")] {
        now.channels[0].heights = [("aa".repeat(32), height)].into();
        now.members[0].traffic = None;
        let lines = picture(&now, Some(&before));
        let line = lines.last().unwrap();
        assert!(
            line.contains(expected) && line.ends_with("no link"),
            "{line}"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() < 80),
            "{lines:?}"
        );
    }
}

#[test]
fn so_many_rules_and_events_are_shown() {
    let mut many = view(1, "peer1:7051");
    let rules = (0..=RULES_SHOWN_MAX as u64).map(|count| (format!("rule{count}"), count));
    many.refused = rules.collect();
    many.history = vec![many.history[0].clone(); EVENTS_SHOWN_MAX + 1];
    let lines = picture(&many, None);
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(with("(2 times)"), EVENTS_SHOWN_MAX);
    assert_eq!((with("rule1 1"), with("rule0")), (1, 0), "{lines:?}");
}

#[test]
fn a_link_that_nobody_told_of_is_not_known() {
    let mut busy = view(1, "peer1:7051");
    (busy.traffic_known, busy.members[0].traffic) = (false, None);
    let lines = picture(&busy, None);
    assert!(lines.last().unwrap().ends_with("not known"), "{lines:?}");
}

#[test]
fn others_cannot_steer_the_terminal() {
    let mut odd = view(1, "a\u{1b}[2J\nb:1");
    odd.members[0].organization = Some("Org\u{202e}\r".into());
    odd.history[0].text = "\u{7}".into();
    odd.failed.push(FailedCheck {
        component: "gossip".into(),
        reason: "\u{9b}31m".into(),
    });
    let lines = picture(&odd, None);
    let steers = |line: &String| {
        line.chars()
            .any(|char| char.is_control() || char == '\u{202e}')
    };
    assert!(!lines.iter().any(steers), "{lines:?}");
    assert!(!steers(&line(&odd, None)));
}

#[test]
fn what_finds_no_room_is_cut_and_counted() {
    let lines = || vec!["äöü".to_owned(), "b".to_owned(), "c".to_owned()];
    assert_eq!(fitting(lines(), 80, 3), lines());
    assert_eq!(fitting(lines(), 2, 3), ["äö", "b", "c"]);
    assert_eq!(fitting(lines(), 80, 2), ["äöü", "… and 2 more lines"]);
    assert_eq!(fitting(lines(), 0, 0), ["ä", "…"]);
}

#[test]
fn intervals_have_their_ends() {
    assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0", "-1", "3601", "NaN", "inf", "x"] {
        assert!(interval(wrong).is_err(), "{wrong}");
    }
}
