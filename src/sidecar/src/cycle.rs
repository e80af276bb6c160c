//! One sync cycle: reads the next rows of each table in one snapshot of the source, and publishes
//! all their changes together.

use std::collections::HashMap;
use std::sync::Arc;

use vexact_core::error::{Error, Result};
use vexact_replica::{Counts, Replicas, Store, Update};
use vexact_sqlite::replication::SyncResult;

use super::config::DeleteDetection;
use super::source::{Range, Source};
use super::table::{StagedUpdate, Step, Table};
use super::{Settings, durable};

/// State of a sidecar between cycles.
pub(super) struct State {
    pub source: Box<dyn Source>,
    pub tables: Vec<Table>,
    pub store: Option<Arc<Store>>,
    /// Changes applied, in all.
    pub applied: i64,
    pub has_synced: bool,
}

/// Result of a cycle.
pub(super) struct Cycle {
    pub result: SyncResult,
    /// The tables that have nothing more, or have failed.
    pub complete: Vec<bool>,
}

impl State {
    /// Restores stored replicas and describes the tables. If the source cannot be read but replicas
    /// are stored, returns the reason.
    ///
    /// # Errors
    /// An error of the storage; an error of the source if no replicas are stored.
    pub fn start(&mut self, replicas: &Replicas, settings: &Settings) -> Result<Option<String>> {
        if let Some(store) = &self.store {
            let (source, deletes) = (self.source.name(), deletes(&settings.deletes));
            let restored = durable::restore(store, replicas, &mut self.tables, source, &deletes, settings.mode)?;
            self.applied = restored.unwrap_or(0);
        }
        let mut steps = Vec::with_capacity(self.tables.len());
        let begun = self.source.begin();
        let begun = begun.and_then(|()| {
            for table in &self.tables {
                let step = table.look(&mut *self.source, settings).map(|(step, _)| step);
                if self.source.is_lost() {
                    return step.map(drop);
                }
                steps.push(step);
            }
            Ok(())
        });
        if let Err(error) = begun {
            let has_all = self.tables.iter().all(|table| table.definition.is_some());
            return if has_all { Ok(Some(error.to_string())) } else { Err(error) };
        }
        self.source.end();
        self.apply(steps, replicas, settings)?;
        Ok(None)
    }

