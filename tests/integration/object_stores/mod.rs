//! Files in object stores answer as local ones do, cost few requests, and fail with clear errors.

mod failures;
mod reading;
mod server;
mod writing;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use tokio::runtime::Runtime;
use vexact::session::{Session, SessionOptions};
use vexact::sources::object_stores::StoreOptions;

use server::Server;

/// A secret that no text may have.
const SECRET: &str = "marker-of-a-secret";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Returns a session that reads `s3://bucket` from a server, with these options besides.
fn session_with(server: &Server, options: &[(&str, &str)]) -> Session {
    let mut stores = StoreOptions::default();
    let endpoint = format!("http://{}", server.address);
    let mut given = vec![
        ("access_key_id", "id"),
        ("secret_access_key", SECRET),
        ("session_token", SECRET),
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
    ];
    given.extend(options);
    stores.set("s3://", given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()))).unwrap();
    let options = SessionOptions { target_partitions: Some(2), object_stores: stores, ..SessionOptions::default() };
    Session::with_options(&options).unwrap()
}

fn session(server: &Server) -> Session {
    session_with(server, &[])
}

/// Rows `start..end`: an id, a text with NULLs, and a vector of which every third is the same.
fn rows(start: i64, end: i64, dim: usize) -> RecordBatch {
    let ids = Int64Array::from_iter_values(start..end);
    let texts: StringArray = (start..end).map(|id| (id % 7 != 0).then(|| format!("text {}", id % 5))).collect();
    let component = |id: i64, i: usize| if id % 3 == 0 { 1.0 } else { ((id * 31 + i as i64 * 17) % 101) as f32 };
    let values = Float32Array::from_iter_values((start..end).flat_map(|id| (0..dim).map(move |i| component(id, i))));
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let vectors = FixedSizeListArray::new(item, dim as i32, Arc::new(values), None);
    let columns: [(&str, ArrayRef); 3] = [("id", Arc::new(ids)), ("text", Arc::new(texts)), ("vec", Arc::new(vectors))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// Returns a Parquet file with row groups of 100 rows.
fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(100))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// Stores files under a folder of this machine and a bucket.
fn store(server: &Server, folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        server.put(&format!("bucket/{name}"), bytes.clone());
    }
}

async fn answer(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, vexact::Error> {
    session.sql(sql, None).await?.collect().await
}

async fn text(session: &Session, sql: &str) -> String {
    let batches = answer(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn error(session: &Session, sql: &str) -> String {
    match answer(session, sql).await {
        Ok(rows) => panic!("{sql}: expected an error, got {} batches", rows.len()),
        Err(error) => error.to_string(),
    }
}
