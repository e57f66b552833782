//! Nothing that a node is fed breaks it, and the same again gives the same again.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    config::ClusterConfig,
    delivery::{Agreement, VerifiedHeader},
    message::{IdentityMessage, TransferredBlock},
};

#[derive(Clone, Debug)]
enum Step {
    Feed(usize, usize, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..42_usize, 0..4_usize, 0..30_u64).prop_map(|(what, who, n)| Step::Feed(what, who, n)),
        1 => (0..5000_u64).prop_map(Step::Wait),
    ]
}

/// Everything that a driver or a peer may come up with, sensible or not.
fn input(what: usize, from: &Arc<Connection>, other: &Arc<PeerIdentity>, n: u64) -> Input {
    if what < 17 || what == 41 {
        driven(what, from, other, n)
    } else if (34..38).contains(&what) {
        private::driven(what - 34, &channel_of(n), other, n)
    } else {
        Input::Received {
            from: Arc::clone(from),
            message: Verified::new(message(what, from, other, n)),
        }
    }
}

fn channel_of(n: u64) -> ChannelId {
    ["ch", "elsewhere"][usize::from(n.is_multiple_of(5))].into()
}

fn driven(what: usize, from: &Arc<Connection>, other: &Arc<PeerIdentity>, n: u64) -> Input {
    let channel = channel_of(n);
    let delivery = |event| Input::Delivery {
        channel: channel.clone(),
        event,
    };
    match what {
        0 => Input::Connected(Arc::clone(from)),
        1 => Input::Disconnected {
            connection: from.id,
            peer: from.peer(),
        },
        2 => Input::Unreachable(from.peer()),
        3 => Input::Switched {
            expected: from.peer(),
        },
        4 => Input::Probed {
            ticket: Ticket(n),
            answered: n.is_multiple_of(2),
        },
        5 => Input::Identified {
            ticket: Ticket(n),
            peer: Ok(Arc::clone(other)),
        },
        6 => Input::Revoked(other.pki_id),
        7 => Input::Join {
            channel,
            join: join(
                n,
                [&["A", "B"], &["A"][..]][usize::from(n.is_multiple_of(3))],
            ),
            height: n,
        },
        8 => Input::Leave(channel),
        9 => Input::Committed { channel, height: n },
        10 => Input::CommitRefused { channel, number: n },
        11 => Input::Served {
            ticket: Ticket(FIRST_TICKET + n),
        },
        12 => delivery(brought(n)),
        13 => delivery(told_of_orderers(n)),
        14 => delivery(delivery::Event::Failed {
            stream: StreamId(n % 3),
            reason: "gone".to_owned(),
            forbidden: n.is_multiple_of(2),
        }),
        41 => Input::Offered {
            channel,
            block: block(n),
        },
        15 => Input::Chaincodes {
            channel,
            chaincodes: vec![Default::default(); usize::try_from(n % 3).unwrap()],
        },
        _ => Input::SendByCriteria(SendByCriteria {
            ticket: Ticket(n),
            message: Default::default(),
            timeout: Duration::from_millis(100 * n),
            min_ack: 1,
            max_peers: 3,
            channel: n.is_multiple_of(2).then_some(channel),
            eligible: None,
        }),
    }
}

fn brought(n: u64) -> delivery::Event {
    let (stream, block) = (StreamId(n % 5), block(n));
    if n.is_multiple_of(3) {
        return delivery::Event::Block { stream, block };
    }
    let header = VerifiedHeader {
        number: n,
        hash: block.hash,
        previous_hash: block.previous_hash,
    };
    delivery::Event::Header { stream, header }
}

fn told_of_orderers(n: u64) -> delivery::Event {
    match n % 4 {
        0 => delivery::Event::Agreement(
            [Agreement::Byzantine, Agreement::CrashFault][usize::from(n.is_multiple_of(3))],
        ),
        1 => delivery::Event::Tip {
            number: n,
            hash: block(n).hash,
        },
        _ => {
            let endpoints = (0..n % 5).map(|each| format!("orderer{each}:1"));
            delivery::Event::Endpoints(endpoints.collect())
        }
    }
}

