//! The comparison: after a sync, replicas equal SQLite to the bit.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use vexact::ColumnType;
use vexact::replica::SyncMode;
use vexact::replication::{SyncResult, TableState};

use super::history::{Point, Version, check_intervals, missing, projected};
use super::table::{Table, quoted};
use super::value::{self, Row};
use super::world::{Standing, World, key_of};

fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let row = |at| batch.columns().iter().map(|column| value::actual(column, at)).collect();
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows
}

fn uids(table: &Table) -> Vec<usize> {
    table.followed().iter().map(|column| column.uid).collect()
}

impl World {
    async fn replica(&self, at: usize, sql: &str) -> Vec<RecordBatch> {
        let engine = self.slots[at].engine.as_ref().unwrap();
        engine.query_olap(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Stores the current tables with the time.
    pub fn keep_point(&mut self) {
        let tables: BTreeMap<usize, (Vec<usize>, Vec<Row>)> = (0..self.tables.len())
            .filter(|at| !self.blocked.contains_key(at))
            .map(|at| {
                let table = &self.tables[at];
                (at, (uids(table), self.rows(table).into_values().collect()))
            })
            .collect();
        let time = self.next_tick();
        self.note("point", &time.to_string());
        self.points.push(Point { time, tables });
    }

    /// Syncs an engine to the end and compares everything.
    pub async fn sync_all(&mut self, at: usize) {
        let before = self.slots[at].synced;
        let engine = self.slots[at].engine.as_ref().unwrap();
        let lag = engine.sync_status().await.unwrap().lag;
        let result = engine.sync_all().await.unwrap();
        let status = engine.sync_status().await.unwrap();
        self.note(self.slots[at].name, &format!("sync_all -> {result}"));
        assert_eq!(status.lag, 0);
        self.slots[at].synced = before.plus(result);
        if self.slots[at].counted.is_some() {
            assert_eq!(result.events_processed, lag, "{result}");
            if self.slots[at].config.prune_after_sync && self.slots.len() == 1 && lag > 0 {
                assert!(result.pruned_count >= Some(lag), "{result}");
                assert_eq!(self.number("SELECT count(*) FROM _vexact_log WHERE op <> 0"), 0);
            }
            if !self.slots[at].config.prune_after_sync {
                assert_eq!(result.pruned_count, None);
            }
        }
        self.synced(at).await;
        let mut counted = BTreeMap::new();
        for table in 0..self.tables.len() {
            let name = self.tables[table].registered.clone();
            let known = status.tables.iter().find(|known| known.name == name).unwrap();
            if self.standing(table) != Standing::Sound {
                assert!(known.last_error().is_some(), "{name}: {:?}", self.standing(table));
                let engine = self.slots[at].engine.as_ref().unwrap();
                let outcome = engine.query_olap(&format!("SELECT * FROM {}", quoted(&name)), &[]).await;
                assert!(outcome.is_err(), "{name} is read although it failed");
                continue;
            }
            assert_eq!(known.last_error(), None, "{name}");
            assert_eq!(known.lag, 0, "{name}");
            if self.slots[at].unloaded.contains(&table) {
                assert_eq!(known.state, TableState::Pending, "{name}");
                continue;
            }
            assert!(known.state.is_loaded(), "{name}: {known:?}");
            counted.insert(table, self.compare(at, table).await);
        }
        self.check_counts(at, &counted);
        let slot = &mut self.slots[at];
        let is_whole = counted.len() == self.tables.len();
        slot.counted = is_whole.then_some(counted);
        slot.synced = SyncResult::default();
    }

    /// Checks the sums of a sync result, as far as two states of the tables determine them.
    fn check_counts(&self, at: usize, now: &BTreeMap<usize, BTreeMap<Row, Row>>) {
        let slot = &self.slots[at];
        let Some(before) = &slot.counted else { return };
        let (mut net, mut came, mut went, mut changed) = (0i64, 0, 0, 0);
        for (table, now) in now {
            let before = &before[table];
            net += now.len() as i64 - before.len() as i64;
            came += now.keys().filter(|key| !before.contains_key(*key)).count() as u64;
            went += before.keys().filter(|key| !now.contains_key(*key)).count() as u64;
            changed +=
                now.iter().filter(|(key, row)| before.get(*key).is_some_and(|before| before != *row)).count() as u64;
        }
        let sums = slot.synced;
        assert_eq!(sums.rows_inserted as i64 - sums.rows_deleted as i64, net, "{}: {sums}", slot.name);
        assert!(
            sums.rows_inserted >= came && sums.rows_deleted >= went,
            "{}: {sums}, {came} came, {went} went",
            slot.name
        );
        assert!(sums.rows_updated + sums.rows_inserted >= came + changed, "{}: {sums}, {changed} changed", slot.name);
        let rows = sums.rows_inserted + sums.rows_updated + sums.rows_deleted;
        assert!(sums.events_processed >= rows, "{}: {sums}", slot.name);
    }

    /// Compares one table; returns its rows by key.
    async fn compare(&mut self, at: usize, table: usize) -> BTreeMap<Row, Row> {
        let definition = self.tables[table].clone();
        let expected = self.rows(&definition);
        let batches = self.replica(at, &format!("SELECT * FROM {}", quoted(&definition.registered))).await;
        let followed = definition.followed();
        for (at, column) in followed.iter().enumerate() {
            let field = batches[0].schema_ref().field(at).clone();
            let kind = ColumnType::parse(column.kind).unwrap().arrow();
            assert_eq!((field.name(), field.data_type()), (&column.registered, &kind));
        }
        let rows = rows_of(&batches);
        let key = definition.followed_key();
        let mut open: Vec<Row> = match self.slots[at].config.sync_mode {
            SyncMode::Destructive => rows,
            SyncMode::Temporal => self.check_history(at, table, rows).await,
        };
        open.sort();
        let mut wanted: Vec<Row> = expected.values().cloned().collect();
        wanted.sort();
        if open != wanted {
            let extra: Vec<&Row> = open.iter().filter(|row| !wanted.contains(row)).collect();
            let lost: Vec<&Row> = wanted.iter().filter(|row| !open.contains(row)).collect();
            panic!(
                "{}: {} differs.\nonly in the replica ({} rows): {extra:#?}\nonly in SQLite ({} rows): {lost:#?}",
                self.slots[at].name,
                definition.name,
                open.len(),
                wanted.len()
            );
        }
        assert_eq!(
            open.iter().map(|row| key_of(row, &key)).collect::<std::collections::BTreeSet<_>>().len(),
            open.len()
        );
        expected
    }

    /// Checks the laws of a history; returns its open rows.
    async fn check_history(&mut self, at: usize, table: usize, rows: Vec<Row>) -> Vec<Row> {
        let definition = self.tables[table].clone();
        let columns = uids(&definition);
        let versions: Vec<Version> = rows.into_iter().map(Version::of).collect();
        check_intervals(&versions, &definition.followed_key());
        let closed = versions.iter().filter(|version| version.to.is_some()).map(Version::whole).collect::<Vec<_>>();
        if let Some((known, past)) = self.slots[at].closed.get(&table) {
            let common: Vec<usize> = known.iter().filter(|uid| columns.contains(uid)).copied().collect();
            let (past, now) = (projected(past, known, &common, 3), projected(&closed, &columns, &common, 3));
            let lost = missing(&past, &now);
            assert!(lost.is_none(), "{}: {}: the past changed: {lost:?}", self.slots[at].name, definition.name);
        }
        self.slots[at].closed.insert(table, (columns.clone(), closed));
        let since = self.slots[at].since.get(&table).copied().unwrap_or(i64::MAX);
        for point in self.points.iter().rev().filter(|point| point.time > since) {
            let Some((known, rows)) = point.tables.get(&table) else { continue };
            // The log does not have the values of a column from before its registration with this
            // engine.
            let is_common = |uid: &&usize| {
                columns.contains(uid) && self.slots[at].columns.get(uid).is_some_and(|since| *since < point.time)
            };
            let common: Vec<usize> = known.iter().filter(is_common).copied().collect();
            let wanted = projected(rows, known, &common, 0);
            let held: Vec<Row> = versions
                .iter()
                .filter(|version| version.holds_at(point.time))
                .map(|version| version.row.clone())
                .collect();
            let held = projected(&held, &columns, &common, 0);
            if held != wanted {
                panic!(
                    "{}: {} at {}:\nhistory {held:#?}\nthen {wanted:#?}\n{versions:#?}",
                    self.slots[at].name, definition.name, point.time
                );
            }
        }
        let points: Vec<i64> = self.points.iter().map(|point| point.time).filter(|time| *time > since).collect();
        if !points.is_empty() {
            let time = *self.random.pick(&points);
            let name = definition.registered.replace('\'', "''");
            let mut asked = rows_of(&self.replica(at, &format!("SELECT * FROM as_of('{name}', {time})")).await);
            asked.sort();
            let mut held: Vec<Row> =
                versions.iter().filter(|version| version.holds_at(time)).map(|version| version.row.clone()).collect();
            held.sort();
            assert_eq!(asked, held, "as_of({name}, {time})");
        }
        versions.into_iter().filter(|version| version.to.is_none()).map(|version| version.row).collect()
    }
}
