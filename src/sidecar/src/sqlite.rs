//! A SQLite file as a source: opened read-only, in WAL mode or not, and opened again when another
//! file replaces it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params_from_iter};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema, declared};
use vexact_core::sql::{failed, ident};

use super::clock::Clock;
use super::columns::{check_types, find, wanted};
use super::config::{DeleteDetection, TimestampTableConfig};
use super::source::{Described, Placeholder, Plan, Query, Source, sample};
use super::stop::Stop;

/// Number of SQLite instructions between two checks for cancellation, some ten microseconds.
const INSTRUCTIONS: i32 = 2000;

/// Maximum time that a read waits for the locks of the file's writers.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A file.
pub(super) struct SqliteSource {
    path: PathBuf,
    name: String,
    stop: Stop,
    opened: Option<Opened>,
    is_lost: bool,
}

struct Opened {
    conn: Connection,
    /// Identity of the opened file.
    file: Option<FileId>,
    /// True if the connection does not see writes of others.
    is_immutable: bool,
}

/// Device and number of a file.
type FileId = (u64, u64);

fn file_id(path: &Path) -> std::io::Result<Option<FileId>> {
    let metadata = std::fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok(Some((metadata.dev(), metadata.ino())))
    }
    #[cfg(not(unix))]
    {
        drop(metadata);
        Ok(None)
    }
}

impl SqliteSource {
    /// The file, which is opened when it is first read.
    pub fn new(path: &str, stop: Stop) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| Error::io(Path::new(path), error))?;
        Ok(Self { name: path.display().to_string(), path, stop, opened: None, is_lost: false })
    }

    fn open(&self) -> Result<Opened> {
        let file = file_id(&self.path).map_err(|error| Error::io(&self.path, error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let begin = |conn: rusqlite::Result<Connection>| {
            let mut conn = conn?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            let stop = self.stop.clone();
            conn.progress_handler(INSTRUCTIONS, Some(move || stop.is_requested()))?;
            conn.execute_batch("PRAGMA query_only = ON")?;
            // If the file cannot be read, this first read fails.
            conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
            Ok(conn)
        };
        match begin(vexact_locks::open(&self.path, flags)) {
            Ok(conn) => Ok(Opened { conn, file, is_immutable: false }),
            // In a folder that cannot be written, the shared memory of a WAL cannot be made.
            // Without a WAL, all committed data is visible.
            Err(error) if vexact_locks::is_of_read_only_folder(&error) && !vexact_locks::has_wal(&self.path) => {
                let conn =
                    begin(vexact_locks::open_immutable(&self.path, flags)).map_err(failed(|| self.name.clone()))?;
                Ok(Opened { conn, file, is_immutable: true })
            }
            Err(error) => Err(failed(|| self.name.clone())(error)),
        }
    }

    fn conn(&self) -> Result<&Connection> {
        let opened = self.opened.as_ref().map(|opened| &opened.conn);
        opened.ok_or_else(|| Error::Engine(format!("{}: is not open", self.name)))
    }

    /// Records whether an error is one of the file, not of a table.
    fn noted<T>(&mut self, result: Result<T>) -> Result<T> {
        use ErrorCode::*;
        self.is_lost = match &result {
            Err(Error::Sqlite { source, .. }) => matches!(
                source.sqlite_error_code(),
                Some(SystemIoFailure | DatabaseCorrupt | NotADatabase | CannotOpen | DatabaseBusy | DatabaseLocked)
            ),
            _ => false,
        };
        if self.is_lost {
            self.opened = None;
        }
        result
    }
}

impl Source for SqliteSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self) -> Result<()> {
        self.is_lost = true;
        let file = file_id(&self.path).map_err(|error| {
            self.opened = None;
            Error::io(&self.path, error)
        })?;
        let opened = match self.opened.take() {
            Some(opened) if opened.file == file && !opened.is_immutable => opened,
            _ => self.open()?,
        };
        opened.conn.execute_batch("BEGIN").map_err(failed(|| self.name.clone()))?;
        self.opened = Some(opened);
        self.is_lost = false;
        Ok(())
    }

    fn end(&mut self) {
        // The transaction has only read, so if it cannot be ended the file is opened again.
        if self.opened.as_ref().is_some_and(|opened| opened.conn.execute_batch("COMMIT").is_err()) {
            self.opened = None;
        }
    }

    fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn describe(&mut self, table: &TimestampTableConfig, name: &str, deletes: &DeleteDetection) -> Result<Described> {
        let described = self.conn().and_then(|conn| describe(conn, table, name, deletes));
        self.noted(described)
    }

    fn mark(&mut self, _: &TimestampTableConfig) -> Result<Vec<Vec<Value>>> {
        let query = Query { sql: "PRAGMA schema_version".into(), params: Vec::new() };
        self.select(&query)
    }

    fn select(&mut self, query: &Query) -> Result<Vec<Vec<Value>>> {
        let rows = self.conn().and_then(|conn| select(conn, query));
        self.noted(rows)
    }
}

