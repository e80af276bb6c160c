//! One cycle of replication: what changed since the last one, in one read snapshot, becomes the next state of all replicas.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Field;
use rusqlite::Connection;

use super::position::now_us;
use super::status::SyncResult;
use super::{changes, copy};
use crate::error::{Error, Result};
use crate::oltp::capture::{self, Registered};
use crate::oltp::log;
use crate::replica::{ChangeBatch, Counts, Definition, Replicas, SyncMode, Update};
use crate::schema::TableSchema;

/// A table that is followed.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub schema: TableSchema,
    pub definition: Arc<Definition>,
    /// The version of the registration whose changes the replica takes.
    pub version: i64,
    /// The version whose columns the replica has; `None` before it has any.
    pub replica_version: Option<i64>,
    /// All rows are to be read again.
    pub needs_copy: bool,
    /// Rows that were there before are in the replica.
    pub is_loaded: bool,
    /// It was registered through this engine, and not found in the file.
    pub is_claimed: bool,
    pub error: Option<String>,
}

impl Followed {
    pub fn new(registered: &Registered, mode: SyncMode) -> Self {
        Self {
            schema: registered.schema.clone(),
            definition: Arc::new(Self::definition(&registered.schema, mode)),
            version: registered.version,
            replica_version: None,
            needs_copy: true,
            is_loaded: false,
            is_claimed: false,
            error: None,
        }
    }

    /// The replica of a table of this schema.
    fn definition(schema: &TableSchema, mode: SyncMode) -> Definition {
        Definition { name: schema.name().to_owned(), schema: schema.arrow(), key: schema.key().to_vec(), mode }
    }

    /// The same table as its registration is now.
    pub fn registered_anew(&self, registered: &Registered, mode: SyncMode) -> Self {
        let (is_claimed, replica_version) = (self.is_claimed, self.replica_version);
        Self { is_claimed, replica_version, ..Self::new(registered, mode) }
    }

    /// Makes the replica, without rows.
    pub fn publish_empty(&mut self, replicas: &Replicas, applied_seq: i64) {
        self.replica_version = Some(self.version);
        let update = Update::Replace(Arc::clone(&self.definition), Vec::new(), 0);
        replicas.update(vec![(self.schema.name().to_owned(), update)], applied_seq);
    }
}

/// What replication knows between cycles.
#[derive(Debug)]
pub(super) struct State {
    pub mode: SyncMode,
    /// By the number of the registration.
    pub tables: BTreeMap<i64, Followed>,
    pub applied_seq: i64,
    /// The time of the last change applied, microseconds.
    pub last_time: i64,
    pub has_synced: bool,
    /// SQLite's count of schema changes when the registrations were last looked at.
    pub schema_version: Option<i64>,
}

impl State {
    pub fn find(&mut self, table: &str) -> Option<&mut Followed> {
        self.tables.values_mut().find(|followed| followed.schema.name().eq_ignore_ascii_case(table))
    }
}

/// How a cycle ended.
pub(super) enum Outcome {
    /// Applied.
    Done(SyncResult),
    /// The triggers of these tables are not as they should be: they have to be made again first.
    Broken(Vec<Registered>),
}

/// Applies at most `limit` changes, extended to the end of a transaction.
pub(super) fn run(conn: &Connection, state: &mut State, replicas: &Replicas, limit: u64) -> Result<Outcome> {
    let schema_version = capture::schema_version(conn)?;
    let mut updates: Vec<(String, Prepared)> = Vec::new();
    if state.schema_version != Some(schema_version) {
        let broken = look_at_registrations(conn, state, &mut updates)?;
        if !broken.is_empty() {
            return Ok(Outcome::Broken(broken));
        }
    }
    let copied: Vec<i64> = state.tables.iter().filter(|(_, followed)| followed.needs_copy).map(|(id, _)| *id).collect();
    // A copy is of the whole snapshot, so everything else goes there with it.
    let through = match copied.is_empty() {
        true => log::boundary(conn, state.applied_seq, limit)?,
        false => log::last_seq(conn)?.max(state.applied_seq),
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
                Ok(batch) => Prepared::Changes(batch),
                Err(error) => {
                    fail(followed, &error);
                    Prepared::Failed(error)
                }
            },
        ));
    }
    let time = now_us().max(read.last_time);
    for id in &copied {
        let Some(followed) = state.tables.get_mut(id) else { continue };
        let name = followed.schema.name().to_owned();
        let prepared = copy::rows(conn, &followed.schema, &mut |_| ()).and_then(|rows| match pasts.get(id) {
            None => Ok(vec![Prepared::Rows(Arc::clone(&followed.definition), rows, time)]),
            Some(past) => continued(conn, followed, (past.as_slice(), &versions), &mut read.batches, rows, time),
        });
        match prepared {
            Ok(prepared) => {
                (followed.needs_copy, followed.is_loaded, followed.error) = (false, true, None);
                followed.replica_version = Some(followed.version);
                updates.extend(prepared.into_iter().map(|prepared| (name.clone(), prepared)));
            }
            Err(error) => {
                // A table that never was there has to be there to be known as failed.
                if replicas.snapshot().table(&name).is_none() {
                    followed.publish_empty(replicas, state.applied_seq);
                }
                fail(followed, &error.to_string());
                updates.push((name, Prepared::Failed(error.to_string())));
            }
        }
    }

    let as_updates = updates.iter().map(|(name, prepared)| (name.clone(), prepared.as_update())).collect();
    let results = replicas.update(as_updates, through);
    let mut counts = Counts::default();
    for ((name, result), (_, prepared)) in results.into_iter().zip(&updates) {
        match (result, prepared) {
            (Ok(changed), Prepared::Changes(_)) => counts += changed,
            (Ok(_), _) => {}
            (Err(error), _) => {
                if let Some(followed) = state.find(&name) {
                    fail(followed, &error.to_string());
                    // Its columns may be those of any version since: what it has is replaced.
                    followed.replica_version = None;
                }
            }
        }
    }
    (state.applied_seq, state.last_time) = (through, read.last_time);
    if !copied.is_empty() {
        state.last_time = time;
    }
    (state.schema_version, state.has_synced) = (Some(schema_version), true);
    Ok(Outcome::Done(SyncResult::new(read.events, counts)))
}

