//! How a root cuts its blocks and shapes the trees, and every limit of the component.
//!
//! What is here is decided once by the root and said in every chunk, so it need not be equal
//! everywhere.

use std::time::Duration;

use super::message::{CHUNK_OVERHEAD, Cut, Shape};

/// Members of a view. More have never been simulated, and a view is one message.
pub const MEMBERS_MAX: usize = 10_000;

/// Plain peers that are looked after.
pub const PLAIN_MAX: usize = 10_000;

/// Data stripes of a block.
pub const K_MAX: u8 = 32;

/// Stripes of a block, parity included.
pub const STRIPES_MAX: u8 = K_MAX + 1;

/// Blocks of which some stripes are here and some are not. At the limit chunks of others are
/// refused; digests tell of them later.
pub const OPEN_MAX: usize = 64;

/// Payload of open blocks. With this much lying about, chunks of further blocks are refused; the
/// block after the last one that is here always has room.
pub const OPEN_BYTES_MAX: usize = 128 << 20;

/// Blocks that one member may have opened here by being the first to send a chunk of them.
pub const OPEN_PER_MEMBER_MAX: usize = 24;

/// Different things that may be said about one block at the same time: by two roots, and by one that
/// lies about it. Of more nobody could tell which to ask for.
pub const GROUPS_MAX: usize = 3;

/// How often one member may be the first to say something about one block: once in good faith, as
/// it was itself told wrong, and once right.
pub const BEGUN_EACH_MAX: u8 = 2;

/// Members remembered that were the first to say something about one block.
pub const BEGINNERS_MAX: usize = 16;

/// What is said about a block, and not gone on with for so long, gives way to something else.
pub const GIVES_WAY_AFTER: Duration = Duration::from_millis(250);

/// Payload that one member may have begun here, as long as it is said to become. Whoever injects a
/// block is not concerned.
pub const BEGUN_BYTES_MAX: usize = OPEN_BYTES_MAX / 4;

/// How far above the last block without a gap a chunk may be: what is under way at once, with what
/// overtakes it. What the chunks may take is bounded beside.
pub const AHEAD_MAX: u64 = 32;

/// Blocks that are kept for others, counted from the newest that is durable.
pub const KEPT_MAX: u64 = 100;

/// Bytes of blocks that are kept for others; the oldest give way.
pub const KEPT_BYTES_MAX: usize = 128 << 20;

/// For how long a block is kept at most.
pub const KEPT_TIME: Duration = Duration::from_secs(100);

/// How much longer than the largest block of the channel a block may be on the wire: metadata.
pub const BLOCK_SLACK: u32 = 1 << 20;

/// Blocks being asked for at once.
pub const ASKED_MAX: usize = 8;

/// After so many unanswered requests the plain way is taken beside, and who alone announced the
/// block is not believed.
pub const FETCH_AFTER: u32 = 6;

/// No answer is waited for longer, if it need not take longer by itself.
pub const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Members remembered that announced one block.
pub const ANNOUNCERS_MAX: usize = 6;

/// To how many others completion is announced.
pub const HAVE_FANOUT: usize = 2;

/// Views that are remembered: those of a few roots, with their predecessors, or those of many where
/// all are appointed.
pub const VIEWS_MAX: usize = 64;

/// Members in all of these together.
pub const LISTED_MAX: usize = 16 * MEMBERS_MAX;

/// Trees that are remembered.
pub const TREES_MAX: usize = 8;

/// Orders that are remembered; more blocks than this are seldom under way at once.
pub const ORDERS_MAX: usize = 16;

/// A view is changed at most this often, but for lost connections.
pub const VIEW_INTERVAL: Duration = Duration::from_secs(5);

/// When a published view is used.
pub const VIEW_DELAY: Duration = Duration::from_secs(1);

/// A missing view is asked for at most this often of one member.
pub const VIEW_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Chunks whose view is missing wait for it, so many of them.
pub const STRAYS_MAX: usize = 128;

