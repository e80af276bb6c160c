//! One run: a file, programs that write to it, engines that follow it, and the expected state of
//! each engine.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::replica::SyncMode;
use vexact::replication::SyncResult;

use super::history::Point;
use super::random::Random;
use super::table::{Column, Table, quoted, tables};
use super::value::{self, Cell, Row};

/// The operations of a run, for a replay by hand.
pub type Script = Arc<Mutex<Vec<String>>>;

/// The state of a table in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Sound,
    /// Dropped by another program.
    Gone,
    /// It does not fit its registration.
    Unfit,
}

/// An engine and its expected state.
pub struct Slot {
    pub name: &'static str,
    pub config: HtapConfig,
    pub engine: Option<HtapEngine>,
    /// Sums since the last comparison.
    pub synced: SyncResult,
    /// Rows at the last comparison; `None` if anything but captured changes has come in since.
    pub counted: Option<BTreeMap<usize, BTreeMap<Row, Row>>>,
    /// Tables whose rows were not copied.
    pub unloaded: HashSet<usize>,
    /// Tables that the next sync may copy.
    pub reloads: HashSet<usize>,
    /// Per table, closed rows of the history: columns' uids and rows.
    pub closed: BTreeMap<usize, (Vec<usize>, Vec<Row>)>,
    /// For each registered column, by its uid, the time from which on the engine replicates it.
    pub columns: BTreeMap<usize, i64>,
    /// For each table, the time from which on the engine has its history.
    pub since: BTreeMap<usize, i64>,
}

