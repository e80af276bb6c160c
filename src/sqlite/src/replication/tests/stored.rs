//! Replicas in files, while the database beside them is changed by others.

use vexact_core::disk::FileSystem;
use vexact_replica::{StorageFormat, Store};

use super::*;

const HISTORY: &str = "SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs";

impl Folder {
    fn stored(&self, mode: SyncMode) -> ReplicationOptions {
        let store = Store::open(&self.0.path().join("store"), StorageFormat::ArrowIpc, Arc::new(FileSystem)).unwrap();
        ReplicationOptions { store: Some(Arc::new(store)), ..options(mode) }
    }

    /// Writes as another program does while no engine runs.
    fn write(&self, sql: &str) {
        Connection::open(self.database()).unwrap().execute_batch(sql).unwrap();
    }

    async fn history(&self, sql: &str) -> Vec<String> {
        let engine = open(&self.database(), self.stored(SyncMode::Temporal)).await;
        let rows = engine.olap(sql).await;
        engine.replicator.shutdown().await;
        rows
    }

    /// A history of one row, stored.
    async fn with_a_history() -> Self {
        let folder = Self::new();
        let engine = open(&folder.database(), folder.stored(SyncMode::Temporal)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        for title in ["'one'", "'uno'"] {
            engine.run(&format!("REPLACE INTO Docs VALUES (1, {title}, 0.5, NULL)")).await;
            engine.replicator.sync_now().await.unwrap();
        }
        engine.replicator.shutdown().await;
        folder
    }
}

/// As after a loss of power, or from a backup: the database goes back behind the replicas, and its
/// log passes their position again before the engine opens.
#[tokio::test]
async fn a_log_that_went_back_and_passed_the_position_again_is_noticed() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let folder = Folder::new();
        let engine = open(&folder.database(), folder.stored(mode)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'kept', 0.5, NULL)").await;
        engine.replicator.sync_now().await.unwrap();
        let backup = folder.0.path().join("backup.db");
        folder.write(&format!("VACUUM INTO '{}'", backup.display()));
        engine.run("INSERT INTO Docs VALUES (2, 'lost', 0.5, NULL)").await;
        engine.replicator.sync_now().await.unwrap();
        engine.replicator.shutdown().await;
        drop(engine);
        for suffix in ["", "-wal", "-shm"] {
            let path = format!("{}{suffix}", folder.database().display());
            assert!(std::fs::remove_file(path).is_ok() || !suffix.is_empty());
        }
        std::fs::copy(&backup, folder.database()).unwrap();
        folder.write("INSERT INTO Docs VALUES (3, 'written', 0.5, NULL), (4, 'later', 0.5, NULL), (5, 'too', 1, NULL)");
        let engine = open(&folder.database(), folder.stored(mode)).await;
        let current = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
        let rows = engine.olap(&format!("SELECT id, \"Title\" FROM docs{current}")).await;
        assert_eq!(rows, ["1|kept", "3|written", "4|later", "5|too"]);
        if mode == SyncMode::Temporal {
            let lost = engine.olap("SELECT _operation, _valid_to IS NULL FROM docs WHERE id = 2").await;
            assert_eq!(lost, ["D|false", "I|false"], "the history before is kept");
        }
    }
}

#[tokio::test]
async fn a_stored_history_goes_on_over_a_migration_while_no_engine_was_there() {
    let folder = Folder::with_a_history().await;
    assert_eq!(folder.history(HISTORY).await, ["1|one|I|false", "1|uno|U|true"]);
    // It loses the triggers, so that the table has to be copied.
    folder.write("DROP TABLE Docs");
    folder.write(CREATE);
    folder.write("INSERT INTO Docs VALUES (1, 'eins', 0.5, NULL)");
    assert_eq!(folder.history(HISTORY).await, ["1|eins|U|true", "1|one|I|false", "1|uno|U|false"]);
}

#[tokio::test]
async fn a_stored_history_goes_on_with_the_columns_of_another_engine() {
    let folder = Folder::with_a_history().await;
    let other = open(&folder.database(), options(SyncMode::Destructive)).await;
    other.replicator.drop_column("docs", "weight").await.unwrap();
    other.run("UPDATE Docs SET Title = 'eins'").await;
    other.replicator.shutdown().await;
    assert_eq!(folder.history(HISTORY).await, ["1|eins|U|true", "1|one|I|false", "1|uno|U|false"]);
}

#[tokio::test]
async fn a_stored_replica_of_a_table_that_the_database_does_not_know_goes() {
    let folder = Folder::with_a_history().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", folder.database().display()));
    }
    let engine = open(&folder.database(), folder.stored(SyncMode::Temporal)).await;
    let error = engine.session.sql("SELECT * FROM docs", None).await.err().unwrap().to_string();
    assert!(error.contains("docs"), "{error}");
}