/// Messages that a member may cost us in answers that are long, per second: full views, hashes.
pub const ANSWERS_PER_SECOND_MAX: u32 = 4;

/// Chunks that a member may have of us by asking, at once.
pub const SERVED_BURST_MAX: u32 = 512;

/// Chunks that a member may have of us by asking, per second in the long run.
pub const SERVED_PER_SECOND_MAX: u32 = 256;

/// A chunk that is longer counts for more than one of these: those of the longest block are shorter
/// where it is cut as it should be, and uncut it is as many as it would be stripes.
pub const SERVED_LEN: usize = 512 << 10;

/// How often one stripe of one block is given to one member that asks for it.
pub const SERVED_AGAIN_MAX: u8 = 3;

/// Chunks on their way to one member. Above that it gets digests like a suspect.
pub const QUEUED_PER_MEMBER_MAX: usize = 64;

/// Chunks on their way to one member because it asked that count for others, who wait longer for what
/// they miss: those of the longest cut. One member may ask for many more at once.
pub const ANSWERS_COUNTED_MAX: usize = 33;

/// Chunks on their way that are remembered, to tell how busy the uplink is.
pub const QUEUED_MAX: usize = 16_384;

/// How many bad chunks of a member within [`BLAME_TIME`] it takes to avoid it.
pub const BLAME_MAX: usize = 3;

/// How long a bad chunk is held against a member.
pub const BLAME_TIME: Duration = Duration::from_secs(3600);

/// How long the root gathers who accuses whom of bad chunks of one block.
pub const VERDICT_DELAY: Duration = Duration::from_secs(2);

/// Accusations that the root gathers for one block.
pub const ACCUSATIONS_MAX: usize = 4096;

/// Blocks for which the root gathers accusations at once.
pub const TRIALS_MAX: usize = 16;

/// Plain peers that one member looks after, on average. Where there are more, whole blocks from
/// few members would cost those more than gossip does.
pub const WARDS_PER_MEMBER: usize = 8;

/// How far ahead of what it has a plain peer is given blocks. A Go peer that has seen block n
/// ignores everything below n - 10.
pub const PLAIN_AHEAD_MAX: u64 = 10;

/// Members that inject a block in turn where the leader is a plain peer.
pub const TAKEOVERS_MAX: usize = 4;

/// Statuses go around only while a block was seen in this time.
pub const QUIET_AFTER: Duration = Duration::from_secs(20);

/// Blocks whose losses decide about parity.
pub const PARITY_WINDOW: usize = 50;

/// Blocks with few losses after which parity ends.
pub const PARITY_END: usize = 200;

/// How plain peers are given blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlainDelivery {
    /// In a pull response that nobody asked for: the peer keeps it to itself.
    Quiet,
    /// As a data message: the peer pushes it on.
    Push,
}

/// What an operator or the channel decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// What this node can send, in bits per second.
    pub uplink_bps: u64,
    /// Length of the largest block of the channel.
    pub block_len_max: u32,
    /// How plain peers are given blocks.
    pub plain_delivery: PlainDelivery,
    /// Parity stripes that this node adds as root; adaptive if not set.
    pub parity: Option<u8>,
    /// One-way latency that is assumed while none was measured.
    pub latency: Duration,
    /// How late a host that is well may be with what it does: no answer is missed before that.
    pub jitter: Duration,
    /// What may wait at our uplink as far as we reckon, if the transport may be faster than
    /// `uplink_bps` says.
    pub lag_max: Option<Duration>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            uplink_bps: 1_000_000_000,
            block_len_max: 10 << 20,
            plain_delivery: PlainDelivery::Push,
            parity: None,
            latency: Duration::from_micros(500),
            jitter: Duration::from_millis(1),
            lag_max: None,
        }
    }
}

/// Below this one-way latency a network is local.
const LAN: Duration = Duration::from_micros(2500);

