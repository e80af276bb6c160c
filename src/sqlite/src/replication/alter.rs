//! Adding and dropping columns of registered tables.

use std::sync::Arc;

use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema};
use vexact_core::sql::{failed, ident};

use super::Replicator;
use super::register::not_registered;
use super::status::Known;
use crate::oltp::capture;

impl Replicator {
    /// Adds a column to a registered table: in SQLite, if it does not exist there yet, and in the
    /// replica, whose rows get the values that they have in SQLite.
    ///
    /// # Errors
    /// A table that is not registered; a column that already exists; an error of SQLite.
    pub async fn add_column(&self, table: &str, column: &str, column_type: ColumnType) -> Result<()> {
        self.alter(table, Alteration::Add(column.to_owned(), column_type)).await
    }

    /// Drops a column of a table, in SQLite and in the replica.
    ///
    /// # Errors
    /// A table that is not registered; a column that never existed or belongs to the key; an error
    /// of SQLite. A column that a migration of the app has dropped already is no error.
    pub async fn drop_column(&self, table: &str, column: &str) -> Result<()> {
        self.alter(table, Alteration::Drop(column.to_owned())).await
    }

    async fn alter(&self, table: &str, alteration: Alteration) -> Result<()> {
        let call = match &alteration {
            Alteration::Add(..) => "add_column",
            Alteration::Drop(_) => "drop_column",
        };
        self.oltp.check_writable(call, "an engine that writes the file alters tables")?;
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let Some(id) =
            state.tables.iter().find(|(_, t)| t.schema.name().eq_ignore_ascii_case(table)).map(|(id, _)| *id)
        else {
            return Err(not_registered(table));
        };
        if let (Alteration::Drop(name), Some(followed)) = (&alteration, state.tables.get_mut(&id))
            && let Some(at) = followed.lost_columns.iter().position(|lost| lost.eq_ignore_ascii_case(name))
        {
            followed.lost_columns.remove(at);
            *self.known.lock() = Known::of(&state);
            return Ok(());
        }
        let added = match &alteration {
            Alteration::Add(name, _) => Some(name.clone()),
            Alteration::Drop(_) => None,
        };
        let table_name = table.to_owned();
        let registered = self
            .oltp
            .write(move |tx| {
                // Another engine may have altered it since the last cycle.
                let registered = capture::registered(tx)?.into_iter().find(|registered| registered.id == id);
                let before = registered.ok_or_else(|| not_registered(&table_name))?.schema;
                let altered = alteration.schema(&before)?;
                capture::suspend(tx, id)?;
                alteration.alter(tx, &before)?;
                capture::reinstall(tx, id, &altered)
            })
            .await?;
        if let Some(followed) = state.tables.get_mut(&id) {
            *followed = followed.registered_anew(&registered, self.options.mode);
            if let Some(added) = added {
                followed.lost_columns.retain(|lost| !lost.eq_ignore_ascii_case(&added));
            }
        }
        self.cycle(state).await?;
        self.check(table).await
    }
}

enum Alteration {
    Add(String, ColumnType),
    Drop(String),
}

impl Alteration {
    /// The schema after it.
    fn schema(&self, schema: &TableSchema) -> Result<TableSchema> {
        let mut columns = schema.columns().to_vec();
        let key: Vec<String> = schema.key().iter().map(|at| columns[*at].name.clone()).collect();
        match self {
            Alteration::Add(name, column_type) => {
                if schema.position(name).is_some() {
                    return Err(Error::Engine(format!("table {:?} already has a column {name:?}", schema.name())));
                }
                columns.push(Column { name: name.clone(), column_type: *column_type });
            }
            Alteration::Drop(name) => {
                let Some(at) = schema.position(name) else {
                    return Err(Error::Engine(format!("table {:?} has no column {name:?}", schema.name())));
                };
                if schema.key().contains(&at) {
                    return Err(Error::Engine(format!(
                        "column {name:?} belongs to the key of table {:?} and cannot be dropped",
                        schema.name()
                    )));
                }
                columns.remove(at);
            }
        }
        TableSchema::of_columns(schema.name(), columns, &key)
    }

    fn alter(&self, tx: &rusqlite::Connection, schema: &TableSchema) -> Result<()> {
        let table = ident(schema.name());
        let sql = match self {
            // A migration may have added or dropped it already.
            Alteration::Add(name, _) if column_exists(tx, schema.name(), name)? => return Ok(()),
            Alteration::Drop(name) if !column_exists(tx, schema.name(), name)? => return Ok(()),
            Alteration::Add(name, column_type) => {
                format!("ALTER TABLE {table} ADD COLUMN {} {}", ident(name), column_type.sqlite())
            }
            Alteration::Drop(name) => format!("ALTER TABLE {table} DROP COLUMN {}", ident(name)),
        };
        tx.execute_batch(&sql).map_err(failed(|| sql.as_str()))
    }
}

fn column_exists(tx: &rusqlite::Connection, table: &str, column: &str) -> Result<bool> {
    tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE)",
        (table, column),
        |row| row.get(0),
    )
    .map_err(failed(|| format!("table {table:?}")))
}
