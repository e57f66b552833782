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
    let [old, before, now] = [54, 60, 62].map(|second| view(second, "peer1:7051"));
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
    assert_eq!(
        picture(&now, Some(&before), Some(&old)).join("\n"),
        expected
    );
    let measuring = picture(&now, Some(&before), Some(&before)).join("\n");
    assert_eq!(measuring, expected.replace(", 0 behind ", "           "));
    let expected = "00:01:02  ch 620 lag 2  members 1  received 500 B/s  sent 3.0 kB/s  \
                    refused 2  well";
    assert_eq!(line(&now, Some(&before)), expected);
    let first = picture(&now, None, None).join("\n");
    assert!(
        first.contains(" …") && !first.contains("10.0/s") && !first.contains(" behind"),
        "{first}"
    );
    let restarted = picture(&before, Some(&now), Some(&now));
    assert_eq!(
        restarted,
        picture(&before, None, None),
        "counted from nothing"
    );
    let later = View {
        seen_at_ms: now.seen_at_ms + START_MOVES_MAX,
        ..now
    };
    let restarted = picture(&later, Some(&before), Some(&old));
    assert_eq!(
        restarted,
        picture(&later, None, None),
        "up for longer than before"
    );
}

#[test]
fn who_is_far_behind_is_marked_and_the_table_fits_a_terminal_of_old() {
    let name = "peer1.org2.example.com:7051";
    let (mut old, mut now) = (view(50, name), view(62, name));
    (old.channels[0].height, now.channels[0].height) = (100_600, 100_700);
    for (height, expected) in [(622, "622 (-100078)"), (100_601, "100601")] {
        now.channels[0].heights = [("aa".repeat(32), height)].into();
        now.members[0].traffic = None;
        let lines = picture(&now, None, Some(&old));
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

/// A node at `height`, with members that claim `claims`.
fn among(second: u64, height: u64, claims: &[u64]) -> View {
    let mut view = view(second, "");
    let name = |index: usize| format!("{index:02}").repeat(32);
    let members = (1..=claims.len()).map(|index| Member {
        peer: name(index),
        ..view.members[0].clone()
    });
    view.members = members.collect();
    let claims = claims.iter().enumerate();
    view.channels[0].heights = claims
        .map(|(index, claim)| (name(index + 1), *claim))
        .collect();
    view.channels[0].height = height;
    view
}

/// By how much the node and its members are behind.
fn behind_of(now: &View, old: &View) -> Vec<Option<u64>> {
    let rates = Rates::new(now, None, Some(old));
    let late = |peer: &Peer| rates.late(peer, &now.channels[0]);
    peers(now).iter().map(late).collect()
}

#[test]
fn one_that_claims_too_much_makes_nobody_late() {
    for lie in [2_000_000, u64::MAX] {
        let (old, now) = (
            among(50, 900, &[900, lie, 901]),
            among(60, 1000, &[960, lie, 1001]),
        );
        assert_eq!(behind_of(&now, &old), [None; 4]);
    }
}

#[test]
fn a_burst_makes_nobody_late_who_tells_its_height_in_time() {
    let (old, now) = (among(50, 900, &[900, 880]), among(60, 9000, &[900, 8995]));
    assert_eq!(behind_of(&now, &old), [None; 3]);
    // So quickly nothing is said at all.
    let soon = among(57, 9000, &[900, 880]);
    assert_eq!(behind_of(&soon, &old), [None; 3]);
}

#[test]
fn who_stays_back_is_late() {
    let (old, now) = (
        among(50, 900, &[100, 900, 891]),
        among(58, 901, &[300, 901, 891]),
    );
    assert_eq!(behind_of(&now, &old), [None, Some(601), None, None]);
    let (old, now) = (among(50, 100, &[900, 900]), among(60, 100, &[950, 960]));
    assert_eq!(behind_of(&now, &old), [Some(850), None, None], "this node");
    let (old, now) = (among(50, 100, &[900]), among(60, 100, &[950]));
    assert_eq!(behind_of(&now, &old), [Some(850), None], "there is but one");
}

#[test]
fn so_many_rules_and_events_are_shown() {
    let mut many = view(1, "peer1:7051");
    let rules = (0..=RULES_SHOWN_MAX as u64).map(|count| (format!("rule{count}"), count));
    many.refused = rules.collect();
    many.history = vec![many.history[0].clone(); EVENTS_SHOWN_MAX + 1];
    let lines = picture(&many, None, None);
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(with("(2 times)"), EVENTS_SHOWN_MAX);
    assert_eq!((with("rule1 1"), with("rule0")), (1, 0), "{lines:?}");
}

#[test]
fn a_link_that_nobody_told_of_is_not_known() {
    let mut busy = view(1, "peer1:7051");
    (busy.traffic_known, busy.members[0].traffic) = (false, None);
    let lines = picture(&busy, None, None);
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
    let lines = picture(&odd, None, None);
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
