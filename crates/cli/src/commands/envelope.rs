//! `tidings envelope show`: a gossip envelope for a person.
//!
//! Decodes, never verifies: whoever reads this wants to see what was sent, valid or not.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::de::IgnoredAny;
use tidings_proto::Message;
use tidings_proto::block::BlockView;
use tidings_proto::gossip::gossip_message::{Content, Tag};
use tidings_proto::gossip::{
    Envelope, Extension, GossipMessage, Member, Payload, PeerTime, Properties, PullMsgType,
    SecretEnvelope, Stripe, stripe,
};
use tidings_proto::tag::{IllegalTag, check_tag};

use super::outline::{Outline, clean, clean_bytes, plural, short_hex};
use super::{describe, print, read_input};

/// Envelopes inside envelopes: two levels are real (a membership response with alive messages).
const NESTING_MAX: usize = 6;

/// Look at gossip envelopes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Decode a gossip envelope and print what it says.
    ///
    /// INPUT is a file (binary, hex or base64), `-` for standard input, or the hex or base64 text
    /// itself. Shown are the kind of message with all its fields, who is meant (MSP and common
    /// name of every identity inside), the secret part that only the own organization may see,
    /// and the envelopes inside this one. Signatures are not checked.
    #[command(after_help = "Examples:
  tidings envelope show Cg0I1dm7+ZblzrwhsgEA
  tidings envelope show 0a0d08d5d9bbf996e5cebc21b20100
  jq -r 'select(.type==\"AliveMsg\").envelope' wire/vectors.jsonl | head -1 | tidings envelope show -")]
    Show(Show),
}

/// Arguments of `envelope show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A file, `-`, or the envelope itself in hex or base64.
    input: String,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let Self::Show(Show { input }) = self;
        let path = Path::new(&input);
        let shown = if input == "-" || path.exists() {
            let content = read_input(path)?;
            show(&from_text(&content).unwrap_or(content))
                .with_context(|| format!("cannot show {}", path.display()))?
        } else {
            // What looks like base64 may as well be the name of a file, mistyped.
            let name = clean(&input);
            let bytes = from_text(input.as_bytes())
                .with_context(|| format!("{name} is neither a file nor hex nor base64"))?;
            show(&bytes).with_context(|| {
                format!("there is no file {name}, and as hex or base64 it is no envelope")
            })?
        };
        print(&shown)
    }
}

/// Hex or base64 to bytes; nothing when it is neither.
fn from_text(text: &[u8]) -> Option<Bytes> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if text.is_empty() {
        return None;
    }
    let decoded = hex::decode(&text)
        .ok()
        .or_else(|| STANDARD.decode(&text).ok())?;
    Some(decoded.into())
}

fn show(bytes: &Bytes) -> Result<String> {
    let envelope = parse(bytes)?;
    let mut outline = Outline::default();
    outline.line(format_args!("Envelope, {}", plural(bytes.len(), "byte")));
    outline.below(|o| show_envelope(o, &envelope, 0));
    Ok(outline.finish())
}

fn parse(bytes: &Bytes) -> Result<Envelope> {
    if let Ok(envelope) = Envelope::decode(bytes.clone())
        && !envelope.payload.is_empty()
        && GossipMessage::decode(envelope.payload.clone()).is_ok()
    {
        return Ok(envelope);
    }
    ensure!(
        !bytes.trim_ascii().is_empty(),
        "it is empty: give the bytes of a gossip Envelope"
    );
    // Blocks and transactions have the shape of an envelope, so far as bytes tell.
    ensure!(
        !is_block(bytes),
        "it is a block, not a gossip Envelope: use `tidings block show`"
    );
    ensure!(
        !is_json(bytes),
        "it is JSON, not a gossip Envelope: give the envelope alone, such as `jq -r .envelope` prints it"
    );
    bail!("it is not a gossip Envelope: give its whole encoding, with payload and signature")
}

