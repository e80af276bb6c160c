//! Configuration of an engine.

use std::path::PathBuf;

use vexact_core::database_path::{DatabasePath, refuse_uri};
use vexact_core::error::{Error, Result};
use vexact_replica::SyncMode;
use vexact_session::{SessionOptions, Tier};
use vexact_sidecar::SidecarConfig;

/// Storage of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageMode {
    /// In memory, copied from SQLite when the engine opens.
    #[default]
    InMemory,
    /// Arrow IPC files.
    ArrowIpc,
    /// Parquet files.
    Parquet,
}

/// Engine of analytical queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OlapBackend {
    /// DataFusion, built in.
    #[default]
    DataFusion,
    /// DuckDB, which reads the same replicas. DataFusion still answers queries that only it
    /// supports (vector functions, `vector_search`, `as_of`, the session's own tables).
    #[cfg(feature = "duckdb-linked")]
    DuckDb,
}

/// Configuration of an engine. `default` has the values of `open` without arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct HtapConfig {
    /// Path of the SQLite file, or the URI `file:app.db?mode=ro`, which opens it read-only.
    pub oltp_path: PathBuf,
    /// Synchronization mode of the replicas.
    pub sync_mode: SyncMode,
    /// Engine of analytical queries.
    pub olap_backend: OlapBackend,
    /// Storage of the replicas.
    pub storage_mode: StorageMode,
    /// Folder of replicas that are stored in files.
    pub storage_path: Option<PathBuf>,
    /// True if the log is pruned to the entries that replicas still need.
    pub prune_after_sync: bool,
    /// Maximum number of changes in the log while no engine reads it, at least 1; beyond it the
    /// tables are copied anew. The file stores the limit. `None` uses the file's limit, which is at
    /// first the number of the tables' rows, and at least 100 000.
    pub log_limit: Option<u64>,
    /// Maximum number of changes in one sync cycle, at least 1.
    pub sync_batch_size: u64,
    /// Maximum number of concurrent readers of SQLite, at least 1.
    pub read_pool_size: u32,
    /// Form of the vectors that searches read first.
    pub tier: Tier,
    /// A followed database that the engine does not own. Then `oltp_path` is opened only if the
    /// sidecar requires it, and files contain only the followed tables: replicas of `oltp_path`'s
    /// own tables are in memory.
    pub sidecar: Option<SidecarConfig>,
}

impl Default for HtapConfig {
    fn default() -> Self {
        Self {
            oltp_path: "vexact.db".into(),
            sync_mode: SyncMode::Destructive,
            olap_backend: OlapBackend::DataFusion,
            storage_mode: StorageMode::InMemory,
            storage_path: None,
            prune_after_sync: true,
            log_limit: None,
            sync_batch_size: 1000,
            read_pool_size: 4,
            tier: Tier::Auto,
            sidecar: None,
        }
    }
}

fn one_of<T: Copy>(name: &str, text: &str, known: &[(&str, T)]) -> Result<T> {
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        Error::InvalidArgument(format!("{name}: expected one of [{}], got {text:?}", names.join(", ")))
    })
}

impl HtapConfig {
    /// Parses `sync_mode`.
    ///
    /// # Errors
    /// Another text than `destructive` or `temporal`.
    pub fn parse_sync_mode(text: &str) -> Result<SyncMode> {
        one_of("sync_mode", text, &[("destructive", SyncMode::Destructive), ("temporal", SyncMode::Temporal)])
    }

    /// Parses `storage_mode`.
    ///
    /// # Errors
    /// Another text than `inmemory`, `arrow_ipc` or `parquet`.
    pub fn parse_storage_mode(text: &str) -> Result<StorageMode> {
        let known = [
            ("inmemory", StorageMode::InMemory),
            ("arrow_ipc", StorageMode::ArrowIpc),
            ("parquet", StorageMode::Parquet),
        ];
        one_of("storage_mode", text, &known)
    }

    /// Parses `olap_backend`.
    ///
    /// # Errors
    /// `duckdb` without the cargo feature `duckdb-backend`; another text than these two.
    pub fn parse_olap_backend(text: &str) -> Result<OlapBackend> {
        #[cfg(not(feature = "duckdb-linked"))]
        if text == "duckdb" {
            return Err(Error::InvalidArgument(
                "olap_backend: \"duckdb\" needs a build with the cargo feature duckdb-backend: expected \"datafusion\""
                    .into(),
            ));
        }
        let known = [
            ("datafusion", OlapBackend::DataFusion),
            #[cfg(feature = "duckdb-linked")]
            ("duckdb", OlapBackend::DuckDb),
        ];
        one_of("olap_backend", text, &known)
    }

    /// Parses `tier`.
    ///
    /// # Errors
    /// Another text than `auto`, `off`, `f32`, `i8` or `pca4`.
    pub fn parse_tier(text: &str) -> Result<Tier> {
        SessionOptions::parse_tier(text)
    }

    /// Rejects settings that cannot be used together.
    ///
    /// # Errors
    /// A size of 0; a URI instead of a path, unless it opens a file read-only; files without a
    /// folder, or a folder without files; an error of [`SidecarConfig::check`].
    pub fn check(&self) -> Result<()> {
        let refused = |problem: String| Err(Error::InvalidArgument(problem));
        if self.sync_batch_size == 0 {
            return refused("sync_batch_size: expected at least 1, got 0".into());
        }
        match self.log_limit {
            Some(0) => return refused("log_limit: expected at least 1, got 0".into()),
            Some(got) if !self.prune_after_sync => {
                return refused(format!(
                    "log_limit: expected none without prune_after_sync, which keeps the whole log, got {got}"
                ));
            }
            _ => {}
        }
        if self.read_pool_size == 0 {
            return refused("read_pool_size: expected at least 1, got 0".into());
        }
        DatabasePath::parse("oltp_path", &self.oltp_path)?;
        if let Some(storage) = &self.storage_path {
            refuse_uri("storage_path", storage)?;
        }
        if let Some(sidecar) = &self.sidecar {
            sidecar.check()?;
        }
        match (self.storage_mode, &self.storage_path) {
            (StorageMode::InMemory, Some(path)) => {
                refused(format!("storage_path: expected none with storage_mode \"inmemory\", got {:?}", path.display()))
            }
            (StorageMode::ArrowIpc | StorageMode::Parquet, None) => {
                refused("storage_path: expected the folder of the replicas' files, got none".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        let error = HtapConfig::parse_sync_mode("mirror").unwrap_err().to_string();
        assert_eq!(error, "sync_mode: expected one of [destructive, temporal], got \"mirror\"");
        #[cfg(not(feature = "duckdb-linked"))]
        assert!(HtapConfig::parse_olap_backend("duckdb").unwrap_err().to_string().contains("duckdb-backend"));
        let config = HtapConfig { storage_mode: StorageMode::Parquet, ..HtapConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("storage_path"));
        let config = HtapConfig { sync_batch_size: 0, ..HtapConfig::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "sync_batch_size: expected at least 1, got 0");
    }
}