/// Blocks shorter than this are not cut.
const CUT_FROM: u32 = 8 << 10;

/// Blocks that are on the uplink no longer than this are not cut either. Four stripes are three
/// messages more, at about 50 us of processor at either end: what the least cut costs everybody.
const WHOLE_TIME: Duration = Duration::from_micros(300);

/// What every message costs beside its bytes.
const SEND_COST: Duration = Duration::from_micros(20);

/// What a receiver needs for a chunk before it sends it on, beside a nanosecond for each byte.
const PROCESSING: Duration = Duration::from_micros(100);

impl Parameters {
    /// Longest block that is taken.
    pub fn len_max(&self) -> u32 {
        self.block_len_max.saturating_add(BLOCK_SLACK)
    }

    /// Data stripes for a block of this length: the smallest power of two k for which
    /// `1.42 k >= sqrt(30 * sending time in ms)`, within 4 and 32; one where cutting does not pay.
    pub fn stripes(&self, len: u32) -> u8 {
        if len < CUT_FROM || self.transmission(len.into()) <= WHOLE_TIME {
            return 1;
        }
        let fits = |k: u8| {
            let k = u128::from(k);
            20_164 * k * k * u128::from(self.uplink_bps) >= 2_400_000_000 * u128::from(len)
        };
        [4, 8, 16].into_iter().find(|k| fits(*k)).unwrap_or(K_MAX)
    }

    /// How long the uplink is busy with so many bytes in one message.
    pub fn sending(&self, bytes: u64) -> Duration {
        SEND_COST.saturating_add(self.transmission(bytes))
    }

    fn transmission(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(self.uplink_bps.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How long the uplink is busy with one chunk of such a block.
    pub fn chunk_time(&self, cut: Cut) -> Duration {
        self.sending(u64::from(cut.chunk_len()) + CHUNK_OVERHEAD)
    }

    /// How trees over `n` members grow, for chunks of this cut.
    pub fn shape(&self, n: usize, cut: Cut, latency: Duration) -> Shape {
        let cap = match Self::is_local(latency) {
            true if n <= 2000 => 8,
            true => 16,
            false if n <= 128 => n,
            false => n.isqrt() + usize::from(n.isqrt().pow(2) < n),
        };
        let hops = hop_time(cut, latency).as_secs_f64() / self.chunk_time(cut).as_secs_f64();
        let ratio = (4.0 * hops.log2())
            .round()
            .clamp(0.0, f64::from(super::shape::RATIO_MAX));
        Shape {
            cap: u16::try_from(cap.max(1)).unwrap_or(u16::MAX),
            root_cap: if cut.k > 1 { 1 } else { 8 },
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it was clamped to 0..=63"
            )]
            ratio: ratio as u8,
        }
    }

    /// Whether a network in which messages take so long is local.
    pub fn is_local(latency: Duration) -> bool {
        latency < LAN
    }

    /// How often members tell a random other what they have.
    pub fn status_interval(latency: Duration) -> Duration {
        if Self::is_local(latency) {
            Duration::from_millis(200)
        } else {
            Duration::from_millis(500)
        }
    }
}

/// From the end of sending a chunk to when its receiver can send it on.
pub fn hop_time(cut: Cut, latency: Duration) -> Duration {
    let bytes = u64::from(cut.chunk_len()) + CHUNK_OVERHEAD;
    latency + PROCESSING + Duration::from_nanos(bytes)
}

impl Cut {
    /// Bytes of every stripe but perhaps the last.
    pub fn chunk_len(self) -> u32 {
        self.len.div_ceil(u32::from(self.k.max(1)))
    }

    /// Stripes, parity included.
    pub fn stripes(self) -> u8 {
        self.k.saturating_add(self.p)
    }

    /// All stripes, as a bitmap.
    pub fn all(self) -> u64 {
        1_u64
            .checked_shl(self.stripes().into())
            .map_or(u64::MAX, |bit| bit - 1)
    }

