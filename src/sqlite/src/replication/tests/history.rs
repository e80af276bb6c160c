//! Temporal replicas.

use super::*;

#[tokio::test]
async fn a_history_is_kept_and_asked_as_of_a_time() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Temporal)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    engine.run("UPDATE Docs SET Title = 'uno' WHERE id = 1").await;
    engine.run("UPDATE Docs SET id = 4 WHERE id = 1").await;
    engine.replicator.sync_now().await.unwrap();
    let history = engine.olap("SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs").await;
    assert_eq!(history, ["1|one|I|false", "1|uno|D|false", "1|uno|U|false", "4|uno|I|true"]);
    let now = engine.olap("SELECT id, \"Title\" FROM as_of('docs', 9000000000000000)").await;
    assert_eq!(now, ["4|uno"]);
    assert!(engine.olap("SELECT * FROM as_of('Docs', 5)").await.is_empty());
    // Read again, a history gets what it has not seen, and nothing twice.
    assert_eq!(engine.replicator.initial_sync("docs").await.unwrap(), 1);
    assert_eq!(engine.olap("SELECT id FROM docs").await.len(), 4);
}

#[tokio::test]
async fn a_copy_loses_nothing_of_a_history_that_the_log_has() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Temporal)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Temporal)).await;
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    a.run("UPDATE Docs SET Title = 'uno' WHERE id = 1").await;
    a.replicator.initial_sync("docs").await.unwrap();
    let history = "SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs";
    assert_eq!(a.olap(history).await, ["1|one|I|false", "1|uno|U|true"]);
    a.run("UPDATE Docs SET Title = 'eins', weight = 1.5").await;
    // The history has the rows written before the column is dropped, while it is missing, and after
    // it is added again with another type.
    a.replicator.drop_column("docs", "weight").await.unwrap();
    a.run("UPDATE Docs SET Title = 'ein'").await;
    a.replicator.add_column("docs", "weight", ColumnType::Utf8).await.unwrap();
    a.run("UPDATE Docs SET Title = 'ichi', weight = 'w'").await;
    let all = ["1|eins||U", "1|ein||U", "1|ichi|w|U", "1|one||I", "1|uno||U"];
    for engine in [&a, &b] {
        engine.replicator.sync_now().await.unwrap();
        let rows = engine.olap("SELECT id, \"Title\", coalesce(weight, ''), _operation FROM docs").await;
        assert_eq!(rows, all);
    }
}