    /// Reads and applies the next rows of each table.
    ///
    /// # Errors
    /// The source cannot be read: nothing has changed. The storage cannot be written: the replicas
    /// have the rows, and the next cycle saves them. A table that cannot follow is no error of the
    /// cycle.
    pub fn cycle(&mut self, replicas: &Replicas, settings: &Settings) -> Result<Cycle> {
        self.source.begin()?;
        let mut steps: Vec<Result<Step>> = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let step = table.poll(&mut *self.source, replicas, settings);
            if self.source.is_lost() {
                // Not for `end`: there is no connection to end it on.
                step.map(drop)?;
                return Err(Error::Engine(format!("{}: the connection was lost", self.source.name())));
            }
            steps.push(step);
        }
        self.source.end();
        let result = self.apply(steps, replicas, settings)?;
        self.has_synced = true;
        let complete =
            self.tables.iter().zip(&result.1).map(|(table, complete)| table.state.error().is_some() || *complete);
        Ok(Cycle { complete: complete.collect(), result: result.0 })
    }

    /// Reads all rows of one table, which replace those of its replica; returns the number of rows.
    ///
    /// # Errors
    /// An error of the source, of the storage or of the table.
    pub fn copy(&mut self, at: usize, replicas: &Replicas, settings: &Settings) -> Result<u64> {
        self.source.begin()?;
        let step = self.tables[at].copy(&mut *self.source, replicas, settings);
        if !self.source.is_lost() {
            self.source.end();
        }
        let mut steps: Vec<Option<Result<Step>>> = self.tables.iter().map(|_| None).collect();
        steps[at] = Some(Ok(step?));
        self.apply_some(steps, replicas, settings)?;
        let table = &self.tables[at];
        if let Some(error) = table.state.error() {
            return Err(Error::Engine(error.to_owned()));
        }
        let snapshot = replicas.snapshot();
        Ok(snapshot.table(&table.name).map_or(0, |state| state.version.num_current_rows() as u64))
    }

    fn apply(
        &mut self,
        steps: Vec<Result<Step>>,
        replicas: &Replicas,
        settings: &Settings,
    ) -> Result<(SyncResult, Vec<bool>)> {
        self.apply_some(steps.into_iter().map(Some).collect(), replicas, settings)
    }

    /// Applies the steps of tables; a table with the step `None` stays unchanged.
    fn apply_some(
        &mut self,
        steps: Vec<Option<Result<Step>>>,
        replicas: &Replicas,
        settings: &Settings,
    ) -> Result<(SyncResult, Vec<bool>)> {
        let mut prepared: Vec<(String, StagedUpdate)> = Vec::new();
        let mut taken: Vec<Option<Step>> = Vec::new();
        for (table, step) in self.tables.iter_mut().zip(steps) {
            match step {
                None => taken.push(None),
                Some(Ok(mut step)) => {
                    let updates = std::mem::take(&mut step.updates);
                    prepared.extend(updates.into_iter().map(|update| (table.name.clone(), update)));
                    taken.push(Some(step));
                }
                Some(Err(error)) => {
                    if table.definition.is_none() && replicas.snapshot().table(&table.name).is_none() {
                        prepared.push((table.name.clone(), StagedUpdate::Empty(table.unknown(settings.mode)?)));
                    }
                    prepared.push((table.name.clone(), StagedUpdate::Failed(error.to_string())));
                    table.fail(error.to_string());
                    taken.push(None);
                }
            }
        }
        let counts = taken.iter().flatten().fold(Counts::default(), |mut sum, step| {
            sum += step.counts;
            sum
        });
        let events = counts.inserted + counts.updated + counts.deleted;
        self.applied += events as i64;
        let updates: Vec<(String, Update<'_>)> =
            prepared.iter().map(|(name, prepared)| (name.clone(), prepared.as_update())).collect();
        let results = if updates.is_empty() { Vec::new() } else { replicas.update(updates, self.applied) };
        let mut refused: HashMap<String, String> = HashMap::new();
        for (name, result) in results {
            if let Err(error) = result {
                refused.entry(name).or_insert_with(|| error.to_string());
            }
        }
        let mut complete = Vec::with_capacity(taken.len());
        for (table, step) in self.tables.iter_mut().zip(taken) {
            complete.push(step.as_ref().is_some_and(|step| step.is_complete));
            match (step, refused.remove(&table.name)) {
                (Some(_), Some(error)) => {
                    // Its columns may be those before or after: it is read from its beginning.
                    table.definition = None;
                    table.fail(error);
                }
                (Some(step), None) => table.accept(step),
                (None, _) => {}
            }
        }
        self.save(replicas, settings)?;
        let result = SyncResult {
            events_processed: events,
            rows_inserted: counts.inserted,
            rows_updated: counts.updated,
            rows_deleted: counts.deleted,
            pruned_count: None,
        };
        Ok((result, complete))
    }

    fn save(&self, replicas: &Replicas, settings: &Settings) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        durable::save(store, replicas, &self.tables, self.source.name(), &deletes(&settings.deletes), self.applied)
    }

    /// Counts the rows that were not read yet, if the source can be queried.
    pub fn count_lag(&mut self) {
        if self.source.begin().is_err() {
            return;
        }
        for table in &mut self.tables {
            let Some(plan) = &table.plan else { continue };
            let below = table.progress.clock.beyond(super::poll::horizon());
            let range = Range { after: table.progress.after.as_ref(), below, ..Range::default() };
            let count = self.source.select(&plan.count(&range));
            if self.source.is_lost() {
                return;
            }
            if let Ok(rows) = count
                && let Some([rusqlite::types::Value::Integer(count)]) = rows.first().map(Vec::as_slice)
            {
                table.lag = count.unsigned_abs();
            }
        }
        self.source.end();
    }
}

/// Returns the detection of deletes as text.
pub(super) fn deletes(deletes: &DeleteDetection) -> String {
    match deletes {
        DeleteDetection::Disabled => "disabled".into(),
        DeleteDetection::SoftDelete(column) => format!("soft_delete:{column}"),
    }
}
