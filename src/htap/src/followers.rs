//! Followers that keep the replicas up to date: a change log, a source's clocks, or both at the
//! same time.

use std::sync::Arc;
use std::time::Duration;

use vexact_core::error::{Error, Result};
use vexact_session::UnloadedTable;
use vexact_sidecar::Sidecar;
use vexact_sqlite::replication::{Replicator, SyncResult, SyncStatus};

/// The followers of an engine; each table belongs to one of them.
#[derive(Debug)]
pub(super) struct Followers {
    /// Follows the change log of the engine's own SQLite file.
    pub log: Option<Arc<Replicator>>,
    /// Follows a database that is not the engine's.
    pub sidecar: Option<Arc<Sidecar>>,
}

/// Returns the sum of both results, or the first error, after both have run.
fn both(results: [Option<Result<SyncResult>>; 2]) -> Result<SyncResult> {
    let mut sum = SyncResult::default();
    for result in results.into_iter().flatten() {
        sum = sum.plus(result?);
    }
    Ok(sum)
}

impl Followers {
    /// Returns the replicas that lack rows which their tables had before replication started.
    pub fn unloaded(&self) -> Vec<UnloadedTable> {
        let of_log = self.log.iter().flat_map(|log| log.unloaded()).map(|name| UnloadedTable {
            refusal: format!(
                "table {name:?} was registered without its rows, which a search would miss: initial_sync({name:?}) loads them \
                 (vexact db sync --table {name})"
            ),
            name,
        });
        let of_sidecar = self.sidecar.iter().flat_map(|sidecar| sidecar.unloaded()).map(|name| UnloadedTable {
            refusal: format!(
                "table {name:?} was never read from its source, so a search would miss its rows: sync_all() reads them"
            ),
            name,
        });
        of_log.chain(of_sidecar).collect()
    }

    pub async fn sync_now(&self) -> Result<SyncResult> {
        let mut results = [None, None];
        if let Some(sidecar) = &self.sidecar {
            results[0] = Some(sidecar.sync_now().await);
        }
        if let Some(log) = &self.log {
            results[1] = Some(log.sync_now().await);
        }
        both(results)
    }

    pub async fn sync_all(&self) -> Result<SyncResult> {
        let mut results = [None, None];
        if let Some(sidecar) = &self.sidecar {
            results[0] = Some(sidecar.sync_all().await);
        }
        if let Some(log) = &self.log {
            results[1] = Some(log.sync_all().await);
        }
        both(results)
    }

    /// Returns the status of all tables. The position is that of the log; without a log, it is that
    /// of the changes that the sidecar has applied.
    pub async fn status(&self) -> Result<SyncStatus> {
        let mut status = match &self.log {
            Some(log) => Some(log.status().await?),
            None => None,
        };
        if let Some(sidecar) = &self.sidecar {
            let of_sidecar = sidecar.status().await?;
            status = Some(match status {
                None => of_sidecar,
                Some(mut status) => {
                    status.lag += of_sidecar.lag;
                    status.last_error = status.last_error.or(of_sidecar.last_error);
                    status.tables.extend(of_sidecar.tables);
                    status.tables.sort_by(|a, b| a.name.cmp(&b.name));
                    status
                }
            });
        }
        status.ok_or_else(|| Error::Engine("an engine without followers".into()))
    }

    pub fn start_background(&self, interval: Duration) {
        if let Some(sidecar) = &self.sidecar {
            sidecar.start_background(interval);
        }
        if let Some(log) = &self.log {
            log.start_background(interval);
        }
    }

    pub fn stop_background(&self) {
        if let Some(sidecar) = &self.sidecar {
            sidecar.stop_background();
        }
        if let Some(log) = &self.log {
            log.stop_background();
        }
    }

    pub async fn shutdown(&self) {
        if let Some(sidecar) = &self.sidecar {
            sidecar.shutdown().await;
        }
        if let Some(log) = &self.log {
            log.shutdown().await;
        }
    }
}
