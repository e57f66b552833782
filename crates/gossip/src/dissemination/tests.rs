//! One transition at a time, with everything that comes of it.

use std::sync::Arc;

use super::{
    message::{Cut, Have, Shape, Suspicion, View},
    parameters::AHEAD_MAX,
    *,
};
use crate::scene::Desk;

mod anything;
mod asking;
mod bounds;
mod lies;
mod members;
mod pacing;
mod rivals;
mod steps;
mod views;

fn peer(number: u8) -> PkiId {
    PkiId::new([number; 32])
}

fn at(ms: u64) -> Moment {
    Moment::after_start(Duration::from_millis(ms))
}

fn whole(number: u64, len: usize) -> (VerifiedBlock, Digest) {
    let bytes: Vec<u8> = (0..len).map(|i| (i as u64 * 7 + number) as u8).collect();
    let bytes = Bytes::from(bytes);
    let block = VerifiedBlock {
        number,
        hash: [0; 32],
        previous_hash: Bytes::new(),
        is_config: false,
        config_sequence: 0,
        bytes: bytes.clone(),
    };
    (block, Digest::of(&bytes))
}

/// Member 5 of members 1 to n; 1 leads. A view of epoch [`EPOCH`] is known.
struct Table {
    machine: Dissemination,
    desk: Desk,
    now: Moment,
}

/// The first epoch of member 1.
const EPOCH: u64 = 0x1_0101;

const ME: u8 = 5;

fn members(count: u8, but: u8) -> Vec<Member> {
    let all = (1..=count).filter(|number| *number != but);
    let member = |number| Member {
        peer: peer(number),
        class: Class::Normal,
        rtt: None,
    };
    all.map(member).collect()
}

fn view(epoch: u64, author: u8, list: Vec<(PkiId, Class)>) -> View {
    View {
        epoch,
        root: peer(author),
        author: peer(author),
        base: 0,
        digest: View::digest_of(&list),
        added: list,
        removed: Vec::new(),
        signature: Bytes::new(),
    }
}

fn everybody(count: u8) -> Vec<(PkiId, Class)> {
    (1..=count)
        .map(|number| (peer(number), Class::Normal))
        .collect()
}

impl Table {
    /// Nobody leads and no view is known.
    fn bare(me: u8, count: u8) -> Self {
        let seed = [3; 32];
        let mut table = Self {
            machine: Dissemination::new(peer(me), "ch".into(), Parameters::default(), &seed),
            desk: crate::scene::Scene::new(crate::Config::default()).ports,
            now: at(0),
        };
        let members = members(count, me);
        let met = table.feed(Input::Members {
            members,
            plain: Vec::new(),
        });
        assert_eq!(met, []);
        table
    }

    /// Member 5, and the view of member 1 that leads.
    fn of(count: u8) -> Self {
        let mut table = Self::bare(ME, count);
        let asked = table.feed(Input::Leader(Leader::Peer(peer(1))));
        let wanted = Message::ViewRequest {
            wanted: 0,
            known: 0,
        };
        assert_eq!(asked, [send(1, wanted)]);
        let first = view(EPOCH, 1, everybody(count));
        assert_eq!(table.hear(1, Message::View(Arc::new(first))), []);
        table
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &self.desk, &mut out);
        self.machine.tick(self.now, &self.desk, &mut out);
        out
    }

    fn hear(&mut self, from: u8, message: Message) -> Vec<Effect> {
        let from = peer(from);
        self.feed(Input::Message { from, message })
    }

    /// Goes on until the next thing falls due.
    fn wait(&mut self) -> Vec<Effect> {
        self.now = self.machine.deadline().expect("something is due");
        let mut out = Vec::new();
        self.machine.tick(self.now, &self.desk, &mut out);
        out
    }

    /// Until something comes of it, statuses left out.
    fn wait_for_effects(&mut self) -> Vec<Effect> {
        for _ in 0..1000 {
            let mut out = self.wait();
            let is_status = |e: &Effect| {
                matches!(
                    e,
                    Effect::Send {
                        message: Message::Status(_),
                        ..
                    }
                )
            };
            out.retain(|e| !is_status(e));
            if !out.is_empty() {
                return out;
            }
        }
        Vec::new()
    }

    /// A stripe as the root would cut it.
    fn chunk(&self, number: u64, len: usize, stripe: u8) -> Chunk {
        let (block, hash) = whole(number, len);
        let cut = Cut {
            len: len as u32,
            k: self.machine.parameters.stripes(len as u32),
            p: 0,
        };
        Chunk {
            epoch: EPOCH,
            number,
            hash,
            cut,
            stripe,
            shape: SHAPE,
            repair: false,
            resend: false,
            payload: parity::stripe(&block.bytes, cut, stripe),
        }
    }

    fn places(&mut self, number: u64) -> Places {
        let way = Way {
            epoch: EPOCH,
            shape: SHAPE,
        };
        self.machine.places(number, way).expect("the view is known")
    }

    /// Our parent and our children in the tree of a stripe.
    fn family(&mut self, number: u64, stripes: u8, stripe: u8) -> (u8, Vec<u8>) {
        let places = self.places(number);
        let me = peer(ME);
        let own = places.position(stripe, stripes, &me).expect("we take part");
        let parent = places
            .parent(stripe, stripes, &me)
            .expect("we are not the root");
        let children = places.tree.children(own).iter();
        let children = children.map(|q| places.node(stripe, stripes, usize::from(*q)));
        let children = children.map(|node| name(node.expect("positions are taken").0));
        (name(parent), children.collect())
    }

    /// The first block in which we are inner in stripe 0, or not, and the tree does its part.
    fn block_where(&mut self, stripes: u8, is_inner: bool) -> u64 {
        let fits =
            |table: &mut Self, number| table.family(number, stripes, 0).1.is_empty() != is_inner;
        (0..AHEAD_MAX)
            .find(|number| fits(self, *number))
            .expect("one of twenty")
    }
}

const SHAPE: Shape = Shape {
    cap: 3,
    root_cap: 1,
    ratio: 7,
};

fn name(peer: PkiId) -> u8 {
    peer.as_bytes()[0]
}

fn send(to: u8, message: Message) -> Effect {
    Effect::Send {
        to: peer(to),
        message,
    }
}

fn rules(effects: &[Effect]) -> Vec<&'static str> {
    let rule = |effect: &Effect| match effect {
        Effect::Notify(Notice::Refused { rule, .. }) => Some(*rule),
        _ => None,
    };
    effects.iter().filter_map(rule).collect()
}