fn select(conn: &Connection, query: &Query) -> Result<Vec<Vec<Value>>> {
    let context = || "reading the source";
    let mut statement = conn.prepare_cached(&query.sql).map_err(failed(context))?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(&query.params)).map_err(failed(context))?;
    let mut read = Vec::new();
    while let Some(row) = rows.next().map_err(failed(context))? {
        let value = |at| row.get_ref(at).map_err(failed(context)).and_then(owned);
        read.push((0..columns).map(value).collect::<Result<_>>()?);
    }
    Ok(read)
}

fn owned(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(
            std::str::from_utf8(bytes)
                .map_err(|_| {
                    Error::Engine(format!("expected UTF-8, got {}", vexact_sqlite::oltp::column::described(value)))
                })?
                .to_owned(),
        ),
    })
}

fn describe(
    conn: &Connection,
    table: &TimestampTableConfig,
    name: &str,
    deletes: &DeleteDetection,
) -> Result<Described> {
    let context = || format!("table {:?}", table.table_name);
    let known: Vec<(String, Option<String>)> = conn
        .prepare_cached("SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")
        .and_then(|mut statement| {
            let columns = statement.query_map([&table.table_name], |row| Ok((row.get(0)?, row.get(1)?)))?;
            columns.collect()
        })
        .map_err(failed(context))?;
    if known.is_empty() {
        return Err(Error::Engine(format!("no such table in the source: {}", table.table_name)));
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let chosen = wanted(table, &names)?;
    check_types(table, &names)?;
    let from = ident(&table.table_name);
    let clocks = [find(table, &names, &table.created_at_column)?, find(table, &names, &table.updated_at_column)?];
    let mut columns = Vec::with_capacity(chosen.len());
    for at in &chosen {
        let (name, declaration) = &known[*at];
        let known = table.column_type(name).or_else(|| declared(declaration.as_deref()));
        let known = match known {
            None if clocks.contains(at) => by_most_values(conn, &from, name).map_err(failed(context))?,
            known => known,
        };
        let column_type = match known {
            Some(column_type) => column_type,
            None => by_values(conn, &from, name, declaration.as_deref()).map_err(failed(context))?,
        };
        columns.push(Column { name: name.clone(), column_type });
    }
    let of = |name: &str| format!("r.{}", ident(name));
    let mut select: Vec<String> = columns.iter().map(|column| of(&column.name)).collect();
    select.push(of(names[find(table, &names, &table.created_at_column)?]));
    let clock = of(names[find(table, &names, &table.updated_at_column)?]);
    select.push(clock.clone());
    if let DeleteDetection::SoftDelete(column) = deletes {
        select.push(of(names[find(table, &names, column)?]));
    }
    let key: Vec<String> = table.primary_key.clone();
    let schema = TableSchema::of_columns(name, columns, &key)?;
    let keys = schema.key_columns().map(|column| of(&column.name));
    let order: Vec<String> = std::iter::once(clock.clone()).chain(keys).collect();
    let mut values = Vec::new();
    for sql in sample(&from, &clock, &clock) {
        values.extend(self::select(conn, &Query { sql, params: Vec::new() })?.concat());
    }
    Ok(Described {
        schema,
        clock: Clock::default(),
        sample: values,
        plan: Plan { from, select, cursor: order.clone(), order, placeholder: Placeholder::Sqlite },
    })
}

/// Returns the type of a clock whose declaration does not determine it: the type of most of its
/// values, so that one invalid value does not decide. Returns `None` if there are none.
fn by_most_values(conn: &Connection, from: &str, column: &str) -> rusqlite::Result<Option<ColumnType>> {
    let column = format!("r.{}", ident(column));
    let sql = format!(
        "SELECT typeof({column}) FROM {from} AS r WHERE {column} IS NOT NULL
            GROUP BY 1 ORDER BY count(*) DESC, 1 = 'real' DESC LIMIT 1"
    );
    let class: Option<String> = conn.query_row(&sql, [], |row| row.get(0)).optional()?;
    Ok(class.map(|class| match class.as_str() {
        "integer" => ColumnType::Int64,
        "real" => ColumnType::Float64,
        "blob" => ColumnType::Binary,
        _ => ColumnType::Utf8,
    }))
}

/// Returns the type of a column whose declaration does not determine it: the type of its values;
/// without values, text for dates and times, else a number.
fn by_values(conn: &Connection, from: &str, column: &str, declaration: Option<&str>) -> rusqlite::Result<ColumnType> {
    let sql = format!("SELECT DISTINCT typeof(r.{}) FROM {from} AS r", ident(column));
    let mut statement = conn.prepare(&sql)?;
    let classes: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let has = |class: &str| classes.iter().any(|known| known == class);
    let upper = declaration.unwrap_or_default().to_ascii_uppercase();
    Ok(match (has("text"), has("blob"), has("real"), has("integer")) {
        // With anything else beside it, the value that does not fit is named when it is read.
        (true, ..) => ColumnType::Utf8,
        (_, true, ..) => ColumnType::Binary,
        (_, _, true, _) => ColumnType::Float64,
        (_, _, _, true) => ColumnType::Int64,
        _ if upper.contains("DATE") || upper.contains("TIME") || upper.is_empty() => ColumnType::Utf8,
        _ => ColumnType::Float64,
    })
}
