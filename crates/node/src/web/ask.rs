//! What a request asks for.
//!
//! Promises to make one question or one refusal with a sentence of any method, path, query and
//! header. A parameter that is not known or stands there twice is refused, so that a misspelt filter
//! is not taken for none.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::{answer::Refused, cursor::Cursor};
use crate::logging::foreign;

/// Characters of the longest name of a channel, transaction id or filter that is looked for.
pub(super) const KEY_LEN_MAX: usize = 256;

const LAST_EVENT_ID: &str = "last-event-id";

/// What there is, by path. Braces stand for one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Description,
    Channels,
    Channel,
    BlockByHash,
    Block,
    Transaction,
    BlockEvents,
    TransactionEvents,
}

/// Every page with its path and the parameters that it takes.
pub(super) const PAGES: [(Page, &str, &[&str]); 8] = [
    (Page::Description, "/openapi.json", &[]),
    (Page::Channels, "/v1/channels", &[]),
    (Page::Channel, "/v1/channels/{channel}", &[]),
    (
        Page::BlockByHash,
        "/v1/channels/{channel}/blocks/by-hash/{hash}",
        &[],
    ),
    (Page::Block, "/v1/channels/{channel}/blocks/{number}", &[]),
    (
        Page::Transaction,
        "/v1/channels/{channel}/transactions/{txid}",
        &[],
    ),
    (
        Page::BlockEvents,
        "/v1/channels/{channel}/events/blocks",
        &["after", "limit"],
    ),
    (
        Page::TransactionEvents,
        "/v1/channels/{channel}/events/transactions",
        &["after", "limit", "chaincode", "organization", "txid"],
    ),
];

impl Page {
    /// The statuses that its answers can have. The description has the same.
    pub(super) fn statuses(self) -> &'static [u16] {
        match self {
            Self::Description => &[200, 400],
            Self::Channels => &[200, 400, 403, 500, 503],
            Self::Channel
            | Self::Block
            | Self::BlockByHash
            | Self::Transaction
            | Self::BlockEvents
            | Self::TransactionEvents => &[200, 400, 403, 404, 500, 503],
        }
    }
}

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Description,
    Channels,
    Channel(String),
    Block(String, Which),
    Transaction(String, String),
    Events(String, Events),
}

/// Which block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Which {
    Newest,
    Number(u64),
    Hash([u8; 32]),
}

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Events {
    /// Where to go on; none: with what comes from now on.
    pub(super) after: Option<Cursor>,
    /// After how many events the stream ends.
    pub(super) limit: Option<u64>,
    /// Transactions that pass this; none: whole blocks.
    pub(super) filter: Option<Filter>,
}

/// Which transactions: those to which all of it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) chaincode: Option<String>,
    /// MSP id of the creator.
    pub(super) organization: Option<String>,
    pub(super) txid: Option<String>,
}

/// A page that is there, with what stands in the path for its braces.
pub(super) struct Found<'a> {
    pub(super) page: Page,
    parameters: &'static [&'static str],
    segments: Vec<&'a str>,
}

/// The page at a path.
pub(super) fn page<'a>(method: &Method, uri: &'a Uri) -> Result<Found<'a>, Refused> {
    let mut all = PAGES.into_iter();
    let found = all.find_map(|(page, pattern, parameters)| {
        Some(Found {
            page,
            parameters,
            segments: segments(pattern, uri.path())?,
        })
    });
    match found {
        Some(_) if method != Method::GET => Err(Refused::method()),
        Some(found) => Ok(found),
        None => Err(Refused::new(
            StatusCode::NOT_FOUND,
            "there is no such path; /openapi.json describes those that there are",
        )),
    }
}

