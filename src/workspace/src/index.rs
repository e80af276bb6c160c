//! The index of a workspace: SQLite, shared by processes.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::{Artifact, Run, RunFilter, RunStatus, files};

/// Maximum time for which one process waits for another's writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY NOT NULL,
    started_at TEXT NOT NULL,
    status TEXT NOT NULL,
    action TEXT NOT NULL,
    searched TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX runs_by_time ON runs (started_at, run_id);
CREATE INDEX runs_running ON runs (run_id) WHERE status = 'running';
CREATE TABLE artifacts (
    artifact_id TEXT PRIMARY KEY NOT NULL,
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    record TEXT NOT NULL,
    preview BLOB
);
CREATE INDEX artifacts_of_run ON artifacts (run_id, place);
";

#[derive(Debug)]
pub(super) struct Index {
    conn: Connection,
}

fn context() -> &'static str {
    "the workspace's index"
}

impl Index {
    /// Opens or creates the index; returns true with it if it was created.
    ///
    /// # Errors
    /// An index that cannot be written, is damaged or has a newer version.
    pub fn open(path: &Path) -> Result<(Self, bool)> {
        Self::opened(path).map_err(|error| match &error {
            Error::Sqlite { source, .. } if is_damage(source) => Error::BadFile {
                path: path.into(),
                problem: format!("{source}: delete it, it is made anew of the runs' own files"),
            },
            _ => error,
        })
    }