fn message(what: usize, from: &Connection, other: &Arc<PeerIdentity>, n: u64) -> Message {
    let channel = channel_of(n);
    let said = |by: &Arc<PeerIdentity>| Speech::of(by, "x:1", "").at(toy::time(1, n)).alive();
    let digests = || {
        vec![
            Bytes::from(n.to_string()),
            Bytes::from(other.pki_id.as_bytes().to_vec()),
        ]
    };
    let info = || state_info(other, channel.as_str(), n, n);
    match what {
        17 => Message::Alive(Box::new(said(other))),
        18 => Message::MembershipResponse {
            nonce: n,
            alive: vec![said(other)],
            dead: vec![said(other)],
        },
        19 => Message::MembershipRequest {
            nonce: n,
            about: Box::new(said(&from.identity)),
            known: None,
        },
        20 => Message::StateInfo(Box::new(info())),
        21 => Message::StateSnapshot {
            elements: vec![info()],
            channel,
        },
        22 => Message::StateInfoPullRequest {
            channel_mac: channel::mac(&from.peer(), &channel),
            known: None,
        },
        23 => Message::Block {
            channel,
            block: block_message(n),
        },
        24 => Message::StateRequest {
            channel,
            nonce: n,
            start: n,
            end: n * 2,
        },
        25 => Message::StateResponse {
            channel,
            nonce: n,
            blocks: (n..n + 3).map(transferred).collect(),
        },
        26 => Message::Leadership(Leadership {
            channel,
            peer: other.pki_id,
            time: toy::time(1, n),
            is_declaration: n.is_multiple_of(2),
            envelope: Default::default(),
        }),
        27 => Message::Ack {
            nonce: n,
            error: String::new(),
        },
        28 => Message::IdentityPull(pull(n, digests(), || IdentityMessage {
            identity: Arc::clone(other),
            envelope: Default::default(),
        })),
        38 => private::push(channel.as_str()),
        39 => private::request(channel.as_str()),
        40 => private::response(channel.as_str(), n),
        _ => Message::BlockPull {
            channel,
            pull: pull(n, digests(), || block_message(n)),
        },
    }
}

fn transferred(number: u64) -> TransferredBlock {
    TransferredBlock {
        block: block(number),
        private_data: Vec::new(),
    }
}

/// The four messages of a pull, with nonces that meet now and then.
fn pull<I>(n: u64, digests: Vec<Bytes>, item: impl Fn() -> I) -> Pull<I> {
    let nonce = n / 4 % 2;
    match n % 4 {
        0 => Pull::Hello { nonce, known: None },
        1 => Pull::Digest { nonce, digests },
        2 => Pull::Request { nonce, digests },
        _ => Pull::Update {
            nonce,
            items: vec![item()],
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_is_fed_breaks_a_node(
        steps in prop::collection::vec(step(), 1..150),
        elects in any::<bool>(),
    ) {
        let config = || Config {
            org_leader: !elects,
            use_leader_election: elects,
            reconnect_total_time_threshold: Duration::from_secs(1),
            cluster: ClusterConfig {
                block_censorship_timeout: Duration::from_secs(1),
                ..ClusterConfig::default()
            },
            ..Config::default()
        };
        let mut t = Table::in_channel(config());
        let people = [("A", "me"), ("A", "a"), ("B", "b"), ("C", "c")];
        let people = people.map(|(org, name)| identity(org, name));
        let mut runs = [Vec::new(), Vec::new()];
        for run in &mut runs {
            for step in &steps {
                match *step {
                    Step::Feed(what, who, n) => {
                        let other = &people[(who + usize::try_from(n).unwrap()) % people.len()];
                        let from = connection(who as u64, &people[who]);
                        run.extend(t.feed(input(what, &from, other, n)));
                    }
                    Step::Wait(ms) => run.extend(t.tick(t.now + Duration::from_millis(ms))),
                }
                // A tick that is due moves the deadline.
                for _ in 0..20 {
                    match t.node.deadline() {
                        Some(deadline) if deadline <= t.now => run.extend(t.tick(t.now)),
                        _ => break,
                    }
                }
                prop_assert!(t.node.deadline().is_none_or(|deadline| deadline > t.now));
            }
            t = Table::in_channel(config());
        }
        let [first, second] = runs;
        prop_assert_eq!(first, second);
    }
}
