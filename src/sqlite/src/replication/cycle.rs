//! One cycle of replication: it reads the changes since the last cycle in one read snapshot, and
//! publishes them as the next state of all replicas.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Field;
use rusqlite::Connection;
use vexact_core::error::{Error, Result};
use vexact_core::schema::TableSchema;
use vexact_replica::{ChangeBatch, Counts, Definition, Replicas, SyncMode, Update};

use super::position::now_us;
use super::state::{ReplicatedTable, State};
use super::status::SyncResult;
use super::table_state::TableState;
use super::worker::Worker;
use super::{changes, copy};
use crate::oltp::capture::{self, Registered};
use crate::oltp::{limit, log, meta, uninstall};

/// Result of a cycle.
pub(super) enum CycleResult {
    /// Applied.
    Done(SyncResult),
    /// The capture in the file is damaged and must be repaired first.
    Broken(Broken),
}

/// Damage to the capture of a file, by a migration of the app or otherwise.
pub(super) enum Broken {
    /// The triggers of these tables are missing or wrong.
    Triggers(Vec<Registered>),
    /// There are triggers that belong to no registered table.
    Strays,
    /// Changes were not logged because the log has reached its limit.
    Full,
    /// Tables of the log were dropped, under triggers that need them. These are the registrations
    /// that were followed.
    Log(Vec<Registered>),
}

/// Faults of the file that stay for this cycle.
#[derive(Default)]
pub(super) struct Unmended {
    /// By the number of the registration, the reason why its triggers could not be recreated.
    pub uncaptured: HashMap<i64, String>,
    /// True if triggers that belong to no registered table remain.
    pub has_strays: bool,
    /// The log is full: all tables are copied.
    pub is_full: bool,
}

