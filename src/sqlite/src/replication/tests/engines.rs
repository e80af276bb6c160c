//! Several engines on one file.

use super::*;

#[tokio::test]
async fn two_engines_on_one_file_each_see_every_change() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    b.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().events_processed, 1);
    a.run("INSERT INTO Docs VALUES (2, 'two', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().events_processed, 1);
    // Nothing was pruned that the other still needs.
    assert_eq!(b.replicator.sync_all().await.unwrap().events_processed, 2);
    a.assert_equal(&docs()).await;
    b.assert_equal(&docs()).await;
    // A lease that ended holds nothing back.
    b.replicator.shutdown().await;
    a.run("DELETE FROM Docs").await;
    a.replicator.sync_all().await.unwrap();
    let left: i64 = Connection::open(folder.database())
        .unwrap()
        .query_row("SELECT count(*) FROM _vexact_log", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn the_lease_of_a_dead_engine_holds_nothing_back() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let dead = "INSERT INTO _vexact_engines(id, applied_seq, is_lease) VALUES ('dead-1', 0, 1)";
    Connection::open(folder.database()).unwrap().execute(dead, []).unwrap();
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    assert_eq!(a.replicator.sync_now().await.unwrap().pruned_count, Some(1));
}

#[tokio::test]
async fn changes_that_were_pruned_unseen_are_copied() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    // Another program deletes all positions, and with them the lease of B.
    let forget = "DELETE FROM _vexact_engines";
    Connection::open(folder.database()).unwrap().execute(forget, []).unwrap();
    assert_eq!(a.replicator.sync_now().await.unwrap().pruned_count, Some(1));
    a.run("INSERT INTO Docs VALUES (2, 'two', 0.5, NULL)").await;
    b.replicator.sync_now().await.unwrap();
    b.assert_equal(&docs()).await;
}

#[tokio::test]
async fn an_engine_goes_on_from_what_another_registered_and_altered() {
    let folder = Folder::new();
    let a = open(&folder.database(), options(SyncMode::Destructive)).await;
    let b = open(&folder.database(), options(SyncMode::Destructive)).await;
    a.run(CREATE).await;
    a.replicator.register(docs(), false).await.unwrap();
    a.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    b.replicator.register(docs(), true).await.unwrap();
    b.assert_equal(&docs()).await;
    a.replicator.add_column("docs", "age", ColumnType::Int32).await.unwrap();
    // B has seen nothing of it.
    b.replicator.drop_column("docs", "weight").await.unwrap();
    a.run("UPDATE Docs SET age = 7").await;
    let columns = [("id", "int64"), ("Title", "utf8"), ("v", "vector(2)"), ("age", "int32")];
    for engine in [&a, &b] {
        engine.replicator.sync_now().await.unwrap();
        engine.assert_equal(&schema("Docs", &columns, &["id"])).await;
        let error = engine.replicator.drop_column("docs", "weight").await.unwrap_err().to_string();
        assert!(error.contains("has no column"), "{error}");
    }
}