    /// Whether a block may be cut so: every data stripe has bytes, and the numbers are in bounds.
    pub fn is_sound(self, len_max: u32) -> bool {
        let last_start = u32::from(self.k.saturating_sub(1)).checked_mul(self.chunk_len());
        (1..=K_MAX).contains(&self.k)
            && self.p <= 1
            && (1..=len_max).contains(&self.len)
            && last_start.is_some_and(|start| start < self.len)
    }

    /// Where a data stripe lies in the block.
    pub fn range(self, stripe: u8) -> std::ops::Range<usize> {
        let size = u64::from(self.chunk_len());
        let end = |index: u64| usize::try_from((index * size).min(self.len.into()));
        let index = u64::from(stripe);
        end(index).unwrap_or(usize::MAX)..end(index + 1).unwrap_or(usize::MAX)
    }

    /// How long the payload of this stripe is.
    pub fn payload_len(self, stripe: u8) -> usize {
        if stripe < self.k {
            self.range(stripe).len()
        } else {
            self.range(0).len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(mbit: u64) -> Parameters {
        Parameters {
            uplink_bps: mbit * 1_000_000,
            ..Parameters::default()
        }
    }

    fn cut(len: u32, k: u8, p: u8) -> Cut {
        Cut { len, k, p }
    }

    #[test]
    fn blocks_are_cut_as_the_protocol_says() {
        for (mbit, len, k) in [
            (100, 8 << 10, 4),
            (100, (8 << 10) - 1, 1),
            (1000, 16 << 10, 1),
            (1000, 37_500, 1),
            (1000, 37_501, 4),
            (1000, 160 << 10, 8),
            (1000, 1 << 20, 16),
            (100, 160 << 10, 16),
            (100, 1 << 20, 32),
            (1, 10 << 20, 32),
            (0, u32::MAX, 32),
        ] {
            assert_eq!(uplink(mbit).stripes(len), k, "{mbit} Mbit/s, {len} bytes");
        }
    }

    #[test]
    fn trees_are_shaped_by_latency_and_number() {
        let lan = Duration::from_micros(500);
        let wan = Duration::from_millis(62);
        let cut = cut(160 << 10, 8, 0);
        for (n, latency, cap, ratio) in [
            (100, lan, 8, 7),
            (2001, lan, 16, 7),
            (100, wan, 100, 34),
            (128, wan, 128, 34),
            (129, wan, 12, 34),
            (1000, wan, 32, 34),
            (0, wan, 1, 34),
            (100, Duration::from_secs(3600), 100, 63),
        ] {
            let shape = uplink(1000).shape(n, cut, latency);
            assert_eq!(
                (shape.cap, shape.root_cap, shape.ratio),
                (cap, 1, ratio),
                "{n}"
            );
        }
        let whole = Cut {
            len: 100,
            k: 1,
            p: 0,
        };
        assert_eq!(uplink(1000).shape(100, whole, lan).root_cap, 8);
    }

    #[test]
    fn a_cut_must_add_up() {
        for (cut, is_sound) in [
            (cut(100, 1, 0), true),
            (cut(100, 0, 0), false),
            (cut(0, 1, 0), false),
            (cut(100, 33, 0), false),
            (cut(100, 4, 2), false),
            (cut(101, 4, 1), false),
            (cut(33, 32, 0), false),
            (cut(32, 32, 1), true),
        ] {
            assert_eq!(cut.is_sound(100), is_sound, "{cut:?}");
            if is_sound {
                let sum: usize = (0..cut.k).map(|s| cut.payload_len(s)).sum();
                assert_eq!(sum, cut.len as usize);
                assert_eq!(cut.all().count_ones(), u32::from(cut.stripes()));
            }
        }
        assert_eq!(cut(10, 4, 1).range(3), 9..10);
        assert_eq!(cut(10, 4, 1).payload_len(4), 3);
    }
}