    fn opened(path: &Path) -> Result<(Self, bool)> {
        let named = || format!("the workspace's index {}", path.display());
        // SQLite gives the files beside it the mode of this one.
        match files::private_file().write(true).create_new(true).open(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io(path, error)),
            _ => {}
        }
        let mut conn = vexact_locks::open(path, OpenFlags::default()).map_err(failed(named))?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(failed(named))?;
        use_wal(&conn).map_err(failed(named))?;
        conn.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON").map_err(failed(named))?;
        let version = |conn: &Connection| conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        let mut is_new = false;
        if version(&conn).map_err(failed(named))? == 0 {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(named))?;
            // Another process may have been first.
            if version(&tx).map_err(failed(named))? == 0 {
                tx.execute_batch(SCHEMA).map_err(failed(named))?;
                tx.pragma_update(None, "user_version", VERSION).map_err(failed(named))?;
                is_new = true;
            }
            tx.commit().map_err(failed(named))?;
        }
        match version(&conn).map_err(failed(named))? {
            VERSION => Ok((Self { conn }, is_new)),
            got => Err(Error::BadFile { path: path.into(), problem: format!("expected version {VERSION}, got {got}") }),
        }
    }

    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let done = || {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        done().map_err(failed(context))
    }

    /// Inserts a run or updates its record, and adds its artifacts, which have no previews.
    pub fn put(&mut self, run: &Run, searched: &str, artifacts: &[Artifact]) -> Result<()> {
        let record = to_text(run)?;
        let artifacts =
            artifacts.iter().map(|artifact| Ok((artifact, to_text(artifact)?))).collect::<Result<Vec<_>>>()?;
        self.write(|tx| {
            tx.execute(
                "INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (run_id) DO UPDATE SET status = excluded.status, record = excluded.record",
                params![run.run_id, run.started_at, run.status.name(), run.action, searched, record],
            )?;
            for (place, (artifact, record)) in artifacts.iter().enumerate() {
                tx.execute(
                    "INSERT OR IGNORE INTO artifacts VALUES (?1, ?2, ?3, ?4, NULL)",
                    params![artifact.artifact_id, artifact.run_id, place as i64, record],
                )?;
            }
            Ok(())
        })
    }

    /// Updates an existing run that has not ended.
    pub fn end(&mut self, run: &Run) -> Result<()> {
        let record = to_text(run)?;
        self.write(|tx| {
            let sql = "UPDATE runs SET status = ?2, record = ?3 WHERE run_id = ?1 AND status = 'running'";
            tx.execute(sql, params![run.run_id, run.status.name(), record]).map(drop)
        })
    }

    /// Adds an artifact.
    pub fn add(&mut self, artifact: &Artifact, place: usize, preview: &[u8]) -> Result<()> {
        let record = to_text(artifact)?;
        self.write(|tx| {
            tx.execute(
                "INSERT INTO artifacts VALUES (?1, ?2, ?3, ?4, ?5)",
                params![artifact.artifact_id, artifact.run_id, place as i64, record, preview],
            )
            .map(drop)
        })
    }

    /// Removes runs that have ended; returns the ids of those that were in the index.
    pub fn forget(&mut self, run_ids: &[String]) -> Result<Vec<String>> {
        self.write(|tx| {
            let mut forgotten = Vec::new();
            for run_id in run_ids {
                let sql = "DELETE FROM runs WHERE run_id = ?1 AND status <> 'running'";
                if tx.execute(sql, [run_id])? > 0 {
                    forgotten.push(run_id.clone());
                }
            }
            Ok(forgotten)
        })
    }

    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let mut sql = "SELECT record FROM runs WHERE true".to_owned();
        let mut values: Vec<Value> = Vec::new();
        let conditions = [
            (filter.status.map(|status| status.name().to_owned()), "status = ?"),
            (filter.action.clone(), "action = ?"),
            (filter.tag.clone(), "EXISTS (SELECT 1 FROM json_each(record, '$.tags') AS tag WHERE tag.value = ?)"),
            (filter.query.as_ref().map(|query| query.to_lowercase()), "instr(searched, ?) > 0"),
        ];
        for (value, condition) in conditions {
            if let Some(value) = value {
                sql.push_str(" AND ");
                sql.push_str(condition);
                values.push(value.into());
            }
        }
        sql.push_str(" ORDER BY started_at DESC, run_id DESC LIMIT ?");
        values.push(limit(filter.limit));
        self.records(&sql, values)
    }

    /// Returns the runs that have not ended, according to the index.
    pub fn running(&self) -> Result<Vec<Run>> {
        let sql = format!("SELECT record FROM runs WHERE status = '{}'", RunStatus::Running);
        self.records(&sql, Vec::new())
    }

    pub fn run(&self, run_id: &str) -> Result<Option<Run>> {
        Ok(self.records("SELECT record FROM runs WHERE run_id = ?", vec![run_id.to_owned().into()])?.pop())
    }

    pub fn artifacts(&self, run_id: Option<&str>, limit_rows: Option<usize>) -> Result<Vec<Artifact>> {
        let (condition, mut values) = match run_id {
            Some(run_id) => ("run_id = ?", vec![run_id.to_owned().into()]),
            None => ("true", Vec::new()),
        };
        values.push(limit(limit_rows));
        self.records(
            &format!("SELECT record FROM artifacts WHERE {condition} ORDER BY run_id DESC, place LIMIT ?"),
            values,
        )
    }

    pub fn artifact(&self, artifact_id: &str) -> Result<Option<(Artifact, Option<Vec<u8>>)>> {
        let found: Option<(String, Option<Vec<u8>>)> = self
            .conn
            .query_row("SELECT record, preview FROM artifacts WHERE artifact_id = ?", [artifact_id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(failed(context))?;
        found.map(|(record, preview)| Ok((of_text(&record)?, preview))).transpose()
    }

    /// Changes what tests need to be otherwise.
    #[cfg(test)]
    pub fn execute(&self, sql: &str, values: [&str; 2]) {
        self.conn.execute(sql, values).unwrap();
    }

    fn records<T: DeserializeOwned>(&self, sql: &str, values: Vec<Value>) -> Result<Vec<T>> {
        let text = |row: &Row<'_>| row.get::<_, String>(0);
        let texts: rusqlite::Result<Vec<String>> = self
            .conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params_from_iter(values), text)?.collect());
        texts.map_err(failed(context))?.iter().map(|text| of_text(text)).collect()
    }
}

/// Returns true if the file is damaged or is not a database.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};

    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Switches to WAL mode. If two processes do so at once, SQLite rejects one of them without
/// waiting.
fn use_wal(conn: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        match conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Err(error) if is_busy(&error) && start.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Returns the limit as SQLite takes it: -1 is no limit.
fn limit(limit: Option<usize>) -> Value {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)).into()
}

fn to_text(record: &impl Serialize) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::Engine(format!("{}: {error}", context())))
}

fn of_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Engine(format!("{}: {error}", context())))
}