fn is_block(bytes: &Bytes) -> bool {
    BlockView::parse(bytes.clone())
        .is_ok_and(|block| block.header().is_some() && block.transactions_len() > 0)
}

/// Whether it begins with a value of JSON; files of many lines have one on each.
fn is_json(bytes: &Bytes) -> bool {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    values.next().is_some_and(|first| first.is_ok())
}

fn show_envelope(o: &mut Outline, envelope: &Envelope, depth: usize) {
    o.field("signature", signature(&envelope.signature));
    match GossipMessage::decode(envelope.payload.clone()) {
        Ok(message) => show_message(o, &message, depth),
        Err(error) => {
            o.field(
                "payload",
                format_args!("{} bytes, no message: {error}", envelope.payload.len()),
            );
        }
    }
    if let Some(secret) = &envelope.secret_envelope {
        show_secret(o, secret);
    }
}

fn show_secret(o: &mut Outline, secret: &SecretEnvelope) {
    o.line("secret, for the own organization");
    o.below(|o| {
        match secret.internal_endpoint() {
            Some(endpoint) => o.field("endpoint", clean(&endpoint)),
            None => o.field("payload", short_hex(&secret.payload)),
        }
        o.field("signature", signature(&secret.signature));
    });
}

fn show_message(o: &mut Outline, message: &GossipMessage, depth: usize) {
    let kind = message
        .kind()
        .map_or_else(|| "no content, or an unknown one".into(), |k| k.to_string());
    o.field("kind", kind);
    let tag = Tag::try_from(message.tag).map_or_else(
        |_| message.tag.to_string(),
        |tag| tag.as_str_name().to_owned(),
    );
    match check_tag(message) {
        // The rule is for messages as they arrive: not for those inside others, not for what
        // opens a connection, and not for acknowledgements, which Go sends without a tag.
        Err(error)
            if depth == 0
                && !matches!(error, IllegalTag::NotForTheLoop(_))
                && !matches!(message.content, Some(Content::Ack(_))) =>
        {
            o.field("tag", format_args!("{tag}, which is illegal: {error}"));
        }
        _ => o.field("tag", tag),
    }
    o.field("nonce", message.nonce);
    if !message.channel.is_empty() {
        o.field("channel", clean_bytes(&message.channel));
    }
    if let Some(content) = &message.content {
        show_content(o, content, depth);
    }
}

fn show_content(o: &mut Outline, content: &Content, depth: usize) {
    match content {
        Content::AliveMsg(alive) => {
            member(o, alive.membership.as_ref());
            time(o, alive.timestamp.as_ref());
            // Left out once peers had time to learn it.
            if !alive.identity.is_empty() {
                o.field("identity", describe::identity(&alive.identity));
            }
        }
        Content::MemReq(request) => {
            o.field("knows", plural(request.known.len(), "peer"));
            if let Some(own) = &request.self_information {
                nested(o, "self information", std::slice::from_ref(own), depth);
            }
        }
        Content::MemRes(response) => {
            nested(o, "alive", &response.alive, depth);
            nested(o, "dead", &response.dead, depth);
        }
        Content::DataMsg(data) => match &data.payload {
            Some(data) => payload(o, data),
            None => o.field("payload", "missing"),
        },
        Content::Hello(hello) => {
            pull(o, hello.nonce, hello.msg_type);
        }
        Content::DataDig(digests) => {
            pull(o, digests.nonce, digests.msg_type);
            items(o, "digests", &digests.digests, digests.msg_type);
        }
        Content::DataReq(request) => {
            pull(o, request.nonce, request.msg_type);
            items(o, "wants", &request.digests, request.msg_type);
        }
        Content::DataUpdate(update) => {
            pull(o, update.nonce, update.msg_type);
            nested(o, "data", &update.data, depth);
        }
        Content::Conn(conn) => {
            o.field("pki id", short_hex(&conn.pki_id));
            o.field("identity", describe::identity(&conn.identity));
            o.field("tls cert hash", short_hex(&conn.tls_cert_hash));
            o.field("probe", conn.probe);
        }
        Content::StateSnapshot(snapshot) => nested(o, "elements", &snapshot.elements, depth),
        other => show_small_content(o, other),
    }
}

