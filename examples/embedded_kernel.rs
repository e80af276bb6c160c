//! The kernel in a Rust program: no SQL, no session, just Arrow arrays. Answers the example queries
//! over the example data and checks them against the known answers.
//!
//! `cargo run --release --example embedded_kernel`

use std::fs::File;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vexact_kernel::{ChunkedColumn, Metric, Search, VectorColumn};

/// The batches of a Parquet file of the example data.
fn read(name: &str) -> Result<Vec<RecordBatch>, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let docs = read("wordnet-sample-4k-minilm-384.parquet")?;
    let queries = read("wordnet-queries-minilm-384.parquet")?;

    // A column of several arrays, borrowed: nothing is copied.
    let chunks = docs.iter().map(|batch| VectorColumn::try_new(&batch["embedding"])).collect::<Result<_, _>>()?;
    let column = ChunkedColumn::try_new(chunks)?;
    let id = |position: u64| {
        let (chunk, row) = column.locate(position);
        docs[chunk]["id"].as_primitive::<Int64Type>().value(row)
    };
    let word = |position: u64| {
        let (chunk, row) = column.locate(position);
        docs[chunk]["word"].as_string::<i32>().value(row).to_owned()
    };

    let mut checked = 0;
    for batch in &queries {
        let embeddings = batch["embedding"].as_fixed_size_list();
        for row in 0..batch.num_rows() {
            let query = embeddings.value(row);
            let hits =
                Search::new(Metric::Cosine, query.as_primitive::<Float32Type>().values())?.top_k(10).run(&column)?;

            let expected = batch["sample_top10"].as_list::<i32>().value(row);
            let found: Vec<i64> = hits.rows.iter().map(|position| id(*position)).collect();
            assert_eq!(found, expected.as_primitive::<Int64Type>().values().as_ref(), "query {row}");
            let distances = batch["sample_top10_cosine"].as_list::<i32>().value(row);
            for (score, distance) in hits.scores.iter().zip(distances.as_primitive::<Float64Type>().values()) {
                assert!((score - distance).abs() < 1e-12, "query {row}: {score} against {distance}");
            }
            checked += 1;
            if row < 3 {
                println!("{:?}", batch["text"].as_string::<i32>().value(row));
                for (position, score) in hits.rows.iter().zip(&hits.scores).take(3) {
                    println!("  {score:.4}  {}", word(*position));
                }
            }
            if row == 0 {
                println!("{}\n", hits.report);
            }
        }
    }
    println!("{checked} queries answered as they should be");
    Ok(())
}
