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
    assert!(matches!(&status.tables[0].state, TableState::Unsupported(error) if error.contains("no such table")));
    assert_eq!(status.last_error.as_deref(), status.tables[0].last_error());
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
            assert!(matches!(status.tables[0].state, TableState::Unsupported(_)), "{broken}");
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

/// The registered columns of an engine's table.
async fn columns(engine: &Engine, table: &str) -> Option<String> {
    engine.replicator.schema(table).await.map(|schema| schema.to_string())
}

#[tokio::test]
async fn a_column_that_the_app_drops_leaves_the_replica() {
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        for migration in [
            "ALTER TABLE Docs DROP COLUMN weight".to_owned(),
            "ALTER TABLE Docs RENAME COLUMN weight TO mass".to_owned(),
            "BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, Title TEXT, v BLOB); INSERT INTO n SELECT id, Title, v FROM Docs; \
             DROP TABLE Docs; ALTER TABLE n RENAME TO Docs; COMMIT"
                .to_owned(),
        ] {
            let folder = Folder::new();
            let engine = open(&folder.database(), options(mode)).await;
            engine.run(CREATE).await;
            engine.replicator.register(docs(), false).await.unwrap();
            engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL), (2, 'two', 1.5, NULL)").await;
            engine.replicator.sync_now().await.unwrap();
            let app = Connection::open(folder.database()).unwrap();
            app.execute_batch("UPDATE Docs SET Title = 'uno' WHERE id = 1").unwrap();
            app.execute_batch(&migration).unwrap_or_else(|error| panic!("{migration}: {error}"));
            app.execute_batch("INSERT INTO Docs(id, Title) VALUES (3, 'three'); DELETE FROM Docs WHERE id = 2").unwrap();
            engine.replicator.sync_all().await.unwrap();
            let left = schema("Docs", &[("id", "int64"), ("Title", "utf8"), ("v", "vector(2)")], &["id"]);
            assert_eq!(columns(&engine, "docs").await, Some(left.to_string()), "{migration}");
            let now = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
            assert_eq!(engine.olap(&format!("SELECT id, \"Title\" FROM docs{now}")).await, ["1|uno", "3|three"], "{migration}");
            let status = engine.replicator.status().await.unwrap();
            let warning = status.tables[0].warning().unwrap();
            assert!(status.last_error.is_none() && warning.starts_with("[weight] left the replica"), "{warning}");
            app.execute_batch("UPDATE Docs SET Title = 'drei' WHERE id = 3").unwrap();
            engine.replicator.sync_all().await.unwrap();
            assert_eq!(engine.olap(&format!("SELECT id, \"Title\" FROM docs{now}")).await, ["1|uno", "3|drei"], "{migration}");
            // Dropping a column that is already dropped is no error; an unknown column still is.
            engine.replicator.drop_column("docs", "weight").await.unwrap();
            assert_eq!(engine.replicator.status().await.unwrap().tables[0].warning(), None);
            let unknown = engine.replicator.drop_column("docs", "nope").await.unwrap_err().to_string();
            assert!(unknown.contains("has no column \"nope\""), "{unknown}");
            if migration.contains("mass") {
                engine.replicator.add_column("docs", "mass", ColumnType::Float64).await.unwrap();
                assert_eq!(engine.olap(&format!("SELECT id, mass FROM docs{now}")).await, ["1|0.5", "3|NULL"]);
            }
        }
    }
}

#[tokio::test]
async fn a_table_whose_key_changes_says_what_to_do() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    let app = Connection::open(folder.database()).unwrap();
    app.execute_batch("DROP TABLE Docs; CREATE TABLE Docs(Title TEXT PRIMARY KEY NOT NULL, weight REAL); INSERT INTO Docs VALUES ('a', 1)")
        .unwrap();
    engine.replicator.sync_all().await.unwrap();
    let error = engine.replicator.status().await.unwrap().tables[0].last_error().unwrap().to_owned();
    assert!(error.contains("no column \"id\"") && error.contains("unregister_table(\"Docs\")"), "{error}");
    let other = schema("Docs", &[("Title", "utf8"), ("weight", "float64")], &["Title"]);
    let refused = engine.replicator.register(other.clone(), true).await.unwrap_err().to_string();
    assert!(refused.contains("already registered"), "{refused}");
    engine.replicator.unregister("docs").await.unwrap();
    assert!(engine.replicator.unregister("docs").await.unwrap_err().to_string().contains("is not registered"));
    assert_eq!(engine.replicator.status().await.unwrap().tables, []);
    engine.replicator.register(other.clone(), true).await.unwrap();
    app.execute_batch("UPDATE Docs SET Title = 'b'").unwrap();
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&other).await;
}

