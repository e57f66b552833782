//! Views: whose are taken, in what order, and when they change.

use super::{steps::LEN, *};

#[test]
fn a_view_is_taken_from_the_leader_only_and_never_goes_back() {
    let mut t = Table::of(12);
    let say = |t: &mut Table, view: View| rules(&t.hear(7, Message::View(Arc::new(view))));
    assert_eq!(say(&mut t, view(0x2_6363, 99, everybody(12))), ["S-T8"]);
    assert_eq!(
        say(&mut t, view(0x2_0505, 5, everybody(12))),
        ["S-T8"],
        "in our name"
    );
    assert_eq!(
        say(&mut t, view(0x2_0202, 1, everybody(12))),
        ["S-T9"],
        "an epoch of another"
    );
    let unsigned = View {
        digest: Digest([0; 32]),
        ..view(0x2_0101, 1, everybody(12))
    };
    assert_eq!(say(&mut t, unsigned), ["S-T9"]);
    assert_eq!(say(&mut t, view(0x3_0101, 1, everybody(11))), [""; 0]);
    assert_eq!(say(&mut t, view(0x2_0101, 1, everybody(10))), [""; 0]);
    assert_eq!(t.machine.views.latest_epoch(), 0x3_0101);
    assert!(
        t.machine.views.find(0x2_0101).is_none(),
        "older than what is known"
    );
    let changes = View {
        base: 0x3_0101,
        added: vec![(peer(12), Class::Slow)],
        removed: vec![peer(2)],
        ..view(0x4_0101, 1, {
            let mut list = everybody(12);
            list.retain(|(member, _)| *member != peer(2));
            list.last_mut().unwrap().1 = Class::Slow;
            list
        })
    };
    assert_eq!(say(&mut t, changes.clone()), [""; 0]);
    assert_eq!(t.machine.views.latest_epoch(), 0x4_0101);
    let baseless = View {
        base: 9,
        epoch: 0x5_0101,
        ..changes
    };
    let asked = t.hear(7, Message::View(Arc::new(baseless)));
    let request = Message::ViewRequest {
        wanted: 0x5_0101,
        known: 0x4_0101,
    };
    assert_eq!(asked, [send(7, request)]);
}

#[test]
fn a_view_that_comes_before_its_author_is_said_to_lead_waits_for_that() {
    let mut t = Table::of(12);
    let early = Message::View(Arc::new(view(0x2_0202, 2, everybody(12))));
    assert_eq!(t.hear(7, early), []);
    assert!(t.machine.views.find(0x2_0202).is_none());
    assert_eq!(t.feed(Input::Leader(Leader::Peer(peer(2)))), []);
    assert!(t.machine.views.find(0x2_0202).is_some());
    t.now = at(10_000);
    assert_eq!(t.feed(Input::Height(1)), [], "it does not wait any more");
}

#[test]
fn s_t8_a_view_of_who_does_not_lead_is_refused_after_a_while_and_few_wait() {
    let mut t = Table::of(12);
    let mut say = |author: u8, count: u64, base: u64| {
        let epoch = count << 16 | u64::from(author) << 8 | u64::from(author);
        let view = View {
            base,
            ..view(epoch, author, everybody(12))
        };
        t.hear(7, Message::View(Arc::new(view)))
    };
    for author in [2, 3, 4, 6] {
        assert_eq!(say(author, 2, 0), []);
        assert_eq!(say(author, 3, 0), [], "a newer one takes its place");
        assert_eq!(say(author, 4, 2), [], "changes do not");
    }
    assert_eq!(rules(&say(8, 2, 0)), ["S-T8"]);
    let mut out = Vec::new();
    t.now = at(9_999);
    t.machine.tick(t.now, &t.desk, &mut out);
    assert_eq!(out, []);
    t.now = at(10_000);
    t.machine.tick(t.now, &t.desk, &mut out);
    assert_eq!(rules(&out), ["S-T8"; 4]);
    t.feed(Input::Leader(Leader::Peer(peer(3))));
    assert!(t.machine.views.latest_of(&peer(3)).is_none());
}

#[test]
fn s_t8_nobody_speaks_for_a_leader_that_takes_part() {
    let mut t = Table::of(12);
    let of_another = |author: u8, epoch: u64| View {
        root: peer(1),
        ..view(epoch, author, everybody(12)[1..].to_vec())
    };
    assert!(peer(2) < t.machine.me);
    let out = t.hear(2, Message::View(Arc::new(of_another(2, 0x9_0202))));
    assert_eq!(rules(&out), ["S-T8"]);
}

