//! Peers that promise blocks and do not keep it.

use std::ops::RangeInclusive;

use rand::RngExt;
use tidings_gossip::{Input, id::ConnectionId};
use tidings_proto::gossip::Payload;

use super::{Life, World, ledger::payload};

/// How many blocks more than it has a liar claims to have.
const INVENTED: u64 = 1000;

impl World {
    /// Makes a peer believe in a height that it does not have, so that it tells others.
    pub(super) fn begin_to_lie(&mut self, peer: usize) {
        let channel = self.settings.channel.clone();
        let Some(host) = self.hosts.get_mut(peer) else {
            return;
        };
        host.lies = true;
        let height = host.ledger.height() + INVENTED;
        let life = host.life(peer);
        self.give(life, Input::Committed { channel, height });
    }

    /// Answers a state request wrongly, each time in another way.
    pub(super) fn serve_lies(
        &mut self,
        life: Life,
        range: RangeInclusive<u64>,
        connection: ConnectionId,
        nonce: u64,
    ) {
        let Some(host) = self.hosts.get(life.peer) else {
            return;
        };
        let there = |number: u64| host.ledger.block(number).map(payload);
        let mut blocks: Vec<Payload> = range.filter_map(there).collect();
        match self.rng.random_range(0..6) {
            0 => blocks.clear(),
            1 => return,
            2 => blocks.truncate(1),
            3 => blocks.reverse(),
            4 => {
                blocks.first_mut().map(spoil);
            }
            _ => {
                let middle = blocks.len() / 2;
                blocks.get_mut(middle).map(spoil);
            }
        }
        self.reply_blocks(life, connection, nonce, blocks);
    }
}

fn spoil(payload: &mut Payload) {
    let mut data = payload.data.to_vec();
    if let Some(last) = data.last_mut() {
        *last ^= 1;
    }
    payload.data = data.into();
}