/// Applies at most a batch of changes, extended to the end of a transaction. After the file went
/// back to a backup, everything is read again. `written` is the position that was written before
/// the snapshot began.
pub(super) fn run(
    conn: &Connection,
    worker: &Worker,
    state: &mut State,
    unmended: &Unmended,
    written: Option<i64>,
) -> Result<CycleResult> {
    let Worker { oltp, replicas, copying, position, .. } = worker;
    let schema_version = capture::schema_version(conn)?;
    // Before the log is read.
    if state.schema_version != Some(schema_version) {
        meta::check(conn)?;
        if uninstall::is_broken(conn)? {
            return Ok(CycleResult::Broken(Broken::Log(state.registered())));
        }
    }
    if !unmended.is_full && limit::is_full(conn)? {
        return Ok(CycleResult::Broken(Broken::Full));
    }
    if !position.is_as_written(conn, written)? || log::time_at(conn, state.applied_seq)? != state.applied_time {
        start_over(conn, state, replicas)?;
        // Until the next time it is written.
        position.forget_written();
    }
    let mut updates: Vec<(String, StagedUpdate)> = Vec::new();
    if state.schema_version != Some(schema_version) {
        let broken = look_at_registrations(conn, state, &unmended.uncaptured, &mut updates)?;
        if !broken.is_empty() {
            return Ok(CycleResult::Broken(Broken::Triggers(broken)));
        }
        if !unmended.has_strays && uninstall::has_strays(conn)? {
            return Ok(CycleResult::Broken(Broken::Strays));
        }
    }
    if state.row_ids_version != Some(schema_version) {
        for followed in state.tables.values_mut().filter(|followed| followed.state.error().is_none()) {
            // VACUUM may have renumbered the rows.
            followed.needs_copy |= capture::has_row_id(conn, &followed.schema)?;
        }
    }
    state.log_end = log::last_seq(conn)?.max(state.applied_seq);
    if unmended.is_full || log::has_gap(conn, state.applied_seq)? {
        state.tables.values_mut().for_each(|followed| followed.needs_copy = true);
    }
    let is_captured = |followed: &ReplicatedTable| !matches!(followed.state, TableState::Unsupported(_));
    let has_copies = state.tables.values().any(|followed| followed.needs_copy && is_captured(followed));
    // A copy is of the whole snapshot, so everything else goes there with it.
    let through = match has_copies {
        false => log::boundary(conn, state.applied_seq, worker.options.batch_size)?,
        true => state.log_end,
    };

    let mut versions: HashMap<i64, TableSchema> = HashMap::new();
    let mut pasts: HashMap<i64, Vec<i64>> = HashMap::new();
    for (id, followed) in &state.tables {
        if !followed.needs_copy {
            versions.insert(followed.version, followed.schema.clone());
        } else if let Some(past) = past(conn, *id, followed, replicas)? {
            pasts.insert(*id, past.keys().copied().collect());
            versions.extend(past);
        }
    }
    let mut read = changes::read(conn, (state.applied_seq, through), state.last_time, &versions)?;
    for followed in state.tables.values_mut().filter(|followed| !followed.needs_copy) {
        let Some(batch) = read.batches.remove(&followed.version) else { continue };
        updates.push((
            followed.schema.name().to_owned(),
            match batch {
                Ok(batch) => StagedUpdate::Changes(batch),
                Err(error) => {
                    followed.fail(error.as_str());
                    StagedUpdate::Failed(error)
                }
            },
        ));
    }
    let time = now_us().max(read.last_time);
    for (id, followed) in state.tables.iter_mut().filter(|(_, followed)| followed.needs_copy) {
        let name = followed.schema.name().to_owned();
        let past = pasts.get(id);
        // A history has what the log has, also while its table cannot be read.
        if let Some(past) = past {
            let known = replicas.snapshot().table(&name).map(|state| Definition::clone(state.version.definition()));
            let steps = history(conn, known, past, &versions, &mut read.batches)?;
            followed.replica_version = Some(followed.version);
            updates.extend(steps.into_iter().map(|step| (name.clone(), step)));
        }
        let rows = match &followed.state {
            TableState::Unsupported(error) => Err(error.clone()),
            _ => {
                copying.set(Some((&name, 0)));
                let progress = |rows| copying.set(Some((&name, rows)));
                copy::rows(conn, oltp, &followed.schema, &progress).map_err(|error| error.to_string())
            }
        };
        match rows {
            Ok(rows) => {
                (followed.needs_copy, followed.state) = (false, TableState::Ready);
                followed.replica_version = Some(followed.version);
                let copy = match past {
                    None => StagedUpdate::Rows(Arc::clone(&followed.definition), rows, time),
                    Some(_) => {
                        let rows = arrow::compute::concat_batches(&followed.definition.schema, &rows);
                        StagedUpdate::Continued(rows.map_err(Error::arrow)?, time)
                    }
                };
                updates.push((name, copy));
            }
            Err(error) => {
                // A replica must exist to be marked as failed.
                if replicas.snapshot().table(&name).is_none() {
                    followed.publish_empty(replicas, state.applied_seq);
                }
                if is_captured(followed) {
                    followed.fail(error.as_str());
                }
                updates.push((name, StagedUpdate::Failed(error)));
            }
        }
    }

    let as_updates = updates.iter().map(|(name, prepared)| (name.clone(), prepared.as_update())).collect();
    let results = replicas.update(as_updates, through);
    let mut counts = Counts::default();
    for ((name, result), (_, prepared)) in results.into_iter().zip(&updates) {
        match (result, prepared) {
            (Ok(changed), StagedUpdate::Changes(_)) => counts += changed,
            (Ok(_), _) => {}
            (Err(error), _) => {
                if let Some(followed) = state.find(&name) {
                    followed.fail(error.to_string());
                    // The replica's columns may be those of any version since, so its rows are
                    // replaced.
                    followed.replica_version = None;
                }
            }
        }
    }
    (state.applied_seq, state.last_time) = (through, read.last_time);
    state.applied_time = log::time_at(conn, through)?;
    if has_copies {
        state.last_time = time;
    }
    // The cause that prevents the capture of a table may disappear without a change of the schema.
    let has_strays = unmended.has_strays && !oltp.is_read_only();
    let is_settled = !has_strays && state.tables.values().all(is_captured);
    (state.schema_version, state.row_ids_version) = (is_settled.then_some(schema_version), Some(schema_version));
    Ok(CycleResult::Done(SyncResult::new(read.events, counts)))
}

/// Restarts from the log that the file has now. A temporal replica continues with the differences.
fn start_over(conn: &Connection, state: &mut State, replicas: &Replicas) -> Result<()> {
    let end = log::last_seq(conn)?;
    let gone = state.start_over(&capture::registered(conn)?, (end, log::time_at(conn, end)?));
    let drops = gone.into_iter().map(|name| (name, Update::Drop)).collect();
    replicas.update(drops, state.applied_seq);
    Ok(())
}

/// An update that owns its data.
enum StagedUpdate {
    Changes(ChangeBatch),
    Rows(Arc<Definition>, Vec<RecordBatch>, i64),
    Redefined(Arc<Definition>, HashMap<String, ArrayRef>),
    Continued(RecordBatch, i64),
    Failed(String),
    Dropped,
}

impl StagedUpdate {
    fn as_update(&self) -> Update<'_> {
        match self {
            StagedUpdate::Changes(batch) => Update::Apply(batch),
            StagedUpdate::Redefined(definition, defaults) => Update::Redefine(Arc::clone(definition), defaults.clone()),
            StagedUpdate::Continued(rows, time) => Update::Continue(rows.clone(), *time),
            StagedUpdate::Rows(definition, rows, time) => Update::Replace(Arc::clone(definition), rows.clone(), *time),
            StagedUpdate::Failed(error) => Update::Fail(error.clone()),
            StagedUpdate::Dropped => Update::Drop,
        }
    }
}

