//! Finds the types of a query's expressions when SQLite answers: those that DataFusion would give
//! them.
//!
//! A column that is not registered has its declared type, see [`declared`]. An expression that
//! depends on a column without one (NUMERIC, DATE, no declaration) has a type only if that is the
//! same for all contents of the column; the same holds for a query that DataFusion cannot plan.
//! Otherwise the values decide: only integers give int64, reals among them float64, text utf8,
//! BLOBs binary; of only NULLs, or no rows, the type is Null.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{ColumnType, declared};
use vexact_router as router;
use vexact_router::{OlapTable, Owner, ParsedQuery, TableLookup};

use super::names::EngineNames;
use super::query::ResolvedQuery;

/// Types that are tried in order for a column without a declared type.
const GUESSES: [DataType; 3] = [DataType::Int64, DataType::Float64, DataType::Utf8];

/// The tables of both sides as if all were replicated.
struct Declared<'e> {
    names: &'e EngineNames<'e>,
    /// Type of columns without a declared one.
    guess: DataType,
}

impl Declared<'_> {
    fn schema(&self, table: &str) -> Option<SchemaRef> {
        let columns = self.names.sqlite.columns(table)?;
        let field = |(name, declaration): &(String, String)| {
            let data_type = declared(Some(declaration)).map_or(self.guess.clone(), |known| known.arrow());
            Field::new(name, data_type, true)
        };
        Some(Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())))
    }
}

impl TableLookup for Declared<'_> {
    fn in_sqlite(&self, table: &str) -> bool {
        self.names.in_sqlite(table)
    }

    fn olap(&self, table: &str) -> Option<OlapTable> {
        self.names.olap(table).or_else(|| {
            let name = table.to_ascii_lowercase();
            Some(OlapTable { schema: self.schema(&name)?, name, owner: Owner::Replica, row_id: None })
        })
    }
}

/// Returns the types of a query's columns, by position. The values decide if one is `None` or
/// missing.
pub(super) async fn expression_types(query: &ResolvedQuery<'_>) -> Vec<Option<ColumnType>> {
    let names = &query.names;
    let is_unknown = |(_, declaration): &(String, String)| declared(Some(declaration)).is_none();
    let of_sqlite = names.sqlite.tables().filter(|table| !table.starts_with("_vexact_") && names.olap(table).is_none());
    let is_guessed = of_sqlite.filter_map(|table| names.sqlite.columns(table)).flatten().any(is_unknown);
    // By column: how many plans there are, and the type that they agree on.
    let mut known: Vec<(usize, Option<ColumnType>)> = Vec::new();
    for guess in &GUESSES[..if is_guessed { GUESSES.len() } else { 1 }] {
        let types = planned(&Declared { names, guess: guess.clone() }, &query.parsed).await;
        known.resize(known.len().max(types.len()), (0, None));
        for ((plans, agreed), column_type) in known.iter_mut().zip(types) {
            let Some(column_type) = column_type else { continue };
            *agreed = if *plans == 0 { column_type } else { agreed.filter(|agreed| Some(*agreed) == column_type) };
            *plans += 1;
        }
    }
    // One plan alone rests on what it took a column for.
    known.into_iter().map(|(plans, agreed)| agreed.filter(|_| plans > 1 || !is_guessed)).collect()
}

/// The types of a query's columns, as DataFusion plans them: `None` in the place of one that it
/// cannot plan.
async fn planned(declared: &Declared<'_>, query: &ParsedQuery) -> Vec<Option<Option<ColumnType>>> {
    let Ok(statement) = router::read_only(query) else { return Vec::new() };
    let unlimited = router::without_limits(statement.clone());
    // A limit may also be what bounds a subquery to one row.
    for statement in [statement, &unlimited] {
        if let Some(types) = types_of_statement(declared, statement.clone()).await {
            return types.into_iter().map(Some).collect();
        }
    }
    // A function in one column that DataFusion lacks does not affect the types of the others.
    let mut types = Vec::new();
    for (at, alone) in router::column_by_column(&unlimited).into_iter().enumerate() {
        let planned = match alone {
            Some(alone) => types_of_statement(declared, alone).await,
            None => None,
        };
        types.push(planned.and_then(|types| types.get(at).copied()));
    }
    types
}

async fn types_of_statement(declared: &Declared<'_>, statement: Statement) -> Option<Vec<Option<ColumnType>>> {
    let statement = router::for_olap(statement, declared).ok()?;
    let all = declared.names.sqlite.tables();
    let own = all.filter(|table| declared.names.olap(table).is_none());
    let tables: HashMap<String, SchemaRef> =
        own.filter_map(|table| Some((table.to_owned(), declared.schema(table)?))).collect();
    let schema = declared.names.session.columns_of(statement, tables).await.ok()?;
    Some(types_of(&schema))
}

/// Returns the types of columns; `None` for types that SQLite lacks.
pub(super) fn types_of(schema: &Schema) -> Vec<Option<ColumnType>> {
    schema.fields().iter().map(|field| ColumnType::of_arrow(&plain(field.data_type()))).collect()
}

/// Returns the one type of text and of binary in results, for all of DataFusion's representations.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other.clone(),
    }
}

/// Casts text and binary columns of batches to that type.
///
/// # Errors
/// More than 2 GiB of text or binary in a batch.
pub(super) fn plained(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let is_plain = |field: &Arc<Field>| plain(field.data_type()) == *field.data_type();
    let Some(first) = batches.first().filter(|batch| !batch.schema().fields().iter().all(is_plain)) else {
        return Ok(batches);
    };
    let fields = first
        .schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(plain(field.data_type())))
        .collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(fields));
    let plained = |batch: &RecordBatch| {
        let columns = batch.columns().iter().map(|column| cast(column, &plain(column.data_type())));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect::<Result<_, _>>()?, &options)
    };
    batches.iter().map(|batch| plained(batch).map_err(Error::arrow)).collect()
}
