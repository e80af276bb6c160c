//! A followed table: its state, and how rows that are read update its replica.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use rusqlite::types::Value;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema};
use vexact_replica::{ChangeBatch, Counts, Definition, KeyState, Replicas, SyncMode, TableVersion, Update};
use vexact_sqlite::replication::{FollowedTable, Staleness, TableState};

use super::Settings;
use super::changes;
use super::config::TimestampTableConfig;
use super::poll::{self, Polled, Progress};
use super::source::{Plan, Source};

/// A table that is followed.
#[derive(Debug)]
pub(super) struct Table {
    pub config: TimestampTableConfig,
    /// The replica's name.
    pub name: String,
    /// Definition of the replica; `None` if the table was never found in the source.
    pub definition: Option<Arc<Definition>>,
    /// The plan of its queries; `None` if the table must be described again first.
    pub plan: Option<Plan>,
    /// The mark of the source that the plan was made at.
    pub mark: Vec<Vec<Value>>,
    pub progress: Progress,
    /// Never `Copying` or `Stale`, which follows from the times of its rows.
    pub state: TableState,
    /// Rows that the source was known to have beyond the last cycle.
    pub lag: u64,
    /// The main read may have more.
    pub is_behind: bool,
}

/// Effect of a cycle on a replica and on the state of its table.
pub(super) struct Step {
    pub updates: Vec<StagedUpdate>,
    pub definition: Arc<Definition>,
    pub plan: Plan,
    pub mark: Vec<Vec<Value>>,
    pub progress: Progress,
    pub counts: Counts,
    pub is_complete: bool,
    pub is_behind: bool,
    /// True if rows were read, not only the columns.
    pub has_read: bool,
}

/// An update that owns its data.
pub(super) enum StagedUpdate {
    Empty(Arc<Definition>),
    Redefined(Arc<Definition>, HashMap<String, ArrayRef>),
    Changes(ChangeBatch),
    Failed(String),
}

impl StagedUpdate {
    pub fn as_update(&self) -> Update<'_> {
        match self {
            StagedUpdate::Empty(definition) => Update::Replace(Arc::clone(definition), Vec::new(), 0),
            StagedUpdate::Redefined(definition, nulls) => Update::Redefine(Arc::clone(definition), nulls.clone()),
            StagedUpdate::Changes(changes) => Update::Apply(changes),
            StagedUpdate::Failed(error) => Update::Fail(error.clone()),
        }
    }
}

impl FollowedTable for Table {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> TableState {
        match (&self.state, self.progress.untimely.found()) {
            (TableState::Ready, Some((rows, example))) => TableState::Stale(Staleness::UntimelyRows {
                rows,
                column: self.config.updated_at_column.clone(),
                example: example.to_owned(),
            }),
            (state, _) => state.clone(),
        }
    }

    fn lag(&self) -> u64 {
        self.lag
    }
}

impl Table {
    pub fn new(config: TimestampTableConfig, name: String) -> Self {
        Self {
            config,
            name,
            definition: None,
            plan: None,
            mark: Vec::new(),
            progress: Progress::default(),
            state: TableState::Pending,
            lag: 0,
            is_behind: false,
        }
    }

    /// Accepts a step that its replica has.
    pub fn accept(&mut self, step: Step) {
        (self.definition, self.plan, self.mark) = (Some(step.definition), Some(step.plan), step.mark);
        (self.progress, self.is_behind) = (step.progress, step.is_behind);
        if step.has_read {
            self.state = TableState::Ready;
        }
    }

    pub fn fail(&mut self, error: String) {
        (self.state, self.plan, self.is_behind) = (TableState::Failed(error), None, false);
    }

    /// The columns of the replica that are the table's times.
    fn clocks(&self, schema: &TableSchema) -> Vec<usize> {
        let names = [&self.config.created_at_column, &self.config.updated_at_column];
        names.into_iter().filter_map(|name| schema.position(name)).collect()
    }

    /// The replica of a table of this schema.
    fn definition_of(schema: &TableSchema, mode: SyncMode) -> Definition {
        Definition { name: schema.name().to_owned(), schema: schema.arrow(), key: schema.key().to_vec(), mode }
    }

    /// Definition of a replica for a table that cannot be described: its key columns, as text. The
    /// replica must exist to be marked as failed.
    pub fn unknown(&self, mode: SyncMode) -> Result<Arc<Definition>> {
        let column = |name: &String| Column { name: name.clone(), column_type: ColumnType::Utf8 };
        let columns = self.config.primary_key.iter().map(column).collect();
        let schema = TableSchema::of_columns(&self.name, columns, &self.config.primary_key)?;
        Ok(Arc::new(Self::definition_of(&schema, mode)))
    }

    /// Describes the table. If its columns differ from those of the replica, the replica gets the
    /// new columns, and the table is read from its beginning.
    pub fn look(&self, source: &mut dyn Source, settings: &Settings) -> Result<(Step, TableSchema)> {
        let mark = source.mark(&self.config)?;
        let described = source.describe(&self.config, &self.name, &settings.deletes)?;
        let definition = Arc::new(Self::definition_of(&described.schema, settings.mode));
        let known = self.definition.as_ref();
        let (updates, progress) = match known {
            Some(known) if **known == *definition => (Vec::new(), self.progress.clone()),
            Some(known)
                if known.has_key_of(&definition)
                    && (known.mode == SyncMode::Temporal || has_types_of(known, &definition)) =>
            {
                // New columns are NULL until their values are read; in the history before, they
                // stay NULL.
                let mut nulls = changes::nulls(&described.schema);
                nulls.retain(|name, null| {
                    known.schema.field_with_name(name).map_or(true, |old| old.data_type() != null.data_type())
                });
                (vec![StagedUpdate::Redefined(Arc::clone(&definition), nulls)], Progress::default())
            }
            _ => (vec![StagedUpdate::Empty(Arc::clone(&definition))], Progress::default()),
        };
        let mut progress = progress;
        if progress.after.is_none() {
            progress.clock = described.clock;
            let refused = |problem| {
                let column = &self.config.updated_at_column;
                Error::Engine(format!("table {:?} of the source, column {column:?}: {problem}", self.name))
            };
            progress.clock.learn(&described.sample).map_err(refused)?;
            let horizon = poll::horizon();
            let times = described.sample.iter().filter_map(|value| progress.clock.read(value).ok());
            progress.swept = times.filter(|time| *time <= horizon).max();
        }
        let step = Step {
            updates,
            definition,
            plan: described.plan,
            mark,
            progress,
            counts: Counts::default(),
            is_complete: false,
            is_behind: false,
            has_read: false,
        };
        Ok((step, described.schema))
    }

