//! Errors in one line, for a person.
//!
//! Promises: nothing is said twice, although many errors quote the error below them, and nothing
//! that a foreign file contains reaches the terminal as a control character.

use anyhow::Error;

use crate::commands::outline::visible;

/// An error with its causes, each only if those before it did not quote it.
pub(crate) fn in_one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = visible(cause.to_string().trim());
        if line.is_empty() {
            line = text;
        } else if !text.is_empty() && !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door: {0}")]
    struct Quoting(#[from] std::fmt::Error);

    #[test]
    fn a_cause_that_was_quoted_is_not_repeated() {
        let error = Error::from(Quoting(std::fmt::Error)).context("no way in");
        let inner = std::fmt::Error.to_string();
        assert_eq!(
            in_one_line(&error),
            format!("no way in: cannot open the door: {inner}")
        );
        assert_eq!(
            in_one_line(&anyhow!("inner").context("outer")),
            "outer: inner"
        );
    }

    #[test]
    fn it_is_one_line_and_cannot_steer_the_terminal() {
        let error = anyhow!("channel 'a\u{1b}[2J'\nis odd\n");
        assert_eq!(in_one_line(&error), "channel 'a\\u{1b}[2J'\\nis odd");
    }
}
