//! Tables whose columns change, by the engine and by other programs.

use super::*;

#[tokio::test]
async fn a_migration_by_another_program_is_noticed() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    let other = Connection::open(folder.database()).unwrap();
    let migration = format!(
        "BEGIN; ALTER TABLE Docs RENAME TO old; {CREATE}; INSERT INTO Docs SELECT id + 10, Title, weight, v FROM old; \
         DROP TABLE old; COMMIT; INSERT INTO Docs VALUES (99, 'later', 1, NULL);"
    );
    other.execute_batch(&migration).unwrap();
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
    // Captured again.
    other.execute_batch("UPDATE Docs SET weight = 2").unwrap();
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_table_that_is_gone_fails_alone_and_comes_back() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
    let other = schema("other", &[("id", "int64")], &["id"]);
    engine.replicator.register(docs(), false).await.unwrap();
    engine.replicator.register(other.clone(), false).await.unwrap();
    Connection::open(folder.database()).unwrap().execute_batch("DROP TABLE Docs").unwrap();
    engine.run("INSERT INTO other VALUES (1)").await;
    assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, 1);
    engine.assert_equal(&other).await;
    let status = engine.replicator.status().await.unwrap();
    assert_eq!(status.tables[0].state, TableCondition::Failed);
    assert!(status.last_error.unwrap().contains("no such table"), "{:?}", status.tables[0].last_error);
    let error = engine.session.sql("SELECT * FROM docs", None).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("does not follow its source"), "{error}");
    engine.run(CREATE).await;
    engine.run("INSERT INTO Docs VALUES (5, 'five', 0.5, NULL)").await;
    engine.replicator.sync_now().await.unwrap();
    engine.assert_equal(&docs()).await;
    assert_eq!(engine.replicator.status().await.unwrap().last_error, None);
}

#[tokio::test]
async fn a_table_that_cannot_be_captured_fails_alone_until_it_can() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
    let followed = schema("other", &[("id", "int64")], &["id"]);
    engine.replicator.register(docs(), false).await.unwrap();
    engine.replicator.register(followed.clone(), false).await.unwrap();
    let other = Connection::open(folder.database()).unwrap();
    let unfit = format!("DROP TABLE Docs; {CREATE}; INSERT INTO Docs VALUES (1, x'00', 1, NULL)");
    let keyless = "DROP TABLE Docs; CREATE TABLE Docs(id INTEGER, Title TEXT, weight REAL, v BLOB)".to_owned();
    for (id, (broken, problem, mended)) in [
        (unfit, "do not fit", "UPDATE Docs SET Title = 'one'".to_owned()),
        (keyless, "is not unique", "CREATE UNIQUE INDEX by_id ON Docs(id)".to_owned()),
        (
            "CREATE UNIQUE INDEX by_title ON Docs(CAST(Title AS Title))".to_owned(),
            "is on an expression",
            "DROP INDEX by_title".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        other.execute_batch(&broken).unwrap();
        engine.run(&format!("INSERT INTO other VALUES ({id})")).await;
        // The first cycle finds it, the second does not forget it.
        for inserted in [1, 0] {
            assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, inserted, "{broken}");
            let status = engine.replicator.status().await.unwrap();
            assert_eq!(status.tables[0].state, TableCondition::Failed, "{broken}");
            assert!(status.last_error.as_ref().unwrap().contains(problem), "{:?}", status.last_error);
            assert!(engine.replicator.initial_sync("docs").await.is_err());
        }
        engine.assert_equal(&followed).await;
        other.execute_batch(&mended).unwrap();
        engine.replicator.sync_now().await.unwrap();
        engine.run(&format!("INSERT INTO Docs VALUES ({id} + 10, 'new', 1, NULL)")).await;
        engine.replicator.sync_now().await.unwrap();
        engine.assert_equal(&docs()).await;
        assert_eq!(engine.replicator.status().await.unwrap().last_error, None);
    }
}

#[tokio::test]
async fn columns_come_and_go_without_a_gap() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        let folder = Folder::new();
        let engine = open(&folder.database(), options(mode)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL), (2, 'two', 1.5, NULL)").await;
        engine.replicator.sync_now().await.unwrap();
        engine.run("UPDATE Docs SET weight = 2.5 WHERE id = 2").await;
        engine.run("ALTER TABLE Docs ADD COLUMN age INTEGER DEFAULT 7").await;
        engine.run("UPDATE Docs SET age = 8 WHERE id = 1").await;
        engine.replicator.add_column("docs", "age", ColumnType::Int32).await.unwrap();
        let open = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
        let rows = engine.olap(&format!("SELECT id, weight, age FROM docs{open}")).await;
        assert_eq!(rows, ["1|0.5|8", "2|2.5|7"]);
        engine.run("INSERT INTO Docs(id, age) VALUES (3, 30)").await;
        assert_eq!(engine.replicator.sync_now().await.unwrap().rows_inserted, 1);
        // A column that SQLite does not have yet is made.
        engine.replicator.add_column("docs", "note", ColumnType::Utf8).await.unwrap();
        engine.run("UPDATE Docs SET note = 'x' WHERE id = 3").await;
        engine.replicator.drop_column("docs", "weight").await.unwrap();
        engine.replicator.sync_now().await.unwrap();
        let rows = engine.olap(&format!("SELECT id, age, note FROM docs{open}")).await;
        assert_eq!(rows, ["1|8|NULL", "2|7|NULL", "3|30|x"]);
        if mode == SyncMode::Temporal {
            let history = engine.olap("SELECT id, age, _operation FROM docs WHERE id = 1").await;
            assert_eq!(history, ["1|7|I", "1|8|U"]);
        }
        let error = engine.replicator.drop_column("docs", "ID").await.unwrap_err().to_string();
        assert!(error.contains("belongs to the key"), "{error}");
        let error = engine.replicator.add_column("docs", "Age", ColumnType::Int32).await.unwrap_err().to_string();
        assert!(error.contains("already has a column"), "{error}");
    }
}