/// The question that a page is asked.
pub(super) fn asked(found: &Found<'_>, uri: &Uri, headers: &HeaderMap) -> Result<Asked, Refused> {
    let page = found.page;
    let mut parameters = parameters(uri.query().unwrap_or_default(), found.parameters)?;
    let segment = |at: usize| text(found.segments.get(at).unwrap_or(&""), "the path");
    let (channel, key) = (segment(0)?, segment(1)?);
    Ok(match page {
        Page::Description => Asked::Description,
        Page::Channels => Asked::Channels,
        Page::Channel => Asked::Channel(channel),
        Page::Block => Asked::Block(channel, number(&key)?),
        Page::BlockByHash => Asked::Block(channel, hash(&key)?),
        Page::Transaction => Asked::Transaction(channel, key),
        Page::BlockEvents | Page::TransactionEvents => {
            let limit = parameters.remove("limit").map(|limit| count(&limit));
            let of_transactions = page == Page::TransactionEvents;
            let read = |text: Option<Cow<'_, str>>| {
                let cursor = text.map(|text| cursor(&text, of_transactions));
                cursor.transpose()
            };
            // Both are judged, whichever counts.
            let (last, named) = (read(header(headers)?)?, read(parameters.remove("after"))?);
            let mut take = |name| parameters.remove(name).map(Cow::into_owned);
            let filter = of_transactions.then(|| Filter {
                chaincode: take("chaincode"),
                organization: take("organization"),
                txid: take("txid"),
            });
            Asked::Events(
                channel,
                Events {
                    after: last.or(named),
                    limit: limit.transpose()?,
                    filter,
                },
            )
        }
    })
}

/// The segments of a path that stand where the pattern has braces.
fn segments<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    if pattern.split('/').count() != path.split('/').count() {
        return None;
    }
    let mut found = Vec::new();
    for (wanted, segment) in pattern.split('/').zip(path.split('/')) {
        if wanted.starts_with('{') && !segment.is_empty() {
            found.push(segment);
        } else if wanted != segment {
            return None;
        }
    }
    Some(found)
}

fn parameters<'a>(
    query: &'a str,
    known: &[&'static str],
) -> Result<BTreeMap<&'static str, Cow<'a, str>>, Refused> {
    let mut found = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = known.iter().find(|known| **known == name) else {
            let known = match known {
                [] => "none".to_owned(),
                known => known.join(", "),
            };
            let name = foreign(name);
            return Err(bad(format!(
                "{name} is no parameter of this path, which takes {known}"
            )));
        };
        let value = text(&value.replace('+', " "), name)?;
        if found.insert(*name, Cow::from(value)).is_some() {
            return Err(bad(format!("{name} is given twice; give it once")));
        }
    }
    Ok(found)
}

fn text(raw: &str, place: &str) -> Result<String, Refused> {
    let text = percent_decode_str(raw).decode_utf8();
    let text = text.map_err(|_bytes| bad(format!("{place} is not UTF-8 when it is decoded")))?;
    if text.chars().count() > KEY_LEN_MAX {
        let reason = format!("a part of {place} is longer than {KEY_LEN_MAX} characters");
        return Err(bad(reason));
    }
    Ok(text.into_owned())
}

fn header(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Refused> {
    let mut all = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(bad("Last-Event-ID is given twice; give it once"));
    }
    let text = value.to_str();
    let text = text.map_err(|_bytes| bad("Last-Event-ID is no cursor: it is not text"))?;
    // Clients that have none yet may send it empty.
    Ok((!text.is_empty()).then_some(Cow::from(text)))
}

fn cursor(text: &str, of_transactions: bool) -> Result<Cursor, Refused> {
    let cursor = Cursor::parse(text).filter(|cursor| of_transactions || cursor.is_whole());
    cursor.ok_or_else(|| {
        let example = if of_transactions { "17.3 or 17" } else { "17" };
        bad(format!(
            "the cursor (after or Last-Event-ID) must be an id of this stream such as {example}, \
             or start"
        ))
    })
}

fn count(text: &str) -> Result<u64, Refused> {
    let count = digits(text).filter(|count| *count > 0);
    count.ok_or_else(|| bad("limit must be a whole number of events from 1 on"))
}

fn number(text: &str) -> Result<Which, Refused> {
    if text == "newest" {
        return Ok(Which::Newest);
    }
    let number = digits(text).map(Which::Number);
    number.ok_or_else(|| bad("a block is named by its number, or newest"))
}

/// A number as it is written, without sign.
pub(super) fn digits(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn hash(text: &str) -> Result<Which, Refused> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)
        .map_err(|_malformed| bad("the hash of a block has 64 hexadecimal digits"))?;
    Ok(Which::Hash(hash))
}

fn bad(sentence: impl Into<Cow<'static, str>>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, sentence)
}
