//! Numbers and texts of a block as Fabric names them, for a person.

use crate::{common::HeaderType, protos::TxValidationCode};

/// The type of a transaction by name, or its number.
pub fn type_name(header_type: i32) -> String {
    HeaderType::try_from(header_type).map_or_else(
        |_unknown| format!("type {header_type}"),
        |known| known.as_str_name().to_owned(),
    )
}

/// A validation code by name, or its number.
pub fn code_name(code: u8) -> String {
    TxValidationCode::try_from(i32::from(code)).map_or_else(
        |_unknown| format!("code {code}"),
        |known| known.as_str_name().to_owned(),
    )
}

/// A part that should be text; nothing where it is not there or is none.
pub(super) fn text(part: Option<&[u8]>) -> &str {
    std::str::from_utf8(part.unwrap_or_default()).unwrap_or_default()
}
