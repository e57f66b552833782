//! Answers: how they are made, how many bytes of them there may be, how they go out.
//!
//! Promises that the texts of all answers together have a budget, in which each counts until it is
//! on its way; a visitor who takes his slowly holds his part of it. Who finds no room is told to
//! come again.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::json::Json;
use crate::reception::Lasting;

/// Bytes of one answer. A block of the usual two megabytes makes some five; of one that makes
/// more, transactions are left out.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Bytes of all answers that are made or not yet taken: of the largest as many as are read at a
/// time, and as many again that wait for their visitors.
pub(super) const ANSWERS_BYTES_MAX: usize = 128 << 20;

/// Bytes of an answer about channels, which have some 400 each at most.
pub(super) const CHANNELS_BYTES_MAX: usize = 1 << 20;

/// Bytes of all those that are made or not yet taken. They are beside the others, so that a node
/// whose blocks are taken slowly still says how long its channels are.
pub(super) const ALL_CHANNELS_BYTES_MAX: usize = 8 << 20;

/// Bytes that are handed to a connection at a time. It keeps copies of little more than that.
const PIECE_LEN_MAX: usize = 16 << 10;

/// Why a question has no better answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) sentence: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            sentence: sentence.into(),
        }
    }

    pub(super) fn method() -> Self {
        let sentence = "everything here is read with GET, and nothing is changed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
    }

    pub(super) fn busy(what: &str) -> Self {
        let sentence = format!("{what}; come again in a second");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }

    pub(super) fn answer(self) -> Response<Content> {
        let body = serde_json::json!({ "error": self.sentence }).to_string();
        let mut answer = json(body.into());
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        answer
    }
}

/// The bytes of all answers of a kind.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    room: Arc<Semaphore>,
    answer_bytes_max: usize,
}

impl Budget {
    /// Of answers with blocks and transactions.
    pub(super) fn of_blocks() -> Self {
        Self::new(ANSWERS_BYTES_MAX, ANSWER_BYTES_MAX)
    }

    /// Of answers about channels.
    pub(super) fn of_channels() -> Self {
        Self::new(ALL_CHANNELS_BYTES_MAX, CHANNELS_BYTES_MAX)
    }

    fn new(answers_bytes_max: usize, answer_bytes_max: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(answers_bytes_max)),
            answer_bytes_max,
        }
    }

    /// Has an answer made, if there is room for the largest.
    pub(super) fn make(
        &self,
        write: impl FnOnce(&mut Json) -> Result<(), Refused>,
    ) -> Result<Bytes, Refused> {
        let most = u32::try_from(self.answer_bytes_max).expect("some megabytes");
        let room = Arc::clone(&self.room).try_acquire_many_owned(most);
        let mut room =
            room.map_err(|_none| Refused::busy("too many bytes of answers wait to be read"))?;
        let mut json = Json::new(self.answer_bytes_max);
        write(&mut json)?;
        let text = json.finish();
        drop(room.split(self.answer_bytes_max - text.len()));
        Ok(Bytes::from_owner(Held { text, _room: room }))
    }
}

/// An answer that counts as long as any part of it is there.
struct Held {
    text: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// What goes out behind the head of an answer.
pub(super) struct Content {
    /// Not handed out yet.
    rest: Bytes,
    /// What comes then.
    events: Option<Pin<Box<dyn Stream<Item = Bytes> + Send>>>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.rest.is_empty() {
            let Some(events) = &mut self.events else {
                return Poll::Ready(None);
            };
            match ready!(events.as_mut().poll_next(cx)) {
                Some(page) => self.rest = page,
                None => self.events = None,
            }
        }
        let len = self.rest.len().min(PIECE_LEN_MAX);
        let piece = self.rest.split_to(len);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.events.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.events {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.rest.len() as u64),
        }
    }
}

pub(super) fn json(rest: Bytes) -> Response<Content> {
    let content = Content { rest, events: None };
    of_type("application/json", "no-store", content)
}

pub(super) fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Response<Content> {
    let content = Content {
        rest: Bytes::new(),
        events: Some(Box::pin(events)),
    };
    let mut answer = of_type("text/event-stream", "no-store", content);
    answer.extensions_mut().insert(Lasting);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn of_type(
    content_type: &'static str,
    caching: &'static str,
    content: Content,
) -> Response<Content> {
    let mut answer = Response::new(content);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn filled(json: &mut Json) -> Result<(), Refused> {
        json.raw(&" ".repeat(json.room())).unwrap();
        Ok(())
    }

    #[test]
    fn answers_count_until_the_last_of_them_is_gone() {
        let budget = Budget::of_blocks();
        let mut held: Vec<_> = (0..ANSWERS_BYTES_MAX / ANSWER_BYTES_MAX)
            .map(|_| budget.make(filled).unwrap())
            .collect();
        assert_eq!(budget.room.available_permits(), 0);
        let refused = budget.make(filled).unwrap_err();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.answer().headers()[RETRY_AFTER], "1");
        // Half of it on its way to the visitor does not free it.
        let mut last = held.pop().unwrap();
        drop(last.split_to(ANSWER_BYTES_MAX / 2));
        assert!(budget.make(filled).is_err());
        drop(last);
        // A small one gives back what it does not use.
        let small = budget.make(|json| {
            json.raw("{}").unwrap();
            Ok(())
        });
        assert_eq!(budget.room.available_permits(), ANSWER_BYTES_MAX - 2);
        drop((small, held));
        assert_eq!(budget.room.available_permits(), ANSWERS_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_connection_is_given_an_answer_in_pieces() {
        let mut body = json(vec![7; PIECE_LEN_MAX + 1].into()).into_body();
        for len in [PIECE_LEN_MAX, 1] {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), len);
        }
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}