    /// Returns the step that continues from here, if the table is unchanged.
    fn known(&self, mark: &[Vec<Value>]) -> Option<(Step, TableSchema)> {
        if self.mark != mark {
            return None;
        }
        let (definition, plan) = self.definition.clone().zip(self.plan.clone())?;
        let schema = definition.table_schema()?;
        let step = Step {
            updates: Vec::new(),
            definition,
            plan,
            mark: self.mark.clone(),
            progress: self.progress.clone(),
            counts: Counts::default(),
            is_complete: false,
            is_behind: false,
            has_read: false,
        };
        Some((step, schema))
    }

    /// Reads what there is for one cycle. Changes nothing.
    ///
    /// # Errors
    /// An error of the source; a table that does not exist or differs from its configuration; a
    /// value that does not fit.
    pub fn poll(&self, source: &mut dyn Source, replicas: &Replicas, settings: &Settings) -> Result<Step> {
        let mark = source.mark(&self.config)?;
        if let Some((step, schema)) = self.known(&mark) {
            match self.apply(step, &schema, source, replicas, settings) {
                Ok(step) => return Ok(step),
                Err(error) if source.is_lost() => return Err(error),
                // Its columns may be others now.
                Err(_) => {}
            }
        }
        let (step, schema) = self.look(source, settings)?;
        self.apply(step, &schema, source, replicas, settings)
    }

    fn apply(
        &self,
        mut step: Step,
        schema: &TableSchema,
        source: &mut dyn Source,
        replicas: &Replicas,
        settings: &Settings,
    ) -> Result<Step> {
        let Polled { rows, progress, is_complete, is_behind } =
            poll::poll(source, &step.plan, &self.name, &step.progress, settings)?;
        let version = version_after(&step, &self.name, replicas)?;
        let changes = changes::changes(schema, &self.clocks(schema), &version, &rows)?;
        step.counts = changes.counts;
        // An empty batch makes no new version, unless the table had failed: then it marks the table
        // as working again.
        let has_failed = replicas.snapshot().table(&self.name).is_some_and(|state| state.failed.is_some());
        if has_failed || !changes.batch.changes.is_empty() {
            step.updates.push(StagedUpdate::Changes(changes.batch));
        }
        (step.progress, step.is_complete, step.is_behind, step.has_read) = (progress, is_complete, is_behind, true);
        Ok(step)
    }

    /// Reads all rows, to replace those of the replica. Does not change the replica yet.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn copy(&self, source: &mut dyn Source, replicas: &Replicas, settings: &Settings) -> Result<Step> {
        let (mut step, schema) = self.look(source, settings)?;
        let polled = poll::read_all(source, &step.plan, &self.name, &step.progress, settings)?;
        let changes = match settings.mode {
            SyncMode::Destructive => {
                step.updates = vec![StagedUpdate::Empty(Arc::clone(&step.definition))];
                let empty = TableVersion::empty(Arc::clone(&step.definition))?;
                changes::changes(&schema, &self.clocks(&schema), &empty, &polled.rows)?.batch
            }
            SyncMode::Temporal => {
                let rows: Vec<&poll::Row> = polled.rows.iter().filter(|row| !row.is_deleted).collect();
                // A row that is missing without a delete mark counts as deleted at the newest known
                // time.
                let gone_at = polled.progress.newest.unwrap_or_default();
                let version = version_after(&step, &self.name, replicas)?;
                let mut batch =
                    version.difference(changes::in_columns(&schema, &self.clocks(&schema), &rows)?, gone_at)?;
                for change in &mut batch.changes {
                    if let KeyState::Row(row) = change.state {
                        change.time = rows[row as usize].time;
                    }
                }
                batch
            }
        };
        step.updates.push(StagedUpdate::Changes(changes));
        (step.progress, step.is_complete, step.has_read) = (polled.progress, true, true);
        Ok(step)
    }
}

/// Returns true if the columns that both definitions have are of the same types.
fn has_types_of(known: &Definition, definition: &Definition) -> bool {
    known
        .schema
        .fields()
        .iter()
        .all(|old| definition.schema.field_with_name(old.name()).map_or(true, |new| new.data_type() == old.data_type()))
}

/// Returns the replica after a step's first update.
fn version_after(step: &Step, name: &str, replicas: &Replicas) -> Result<Arc<TableVersion>> {
    let now = replicas.snapshot().table(name).map(|state| Arc::clone(&state.version));
    match (step.updates.first(), now) {
        (None, Some(version)) => Ok(version),
        (Some(StagedUpdate::Redefined(definition, nulls)), Some(version)) => {
            version.with_definition(Arc::clone(definition), nulls).map(Arc::new)
        }
        _ => TableVersion::empty(Arc::clone(&step.definition)).map(Arc::new),
    }
}
