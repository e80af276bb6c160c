//! Engines that only read a file.

use super::positions::stored;
use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn uri(folder: &Folder) -> PathBuf {
    format!("file:{}?mode=ro", folder.database().display()).into()
}

/// The bytes of the database and of its write-ahead log, which any reader creates.
fn bytes(folder: &Folder) -> [Vec<u8>; 2] {
    ["app.db", "app.db-wal"].map(|name| std::fs::read(folder.0.path().join(name)).unwrap_or_default())
}

async fn reader(folder: &Folder, options: ReplicationOptions) -> Engine {
    let before = bytes(folder);
    let engine = open(&uri(folder), options).await;
    assert!(bytes(folder) == before, "opening it wrote to the file");
    engine
}

/// Syncs, which writes nothing to the file.
async fn sync(engine: &Engine, folder: &Folder) -> SyncResult {
    let before = bytes(folder);
    let result = engine.replicator.sync_all().await.unwrap();
    engine.replicator.status().await.unwrap();
    assert!(bytes(folder) == before, "a sync wrote to the file");
    result
}

async fn registered(folder: &Folder) -> Engine {
    let engine = open(&folder.database(), options(SyncMode::Destructive)).await;
    engine.run(CREATE).await;
    engine.replicator.register(docs(), false).await.unwrap();
    engine
}

