//! Runs `tests/sql/*.slt`: SQL and its expected answers. Every file has a session of its own with
//! the same small table of documents in four forms: `docs` (Arrow chunks), `docs_mem` (DataFusion's
//! MemTable), `docs_parquet` and `docs_list` (`List<Float32>`); and vectors of bytes, `bytes`
//! (Arrow chunks) and `bytes_mem`.
//!
//! With `VEXACT_COMPLETE=1` the answers are written into the files; read them before you trust
//! them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int8Array, Int64Array, ListArray,
    RecordBatch, StringArray, UInt8Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use sqllogictest::{DBOutput, DefaultColumnType, Runner};
use vexact_sql::chunks::ChunkTable;
use vexact_sql::dialect::parse_statement;

struct Db(SessionContext);

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Db {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let state = self.0.state();
        let statement = parse_statement(sql, &state.config_options().sql_parser)?;
        let frame = self.0.execute_logical_plan(state.statement_to_plan(statement).await?).await?;
        let schema = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = schema.fields().iter().map(|field| match field.data_type() {
            data_type if data_type.is_integer() => DefaultColumnType::Integer,
            data_type if data_type.is_floating() => DefaultColumnType::FloatingPoint,
            _ => DefaultColumnType::Text,
        });
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns: Vec<ArrayFormatter> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<_, _>>()?;
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
        }
        Ok(DBOutput::Rows { types: types.collect(), rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "vexact"
    }
}

/// id, lang, title, embedding: 8 documents in two dimensions, one without a vector, one zero
/// vector, two that tie.
fn documents() -> (Vec<ArrayRef>, Vec<Option<[f32; 2]>>) {
    let vectors = [
        Some([1.0, 0.0]),
        Some([0.0, 1.0]),
        None,
        Some([0.6, 0.8]),
        Some([0.0, 0.0]),
        Some([3.0, 4.0]),
        Some([-1.0, 0.0]),
        Some([0.8, 0.6]),
    ];
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=8));
    let langs = ["en", "en", "de", "de", "en", "en", "de", "en"];
    let titles = ["east", "north", "nowhere", "north-east", "origin", "far north-east", "west", "east-north"];
    (
        vec![ids, Arc::new(StringArray::from_iter_values(langs)), Arc::new(StringArray::from_iter_values(titles))],
        vectors.to_vec(),
    )
}

fn batch(embedding: ArrayRef) -> RecordBatch {
    let (mut columns, _) = documents();
    columns.push(embedding);
    let names = ["id", "lang", "title", "embedding"];
    let fields: Vec<Field> =
        names.iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn embeddings() -> ArrayRef {
    let (_, vectors) = documents();
    let values = Float32Array::from_iter_values(vectors.iter().flat_map(|vector| vector.unwrap_or_default()));
    let nulls = NullBuffer::from_iter(vectors.iter().map(Option::is_some));
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    Arc::new(FixedSizeListArray::new(item, 2, Arc::new(values), Some(nulls)))
}

fn list_embeddings() -> ArrayRef {
    let (_, vectors) = documents();
    let values = Float32Array::from_iter_values(vectors.iter().flatten().flatten().copied());
    let nulls = NullBuffer::from_iter(vectors.iter().map(Option::is_some));
    let offsets = OffsetBuffer::from_lengths(vectors.iter().map(|vector| vector.map_or(0, |_| 2)));
    Arc::new(ListArray::new(
        Arc::new(Field::new_list_field(DataType::Float32, true)),
        offsets,
        Arc::new(values),
        Some(nulls),
    ))
}

/// id, small (three int8), byte (the same bytes as uint8), bit (16 bits): 6 rows, one without
/// vectors, one zero, two that tie.
fn bytes_batch() -> RecordBatch {
    let rows: [Option<[i8; 3]>; 6] =
        [Some([1, 2, 3]), Some([-128, 127, 0]), None, Some([0, 0, 0]), Some([1, 2, 3]), Some([127, 127, 127])];
    let bits: [Option<[u8; 2]>; 6] = [Some([15, 0]), Some([255, 1]), None, Some([0, 0]), Some([15, 0]), Some([3, 128])];
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let numbers = || rows.iter().flat_map(|row| row.unwrap_or_default());
    let list = |values: ArrayRef| -> ArrayRef {
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(item, 3, values, Some(nulls.clone())))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(1..=6))),
        ("small", list(Arc::new(Int8Array::from_iter_values(numbers())))),
        ("byte", list(Arc::new(UInt8Array::from_iter_values(numbers().map(|x| x as u8))))),
        ("bit", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bits.into_iter(), 2).unwrap())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// Returns the documents with vectors of a fixed size.
pub fn documents_batch() -> RecordBatch {
    batch(embeddings())
}

/// Returns the documents with vectors as lists.
pub fn listed_batch() -> RecordBatch {
    batch(list_embeddings())
}

async fn session(folder: &Path) -> Result<Db, DataFusionError> {
    let config = SessionConfig::new().with_target_partitions(2).with_information_schema(true);
    let ctx = SessionContext::new_with_config(config);
    vexact_sql::register(&ctx)?;
    let docs = documents_batch();
    let chunks = vec![docs.slice(0, 3), docs.slice(3, 5)];
    ctx.register_table("docs", Arc::new(ChunkTable::try_new(docs.schema(), chunks)?))?;
    ctx.register_table("docs_mem", Arc::new(MemTable::try_new(docs.schema(), vec![vec![docs.clone()]])?))?;
    let bytes = bytes_batch();
    let chunks = vec![bytes.slice(0, 2), bytes.slice(2, 4)];
    ctx.register_table("bytes", Arc::new(ChunkTable::try_new(bytes.schema(), chunks)?))?;
    ctx.register_table("bytes_mem", Arc::new(MemTable::try_new(bytes.schema(), vec![vec![bytes]])?))?;
    let listed = listed_batch();
    ctx.register_table("docs_list", Arc::new(ChunkTable::try_new(listed.schema(), vec![listed])?))?;
    let path = folder.join("docs.parquet");
    if !path.exists() {
        let frame = ctx.read_batch(docs)?;
        frame.write_parquet(path.to_str().unwrap(), Default::default(), None).await?;
    }
    ctx.register_parquet("docs_parquet", path.to_str().unwrap(), ParquetReadOptions::default()).await?;
    Ok(Db(ctx))
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_files_answer_as_they_say() {
    let is_completing = std::env::var_os("VEXACT_COMPLETE").is_some();
    let folder = tempfile::tempdir().unwrap();
    // Cargo runs tests in the package's folder.
    let mut files: Vec<_> = std::fs::read_dir("tests/sql")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no SQL files");
    let mut failures = Vec::new();
    for file in &files {
        let mut runner = Runner::new(|| session(folder.path()));
        let result = if is_completing {
            let validator = sqllogictest::default_validator;
            let normalizer = sqllogictest::default_normalizer;
            let columns = sqllogictest::strict_column_validator;
            runner.update_test_file(file, " ", validator, normalizer, columns).await.map_err(|error| error.to_string())
        } else {
            runner.run_file_async(file).await.map_err(|error| error.display(false).to_string())
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if let Err(error) = result {
            failures.push(format!("{name}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
