//! Decides which failures of DataFusion fall back to SQLite: those where the two differ by design,
//! and not those where something is broken.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use vexact_core::error::Error;

/// Returns true if a query failed at a feature that DataFusion lacks, or at a value that SQLite
/// accepts: a function or syntax that DataFusion does not have, a cast, an overflow. A failure of
/// the engine, of a file or of memory does not fall back, and is reported unchanged.
pub(super) fn should_fall_back(error: &Error) -> bool {
    match error {
        // A name or parameter that the OLAP side spells differently.
        Error::Engine(_) | Error::InvalidArgument(_) => true,
        Error::Query(error) => is_sqlites(error.find_root()),
        _ => false,
    }
}

fn is_sqlites(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        // An error on a value, as of a subquery with more than one row.
        | DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            **error,
            ArrowError::NotYetImplemented(_)
                | ArrowError::CastError(_)
                | ArrowError::ParseError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
        ),
        // An error of a function that SQLite computes: DataFusion may have called it on a row that
        // SQLite itself would not have reached.
        DataFusionError::External(error) => error.is::<rusqlite::Error>(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    fn of(error: DataFusionError) -> bool {
        should_fall_back(&Error::Query(error))
    }

    fn arrow(error: ArrowError) -> DataFusionError {
        DataFusionError::ArrowError(Box::new(error), None)
    }

    #[test]
    fn what_datafusion_lacks_and_values_on_which_it_fails_are_for_sqlite() {
        let text = || "of a test".to_owned();
        for error in [
            DataFusionError::Plan(text()),
            DataFusionError::NotImplemented(text()),
            DataFusionError::Execution(text()),
            arrow(ArrowError::NotYetImplemented(text())),
            arrow(ArrowError::CastError(text())),
            arrow(ArrowError::ParseError(text())),
            arrow(ArrowError::ComputeError(text())),
            arrow(ArrowError::ArithmeticOverflow(text())),
            arrow(ArrowError::DivideByZero),
            DataFusionError::External(Box::new(rusqlite::Error::QueryReturnedNoRows)),
        ] {
            let message = error.to_string();
            assert!(of(error), "{message}");
        }
        let schema = datafusion::common::SchemaError::DuplicateUnqualifiedField { name: text() };
        assert!(of(DataFusionError::SchemaError(Box::new(schema), Box::new(None))));
        assert!(should_fall_back(&Error::Engine(text())));
        assert!(should_fall_back(&Error::InvalidArgument(text())));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let text = || "of a test".to_owned();
        let io = || io::Error::other("of a test");
        for error in [
            DataFusionError::Internal(text()),
            DataFusionError::Configuration(text()),
            DataFusionError::ResourcesExhausted(text()),
            DataFusionError::Substrait(text()),
            DataFusionError::IoError(io()),
            DataFusionError::External(Box::new(io())),
            DataFusionError::External(Box::new(Error::Engine(text()))),
            arrow(ArrowError::InvalidArgumentError(text())),
            arrow(ArrowError::SchemaError(text())),
            arrow(ArrowError::MemoryError(text())),
            arrow(ArrowError::IoError(text(), io())),
            arrow(ArrowError::IpcError(text())),
            arrow(ArrowError::ParquetError(text())),
            arrow(ArrowError::CDataInterface(text())),
            arrow(ArrowError::DictionaryKeyOverflowError),
            arrow(ArrowError::RunEndIndexOverflowError),
            arrow(ArrowError::OffsetOverflowError(1)),
            arrow(ArrowError::JsonError(text())),
            arrow(ArrowError::CsvError(text())),
            arrow(ArrowError::AvroError(text())),
        ] {
            let message = error.to_string();
            assert!(!of(error), "{message}");
        }
        assert!(!should_fall_back(&Error::Interrupted(text())));
    }

    #[test]
    fn the_root_of_a_failure_counts() {
        let context = |error: DataFusionError| error.context("of a test");
        assert!(of(context(context(arrow(ArrowError::DivideByZero)))));
        assert!(of(DataFusionError::Shared(Arc::new(DataFusionError::Plan("of a test".into())))));
        assert!(!of(context(DataFusionError::Internal("of a test".into()))));
        assert!(!of(arrow(ArrowError::ExternalError(Box::new(DataFusionError::Internal("of a test".into()))))));
        assert!(of(DataFusionError::Collection(vec![DataFusionError::Plan("of a test".into())])));
    }
}