/// An update that owns what it is made of.
enum Prepared {
    Changes(ChangeBatch),
    Rows(Arc<Definition>, Vec<RecordBatch>, i64),
    Redefined(Arc<Definition>, HashMap<String, ArrayRef>),
    Continued(RecordBatch, i64),
    Failed(String),
    Dropped,
}

impl Prepared {
    fn as_update(&self) -> Update<'_> {
        match self {
            Prepared::Changes(batch) => Update::Apply(batch),
            Prepared::Redefined(definition, defaults) => Update::Redefine(Arc::clone(definition), defaults.clone()),
            Prepared::Continued(rows, time) => Update::Continue(rows.clone(), *time),
            Prepared::Rows(definition, rows, time) => Update::Replace(Arc::clone(definition), rows.clone(), *time),
            Prepared::Failed(error) => Update::Fail(error.clone()),
            Prepared::Dropped => Update::Drop,
        }
    }
}

fn fail(followed: &mut Followed, error: &str) {
    followed.error = Some(error.to_owned());
    followed.needs_copy = true;
}

/// Where the history of a table that is copied goes on: all versions that it had since the one that the replica has. `None`: there
/// is no history to go on with.
fn past(
    conn: &Connection,
    id: i64,
    followed: &Followed,
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
    let is_one_table = versions.values().all(|schema| known.has_key_of(&Followed::definition(schema, known.mode)));
    Ok(is_one_table.then_some(versions))
}

/// A history goes on: with the changes in the log, each with the columns that its version had, and then with what changed unseen.
fn continued(
    conn: &Connection,
    followed: &Followed,
    (past, schemas): (&[i64], &HashMap<i64, TableSchema>),
    batches: &mut BTreeMap<i64, Result<ChangeBatch, String>>,
    rows: Vec<RecordBatch>,
    time: i64,
) -> Result<Vec<Prepared>> {
    let mut prepared = Vec::new();
    let mut before: Option<Definition> = None;
    for version in past {
        let Some(schema) = schemas.get(version) else { continue };
        let definition = Followed::definition(schema, SyncMode::Temporal);
        if let Some(before) = before.filter(|before| *before != definition) {
            let is_new = |field: &Arc<Field>| {
                before.schema.field_with_name(field.name()).map_or(true, |old| old.data_type() != field.data_type())
            };
            let added = definition.schema.fields().iter().enumerate().filter(|(_, field)| is_new(field));
            let defaults = added.map(|(at, field)| Ok((field.name().clone(), copy::default_value(conn, schema, at)?)));
            let defaults = defaults.collect::<Result<_>>()?;
            prepared.push(Prepared::Redefined(Arc::new(definition.clone()), defaults));
        }
        // What cannot be read of the log is seen as a difference.
        if let Some(Ok(batch)) = batches.remove(version) {
            prepared.push(Prepared::Changes(batch));
        }
        before = Some(definition);
    }
    let rows = arrow::compute::concat_batches(&followed.definition.schema, &rows).map_err(Error::arrow)?;
    prepared.push(Prepared::Continued(rows, time));
    Ok(prepared)
}

/// Compares what is registered in the file with what is followed; the registrations whose triggers are not in order.
fn look_at_registrations(
    conn: &Connection,
    state: &mut State,
    updates: &mut Vec<(String, Prepared)>,
) -> Result<Vec<Registered>> {
    let registered = capture::registered(conn)?;
    let is_registered = |id: &i64| registered.iter().any(|registered| registered.id == *id);
    state.tables.retain(|id, followed| {
        let is_kept = is_registered(id);
        if !is_kept {
            updates.push((followed.schema.name().to_owned(), Prepared::Dropped));
        }
        is_kept
    });
    let mut broken = Vec::new();
    for registered in &registered {
        let mode = state.mode;
        let followed = state.tables.entry(registered.id).or_insert_with(|| Followed::new(registered, mode));
        if followed.version != registered.version {
            *followed = followed.registered_anew(registered, mode);
        }
        match capture::is_installed(conn, registered) {
            Ok(true) => {}
            Ok(false) => broken.push(registered.clone()),
            // The copy that is tried next says the same, for as long as the table is gone.
            Err(_) => followed.needs_copy = true,
        }
    }
    Ok(broken)
}
