//! What peers send by themselves or in answer, and what is asked of them.

use prost::Message as _;
use tidings_proto::{
    gossip::{PvtDataPayload, RemoteStateRequest, gossip_message::Content},
    rwset::TxPvtReadWriteSet,
};

use super::{
    Around, Effect, Transfer,
    buffer::Waiting,
    catch_up::{Ask, Scene, Verdict},
    refused,
};
use crate::{
    effect::{Notice, Source},
    id::Moment,
    message::{Connection, Message, TransferredBlock},
    ports::Ports,
};

impl Transfer {
    pub(super) fn receive(
        &mut self,
        now: Moment,
        from: &Connection,
        message: Message,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let (Message::StateRequest { channel, .. } | Message::StateResponse { channel, .. }) =
            &message
        else {
            return;
        };
        if *channel != self.channel {
            let reason = format!("it names {channel}, not {}", self.channel);
            out.push(refused(from, "S-S2", reason));
            return;
        }
        if !ports.is_reader(&self.channel, &from.identity) {
            let reason = format!("it may not read {}", self.channel);
            out.push(refused(from, "S-S1", reason));
            return;
        }
        match message {
            Message::StateRequest {
                nonce, start, end, ..
            } => {
                self.queue(from, nonce, start, end, out);
                self.serve(out);
            }
            Message::StateResponse { nonce, blocks, .. } => {
                self.take_response(now, from, nonce, blocks, out);
                self.hand_over(out);
            }
            _ => {}
        }
    }

    fn take_response(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        blocks: Vec<TransferredBlock>,
        out: &mut Vec<Effect>,
    ) {
        let peer = from.peer();
        let Some(range) = self.catch_up.awaited(nonce) else {
            // S-S5. Not worth a notice: an answer that comes far too late looks like this.
            return;
        };
        if !range.was_asked(&peer) {
            let reason = "it answers what another peer was asked".to_owned();
            out.push(refused(from, "S-S10", reason));
            return;
        }
        if !range.is_owed_by(&peer) {
            // S-S5 again: a second answer to a repeated request.
            return;
        }
        let (start, end) = (range.start, range.end);
        let (mut expected, mut news) = (start, 0);
        let mut bad = None;
        for transferred in blocks {
            if let Err(reason) = check_answer(&transferred, expected, end) {
                bad = Some(reason);
                break;
            }
            expected = expected.saturating_add(1);
            self.catch_up.measure(transferred.block.bytes.len());
            let waiting = Waiting {
                block: transferred.block,
                source: Source::Transfer,
                private_data: transferred.private_data,
            };
            news += u64::from(self.push(waiting, out));
        }
        let verdict = match (&bad, expected > start) {
            (None, true) => Verdict::Good,
            (Some(_), true) => Verdict::PartlyGood,
            (None, false) if self.buffer.lacks(start) => Verdict::Nothing,
            (None, false) => Verdict::Late,
            (Some(_), false) => Verdict::Wrong,
        };
        self.catch_up.answered(now, &peer, nonce, verdict, news);
        if let Some(reason) = bad {
            out.push(refused(from, "S-S10", reason));
        }
    }

    /// Asks for what is missing while a round is under way.
    pub(super) fn pursue(&mut self, now: Moment, around: Around<'_>, out: &mut Vec<Effect>) {
        if !self.catch_up.is_under_way() {
            return;
        }
        let peers = around.channel.peers(around.view);
        let scene = Scene {
            buffer: &self.buffer,
            is_full: self.is_full,
            peers: &peers,
            own: &around.view.me.identity.org,
        };
        let turn = self.catch_up.pursue(now, &scene);
        if let Some((stage, progress)) = turn.report {
            out.push(Effect::Notify(Notice::CatchUp {
                channel: self.channel.clone(),
                stage,
                progress,
            }));
        }
        for ask in turn.asks {
            let Ask {
                to,
                nonce,
                start,
                end,
            } = ask;
            let content = Content::StateRequest(RemoteStateRequest {
                start_seq_num: start,
                end_seq_num: end,
            });
            let envelope = self.envelope(nonce, content);
            out.push(Effect::Send { to, envelope });
        }
    }
}

/// Whether an answer continues with this block. Private data is looked at here because a block
/// that was handed over cannot be asked for anew without a detour (S-S10).
fn check_answer(transferred: &TransferredBlock, expected: u64, end: u64) -> Result<(), String> {
    let number = transferred.block.number;
    if number != expected || number > end {
        return Err(format!(
            "block {number} came where {expected} was due, up to {end}"
        ));
    }
    for payload in &transferred.private_data {
        let is_well_formed = PvtDataPayload::decode(payload.clone())
            .and_then(|payload| TxPvtReadWriteSet::decode(payload.payload));
        if let Err(error) = is_well_formed {
            return Err(format!(
                "private data of block {number} is malformed: {error}"
            ));
        }
    }
    Ok(())
}
