//! Time limits of queries.

use std::time::{Duration, Instant};

use datafusion::execution::SessionState;
use vexact_core::error::{Error, Result};
use vexact_sql::VexactOptions;

/// Returns the time limit of a query with this session state.
pub(super) fn timeout(state: &SessionState) -> Option<Duration> {
    state.config_options().extensions.get::<VexactOptions>()?.timeout
}

/// Cancels work that exceeds its time limit.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::TimedOut { limit }))
}

/// Runs a part of a query, and adds its time to that of the parts before.
pub(super) async fn timed<T>(
    limit: Option<Duration>,
    spent: &mut Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = limit else { return work.await };
    let start = Instant::now();
    let left = limit.saturating_sub(*spent);
    let done = tokio::time::timeout(left, work).await.unwrap_or(Err(Error::TimedOut { limit }));
    *spent += start.elapsed();
    done
}
