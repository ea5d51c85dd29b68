//! Errors as histories name them.

use klamm::types::ErrorCode;
use klamm_jepsen::history::Attempt;

/// An error by its name in the protocol; `None` for no error.
pub(super) fn error_name(code: i16) -> Option<String> {
    match ErrorCode::from_wire(code) {
        Some(ErrorCode::None) => None,
        Some(code) => Some(code.name().to_owned()),
        None => Some(format!("ERROR_{code}")),
    }
}

pub(super) fn attempt(error: impl Into<String>) -> Attempt {
    Attempt {
        error: error.into(),
    }
}
