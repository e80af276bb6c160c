//! The initial copy: all rows of a table, as one read snapshot sees them.

use arrow::array::{ArrayRef, RecordBatch};
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Error, Result};
use crate::oltp::column::ColumnBuilder;
use crate::oltp::sql::{failed, ident};
use crate::schema::TableSchema;

/// Rows of one batch: those of a segment.
const BATCH_ROWS: u64 = 1 << 16;

/// The registered columns of all rows, in SQLite's order. `progress` hears of the rows read so far.
///
/// # Errors
/// SQLite's; a value that does not fit its column: table, column, row, expected, got.
pub(super) fn rows(conn: &Connection, schema: &TableSchema, progress: &mut dyn FnMut(u64)) -> Result<Vec<RecordBatch>> {
    let context = || format!("copying table {:?}", schema.name());
    // With the alias, a column that is not there is an error and not a text.
    let columns: Vec<String> = schema.columns().iter().map(|column| format!("r.{}", ident(&column.name))).collect();
    let sql = format!("SELECT {} FROM {} AS r", columns.join(", "), ident(schema.name()));
    let mut statement = conn.prepare_cached(&sql).map_err(failed(context))?;
    let mut rows = statement.query([]).map_err(failed(context))?;
    let arrow = schema.arrow();
    let builders = || schema.columns().iter().map(|column| ColumnBuilder::new(column.column_type)).collect::<Vec<_>>();
    let mut batches = Vec::new();
    let mut columns = builders();
    let mut count: u64 = 0;
    let mut flush = |columns: Vec<ColumnBuilder>, count| -> Result<()> {
        let mut arrays: Vec<ArrayRef> = columns.into_iter().map(ColumnBuilder::finish).collect();
        arrays.iter_mut().for_each(shrink);
        batches.push(RecordBatch::try_new(arrow.clone(), arrays).map_err(Error::arrow)?);
        progress(count);
        Ok(())
    };
    while let Some(row) = rows.next().map_err(failed(context))? {
        for (at, column) in columns.iter_mut().enumerate() {
            let value = row.get_ref(at).map_err(failed(context))?;
            column.append(value).map_err(|problem| {
                let name = &schema.columns()[at].name;
                Error::Engine(format!("{}, column {name:?}, row {}: {problem}", context(), count + 1))
            })?;
        }
        count += 1;
        if count.is_multiple_of(BATCH_ROWS) {
            flush(std::mem::replace(&mut columns, builders()), count)?;
        }
    }
    if !count.is_multiple_of(BATCH_ROWS) {
        flush(columns, count)?;
    }
    Ok(batches)
}

/// What rows that are older than a column have in it: one value.
pub(super) fn default_value(conn: &Connection, schema: &TableSchema, column: usize) -> Result<ArrayRef> {
    let column = &schema.columns()[column];
    let context = || format!("the default of column {:?} of table {:?}", column.name, schema.name());
    // SQLite takes constants only as the default of a column that is added.
    let expression: Option<String> = conn
        .query_row(
            "SELECT dflt_value FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE",
            (schema.name(), &column.name),
            |row| row.get(0),
        )
        .optional()
        .map_err(failed(context))?
        .flatten();
    let sql = format!("SELECT {}", expression.as_deref().unwrap_or("NULL"));
    let mut statement = conn.prepare(&sql).map_err(failed(context))?;
    let mut rows = statement.query([]).map_err(failed(context))?;
    let mut builder = ColumnBuilder::new(column.column_type);
    let fits = match rows.next().map_err(failed(context))? {
        Some(row) => builder.append(row.get_ref(0).map_err(failed(context))?).is_ok(),
        None => false,
    };
    if !fits {
        builder.append_null();
    }
    Ok(builder.finish())
}

/// Builders grow by doubling; what is kept for long should not.
fn shrink(array: &mut ArrayRef) {
    if let Some(array) = std::sync::Arc::get_mut(array) {
        array.shrink_to_fit();
    }
}