/// Returns the versions of a copied table logged since the replica's version. Returns `None` if
/// there is no history to continue.
fn past(
    conn: &Connection,
    id: i64,
    followed: &ReplicatedTable,
    replicas: &Replicas,
) -> Result<Option<BTreeMap<i64, TableSchema>>> {
    let snapshot = replicas.snapshot();
    let known = snapshot.table(followed.schema.name()).map(|state| state.version.definition());
    let (Some(known), Some(first)) = (known, followed.replica_version) else { return Ok(None) };
    if known.mode != SyncMode::Temporal {
        return Ok(None);
    }
    let versions = log::versions(conn)?.into_iter();
    let versions = versions.filter(|(version, what)| what.table == id && (first..=followed.version).contains(version));
    let versions: BTreeMap<i64, TableSchema> = versions.map(|(version, what)| (version, what.schema)).collect();
    let is_one_table =
        versions.values().all(|schema| known.has_key_of(&ReplicatedTable::definition(schema, known.mode)));
    Ok(is_one_table.then_some(versions))
}

/// Returns the updates that continue a history: the changes in the log, each with the columns of
/// its version. `before` is the definition of the replica.
fn history(
    conn: &Connection,
    mut before: Option<Definition>,
    past: &[i64],
    schemas: &HashMap<i64, TableSchema>,
    batches: &mut BTreeMap<i64, Result<ChangeBatch, String>>,
) -> Result<Vec<StagedUpdate>> {
    let mut steps = Vec::new();
    for version in past {
        let Some(schema) = schemas.get(version) else { continue };
        let definition = ReplicatedTable::definition(schema, SyncMode::Temporal);
        if let Some(before) = before.filter(|before| *before != definition) {
            let is_new = |field: &Arc<Field>| {
                before.schema.field_with_name(field.name()).map_or(true, |old| old.data_type() != field.data_type())
            };
            let added = definition.schema.fields().iter().enumerate().filter(|(_, field)| is_new(field));
            let defaults = added.map(|(at, field)| Ok((field.name().clone(), copy::default_value(conn, schema, at)?)));
            let defaults = defaults.collect::<Result<_>>()?;
            steps.push(StagedUpdate::Redefined(Arc::new(definition.clone()), defaults));
        }
        // Changes that cannot be read from the log appear as differences later.
        if let Some(Ok(batch)) = batches.remove(version) {
            steps.push(StagedUpdate::Changes(batch));
        }
        before = Some(definition);
    }
    Ok(steps)
}

/// Error for a table registered by its row id, which cannot have a history.
pub(super) const NO_HISTORY: &str = "expected a key of the table's own, got the row id: VACUUM numbers rows anew, so a history has no \
     row to follow (sync_mode \"destructive\" replicates it)";

/// Compares the registrations in the file with the followed tables; returns the registrations whose
/// triggers are wrong and may be recreated.
fn look_at_registrations(
    conn: &Connection,
    state: &mut State,
    uncaptured: &HashMap<i64, String>,
    updates: &mut Vec<(String, StagedUpdate)>,
) -> Result<Vec<Registered>> {
    let registered = capture::registered(conn)?;
    let mut broken = Vec::new();
    for registered in &registered {
        let mode = state.mode;
        let followed = state.tables.entry(registered.id).or_insert_with(|| ReplicatedTable::new(registered, mode));
        if followed.version != registered.version {
            *followed = followed.registered_anew(registered, mode);
        }
        let problem = match (capture::is_installed(conn, registered), uncaptured.get(&registered.id)) {
            (Ok(true), _) if mode == SyncMode::Temporal && capture::has_row_id(conn, &registered.schema)? => {
                Some(NO_HISTORY.to_owned())
            }
            (Ok(true), _) => None,
            (Ok(false), Some(error)) => Some(error.clone()),
            (Ok(false), None) => {
                broken.push(registered.clone());
                None
            }
            // Triggers of a table that does not fit any more would only hinder the app.
            (Err(_), None) if capture::has_triggers(conn, registered.id)? => {
                broken.push(registered.clone());
                None
            }
            (Err(error), _) => Some(error.to_string()),
        };
        match (problem, &followed.state) {
            (Some(error), _) => {
                let name = registered.schema.name();
                followed.state = TableState::Unsupported(format!(
                    "{error} (unregister_table({name:?}) forgets the table; it can be registered again as it is now)"
                ));
                followed.needs_copy = true;
            }
            // Until the copy, the replica has failed.
            (None, TableState::Unsupported(error)) => followed.state = TableState::Failed(error.clone()),
            (None, _) => {}
        }
    }
    if broken.is_empty() {
        let is_registered = |id: &i64| registered.iter().any(|registered| registered.id == *id);
        state.tables.retain(|id, followed| {
            let is_kept = is_registered(id);
            if !is_kept {
                updates.push((followed.schema.name().to_owned(), StagedUpdate::Dropped));
            }
            is_kept
        });
    }
    Ok(broken)
}