fn logged(folder: &Folder) -> i64 {
    let conn = Connection::open(folder.database()).unwrap();
    conn.query_row("SELECT count(*) FROM _vexact_log WHERE op <> 0", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_reader_equals_the_file_at_each_sync_and_never_writes_it() {
    let seconds = std::env::var("VEXACT_SOAK_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let end = seconds.map(|seconds| std::time::Instant::now() + std::time::Duration::from_secs(seconds));
    let first = seconds.map_or(1, |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64 >> 8);
    for seed in (first..).take_while(|seed| end.map_or(*seed <= 6, |end| std::time::Instant::now() < end)) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let folder = Folder::new();
        if random.below(3) == 0 {
            // The folder for positions cannot be created, because a file has its name.
            std::fs::write(folder.0.path().join("app.db-vexact-readers"), "").unwrap();
        }
        let mut writer = Some(registered(&folder).await);
        let mut readers = Vec::new();
        for step in 0..60 {
            let id = random.below(12);
            let sql = match random.below(8) {
                0..3 => format!("REPLACE INTO Docs VALUES ({id}, 't{step}', {}, NULL)", random.below(100) as f64 / 4.0),
                3..5 => format!("UPDATE Docs SET Title = 'u{step}', id = {} WHERE id = {id}", random.below(12)),
                5 => format!("DELETE FROM Docs WHERE id <= {id}"),
                6 => "INSERT INTO Docs(Title, weight) SELECT Title || 'x', weight + 1 FROM Docs LIMIT 3".to_owned(),
                _ => "VACUUM".to_owned(),
            };
            // An update may meet another row.
            let _ = Connection::open(folder.database()).unwrap().execute_batch(&sql);
            match random.below(6) {
                0 if readers.len() < 3 => {
                    let mode = if random.below(2) == 0 { SyncMode::Destructive } else { SyncMode::Temporal };
                    readers.push((reader(&folder, options(mode)).await, mode));
                }
                0 | 1 => {
                    for (engine, mode) in &readers {
                        sync(engine, &folder).await;
                        if *mode == SyncMode::Destructive {
                            engine.assert_equal(&docs()).await;
                        } else {
                            let current = "SELECT id, \"Title\", weight, v FROM docs WHERE _valid_to IS NULL AND _operation <> 'D'";
                            assert_eq!(engine.olap(current).await, engine.oltp_rows(&docs()).await, "seed {seed}");
                        }
                    }
                }
                2 => {
                    if let Some(writer) = &writer {
                        writer.replicator.sync_all().await.unwrap();
                    }
                }
                3 if random.below(4) == 0 => match writer.take() {
                    Some(writer) => {
                        writer.replicator.shutdown().await;
                        writer.oltp.shutdown().await;
                    }
                    None => {
                        let limited = ReplicationOptions {
                            log_limit: Some(1 + random.below(9)),
                            ..options(SyncMode::Destructive)
                        };
                        writer = Some(open(&folder.database(), limited).await);
                    }
                },
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn the_log_is_kept_for_a_reader_while_it_runs() {
    let folder = Folder::new();
    let writer = registered(&folder).await;
    let reader = reader(&folder, options(SyncMode::Destructive)).await;
    let positions = writer.replicator.status().await.unwrap().positions;
    assert_eq!(positions.iter().filter(|position| position.is_running).count(), 2);
    writer.run("INSERT INTO Docs(id) VALUES (1), (2)").await;
    assert_eq!(writer.replicator.sync_all().await.unwrap().pruned_count, None);
    assert_eq!(logged(&folder), 2);
    assert_eq!(sync(&reader, &folder).await.events_processed, 2);
    writer.run("DELETE FROM Docs WHERE id = 1").await;
    writer.replicator.sync_all().await.unwrap();
    assert_eq!(logged(&folder), 1);
    let left = std::fs::read_dir(folder.0.path().join("app.db-vexact-readers")).unwrap().count();
    assert_eq!(left, 1);
    reader.replicator.shutdown().await;
    drop(reader);
    assert!(!folder.0.path().join("app.db-vexact-readers").exists());
    writer.run("DELETE FROM Docs").await;
    writer.replicator.sync_all().await.unwrap();
    assert_eq!(logged(&folder), 0);
    // That of a process that was killed is not locked.
    std::fs::create_dir(folder.0.path().join("app.db-vexact-readers")).unwrap();
    std::fs::write(folder.0.path().join("app.db-vexact-readers/1-2-3"), "0000000000000000000\n").unwrap();
    writer.run("INSERT INTO Docs(id) VALUES (3)").await;
    writer.replicator.sync_all().await.unwrap();
    assert_eq!(logged(&folder), 0);
    assert!(!folder.0.path().join("app.db-vexact-readers").exists());
}

#[tokio::test]
async fn a_stored_reader_goes_on_where_it_was() {
    let folder = Folder::new();
    let writer = registered(&folder).await;
    writer.run("INSERT INTO Docs(id, Title) VALUES (1, 'a'), (2, 'b')").await;
    let engine = reader(&folder, stored(&folder, SyncMode::Temporal)).await;
    engine.replicator.shutdown().await;
    drop(engine);
    writer.run("UPDATE Docs SET Title = 'c' WHERE id = 1").await;
    writer.run("UPDATE Docs SET Title = 'd' WHERE id = 1").await;
    let engine = reader(&folder, stored(&folder, SyncMode::Temporal)).await;
    assert_eq!(engine.olap("SELECT \"Title\" FROM docs WHERE id = 1").await, ["a", "c", "d"]);
    engine.replicator.shutdown().await;
    drop(engine);
    // Changes pruned meanwhile appear as differences.
    writer.run("UPDATE Docs SET Title = 'e' WHERE id = 1").await;
    writer.run("UPDATE Docs SET Title = 'f' WHERE id = 1").await;
    writer.replicator.sync_all().await.unwrap();
    let engine = reader(&folder, stored(&folder, SyncMode::Temporal)).await;
    assert_eq!(engine.olap("SELECT \"Title\" FROM docs WHERE id = 1").await, ["a", "c", "d", "f"]);
}

#[tokio::test]
async fn what_writes_is_refused_and_says_what_to_do() {
    let folder = Folder::new();
    let writer = registered(&folder).await;
    writer.run("CREATE TABLE other(id INTEGER PRIMARY KEY)").await;
    let engine = reader(&folder, options(SyncMode::Destructive)).await;
    let before = bytes(&folder);
    let other = schema("other", &[("id", "int64")], &["id"]);
    let statement = || "INSERT INTO Docs(id) VALUES (1)".to_owned();
    let int = ColumnType::parse("int64").unwrap();
    let refused = [
        engine.oltp.execute(statement(), vec![]).await.map(drop),
        engine.oltp.execute_batch(vec![(statement(), vec![])]).await.map(drop),
        engine.oltp.execute_many(statement(), vec![vec![]]).await.map(drop),
        engine
            .oltp
            .execute_returning(statement() + " RETURNING id", vec![], crate::oltp::ResultTypes::default())
            .await
            .map(drop),
        engine.replicator.register(other.clone(), true).await.map(drop),
        engine.replicator.unregister("Docs").await,
        engine.replicator.add_column("Docs", "x", int).await,
        engine.replicator.drop_column("Docs", "weight").await,
        engine.replicator.drop_position("x").await.map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(" is refused: ") && error.contains("app.db is opened read-only (mode=ro): "), "{error}");
    }
    assert!(bytes(&folder) == before);
    // A table that another engine registers is followed from the next sync on; registering it here
    // too is harmless.
    writer.replicator.register(other.clone(), true).await.unwrap();
    writer.run("INSERT INTO other VALUES (7)").await;
    sync(&engine, &folder).await;
    engine.assert_equal(&other).await;
    engine.replicator.register(other.clone(), true).await.unwrap();
    engine.replicator.register(docs(), true).await.unwrap();
    assert_eq!(engine.replicator.initial_sync("other").await.unwrap(), 1);
    writer.replicator.unregister("other").await.unwrap();
    sync(&engine, &folder).await;
    assert!(engine.session.sql("SELECT * FROM other", None).await.is_err());
    // Damage by a migration stays until an engine that writes repairs it.
    writer.run("CREATE UNIQUE INDEX by_title ON Docs(Title)").await;
    sync(&engine, &folder).await;
    let status = engine.replicator.status().await.unwrap();
    let error = status.tables[0].last_error().unwrap().to_owned();
    assert!(error.contains("an engine that writes the file mends it"), "{error}");
    writer.replicator.sync_all().await.unwrap();
    sync(&engine, &folder).await;
    engine.assert_equal(&docs()).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made_and_one_without_capture_is_read() {
    let folder = Folder::new();
    let missing = Oltp::open(uri(&folder), OltpOptions::default()).unwrap_err().to_string();
    assert!(missing.contains("file not found") && missing.contains("app.db"), "{missing}");
    assert!(!folder.database().exists());
    std::fs::write(folder.database(), "not a database, but a text that is long enough".repeat(90)).unwrap();
    let other = Oltp::open(uri(&folder), OltpOptions::default()).unwrap_err().to_string();
    assert!(other.contains("app.db") && other.contains("not a database"), "{other}");
    std::fs::remove_file(folder.database()).unwrap();

    for mode in ["delete", "wal"] {
        let conn = Connection::open(folder.database()).unwrap();
        conn.execute_batch(&format!("PRAGMA journal_mode = {mode}; DROP TABLE IF EXISTS Docs; {CREATE}")).unwrap();
        let engine = reader(&folder, options(SyncMode::Destructive)).await;
        conn.execute_batch("INSERT INTO Docs(id) VALUES (1)").unwrap();
        sync(&engine, &folder).await;
        assert_eq!(engine.oltp_rows(&docs()).await, ["1|NULL|NULL|NULL"]);
        // A writer begins to capture.
        let writer = open(&folder.database(), options(SyncMode::Destructive)).await;
        writer.replicator.register(docs(), true).await.unwrap();
        sync(&engine, &folder).await;
        engine.assert_equal(&docs()).await;
        writer.replicator.shutdown().await;
        writer.oltp.shutdown().await;
        crate::oltp::uninstall::uninstall(&folder.database()).unwrap();
        sync(&engine, &folder).await;
        assert!(engine.session.sql("SELECT * FROM docs", None).await.is_err());
    }
}

/// SQLite makes no shared memory where a symbolic link has its name, as it makes none in a folder
/// that cannot be written.
#[cfg(unix)]
#[tokio::test]
async fn a_file_in_a_folder_that_cannot_be_written_is_read_as_it_is() {
    let folder = Folder::new();
    let writer = registered(&folder).await;
    writer.run("INSERT INTO Docs(id) VALUES (1)").await;
    writer.replicator.shutdown().await;
    writer.oltp.shutdown().await;
    drop(writer);
    let memory = folder.0.path().join("app.db-shm");
    assert!(!memory.exists());
    let block = || std::os::unix::fs::symlink("/nowhere/app.db-shm", &memory).unwrap();
    block();
    let engine = reader(&folder, options(SyncMode::Destructive)).await;
    engine.assert_equal(&docs()).await;
    // It is opened anew for each job.
    std::fs::remove_file(&memory).unwrap();
    Connection::open(folder.database()).unwrap().execute_batch("INSERT INTO Docs(id) VALUES (2)").unwrap();
    block();
    sync(&engine, &folder).await;
    engine.assert_equal(&docs()).await;
    assert_eq!(engine.olap("SELECT id FROM docs").await, ["1", "2"]);
    std::fs::write(folder.0.path().join("app.db-wal"), "something").unwrap();
    let error = Oltp::open(uri(&folder), OltpOptions::default()).unwrap_err().to_string();
    assert!(error.contains("write-ahead log cannot be read") && error.contains("wal_checkpoint"), "{error}");
}

#[tokio::test]
async fn a_log_of_a_later_format_is_refused_with_both_versions() {
    let folder = Folder::new();
    let writer = registered(&folder).await;
    let conn = Connection::open(folder.database()).unwrap();
    conn.execute_batch("UPDATE _vexact_meta SET value = 97 WHERE key = 'format'").unwrap();
    for path in [uri(&folder), folder.database()] {
        let oltp = Arc::new(Oltp::open(path, OltpOptions::default()).unwrap());
        let started = Replicator::start(oltp, Arc::default(), options(SyncMode::Destructive)).await;
        let error = started.unwrap_err().to_string();
        assert!(error.contains("app.db has format version 97") && error.contains("reads up to version 2"), "{error}");
    }
    // One that runs meets it with the change of the schema that comes with it.
    conn.execute_batch("CREATE TABLE _vexact_later(a)").unwrap();
    let error = writer.replicator.sync_now().await.unwrap_err().to_string();
    assert!(error.contains("format version 97"), "{error}");
    assert!(!crate::oltp::uninstall::uninstall(&folder.database()).unwrap().is_empty());
    assert!(open(&folder.database(), options(SyncMode::Destructive)).await.replicator.warning().is_none());
}
