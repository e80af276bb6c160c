//! Metadata: catalogs, schemas, tables, columns and keys. An engine has the catalog `main` and a
//! schema without a name, as SQLite's driver; a session has `datafusion` and `public`.

use std::sync::Arc;

use adbc_core::error::{Error, Result, Status};
use adbc_core::options::ObjectDepth;
use adbc_core::schemas::{
    COLUMN_SCHEMA, CONSTRAINT_SCHEMA, GET_OBJECTS_SCHEMA, GET_TABLE_TYPES_SCHEMA, OBJECTS_DB_SCHEMA_SCHEMA,
    TABLE_SCHEMA,
};
use arrow::array::{
    ArrayRef, AsArray, Int16Array, Int32Array, ListArray, RecordBatch, RecordBatchReader, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use vexact::htap::{HtapEngine, Param, Params};

use super::database::{Shared, Source};
use super::reader::in_memory;
use super::running::Cancellation;
use super::sql_text::quoted;
use super::status::error;

/// The user's tables and views of a SQLite file.
const SQLITE_TABLES: &str = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') \
                             AND substr(name, 1, 7) <> 'sqlite_' AND lower(substr(name, 1, 8)) <> '_vexact_' \
                             ORDER BY name";
const KEY: &str = "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk";

/// Returns the names of the catalog and of its schema.
pub fn names(shared: &Shared) -> (&'static str, &'static str) {
    match shared.source {
        Source::Engine(_) => ("main", ""),
        Source::Session(_) => ("datafusion", "public"),
    }
}

/// A request for objects of the catalog. Names are patterns of SQL's LIKE.
pub struct Filter<'a> {
    pub catalog: Option<&'a str>,
    pub db_schema: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub table_type: Option<Vec<&'a str>>,
    pub column_name: Option<&'a str>,
}

fn is_like(name: &str, pattern: Option<&str>) -> bool {
    pattern.is_none_or(|pattern| {
        let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
        matches(&name, &pattern)
    })
}

/// Matches a pattern: `%` is any text, `_` any character.
fn matches(name: &[char], pattern: &[char]) -> bool {
    // Position after the last `%`, and the end of what that `%` matches so far.
    let (mut at, mut part, mut restart) = (0, 0, None);
    while at < name.len() {
        match pattern.get(part) {
            Some('%') => {
                part += 1;
                restart = Some((part, at));
            }
            Some('_') => (at, part) = (at + 1, part + 1),
            Some(c) if *c == name[at] => (at, part) = (at + 1, part + 1),
            _ => match restart {
                Some((after, from)) => {
                    restart = Some((after, from + 1));
                    (at, part) = (from + 1, after);
                }
                None => return false,
            },
        }
    }
    pattern[part..].iter().all(|c| *c == '%')
}

/// A table or view.
#[derive(Clone)]
struct Table {
    name: String,
    kind: &'static str,
    /// Its columns, if they are asked for, and the names of its key's.
    columns: Option<SchemaRef>,
    key: Vec<String>,
}

