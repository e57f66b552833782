//! JSON that is written piece by piece and never longer than it may be.
//!
//! Promises that what does not fit leaves no trace, and that nothing is built in memory but the
//! text itself: values are written as they are found in the bytes of a block.

use std::io;

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A text that grows up to a limit.
#[derive(Debug)]
pub(super) struct Json {
    text: Vec<u8>,
    len_max: usize,
}

/// There was no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Json {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            text: Vec::new(),
            len_max,
        }
    }

    /// Writes a value, or nothing of it.
    pub(super) fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Full> {
        let before = self.text.len();
        serde_json::to_writer(&mut *self, value).map_err(|_full| {
            self.text.truncate(before);
            Full
        })
    }

    /// Writes what is between values.
    pub(super) fn raw(&mut self, text: &str) -> Result<(), Full> {
        io::Write::write_all(self, text.as_bytes()).map_err(|_full| Full)
    }

    /// Does something that may use only so many more bytes; of what does not fit nothing stays.
    pub(super) fn within<T>(
        &mut self,
        room: usize,
        write: impl FnOnce(&mut Self) -> Result<T, Full>,
    ) -> Result<T, Full> {
        let (before, len_max) = (self.text.len(), self.len_max);
        self.len_max = len_max.min(before.saturating_add(room));
        let written = write(self);
        self.len_max = len_max;
        if written.is_err() {
            self.text.truncate(before);
        }
        written
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.len_max - self.text.len()
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes back the brace that closes the object just written, for more members.
    pub(super) fn reopen(&mut self) {
        let brace = self.text.pop();
        debug_assert_eq!(brace, Some(b'}'), "an object was written");
    }

    /// The text, in memory of its length.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.shrink_to_fit();
        self.text
    }
}

impl io::Write for Json {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A list, made while it is written.
pub(super) struct Each<F>(pub(super) F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq((self.0)())
    }
}

/// Any bytes: `base64`, and `text` where that is what they seem to be.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("base64", &Base64(self.0))?;
        let text = std::str::from_utf8(self.0).ok();
        let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
        if let Some(text) = text.filter(is_text) {
            map.serialize_entry("text", text)?;
        }
        map.end()
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: Json) -> String {
        String::from_utf8(json.finish()).unwrap()
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let mut json = Json::new(10);
        json.value("abcd").unwrap();
        assert_eq!(json.value("abc"), Err(Full), "one byte too many");
        assert_eq!((json.len(), json.room()), (6, 4));
        let inner = json.within(3, |json| {
            json.raw("12")?;
            json.raw("34")
        });
        assert_eq!((inner, json.len()), (Err(Full), 6));
        json.value("ab").unwrap();
        assert_eq!((json.raw(","), json.room()), (Err(Full), 0));
        assert_eq!(text(json), "\"abcd\"\"ab\"");
    }

    #[test]
    fn bytes_are_text_where_they_seem_to_be() {
        for (bytes, expected) in [
            (&b"a\"\n"[..], "{\"base64\":\"YSIK\",\"text\":\"a\\\"\\n\"}"),
            (b"", "{\"base64\":\"\",\"text\":\"\"}"),
            (b"\0", "{\"base64\":\"AA==\"}"),
            (b"\xff", "{\"base64\":\"/w==\"}"),
        ] {
            let mut json = Json::new(1 << 10);
            json.value(&Octets(bytes)).unwrap();
            assert_eq!(text(json), expected);
        }
    }
}
