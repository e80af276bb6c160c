//! The initial copy: all rows of a table, as one read snapshot sees them. Large tables are read by
//! several threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use rusqlite::{Connection, OptionalExtension};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, TableSchema};
use vexact_core::sql::{failed, ident};

use crate::oltp::column::ColumnBuilder;
use crate::oltp::{Oltp, capture, log, row_id_name};

/// Rows of one batch: those of a segment.
const BATCH_ROWS: usize = 1 << 16;

/// Maximum number of row-id ranges into which a table is split.
const RANGES: i128 = 64;

/// The registered columns of all rows, in the order of their row ids, else in SQLite's. `progress`
/// is called with the number of rows read so far.
///
/// # Errors
/// SQLite's; a value that does not fit its column: table, column, row, expected, got.
pub(super) fn rows(
    conn: &Connection,
    oltp: &Oltp,
    schema: &TableSchema,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<RecordBatch>> {
    let count = AtomicU64::new(0);
    let progress = |rows: usize| progress(count.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64);
    if let Some((row_id, ranges)) = ranges(conn, schema)? {
        // On failure a single thread reads again: it can count rows, and reports the error.
        if let Ok(batches) = in_ranges(conn, oltp, schema, &row_id, &ranges, &progress) {
            return coalesced(schema, &batches);
        }
        count.store(0, Ordering::Relaxed);
    }
    read(conn, schema, None, &progress)
}

/// The name of the row id, and ranges of it that together are a table.
type Ranges = (String, Vec<(i64, i64)>);

/// Returns the ranges of a table if it has row ids and is large enough.
fn ranges(conn: &Connection, schema: &TableSchema) -> Result<Option<Ranges>> {
    let Some(row_id) = row_id_name(conn, schema.name())? else { return Ok(None) };
    // Each on its own is a step in the tree of the table.
    let (id, table) = (ident(&row_id), ident(schema.name()));
    let sql = format!("SELECT (SELECT min(r.{id}) FROM {table} AS r), (SELECT max(r.{id}) FROM {table} AS r)");
    let ends = conn.query_row(&sql, [], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)));
    let Some((first, last)) = ends.map_err(failed(|| format!("copying table {:?}", schema.name())))? else {
        return Ok(None);
    };
    let (first, last) = (i128::from(first), i128::from(last));
    let parts = |whole: i128, part: i128| (whole + part - 1) / part;
    let span = last - first + 1;
    // The ranges are at most as many as there are full batches, and of equal length, so that
    // threads end together.
    let width = parts(span, parts(span, BATCH_ROWS as i128).min(RANGES));
    let starts = (0..).map(|at| first + at * width).take_while(|start| *start <= last);
    let ranges: Vec<(i64, i64)> = starts.map(|start| (start as i64, (start + width - 1).min(last) as i64)).collect();
    Ok((ranges.len() > 1).then_some((row_id, ranges)))
}