#[tokio::test]
async fn a_renamed_table_is_free_to_be_registered_and_captured_once() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    let second = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    let app = Connection::open(folder.database()).unwrap();
    app.execute_batch("INSERT INTO Docs VALUES (1, 'one', 1, NULL); ALTER TABLE Docs RENAME TO notes").unwrap();
    engine.replicator.sync_all().await.unwrap();
    let triggers = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'";
    let count = || app.query_row(triggers, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 0, "a capture without a registration");
    let notes = schema("notes", &[("id", "int64"), ("Title", "utf8")], &["id"]);
    engine.replicator.register(notes.clone(), true).await.unwrap();
    assert_eq!(count(), 4);
    app.execute_batch(&format!("{CREATE}; INSERT INTO Docs VALUES (7, 'new', 1, NULL); UPDATE notes SET Title = 'q'"))
        .unwrap();
    for engine in [&engine, &second] {
        engine.replicator.sync_all().await.unwrap();
        engine.assert_equal(&docs()).await;
        engine.assert_equal(&notes).await;
    }
    engine.replicator.unregister("DOCS").await.unwrap();
    second.replicator.sync_all().await.unwrap();
    assert_eq!(second.replicator.status().await.unwrap().tables.len(), 1);
    assert_eq!(count(), 4);
}

#[tokio::test]
async fn a_log_that_was_dropped_is_mended() {
    const TABLES: [&str; 7] = ["log", "displaced", "tables", "versions", "columns", "engines", "1_absent"];
    for subset in (1..128).filter(|subset: &u32| subset.count_ones() <= 2 || *subset == 127) {
        let folder = Folder::new();
        let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
        engine.run(CREATE).await;
        engine.run("CREATE UNIQUE INDEX by_title ON Docs(Title)").await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL), (2, 'two', 1.5, NULL)").await;
        engine.replicator.sync_all().await.unwrap();
        let app = Connection::open(folder.database()).unwrap();
        let dropped: Vec<&str> = (0..7).filter(|at| subset & (1 << at) != 0).map(|at| TABLES[at]).collect();
        for table in &dropped {
            app.execute_batch(&format!("DROP TABLE _vexact_{table}")).unwrap();
        }
        engine.replicator.sync_all().await.unwrap();
        // SQLite does not look again for a table that only a trigger names, so that this connection
        // would not find the new log.
        let app = Connection::open(folder.database()).unwrap();
        app.execute_batch("REPLACE INTO Docs VALUES (3, 'two', 2.5, NULL)")
            .unwrap_or_else(|error| panic!("{dropped:?}: {error}"));
        engine.replicator.sync_all().await.unwrap_or_else(|error| panic!("{dropped:?}: {error}"));
        engine.assert_equal(&docs()).await;
        assert_eq!(engine.replicator.status().await.unwrap().last_error, None, "{dropped:?}");
        // Without an engine, the next one that opens the file does it; what it cannot know any more
        // is not captured.
        engine.replicator.shutdown().await;
        for table in &dropped {
            app.execute_batch(&format!("DROP TABLE IF EXISTS _vexact_{table}")).unwrap();
        }
        let next = open(&folder.database(), options(SyncMode::Destructive)).await;
        let app = Connection::open(folder.database()).unwrap();
        app.execute_batch("REPLACE INTO Docs VALUES (4, 'two', 2.5, NULL)")
            .unwrap_or_else(|error| panic!("{dropped:?}: {error}"));
        next.replicator.register(docs(), true).await.unwrap_or_else(|error| panic!("{dropped:?}: {error}"));
        app.execute_batch("REPLACE INTO Docs VALUES (5, 'two', 2.5, NULL)").unwrap();
        next.replicator.sync_all().await.unwrap();
        next.assert_equal(&docs()).await;
    }
}

#[tokio::test]
async fn a_history_goes_on_over_a_log_that_was_dropped() {
    for table in ["log", "displaced", "tables", "versions", "columns", "engines"] {
        let folder = Folder::new();
        let engine = open(&folder.database(), options(SyncMode::Temporal)).await;
        engine.run(CREATE).await;
        engine.replicator.register(docs(), false).await.unwrap();
        engine.run("INSERT INTO Docs VALUES (1, 'one', 0.5, NULL)").await;
        engine.replicator.sync_all().await.unwrap();
        let app = Connection::open(folder.database()).unwrap();
        app.execute_batch(&format!("DROP TABLE _vexact_{table}")).unwrap();
        engine.replicator.sync_all().await.unwrap_or_else(|error| panic!("{table}: {error}"));
        engine.run("UPDATE Docs SET Title = 'uno'").await;
        // A copy reads all versions of the columns.
        engine.replicator.initial_sync("docs").await.unwrap_or_else(|error| panic!("{table}: {error}"));
        engine.replicator.drop_column("docs", "weight").await.unwrap_or_else(|error| panic!("{table}: {error}"));
        let history = engine.olap("SELECT id, \"Title\", _operation, _valid_to IS NULL FROM docs").await;
        assert_eq!(history, ["1|one|I|false", "1|uno|U|true"], "{table}");
    }
}

#[tokio::test]
async fn an_engine_drops_its_replicas_after_an_uninstall_and_begins_anew() {
    let folder = Folder::new();
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    for id in 0..9 {
        engine.run(&format!("INSERT INTO Docs VALUES ({id}, 'one', 0.5, NULL)")).await;
    }
    engine.replicator.sync_all().await.unwrap();
    crate::oltp::uninstall::uninstall(&folder.database()).unwrap();
    engine.replicator.sync_all().await.unwrap();
    assert_eq!(engine.replicator.status().await.unwrap().tables, []);
    engine.replicator.register(docs(), true).await.unwrap();
    engine.run("DELETE FROM Docs WHERE id = 4").await;
    engine.replicator.sync_all().await.unwrap();
    engine.assert_equal(&docs()).await;
}
