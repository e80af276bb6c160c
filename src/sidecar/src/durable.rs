//! Durable state of a sidecar: the replicas in files, and the read position of each table.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, Store, SyncMode};
use vexact_sqlite::replication::TableState;

use super::poll::Progress;
use super::table::Table;

/// Stored beside the replicas.
#[derive(Debug, Serialize, Deserialize)]
struct Extra {
    /// The source, without its password.
    source: String,
    /// By the replica's name.
    tables: BTreeMap<String, ExtraTable>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ExtraTable {
    /// The settings that decide which rows are read.
    follows: Vec<String>,
    progress: Progress,
}

/// Returns the settings of a table on which its stored replica depends: if they change, the table
/// is read again.
fn follows(table: &Table, deletes: &str) -> Vec<String> {
    let mut follows = vec![table.config.table_name.clone(), table.config.updated_at_column.clone(), deletes.to_owned()];
    follows.extend(table.config.primary_key.iter().cloned());
    follows
}

/// Restores stored replicas; returns the number of changes applied so far. Blocks.
///
/// # Errors
/// Files that are damaged; replicas of another sync mode or another source.
pub(super) fn restore(
    store: &Store,
    replicas: &Replicas,
    tables: &mut [Table],
    source: &str,
    deletes: &str,
    mode: SyncMode,
) -> Result<Option<i64>> {
    let Some(stored) = store.load()? else { return Ok(None) };
    stored.check_mode(mode)?;
    let extra: Extra = serde_json::from_str(&stored.extra).map_err(|_| {
        Error::Engine(
            "storage_path: expected a sidecar's replicas, got those of an engine without sidecar_source".into(),
        )
    })?;
    if extra.source != source {
        return Err(Error::InvalidArgument(format!(
            "sidecar_source: the storage holds replicas of another source: expected {:?}, got {source:?}",
            extra.source
        )));
    }
    replicas.restore(&stored)?;
    for table in tables.iter_mut() {
        let snapshot = replicas.snapshot();
        let known = extra.tables.get(&table.name).filter(|known| known.follows == follows(table, deletes));
        match (known, snapshot.table(&table.name)) {
            (Some(known), Some(state)) => {
                table.progress = known.progress.clone();
                table.definition = Some(Arc::clone(state.version.definition()));
                if table.progress.after.is_some() {
                    table.state = TableState::Ready;
                }
            }
            (None, Some(_)) => drop(replicas.update(vec![(table.name.clone(), vexact_replica::Update::Drop)], 0)),
            (_, None) => {}
        }
    }
    // Those that are followed no longer.
    for state in replicas.snapshot().tables() {
        let name = &state.version.definition().name;
        if !tables.iter().any(|table| table.name.eq_ignore_ascii_case(name)) {
            replicas.update(vec![(name.clone(), vexact_replica::Update::Drop)], 0);
        }
    }
    Ok(Some(stored.applied_seq))
}

/// Saves the replicas with the positions from which to resume: never a position whose rows are not
/// saved. Blocks.
pub(super) fn save(
    store: &Store,
    replicas: &Replicas,
    tables: &[Table],
    source: &str,
    deletes: &str,
    applied: i64,
) -> Result<()> {
    // One that was never found has no replica worth keeping.
    let known: Vec<&Table> = tables.iter().filter(|table| table.definition.is_some()).collect();
    let extra = |table: &&Table| {
        let progress = table.progress.clone();
        (table.name.clone(), ExtraTable { follows: follows(table, deletes), progress })
    };
    let extra = Extra { source: source.to_owned(), tables: known.iter().map(extra).collect() };
    let extra = serde_json::to_string(&extra)
        .map_err(|error| Error::Engine(format!("the state of the sidecar as text: {error}")))?;
    let names: Vec<String> = known.iter().map(|table| table.name.clone()).collect();
    store.save(&replicas.snapshot().only(&names, applied), 0, &extra)
}
