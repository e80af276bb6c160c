//! One cycle of replication: what changed since the last one, in one read snapshot, becomes the next state of all replicas.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
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
        let definition = Definition {
            name: registered.schema.name().to_owned(),
            schema: registered.schema.arrow(),
            key: registered.schema.key().to_vec(),
            mode,
        };
        Self {
            schema: registered.schema.clone(),
            definition: Arc::new(definition),
            version: registered.version,
            needs_copy: true,
            is_loaded: false,
            is_claimed: false,
            error: None,
        }
    }

    /// Makes the replica, without rows.
    pub fn publish_empty(&self, replicas: &Replicas, applied_seq: i64) {
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
    /// The log's end when it was last read.
    pub log_end: i64,
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
    state.log_end = log::last_seq(conn)?.max(state.applied_seq);
    let copied: Vec<i64> = state.tables.iter().filter(|(_, followed)| followed.needs_copy).map(|(id, _)| *id).collect();
    // A copy is of the whole snapshot, so everything else goes there with it.
    let through = match copied.is_empty() {
        true => log::boundary(conn, state.applied_seq, limit)?,
        false => state.log_end,
    };

    let followed: HashMap<i64, (i64, TableSchema)> = state
        .tables
        .iter()
        .filter(|(_, followed)| !followed.needs_copy)
        .map(|(id, followed)| (followed.version, (*id, followed.schema.clone())))
        .collect();
    let read = changes::read(conn, (state.applied_seq, through), state.last_time, &followed)?;
    for (id, batch) in read.tables {
        let Some(followed) = state.tables.get_mut(&id) else { continue };
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
        updates.push((
            followed.schema.name().to_owned(),
            match copy::rows(conn, &followed.schema, &mut |_| ()) {
                Ok(rows) => prepare_copy(conn, followed, replicas, rows, time)?,
                Err(error) => {
                    // A table that never was there has to be there to be known as failed.
                    if replicas.snapshot().table(followed.schema.name()).is_none() {
                        followed.publish_empty(replicas, state.applied_seq);
                    }
                    fail(followed, &error.to_string());
                    Prepared::Failed(error.to_string())
                }
            },
        ));
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
    Continued(Arc<Definition>, HashMap<String, ArrayRef>, RecordBatch, i64),
    Failed(String),
    Dropped,
}

impl Prepared {
    fn as_update(&self) -> Update<'_> {
        match self {
            Prepared::Changes(batch) => Update::Apply(batch),
            Prepared::Continued(definition, defaults, rows, time) => {
                Update::Continue(Arc::clone(definition), defaults.clone(), rows.clone(), *time)
            }
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

fn prepare_copy(
    conn: &Connection,
    followed: &mut Followed,
    replicas: &Replicas,
    rows: Vec<RecordBatch>,
    time: i64,
) -> Result<Prepared> {
    followed.needs_copy = false;
    followed.is_loaded = true;
    followed.error = None;
    let snapshot = replicas.snapshot();
    let known = snapshot.table(followed.schema.name()).map(|state| state.version.definition());
    let definition = Arc::clone(&followed.definition);
    let Some(known) = known.filter(|known| known.mode == SyncMode::Temporal && known.has_key_of(&definition)) else {
        return Ok(Prepared::Rows(definition, rows, time));
    };
    // A history goes on: with the columns that it has now, and with what changed unseen as its next versions.
    let added = definition.schema.fields().iter().enumerate();
    let added = added.filter(|(_, field)| known.schema.field_with_name(field.name()).is_err());
    let defaults =
        added.map(|(at, field)| Ok((field.name().clone(), copy::default_value(conn, &followed.schema, at)?)));
    let defaults = defaults.collect::<Result<_>>()?;
    let rows = arrow::compute::concat_batches(&definition.schema, &rows).map_err(Error::arrow)?;
    Ok(Prepared::Continued(definition, defaults, rows, time))
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
            let is_claimed = followed.is_claimed;
            *followed = Followed { is_claimed, ..Followed::new(registered, mode) };
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