#[test]
fn only_the_newest_view_of_the_leader_says_who_is_a_suspect() {
    let suspects = |t: &Table| {
        let all = t.machine.neighbours.iter();
        all.filter(|(_, n)| n.seen == Some(Class::Suspect)).count()
    };
    let bad = || {
        let mut list = everybody(12);
        list[7].1 = Class::Suspect;
        list
    };
    let mut t = Table::of(12);
    t.feed(Input::Leader(Leader::Peer(peer(2))));
    t.hear(1, Message::View(Arc::new(view(0x8_0101, 1, bad()))));
    assert!(t.machine.views.find(0x8_0101).is_some(), "it led before");
    assert_eq!(suspects(&t), 0);
    t.hear(2, Message::View(Arc::new(view(0x9_0202, 2, bad()))));
    assert_eq!(suspects(&t), 1);
}

#[test]
fn s_t9_nobody_uses_up_the_epochs_of_others() {
    let mut t = Table::of(12);
    let latest = t.machine.views.latest_epoch() >> 16;
    let mut say = |count: u64| {
        let view = view(count << 16 | 0x0101, 1, everybody(12));
        rules(&t.hear(1, Message::View(Arc::new(view))))
    };
    assert_eq!(say((1 << 48) - 1), ["S-T9"]);
    assert_eq!(say(latest + (1 << 20) + 1), ["S-T9"]);
    assert_eq!(say(latest + (1 << 20)), [""; 0]);
    let me = peer(5);
    assert_eq!(view::next_epoch(u64::MAX, &me), None);
    assert_eq!(view::next_epoch((1 << 40) << 16, &me), None);
    assert!(view::next_epoch(((1 << 40) - 1) << 16, &me).is_some());
}

#[test]
fn a_chunk_waits_for_its_view() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let parent = t.family(number, 4, 0).0;
    let chunk = Chunk {
        epoch: 0x2_0101,
        ..t.chunk(number, LEN, 0)
    };
    let request = Message::ViewRequest {
        wanted: 0x2_0101,
        known: EPOCH,
    };
    assert_eq!(
        t.hear(parent, Message::Chunk(chunk.clone())),
        [send(parent, request)]
    );
    assert_eq!(
        t.hear(parent, Message::Chunk(chunk)),
        [],
        "asked for already"
    );
    assert_eq!(t.machine.sizes().strays, 1);
    let later = view(0x2_0101, 1, everybody(12));
    t.hear(parent, Message::View(Arc::new(later)));
    assert_eq!(t.machine.sizes().strays, 0);
}

#[test]
fn a_view_is_changed_every_five_seconds_but_for_lost_connections() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let fewer = Input::Members {
        members: members(11, 1),
        plain: Vec::new(),
    };
    assert_eq!(t.feed(fewer), []);
    let out = t.wait_for_effects();
    assert_eq!(t.now, at(5_000));
    let changes = |e: &Effect| match e {
        Effect::Send {
            message: Message::View(view),
            ..
        } => view.removed == [peer(12)] && view.added.is_empty(),
        _ => false,
    };
    assert_eq!((out.len(), out.iter().all(changes)), (10, true));
    t.feed(Input::Connection {
        peer: peer(3),
        is_up: false,
    });
    let lost = Message::Suspect {
        member: peer(3),
        kind: Suspicion::Lost,
    };
    t.hear(4, lost);
    let out = t.wait_for_effects();
    assert_eq!((t.now, out.len()), (at(5_250), 10));
}

#[test]
fn views_in_quick_succession_do_not_push_out_the_one_in_use() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let in_use = |t: &Table| t.machine.views.in_use(t.now, &peer(1)).unwrap().epoch;
    let first = in_use(&t);
    for (lost, ms) in (3..7).zip((6_000..).step_by(250)) {
        t.now = at(ms);
        let (member, kind) = (peer(lost), Suspicion::Lost);
        t.feed(Input::Connection {
            peer: member,
            is_up: false,
        });
        t.hear(2, Message::Suspect { member, kind });
    }
    assert_eq!(t.machine.sizes().views, 5, "one in use, four to be used");
    assert_eq!(in_use(&t), first);
    t.now = at(7_000);
    assert_ne!(in_use(&t), first);
}