pub struct World {
    pub random: Random,
    pub script: Script,
    pub tables: Vec<Table>,
    pub uid: usize,
    pub slots: Vec<Slot>,
    pub other: Option<Connection>,
    pub reader: Connection,
    pub points: Vec<Point>,
    /// Tables with changes that the log has lost, and the engines that have not synced since.
    pub blocked: BTreeMap<usize, HashSet<&'static str>>,
    pub triggers: usize,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new(seed: u64, script: Script) -> Self {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let creator = Connection::open(&path).unwrap();
        creator.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        let mut uid = 0;
        let count = 1 + random.below(3);
        let tables = tables(&mut random, count, &mut uid);
        let mut world = Self {
            random,
            script,
            tables,
            uid,
            slots: Vec::new(),
            other: None,
            reader: Connection::open(&path).unwrap(),
            points: Vec::new(),
            blocked: BTreeMap::new(),
            triggers: 0,
            path,
            _folder: folder,
        };
        for table in world.tables.clone() {
            let sql = table.create();
            world.note("plain", &sql);
            creator.execute_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        world.add_engine("A").await;
        world.register_all().await;
        world
    }

    pub fn note(&self, who: &str, what: &str) {
        self.script.lock().unwrap().push(format!("{who}: {what}"));
    }

    pub async fn add_engine(&mut self, name: &'static str) {
        let config = HtapConfig {
            oltp_path: self.path.clone(),
            sync_mode: if self.random.chance(50) { SyncMode::Temporal } else { SyncMode::Destructive },
            sync_batch_size: *self.random.pick(&[1, 2, 5, 1000]),
            prune_after_sync: self.random.chance(80),
            read_pool_size: 2,
            ..HtapConfig::default()
        };
        self.note(
            name,
            &format!(
                "opens, {:?}, {} changes, prunes: {}",
                config.sync_mode, config.sync_batch_size, config.prune_after_sync
            ),
        );
        let engine = HtapEngine::open(config.clone()).await.unwrap();
        let mut slot = Slot {
            name,
            config,
            engine: Some(engine),
            synced: SyncResult::default(),
            counted: None,
            unloaded: HashSet::new(),
            reloads: HashSet::new(),
            closed: BTreeMap::new(),
            columns: BTreeMap::new(),
            since: BTreeMap::new(),
        };
        self.begin_history(&mut slot);
        self.slots.push(slot);
    }

    /// Records that the history of an engine which is opened now begins now.
    pub fn begin_history(&self, slot: &mut Slot) {
        slot.counted = None;
        slot.unloaded.clear();
        slot.reloads.clear();
        slot.closed.clear();
        let now = self.next_tick();
        slot.columns = self.uids().map(|uid| (uid, now)).collect();
        slot.since = (0..self.tables.len()).map(|at| (at, now)).collect();
    }

    /// All registered columns.
    fn uids(&self) -> impl Iterator<Item = usize> {
        self.tables.iter().flat_map(|table| table.followed()).map(|column| column.uid)
    }

    async fn register_all(&mut self) {
        for at in 0..self.tables.len() {
            for _ in 0..self.random.below(4) {
                let sql = super::statement::statement(&mut self.random, &self.tables[at]);
                self.execute(0, &sql).await;
            }
            if self.random.chance(30) {
                // The trigger is older than the engine's own triggers.
                let other = self.random.below(self.tables.len());
                self.triggers += 1;
                let name = format!("user trigger {}", self.triggers);
                let sql = super::statement::trigger(&mut self.random, &name, &self.tables[at], &self.tables[other]);
                self.execute(0, &sql).await;
            }
            let schema = self.tables[at].schema();
            let loads = self.random.chance(60);
            self.note("A", &format!("registers {schema}, copies: {loads}"));
            let engine = self.slots[0].engine.as_ref().unwrap();
            let outcome = match engine.register_table(schema.clone(), loads).await {
                Err(error) if error.to_string().contains("do not fit") => {
                    // The failure is expected: the statement succeeds without the triggers.
                    for at in 1..=self.triggers {
                        self.execute(0, &format!("DROP TRIGGER IF EXISTS \"user trigger {at}\"")).await;
                    }
                    self.execute(0, &format!("DELETE FROM {}", quoted(&self.tables[at].name))).await;
                    self.slots[0].engine.as_ref().unwrap().register_table(schema, loads).await.unwrap()
                }
                outcome => outcome.unwrap(),
            };
            let rows: i64 = self.number(&format!("SELECT count(*) FROM {}", quoted(&self.tables[at].name)));
            assert_eq!(outcome.unloaded_rows, if loads { 0 } else { rows.unsigned_abs() });
            if outcome.unloaded_rows > 0 {
                self.slots[0].unloaded.insert(at);
            }
            let now = self.next_tick();
            self.slots[0].since.insert(at, now);
        }
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.reader.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Returns a time that is later than all changes until now, and earlier than all from now on.
    pub fn next_tick(&self) -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
        const CLOCK: &str = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000";
        while self.number(CLOCK) <= now {
            std::hint::spin_loop();
        }
        now
    }

    /// Runs a statement of the user. A statement that SQLite rejects changes nothing.
    pub async fn execute(&mut self, slot: usize, sql: &str) -> bool {
        let slot = &self.slots[slot];
        self.note(slot.name, sql);
        let outcome = slot.engine.as_ref().unwrap().execute(sql, &[]).await;
        self.outcome(outcome.map(drop).map_err(|error| error.to_string()))
    }

    /// Records the outcome of a statement. A failure of the engine's triggers fails the test.
    pub fn outcome(&self, outcome: Result<(), String>) -> bool {
        if let Err(error) = &outcome {
            self.note("   refused", error);
            let is_ours = error.contains("_vexact_") || error.contains("internal error") || error.contains("panic");
            assert!(!is_ours, "a trigger or the engine failed: {error}");
        }
        outcome.is_ok()
    }

    /// Runs statements of the other program, which may begin and end transactions.
    pub fn elsewhere(&mut self, sql: &str) -> bool {
        if self.other.is_none() {
            let conn = Connection::open(&self.path).unwrap();
            conn.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
            let on = |on: bool| if on { "ON" } else { "OFF" };
            let settings = format!(
                "PRAGMA recursive_triggers = {}; PRAGMA foreign_keys = {}; PRAGMA trusted_schema = OFF",
                on(self.random.chance(50)),
                on(self.random.chance(70))
            );
            self.note("other", &settings);
            conn.execute_batch(&settings).unwrap();
            self.other = Some(conn);
        }
        self.note("other", sql);
        let conn = self.other.as_ref().unwrap();
        let outcome = conn.execute_batch(sql).map_err(|error| error.to_string());
        if !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK").unwrap();
        }
        self.outcome(outcome)
    }

