//! The engine's own SQLite file, and the replication of its tables.

use std::sync::Arc;
use std::time::Duration;

use vexact_cooperative::Scheduler;
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, Store};
use vexact_sidecar::Sidecar;
use vexact_sqlite::oltp::{Oltp, OltpOptions};
use vexact_sqlite::replication::{ReplicationOptions, Replicator};

use super::HtapConfig;
use super::names::SqliteTables;

/// Time that a statement waits for the locks of other programs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine's own SQLite file.
#[derive(Debug)]
pub(super) struct Local {
    pub oltp: Arc<Oltp>,
    pub replicator: Arc<Replicator>,
    pub tables: SqliteTables,
}

impl Local {
    /// Opens the file, or creates it, and resumes the replication of its tables.
    ///
    /// # Errors
    /// A file that cannot be opened; a table in it with the name of a table of the sidecar.
    pub async fn open(
        config: &HtapConfig,
        sidecar: Option<&Sidecar>,
        replicas: Arc<Replicas>,
        store: Option<Arc<Store>>,
        scheduler: Scheduler,
    ) -> Result<Self> {
        let followed = sidecar.map_or(&[][..], Sidecar::tables);
        let options = OltpOptions {
            read_pool_size: config.read_pool_size,
            busy_timeout: BUSY_TIMEOUT,
            reserved_tables: followed.to_vec(),
            scheduler,
        };
        let path = config.oltp_path.clone();
        let oltp = Arc::new(opened(move || Oltp::open(path, options)).await?);
        let tables = SqliteTables::default();
        let known = tables.current(&oltp).await?;
        if let Some(clash) = followed.iter().find(|table| known.contains(&table.to_ascii_lowercase())) {
            return Err(Error::Engine(format!(
                "{}: has a table {clash:?}, which is also one that the sidecar follows: expected tables of other names",
                oltp.path().display()
            )));
        }
        let options = ReplicationOptions {
            mode: config.sync_mode,
            prunes: config.prune_after_sync,
            batch_size: config.sync_batch_size,
            log_limit: config.log_limit,
            store,
        };
        let replicator = Arc::new(Replicator::start(Arc::clone(&oltp), replicas, options).await?);
        Ok(Self { oltp, replicator, tables })
    }
}

/// Opens a resource on a blocking thread.
pub(super) async fn opened<T: Send + 'static>(open: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |error| Err(Error::Engine(format!("opening ended: {error}")));
    tokio::task::spawn_blocking(open).await.unwrap_or_else(ended)
}