fn text_columns(batches: &[RecordBatch], columns: usize) -> Vec<Vec<String>> {
    let row = |batch: &RecordBatch, row: usize| {
        let column = |at: usize| batch.column(at).as_string_opt::<i32>().map_or(String::new(), |c| c.value(row).into());
        (0..columns).map(column).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

async fn engine_tables(engine: &HtapEngine) -> vexact::Result<Vec<Table>> {
    let found = text_columns(&engine.query(SQLITE_TABLES, Params::NONE).await?, 2);
    let kind = |kind: &str| if kind == "view" { "VIEW" } else { "TABLE" };
    let mut tables: Vec<Table> = found
        .iter()
        .map(|row| Table { name: row[0].clone(), kind: kind(&row[1]), columns: None, key: Vec::new() })
        .collect();
    // The tables of the engine's session are files and Arrow data.
    for name in engine.session().tables() {
        if !tables.iter().any(|table| table.name.eq_ignore_ascii_case(&name)) {
            tables.push(Table { name, kind: "TABLE", columns: None, key: Vec::new() });
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tables)
}

async fn columns_of(shared: &Shared, name: &str) -> vexact::Result<SchemaRef> {
    let query = format!("SELECT * FROM {} LIMIT 0", quoted(name));
    match &shared.source {
        Source::Session(session) => Ok(session.sql(&query, None).await?.schema()),
        Source::Engine(engine) => {
            let found = engine.query(&query, Params::NONE).await?;
            Ok(found.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema))
        }
    }
}

async fn tables(shared: &Shared) -> vexact::Result<Vec<Table>> {
    match &shared.source {
        Source::Engine(engine) => engine_tables(engine).await,
        Source::Session(session) => {
            let table = |name| Table { name, kind: "TABLE", columns: None, key: Vec::new() };
            Ok(session.tables().into_iter().map(table).collect())
        }
    }
}

/// Returns the hierarchy of catalogs, schemas, tables and columns.
pub fn objects(
    shared: &Arc<Shared>,
    cancellation: &Cancellation,
    depth: ObjectDepth,
    filter: &Filter<'_>,
) -> Result<Box<dyn RecordBatchReader + Send + 'static>> {
    let (catalog, schema) = names(shared);
    let schemas = GET_OBJECTS_SCHEMA.field(1).data_type();
    let has_schema = is_like(schema, filter.db_schema);
    let rows = usize::from(is_like(catalog, filter.catalog));
    let catalogs: ArrayRef = Arc::new(StringArray::from(vec![catalog; rows]));
    let nested: ArrayRef = match depth {
        ObjectDepth::Catalogs => new_null_array(schemas, rows),
        _ => {
            let count = usize::from(rows > 0 && has_schema);
            let tables_type = field_type(&OBJECTS_DB_SCHEMA_SCHEMA, 1)?;
            let tables: ArrayRef = match depth {
                ObjectDepth::Schemas => new_null_array(&tables_type, count),
                _ if count == 0 => new_null_array(&tables_type, 0),
                _ => {
                    let found = found(shared, cancellation, depth, filter)?;
                    Arc::new(list(&tables_type, table_rows(&found, filter)?, [found.len()])?)
                }
            };
            let names: ArrayRef = Arc::new(StringArray::from(vec![schema; count]));
            let schema_rows = StructArray::try_new(fields(&OBJECTS_DB_SCHEMA_SCHEMA)?, vec![names, tables], None)?;
            Arc::new(list(schemas, schema_rows, vec![count; rows])?)
        }
    };
    let batch = RecordBatch::try_new(Arc::clone(&GET_OBJECTS_SCHEMA), vec![catalogs, nested])?;
    Ok(in_memory(&GET_OBJECTS_SCHEMA, vec![batch]))
}

/// Reads the tables of a filter, with their columns at the depth that has them.
fn found(
    shared: &Arc<Shared>,
    cancellation: &Cancellation,
    depth: ObjectDepth,
    filter: &Filter<'_>,
) -> Result<Vec<Table>> {
    let has_columns = matches!(depth, ObjectDepth::All | ObjectDepth::Columns);
    let (pattern, kinds) = (filter.table_name.map(str::to_owned), filter.table_type.as_ref());
    let kinds = kinds.map(|kinds| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>());
    let own = Arc::clone(shared);
    let read = async move {
        let mut tables = tables(&own).await?;
        let is_kind = |table: &Table| kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == table.kind));
        tables.retain(|table| is_like(&table.name, pattern.as_deref()) && is_kind(table));
        for table in tables.iter_mut().filter(|_| has_columns) {
            table.columns = Some(columns_of(&own, &table.name).await?);
            if let Source::Engine(engine) = &own.source {
                let of_table = Params::from(vec![Param::Text(table.name.clone())]);
                let key = text_columns(&engine.query(KEY, of_table).await?, 1);
                table.key = key.into_iter().flatten().collect();
            }
        }
        Ok(tables)
    };
    shared.threads.run(cancellation, None, read)
}

fn table_rows(tables: &[Table], filter: &Filter<'_>) -> Result<StructArray> {
    let (columns_type, keys_type) = (field_type(&TABLE_SCHEMA, 2)?, field_type(&TABLE_SCHEMA, 3)?);
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(tables.iter().map(|table| &table.name)));
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(tables.iter().map(|table| table.kind)));
    let has_columns = tables.iter().all(|table| table.columns.is_some());
    let (columns, keys): (ArrayRef, ArrayRef) = match has_columns {
        true => {
            let (rows, lengths) = column_rows(tables, filter)?;
            let (constraints, counts) = key_rows(tables)?;
            (Arc::new(list(&columns_type, rows, lengths)?), Arc::new(list(&keys_type, constraints, counts)?))
        }
        false => (new_null_array(&columns_type, tables.len()), new_null_array(&keys_type, tables.len())),
    };
    Ok(StructArray::try_new(fields(&TABLE_SCHEMA)?, vec![names, kinds, columns, keys], None)?)
}