    /// Returns the rows of a SQLite table by key: the registered columns, with the values that the
    /// replica must have.
    pub fn rows(&self, table: &Table) -> BTreeMap<Row, Row> {
        let followed = table.followed();
        let columns: Vec<String> = followed.iter().map(|column| format!("r.{}", quoted(&column.name))).collect();
        let sql = format!("SELECT {} FROM {} AS r", columns.join(", "), quoted(&table.name));
        let mut statement = self.reader.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Row> {
            let cell = |(at, column): (usize, &&Column)| Ok(value::expected(column.kind, row.get(at)?));
            followed.iter().enumerate().map(cell).collect()
        };
        let rows: Vec<Row> = statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let key = table.followed_key();
        let count = rows.len();
        let by_key: BTreeMap<Row, Row> = rows.into_iter().map(|row| (key_of(&row, &key), row)).collect();
        assert_eq!(by_key.len(), count, "the key is not one");
        by_key
    }

    pub async fn sync_now(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let engine = slot.engine.as_ref().unwrap();
        let lag = engine.sync_status().await.unwrap().lag;
        let result = engine.sync_now().await.unwrap();
        slot.synced = slot.synced.plus(result);
        let after = engine.sync_status().await.unwrap().lag;
        let name = slot.name;
        if slot.counted.is_some() {
            assert_eq!(lag - after, result.events_processed, "{name}: {result}");
            let least = lag.min(slot.config.sync_batch_size);
            assert!(result.events_processed >= least, "{name}: {result}, of {lag} at least {least}");
        }
        self.note(name, &format!("sync_now -> {result}"));
        self.synced(at).await;
    }

    /// Records that changes of this table are not in the log until the engines sync.
    pub fn block(&mut self, table: usize) {
        self.blocked.insert(table, self.slots.iter().map(|slot| slot.name).collect());
        self.may_reload(table);
    }

    pub fn may_reload(&mut self, table: usize) {
        for slot in &mut self.slots {
            slot.counted = None;
            slot.reloads.insert(table);
        }
    }

    /// Updates the expected state after a sync of an engine.
    pub async fn synced(&mut self, at: usize) {
        let status = self.slots[at].engine.as_ref().unwrap().sync_status().await.unwrap();
        let name = self.slots[at].name;
        let unknown: Vec<usize> = self.uids().filter(|uid| !self.slots[at].columns.contains_key(uid)).collect();
        if !unknown.is_empty() {
            let now = self.next_tick();
            self.slots[at].columns.extend(unknown.into_iter().map(|uid| (uid, now)));
        }
        for table in 0..self.tables.len() {
            if self.standing(table) != Standing::Sound {
                self.block(table);
                continue;
            }
            if let Some(waiting) = self.blocked.get_mut(&table) {
                waiting.remove(name);
                if waiting.is_empty() {
                    self.blocked.remove(&table);
                }
            }
            let registered = &self.tables[table].registered;
            let is_ready = status.tables.iter().any(|known| known.name == *registered && known.state.is_loaded());
            if self.slots[at].reloads.remove(&table) && is_ready && self.slots[at].unloaded.remove(&table) {
                let now = self.next_tick();
                self.slots[at].since.insert(table, now);
            }
        }
    }

    pub fn standing(&self, at: usize) -> Standing {
        let table = &self.tables[at];
        let name = table.name.replace('\'', "''");
        if self.number(&format!("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{name}'")) == 0 {
            return Standing::Gone;
        }
        let is_computed = format!("SELECT count(*) FROM pragma_index_list('{name}') WHERE name = 'computed'");
        if self.number(&is_computed) > 0 {
            return Standing::Unfit;
        }
        let followed = table.followed();
        let columns: Vec<String> = followed.iter().map(|column| format!("r.{}", quoted(&column.name))).collect();
        let mut statement =
            self.reader.prepare(&format!("SELECT {} FROM {} AS r", columns.join(", "), quoted(&table.name))).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for (at, column) in followed.iter().enumerate() {
                let value: rusqlite::types::Value = row.get(at).unwrap();
                if !value::fits(column.kind, &value) || table.is_key(column) && value == rusqlite::types::Value::Null {
                    return Standing::Unfit;
                }
            }
        }
        Standing::Sound
    }
}

/// Returns the key of a row, such that keys are equal if SQLite treats them as equal: there is one
/// zero.
pub fn key_of(row: &Row, key: &[usize]) -> Row {
    let plain = |cell: &Cell| match cell {
        Cell::Double(bits) if f64::from_bits(*bits) == 0.0 => Cell::Double(0),
        other => other.clone(),
    };
    key.iter().map(|at| plain(&row[*at])).collect()
}
