//! What is thought of members: silent, suspect, slow, or withholding.

use super::{
    steps::{LEN, ack},
    *,
};

#[test]
fn who_does_not_answer_twice_is_a_suspect_until_it_speaks() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(6_000);
    let silent = Message::Suspect {
        member: peer(3),
        kind: Suspicion::Silent,
    };
    let is_probe = |out: &[Effect]| {
        matches!(out, [Effect::Send { to, message: Message::Status(status) }]
            if *to == peer(3) && status.answer)
    };
    assert!(is_probe(&t.hear(4, silent.clone())));
    assert_eq!(t.hear(6, silent), [], "one probe at a time");
    assert!(is_probe(&t.wait()));
    let out = t.wait_for_effects();
    assert_eq!(out.len(), 11, "a view with a suspect");
    let class = |t: &Table| {
        let view = t.machine.views.latest().unwrap();
        view.member(view.index(&peer(3)).unwrap()).unwrap().1
    };
    assert_eq!(class(&t), Class::Suspect);
    t.hear(3, Message::Status(message::Status::default()));
    t.wait_for_effects();
    assert_eq!(class(&t), Class::Normal);
}

fn class_of(t: &Table, number: u8) -> Class {
    let view = t.machine.views.latest().unwrap();
    view.member(view.index(&peer(number)).unwrap()).unwrap().1
}

fn say_silent(t: &mut Table, by: u8, number: u8) {
    let (member, kind) = (peer(number), Suspicion::Silent);
    t.hear(by, Message::Suspect { member, kind });
    t.hear(number, Message::Status(message::Status::default()));
}

#[test]
fn who_is_missed_far_more_often_than_others_is_slow_though_it_answers() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let report = |t: &mut Table, number: u8, turn: u8| {
        let by = (2..=12).filter(|by| *by != number).nth(turn.into());
        say_silent(t, by.unwrap(), number);
    };
    t.now = at(6_000);
    for turn in 0..20 {
        for number in 3..=12 {
            report(&mut t, number, turn % 10);
        }
    }
    t.now = at(12_000);
    for turn in 0..9 {
        report(&mut t, 3, turn);
    }
    t.now = at(17_000);
    t.hear(2, Message::Status(message::Status::default()));
    assert!((2..=12).all(|number| class_of(&t, number) == Class::Normal));
    t.now = at(18_000);
    for turn in 0..10 {
        report(&mut t, 3, turn % 4);
    }
    assert_eq!(class_of(&t, 3), Class::Slow);
    assert!((4..=12).all(|number| class_of(&t, number) == Class::Normal));
}

/// Seed 2 of the study's overloaded members: all were found in a tenth of a second, and all but the
/// first stayed in everybody's way for five.
#[test]
fn what_can_wait_does_not_hold_up_a_view_that_is_urgent() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(6_000);
    for member in [3, 5] {
        for turn in 0..10 {
            say_silent(&mut t, 8 + turn % 4, member);
        }
    }
    assert_eq!(class_of(&t, 3), Class::Slow);
    assert_eq!(class_of(&t, 5), Class::Normal, "not before 250 ms are over");
    t.feed(Input::Leader(Leader::MeAmongOthers));
    t.now = at(6_250);
    t.hear(2, Message::Status(message::Status::default()));
    assert_eq!(class_of(&t, 5), Class::Slow);
}

#[test]
fn an_acknowledgement_that_nobody_awaits_resets_nothing() {
    let mut t = Table::of(12);
    t.machine.neighbours.find_mut(&peer(9)).unwrap().misses = 2;
    t.hear(9, ack(0, 0));
    assert_eq!(t.machine.neighbours.find(&peer(9)).unwrap().misses, 2);
}

/// Stripes from 0 on come by their trees, as many as this, and the others as answers of member 8.
/// Who is reported to the root when the block is here.
fn reported_when(in_time: u8) -> (Vec<u8>, Vec<u8>) {
    let mut t = Table::of(12);
    let fits = |t: &mut Table, n| (0..4).all(|s| ![1, 8].contains(&t.family(n, 4, s).0));
    let number = (0..AHEAD_MAX).find(|number| fits(&mut t, *number)).unwrap();
    for stripe in 0..in_time {
        let parent = t.family(number, 4, stripe).0;
        let chunk = t.chunk(number, LEN, stripe);
        t.hear(parent, Message::Chunk(chunk));
    }
    let chunk = t.chunk(number, LEN, 0);
    t.hear(
        8,
        forward::have(number, (chunk.hash, chunk.cut), Have::COMPLETE, false),
    );
    while !t.machine.blocks[&number].asked_of.contains(&peer(8)) {
        t.wait();
    }
    for stripe in in_time..4 {
        let chunk = t.chunk(number, LEN, stripe);
        let repair = true;
        t.hear(8, Message::Chunk(Chunk { repair, ..chunk }));
    }
    let (block, hash) = whole(number, LEN);
    let verdict = Verdict::Good(block);
    let out = t.feed(Input::Judged {
        number,
        hash,
        verdict,
    });
    let reported = out.iter().filter_map(|effect| match effect {
        Effect::Send {
            to,
            message: Message::Suspect { member, kind },
        } => {
            assert_eq!((*to, *kind), (peer(1), Suspicion::Silent));
            Some(name(*member))
        }
        _ => None,
    });
    let parents = (0..4).map(|stripe| t.family(number, 4, stripe).0);
    (parents.collect(), reported.collect())
}

#[test]
fn who_should_have_sent_a_stripe_that_came_from_another_is_reported() {
    let (parents, reported) = reported_when(3);
    assert_eq!(reported, [parents[3]]);
}

#[test]
fn nobody_is_reported_where_much_is_late_or_nothing() {
    assert_eq!(reported_when(2).1, [] as [u8; 0]);
    let mut t = Table::of(12);
    let out = (0..4).flat_map(|stripe| {
        let parent = t.family(0, 4, stripe).0;
        let chunk = t.chunk(0, LEN, stripe);
        t.hear(parent, Message::Chunk(chunk))
    });
    let out: Vec<_> = out.collect();
    assert!(!out.iter().any(|e| matches!(
        e,
        Effect::Send {
            message: Message::Suspect { .. },
            ..
        }
    )));
}

#[test]
fn no_three_members_make_another_slow_and_what_the_root_sees_counts_in_full() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(6_000);
    for by in [2, 4, 6].repeat(20) {
        say_silent(&mut t, by, 3);
    }
    t.now = at(10_000);
    t.hear(2, Message::Status(message::Status::default()));
    assert_eq!(class_of(&t, 3), Class::Normal);
    t.machine
        .report(t.now, peer(3), Suspicion::Silent, &mut Vec::new());
    t.wait_for_effects();
    assert_eq!(class_of(&t, 3), Class::Slow);
}

#[test]
fn a_suspect_of_a_new_view_is_one_in_the_trees_of_the_old_one_too() {
    let mut t = Table::of(12);
    let old = t.machine.views.latest().unwrap();
    let mut members = old.members.clone();
    for (member, class) in &mut members {
        if *member == peer(3) {
            *class = Class::Suspect;
        }
    }
    let view = View {
        epoch: view::next_epoch(old.epoch, &peer(1)).unwrap(),
        base: 0,
        digest: View::digest_of(&members),
        added: members,
        ..old.in_full()
    };
    t.hear(1, Message::View(Arc::new(view)));
    let seen = |t: &Table, number| t.machine.neighbours.find(&peer(number)).unwrap().seen;
    assert_eq!(seen(&t, 3), Some(Class::Suspect));
    assert_eq!(seen(&t, 4), None);
}
