//! Registering tables, and copying them.

use std::sync::Arc;

use vexact_core::error::{Error, Result};
use vexact_core::schema::TableSchema;
use vexact_core::sql::{failed, ident};
use vexact_replica::SyncMode;

use super::cycle::NO_HISTORY;
use super::state::ReplicatedTable;
use super::table_state::TableState;
use super::{RegisterOutcome, Replicator};
use crate::oltp::capture;
use crate::oltp::limit::{self, Limit};

impl Replicator {
    /// Captures a table and creates its replica. With `initial_sync`, its existing rows are copied.
    ///
    /// # Errors
    /// A table that is registered already, by this engine or with another schema; else as
    /// [`capture::install`].
    pub async fn register(&self, schema: TableSchema, initial_sync: bool) -> Result<RegisterOutcome> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        if state.find(schema.name()).is_none() {
            // Another engine may have registered it since the last cycle.
            let name = schema.name().to_owned();
            if self.oltp.read(move |conn| capture::find(conn, &name)).await?.is_some() {
                self.cycle(state).await?;
                state = Arc::clone(&self.state).lock_owned().await;
            }
        }
        if let Some(followed) = state.find(schema.name()) {
            if !followed.schema.is_same(&schema) {
                return Err(Error::Engine(format!(
                    "table {:?} is already registered with another schema: expected {}, got {schema} (unregister_table ends the \
                     first registration)",
                    schema.name(),
                    followed.schema
                )));
            }
            if followed.is_claimed {
                return Err(Error::Engine(format!("table {:?} is already registered", schema.name())));
            }
            followed.is_claimed = true;
            let needs_copy = followed.state != TableState::Ready;
            drop(state);
            if needs_copy && initial_sync {
                self.initial_sync(schema.name()).await?;
            }
            return Ok(RegisterOutcome { unloaded_rows: 0 });
        }
        self.oltp.check_writable(
            "register_table",
            "an engine that writes the file registers tables (vexact.open of its path, or vexact db register), and this one follows \
             them from its next sync on",
        )?;
        let (position, entered) = (self.position()?, self.position()?);
        let (applied_seq, mode) = (state.applied_seq, state.mode);
        let (changes, is_pruned) = (self.options.log_limit, self.options.prunes);
        let (registered, rows) = self
            .oltp
            .write(move |tx| {
                let registered = capture::install(tx, &schema)?;
                if mode == SyncMode::Temporal && capture::has_row_id(tx, &schema)? {
                    return Err(Error::Engine(format!("table {:?}: {NO_HISTORY}", schema.name())));
                }
                entered.enter(tx, applied_seq)?;
                // An index may have a collation that only the app has.
                let count = format!("SELECT count(*) FROM {} NOT INDEXED", ident(schema.name()));
                let count = tx.query_row(&count, [], |row| row.get::<_, i64>(0));
                let rows = count.map_err(failed(|| "counting rows"))?.unsigned_abs();
                limit::extend(tx, applied_seq, Limit { changes, rows, is_pruned })?;
                Ok((registered, rows))
            })
            .await?;
        position.has_written(applied_seq);
        let mut followed = ReplicatedTable::new(&registered, state.mode);
        followed.is_claimed = true;
        followed.needs_copy = initial_sync || rows == 0;
        let needs_copy = followed.needs_copy;
        if !needs_copy {
            followed.publish_empty(&self.replicas, state.applied_seq);
        }
        state.tables.insert(registered.id, followed);
        if needs_copy {
            self.cycle(state).await?;
            self.check(registered.schema.name()).await?;
        } else {
            self.blocking(state, |worker, state| worker.save(state)).await?;
        }
        Ok(RegisterOutcome { unloaded_rows: if needs_copy { 0 } else { rows } })
    }

    /// Ends the registration of a table, even if the table no longer exists, and drops its replica.
    /// It can be registered again, with other columns or another key.
    ///
    /// # Errors
    /// A table that is not registered; an error of SQLite.
    pub async fn unregister(&self, table: &str) -> Result<()> {
        self.oltp.check_writable("unregister_table", "an engine that writes the file unregisters tables")?;
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let name = table.to_owned();
        let known = state.tables.iter().find(|(_, followed)| followed.schema.name().eq_ignore_ascii_case(table));
        let known = known.map(|(id, _)| *id);
        self.oltp
            .write(move |tx| {
                // Another engine may have registered or unregistered it since the last cycle.
                let found = capture::find(tx, &name)?.map(|registered| registered.id);
                let id = found.or(known).ok_or_else(|| not_registered(&name))?;
                capture::remove(tx, id)
            })
            .await?;
        state.schema_version = None;
        self.cycle(state).await.map(drop)
    }

    /// The error of a table that failed.
    pub(super) async fn check(&self, table: &str) -> Result<()> {
        match self.state.lock().await.find(table).and_then(|followed| followed.state.error()) {
            Some(error) => Err(Error::Engine(error.to_owned())),
            None => Ok(()),
        }
    }

    /// Copies all rows of a table, which replace those of its replica; in a history the differences
    /// become versions. Returns the number of rows. The other tables advance to the same position
    /// of the log.
    ///
    /// # Errors
    /// A table that is not registered, or values that its columns cannot hold.
    pub async fn initial_sync(&self, table: &str) -> Result<u64> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let Some(followed) = state.find(table) else { return Err(not_registered(table)) };
        followed.needs_copy = true;
        let result = self.cycle(state).await;
        self.note(&result);
        result?;
        self.check(table).await?;
        let snapshot = self.replicas.snapshot();
        let rows = snapshot.table(table).map_or(0, |state| state.version.num_current_rows());
        Ok(rows as u64)
    }
}

pub(super) fn not_registered(table: &str) -> Error {
    Error::Engine(format!("table {table:?} is not registered: register_table captures it"))
}