/// Contents that hold no envelopes and no identities.
fn show_small_content(o: &mut Outline, content: &Content) {
    match content {
        Content::StateInfo(state) => {
            time(o, state.timestamp.as_ref());
            o.field("pki id", short_hex(&state.pki_id));
            o.field("channel mac", short_hex(&state.channel_mac));
            match &state.properties {
                Some(of) => properties(o, of),
                None => o.field("properties", "missing"),
            }
        }
        Content::StateInfoPullReq(request) => {
            o.field("channel mac", short_hex(&request.channel_mac))
        }
        Content::StateRequest(request) => {
            o.field(
                "blocks",
                format_args!("{} to {}", request.start_seq_num, request.end_seq_num),
            );
        }
        Content::StateResponse(response) => o.list(&response.payloads, payload),
        Content::LeadershipMsg(leadership) => {
            o.field("pki id", short_hex(&leadership.pki_id));
            time(o, leadership.timestamp.as_ref());
            o.field(
                "says",
                if leadership.is_declaration {
                    "I lead"
                } else {
                    "I propose myself"
                },
            );
        }
        Content::PeerIdentity(identity) => {
            o.field("pki id", short_hex(&identity.pki_id));
            o.field("identity", describe::identity(&identity.cert));
        }
        Content::Ack(ack) => {
            o.field(
                "result",
                if ack.error.is_empty() {
                    "good".into()
                } else {
                    clean(&ack.error)
                },
            );
        }
        Content::Stripe(stripe) => show_stripe(o, stripe),
        _ => show_private(o, content),
    }
}

fn show_stripe(o: &mut Outline, stripe: &Stripe) {
    let Some(content) = &stripe.content else {
        o.field("content", "missing");
        return;
    };
    let (name, block) = match content {
        stripe::Content::Chunk(chunk) => {
            o.field("stripe", chunk.stripe);
            o.field("payload", plural(chunk.payload.len(), "byte"));
            ("chunk", Some(chunk.number))
        }
        stripe::Content::Ack(ack) => ("acknowledgement", Some(ack.number)),
        stripe::Content::Have(have) => ("announcement", Some(have.number)),
        stripe::Content::Request(request) => ("request", Some(request.number)),
        stripe::Content::Status(status) => {
            o.field("height", status.height);
            ("status", None)
        }
        stripe::Content::View(view) => {
            o.field("epoch", view.epoch);
            o.field("root", short_hex(&view.root));
            o.field("members", plural(view.added.len(), "member"));
            ("view", None)
        }
        stripe::Content::ViewRequest(_) => ("request for a view", None),
        stripe::Content::Suspect(_) => ("suspicion", None),
        stripe::Content::HashesRequest(request) => ("request for hashes", Some(request.number)),
        stripe::Content::Hashes(hashes) => ("hashes", Some(hashes.number)),
    };
    o.field("says", name);
    if let Some(block) = block {
        o.field("block", block);
    }
}

fn show_private(o: &mut Outline, content: &Content) {
    match content {
        Content::PrivateReq(request) => o.list(&request.digests, |o, digest| {
            o.line(private_digest(digest));
        }),
        Content::PrivateRes(response) => o.list(&response.elements, |o, element| {
            let digest = element
                .digest
                .as_ref()
                .map(private_digest)
                .unwrap_or_default();
            o.line(format_args!(
                "{digest}: {}",
                plural(element.payload.len(), "write set")
            ));
        }),
        Content::PrivateData(data) => {
            let data = data.payload.clone().unwrap_or_default();
            o.field(
                "collection",
                format_args!(
                    "{}/{}",
                    clean(&data.namespace),
                    clean(&data.collection_name)
                ),
            );
            o.field("transaction", clean(&data.tx_id));
            o.field("write set", plural(data.private_rwset.len(), "byte"));
            o.field("height", data.private_sim_height);
        }
        _ => {}
    }
}

