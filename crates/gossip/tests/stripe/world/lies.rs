//! Members that do what they should not.

use bytes::Bytes;
use tidings_gossip::dissemination::{
    Leader,
    message::{Chunk, Cut, Digest, Have, Message, Shape, Status, Suspicion},
};

use super::{World, id};

/// What is no block.
pub(super) const JUNK: &[u8] = b"junk";

const JUNK_CUT: Cut = Cut { len: 4, k: 1, p: 0 };

/// What a member does that it should not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
    /// It changes the payload of chunks that it passes on.
    Corrupts,
    /// The same, and it accuses those that gave it the chunks.
    CorruptsAndAccuses,
    /// It passes chunks on as if they were of another block with the same number.
    Contradicts,
    /// It does what it should, and says of everybody that they give bad chunks and do not answer.
    Slanders,
    /// It says to everybody at each block that it has all blocks there will ever be, and answers
    /// no request.
    Claims,
    /// It acknowledges what it gets, and passes nothing on.
    Withholds,
    /// It warns everybody of something that is none in place of the blocks to come, and gives it to
    /// who asks.
    Forestalls,
}

impl World {
    /// Says to everybody that it has every block.
    pub(crate) fn claim(&mut self, liar: usize) {
        let claim = Status {
            height: u64::MAX,
            ..Status::default()
        };
        for to in (0..self.peers.len()).filter(|to| *to != liar) {
            self.send(liar, id(to), Message::Status(claim));
        }
    }

    /// Warns everybody of junk in place of this block.
    pub(crate) fn forestall(&mut self, liar: usize, number: u64) {
        for to in (0..self.peers.len()).filter(|to| *to != liar) {
            let warning = Have {
                number,
                hash: Digest::of(JUNK),
                stripes: 1,
                cut: JUNK_CUT,
                urgent: true,
            };
            self.send(liar, id(to), Message::Have(warning));
        }
    }

    pub(super) fn give_junk(&mut self, liar: usize, to: usize, number: u64) {
        let chunk = Chunk {
            epoch: 0,
            number,
            hash: Digest::of(JUNK),
            cut: JUNK_CUT,
            stripe: 0,
            shape: Shape {
                cap: 1,
                root_cap: 1,
                ratio: 0,
            },
            repair: true,
            resend: false,
            payload: Bytes::from_static(JUNK),
        };
        self.send(liar, id(to), Message::Chunk(chunk));
    }

    /// About a block that is real, and one that is not.
    pub(super) fn slander(&mut self, at: usize, number: u64) {
        let Leader::Peer(root) = self.peers[at].leader else {
            return;
        };
        for other in (0..self.peers.len()).filter(|other| *other != at) {
            let member = id(other);
            let of = |number| move |stripe| Suspicion::Corrupt { number, stripe };
            let corrupt = (0..8).map(of(number)).chain((0..2).map(of(number + 1_000)));
            let kinds: Vec<_> = corrupt
                .chain([Suspicion::Silent; 10])
                .chain([Suspicion::Lost])
                .collect();
            for kind in kinds {
                self.send(at, root, Message::Suspect { member, kind });
            }
        }
    }

    pub(super) fn falsify(&self, from: usize, message: Message) -> Message {
        let (Message::Chunk(mut chunk), Some(lie)) = (message.clone(), self.peers[from].lie) else {
            return message;
        };
        match lie {
            Lie::Corrupts | Lie::CorruptsAndAccuses => {
                let mut payload = chunk.payload.to_vec();
                payload[0] ^= 1;
                chunk.payload = payload.into();
            }
            Lie::Contradicts => chunk.hash = Digest([7; 32]),
            Lie::Slanders | Lie::Claims | Lie::Forestalls | Lie::Withholds => {}
        }
        Message::Chunk(chunk)
    }
}
