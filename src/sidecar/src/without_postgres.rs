//! Replacement of the PostgreSQL source in a build without the feature `postgres`: it rejects every
//! address.

use vexact_core::error::{Error, Result};

use super::source::Source;
use super::stop::Stop;

/// Rejects the address.
///
/// # Errors
/// Always [`Error::InvalidArgument`].
pub(super) fn check_address(_: &str) -> Result<()> {
    Err(refusal())
}

/// Rejects the address.
///
/// # Errors
/// Always [`Error::InvalidArgument`].
pub(super) fn open(_: &str, _: Stop) -> Result<Box<dyn Source>> {
    Err(refusal())
}

fn refusal() -> Error {
    Error::InvalidArgument(
        "sidecar_source: expected a SQLite file, got a PostgreSQL address: this build has no PostgreSQL client (feature \
         `postgres` of the crate `vexact`)"
            .into(),
    )
}