fn column_rows(tables: &[Table], filter: &Filter<'_>) -> Result<(StructArray, Vec<usize>)> {
    let (mut names, mut ordinals, mut types, mut nullable, mut lengths) = (vec![], vec![], vec![], vec![], vec![]);
    for table in tables {
        let before = names.len();
        for (at, field) in table.columns.iter().flat_map(|schema| schema.fields().iter().enumerate()) {
            if is_like(field.name(), filter.column_name) {
                names.push(field.name().clone());
                ordinals.push(at as i32 + 1);
                types.push(field.data_type().to_string());
                nullable.push(field.is_nullable());
            }
        }
        lengths.push(names.len() - before);
    }
    let rows = names.len();
    let arrays = fields(&COLUMN_SCHEMA)?
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "column_name" => Arc::new(StringArray::from(names.clone())),
                "ordinal_position" => Arc::new(Int32Array::from(ordinals.clone())),
                "xdbc_type_name" => Arc::new(StringArray::from(types.clone())),
                "xdbc_nullable" => Arc::new(Int16Array::from_iter_values(nullable.iter().map(|is| i16::from(*is)))),
                "xdbc_is_nullable" => {
                    Arc::new(StringArray::from_iter_values(nullable.iter().map(|is| if *is { "YES" } else { "NO" })))
                }
                _ => new_null_array(field.data_type(), rows),
            }
        })
        .collect();
    Ok((StructArray::try_new(fields(&COLUMN_SCHEMA)?, arrays, None)?, lengths))
}

/// Returns the primary keys, and their number of each table.
fn key_rows(tables: &[Table]) -> Result<(StructArray, Vec<usize>)> {
    let keys: Vec<&Vec<String>> = tables.iter().map(|table| &table.key).filter(|key| !key.is_empty()).collect();
    let columns: Vec<&str> = keys.iter().flat_map(|key| key.iter()).map(String::as_str).collect();
    let columns: ArrayRef = Arc::new(StringArray::from(columns));
    let names_type = field_type(&CONSTRAINT_SCHEMA, 2)?;
    let of_keys = list_of_array(&names_type, columns, keys.iter().map(|key| key.len()))?;
    let arrays: Vec<ArrayRef> = vec![
        new_null_array(&DataType::Utf8, keys.len()),
        Arc::new(StringArray::from(vec!["PRIMARY KEY"; keys.len()])),
        Arc::new(of_keys),
        new_null_array(&field_type(&CONSTRAINT_SCHEMA, 3)?, keys.len()),
    ];
    let counts = tables.iter().map(|table| usize::from(!table.key.is_empty())).collect();
    Ok((StructArray::try_new(fields(&CONSTRAINT_SCHEMA)?, arrays, None)?, counts))
}

fn unexpected(data_type: &DataType) -> Error {
    error(Status::Internal, format!("the schema of metadata has an unexpected type {data_type}"))
}

fn fields(data_type: &DataType) -> Result<Fields> {
    match data_type {
        DataType::Struct(fields) => Ok(fields.clone()),
        other => Err(unexpected(other)),
    }
}

fn field_type(data_type: &DataType, at: usize) -> Result<DataType> {
    fields(data_type)?.get(at).map(|field| field.data_type().clone()).ok_or_else(|| unexpected(data_type))
}

fn list(data_type: &DataType, rows: StructArray, lengths: impl IntoIterator<Item = usize>) -> Result<ListArray> {
    list_of_array(data_type, Arc::new(rows), lengths)
}

fn list_of_array(data_type: &DataType, rows: ArrayRef, lengths: impl IntoIterator<Item = usize>) -> Result<ListArray> {
    let DataType::List(item) = data_type else { return Err(unexpected(data_type)) };
    Ok(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), rows, None)?)
}

/// Returns the columns of a table.
pub fn table_schema(
    shared: &Arc<Shared>,
    cancellation: &Cancellation,
    catalog: Option<&str>,
    db_schema: Option<&str>,
    name: &str,
) -> Result<Schema> {
    let (own_catalog, own_schema) = names(shared);
    let is_own =
        catalog.is_none_or(|catalog| catalog == own_catalog) && db_schema.is_none_or(|schema| schema == own_schema);
    let own = Arc::clone(shared);
    let wanted = name.to_owned();
    let found = async move {
        let is_there = is_own && tables(&own).await?.iter().any(|table| table.name == wanted);
        if is_there { columns_of(&own, &wanted).await.map(Some) } else { Ok(None) }
    };
    match shared.threads.run(cancellation, None, found)? {
        Some(schema) => Ok(schema.as_ref().clone()),
        None => Err(error(Status::NotFound, format!("table {name:?} not found"))),
    }
}

/// Returns the kinds of tables.
pub fn table_types() -> Result<Box<dyn RecordBatchReader + Send + 'static>> {
    let kinds: ArrayRef = Arc::new(StringArray::from(vec!["TABLE", "VIEW"]));
    let batch = RecordBatch::try_new(Arc::clone(&GET_TABLE_TYPES_SCHEMA), vec![kinds])?;
    Ok(in_memory(&GET_TABLE_TYPES_SCHEMA, vec![batch]))
}