fn private_digest(digest: &tidings_proto::gossip::PvtDataDigest) -> String {
    format!(
        "block {} transaction {} {} {}/{}",
        digest.block_seq,
        digest.seq_in_block,
        clean(&digest.tx_id),
        clean(&digest.namespace),
        clean(&digest.collection),
    )
}

fn nested(o: &mut Outline, label: &str, envelopes: &[Envelope], depth: usize) {
    o.line(format_args!(
        "{label}: {}",
        plural(envelopes.len(), "envelope")
    ));
    if depth >= NESTING_MAX {
        return o.below(|o| o.line("nested too deep to be shown"));
    }
    o.below(|o| {
        o.list(envelopes, |o, envelope| {
            o.line(format_args!(
                "Envelope, {}",
                plural(envelope.wire_len(), "byte")
            ));
            o.below(|o| show_envelope(o, envelope, depth + 1));
        });
    });
}

fn member(o: &mut Outline, member: Option<&Member>) {
    let Some(member) = member else {
        return o.field("member", "missing");
    };
    let endpoint = if member.endpoint.is_empty() {
        "(none)".into()
    } else {
        clean(&member.endpoint)
    };
    o.field("endpoint", endpoint);
    o.field("pki id", short_hex(&member.pki_id));
    if !member.metadata.is_empty() {
        o.field("metadata", short_hex(&member.metadata));
    }
}

fn time(o: &mut Outline, time: Option<&PeerTime>) {
    match time {
        Some(time) => o.field(
            "time",
            format_args!("incarnation {} sequence {}", time.inc_num, time.seq_num),
        ),
        None => o.field("time", "missing"),
    }
}

fn properties(o: &mut Outline, properties: &Properties) {
    o.field("height", properties.ledger_height);
    if properties.left_channel {
        o.field("left", "the channel");
    }
    if !properties.extension.is_empty() {
        match Extension::decode(properties.extension.clone()) {
            Ok(it) => o.field("stripes", format_args!("version {}", it.stripe)),
            Err(_) => o.field("extension", "unknown"),
        }
    }
    o.list(&properties.chaincodes, |o, chaincode| {
        o.field(
            "chaincode",
            format_args!("{} {}", clean(&chaincode.name), clean(&chaincode.version)),
        );
    });
}

fn pull(o: &mut Outline, nonce: u64, kind: i32) {
    let name = PullMsgType::try_from(kind).map_or("unknown", |kind| kind.as_str_name());
    o.field("pulls", name);
    o.field("pull nonce", nonce);
}

/// Digests: block numbers in digits, or PKI-IDs.
fn items(o: &mut Outline, label: &str, digests: &[Bytes], kind: i32) {
    let digits = kind == PullMsgType::BlockMsg as i32;
    let show = |digest: &Bytes| -> Box<dyn Display> {
        Box::new(if digits {
            clean_bytes(digest)
        } else {
            short_hex(digest)
        })
    };
    o.line(format_args!("{label}: {}", digests.len()));
    o.below(|o| o.list(digests, |o, digest| o.line(show(digest))));
}

fn payload(o: &mut Outline, payload: &Payload) {
    let private = match payload.private_data.len() {
        0 => String::new(),
        count => format!(", private data of {}", plural(count, "transaction")),
    };
    let size = plural(payload.data.len(), "byte");
    let inside = match BlockView::parse(payload.data.clone()) {
        Ok(block) => format!(
            "{} in {size}",
            plural(block.transactions_len(), "transaction")
        ),
        Err(error) => format!("{size} that are no block: {error}"),
    };
    o.field(
        "block",
        format_args!("{}: {inside}{private}", payload.seq_num),
    );
}

fn signature(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "none".into()
    } else {
        format!("{}, not checked", plural(bytes.len(), "byte"))
    }
}

#[cfg(test)]
mod tests;