/// Reads the ranges on as many connections as there are for it. Those besides `conn` take part if
/// they see the same rows: every change of a captured table is in the log, so it is the same state
/// if the log has the same end.
fn in_ranges(
    conn: &Connection,
    oltp: &Oltp,
    schema: &TableSchema,
    row_id: &str,
    ranges: &[(i64, i64)],
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<RecordBatch>> {
    let next = AtomicUsize::new(0);
    let parts: Vec<OnceLock<Vec<RecordBatch>>> = ranges.iter().map(|_| OnceLock::new()).collect();
    let take = |conn: &Connection| -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(range) = ranges.get(at) else { return Ok(()) };
            match read(conn, schema, Some((row_id, *range)), progress) {
                Ok(batches) => drop(parts[at].set(batches)),
                Err(error) => {
                    next.store(ranges.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let state_of =
        |conn: &Connection| -> Result<(i64, i64)> { Ok((log::last_seq(conn)?, capture::schema_version(conn)?)) };
    let state = state_of(conn)?;
    let beside = |conn: &Connection| if state_of(conn)? == state { take(conn) } else { Ok(()) };
    std::thread::scope(|scope| {
        let help = || oltp.read_beside(beside);
        let helpers: Vec<_> = (1..oltp.copying_threads()).map(|_| scope.spawn(help)).collect();
        let mut outcome = take(conn);
        for helper in helpers {
            let ended = helper.join().unwrap_or_else(|_| Err(Error::Engine("a copying thread ended".into())));
            outcome = outcome.and(ended);
        }
        outcome
    })?;
    Ok(parts.into_iter().filter_map(OnceLock::into_inner).flatten().collect())
}

/// Merges small adjacent batches: ranges of sparse ids have few rows.
fn coalesced(schema: &TableSchema, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut rest = batches;
    let mut whole = Vec::new();
    while !rest.is_empty() {
        let mut rows = 0;
        let fits = |batch: &&RecordBatch| {
            rows += batch.num_rows();
            rows <= BATCH_ROWS
        };
        let (group, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        whole.push(match group {
            [batch] => batch.clone(),
            group => arrow::compute::concat_batches(&schema.arrow(), group).map_err(Error::arrow)?,
        });
        rest = after;
    }
    Ok(whole)
}

/// Reads the rows of a table on one connection, or those of a range of row ids.
fn read(
    conn: &Connection,
    schema: &TableSchema,
    range: Option<(&str, (i64, i64))>,
    progress: &dyn Fn(usize),
) -> Result<Vec<RecordBatch>> {
    let context = || format!("copying table {:?}", schema.name());
    // With the alias, a column that is not there is an error and not a text.
    let columns: Vec<String> = schema.columns().iter().map(|column| format!("r.{}", ident(&column.name))).collect();
    let mut sql = format!("SELECT {} FROM {} AS r", columns.join(", "), ident(schema.name()));
    if let Some((row_id, _)) = range {
        sql += &format!(" WHERE r.{} BETWEEN ?1 AND ?2", ident(row_id));
    }
    let mut statement = conn.prepare_cached(&sql).map_err(failed(context))?;
    let mut rows = match range {
        None => statement.query([]),
        Some((_, ids)) => statement.query(ids),
    }
    .map_err(failed(context))?;
    let arrow = schema.arrow();
    let expected =
        range.map_or(u64::MAX, |(_, (first, last))| last.abs_diff(first)).min(BATCH_ROWS as u64 - 1) as usize + 1;
    let new = |column: &Column| ColumnBuilder::with_capacity(column.column_type, expected);
    let builders = || schema.columns().iter().map(new).collect::<Vec<_>>();
    let mut batches = Vec::new();
    let mut columns = builders();
    let mut count = 0_usize;
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
            flush(std::mem::replace(&mut columns, builders()), BATCH_ROWS)?;
        }
    }
    if !count.is_multiple_of(BATCH_ROWS) {
        flush(columns, count % BATCH_ROWS)?;
    }
    Ok(batches)
}

/// Returns the value that rows older than a column have in it, as an array of one value.
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

/// Shrinks an array whose buffers grew by doubling, because it is kept for long.
fn shrink(array: &mut ArrayRef) {
    if let Some(array) = std::sync::Arc::get_mut(array) {
        array.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::concat_batches;

    use super::*;
    use crate::oltp::OltpOptions;

    fn series(count: u64, id: &str) -> String {
        format!(
            "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {count}) SELECT {id} AS id FROM n"
        )
    }

    /// A table with these row ids, copied in ranges and as a whole.
    async fn copied(ids: &str, broken: Option<i64>) -> (Result<Vec<RecordBatch>>, Result<Vec<RecordBatch>>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let oltp = Arc::new(Oltp::open(folder.path().join("t.db"), OltpOptions::default()).unwrap());
        oltp.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB, w)", vec![]).await.unwrap();
        let fill = format!("INSERT INTO t SELECT id, CAST(printf('%08d', id % 1000) AS BLOB), id % 7 FROM ({ids})");
        oltp.execute(fill, vec![]).await.unwrap();
        if let Some(id) = broken {
            oltp.execute("UPDATE t SET w = 'x' WHERE id = ?", vec![id.into()]).await.unwrap();
        }
        let columns =
            [("id", "int64"), ("v", "vector(2)"), ("w", "int8")].map(|(name, kind)| (name.into(), kind.into()));
        let schema = TableSchema::try_new("t", &columns, &["id".into()]).unwrap();
        let beside = Arc::clone(&oltp);
        let read = move |conn: &Connection| {
            let most = AtomicU64::new(0);
            let progress = |rows| _ = most.fetch_max(rows, Ordering::Relaxed);
            let parts = rows(conn, &beside, &schema, &progress);
            Ok((parts, super::read(conn, &schema, None, &|_| ()), most.into_inner()))
        };
        oltp.read(read).await.unwrap()
    }

    async fn assert_copied(ids: &str, count: usize, batches: usize) {
        let (parts, whole, most) = copied(ids, None).await;
        let (parts, whole) = (parts.unwrap(), whole.unwrap());
        let schema = whole[0].schema();
        assert_eq!(parts.len(), batches, "{ids}");
        assert_eq!(concat_batches(&schema, &parts).unwrap(), concat_batches(&schema, &whole).unwrap(), "{ids}");
        assert_eq!((parts.iter().map(RecordBatch::num_rows).sum::<usize>(), most), (count, count as u64), "{ids}");
    }

    #[tokio::test]
    async fn ranges_of_row_ids_make_the_whole_table() {
        assert_copied(&series(200_000, "id"), 200_000, 4).await;
        assert_copied(&series(100_000, "id * 3 - 100000"), 100_000, 2).await;
        // From the least to the greatest row id.
        assert_copied(
            "SELECT -9223372036854775808 AS id UNION SELECT 9223372036854775807 UNION SELECT 7 UNION SELECT -7",
            4,
            1,
        )
        .await;
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_with_its_row() {
        let (parts, whole, _) = copied(&series(200_000, "id"), Some(150_001)).await;
        let (error, told) = (parts.unwrap_err().to_string(), whole.unwrap_err().to_string());
        assert_eq!(error, told);
        assert!(error.contains("column \"w\", row 150001: expected"), "{error}");
    }
}
