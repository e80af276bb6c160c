//! The Rust of the README and of docs/, word for word: python/tests/test_docs.py looks for it here.
//! As doctests, each block would be a program of its own that links DataFusion.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The vectors `[0, 0]`, `[1, 2]`, ..., `[11, 22]`.
fn vectors() -> ArrayRef {
    let components: Vec<f32> = (0..12).flat_map(|i| [i as f32, 2.0 * i as f32]).collect();
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    Arc::new(FixedSizeListArray::new(item, 2, Arc::new(Float32Array::from(components)), None))
}

#[test]
fn the_page_of_rust_searches() -> Result {
    let (array, queries) = (vectors(), vectors().slice(1, 2));
    let floats: Vec<f32> = (0..12).flat_map(|i| [i as f32, 2.0 * i as f32]).collect();

    use vexact_kernel::{Metric, Search, VectorColumn};

    // An Arrow array, borrowed; or floats that follow each other, and the components of each vector.
    let column = VectorColumn::try_new(&array)?;
    let same = VectorColumn::from_floats(&floats, 2)?;
    let hits = Search::new(Metric::Cosine, &[1.0, 2.0])?.top_k(3).run(&same)?;

    // Many queries, as slices or as an array: each row is read once for a block of them.
    let many = Search::batch(Metric::L2, &[[1.0, 2.0], [11.0, 22.0]])?.top_k(3).run(&column)?;
    let of_array = Search::batch_of(Metric::L2, &queries)?.top_k(3).run(&column)?;

    // All rows but the one of zero length point to where the query does.
    assert_eq!((hits.rows.len(), hits.report.skipped_rows), (3, Some(1)));
    assert_eq!(many.rankings[1].rows, [11, 10, 9]);
    assert_eq!(of_array.rankings[0].rows, many.rankings[0].rows);
    Ok(())
}

#[test]
fn the_versions_that_the_documents_name_are_those_of_the_build() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let manifest = text("Cargo.toml");
    for package in ["arrow", "datafusion"] {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{package} = {{ version = "))).unwrap();
        let version = line.split('"').nth(1).unwrap();
        for page in ["README.md", "docs/rust.md"] {
            let expected = format!("{package} = {{ version = \"{version}\"");
            assert!(text(page).contains(&expected), "{page}: expected {expected}");
        }
    }
}

#[tokio::test]
async fn the_readme_searches_in_rust() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("docs.parquet");
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..12));
    let batch = RecordBatch::try_from_iter([("id", ids), ("embedding", vectors())])?;
    let made = vexact::Session::new()?.create_dataframe_from_arrow(batch.schema(), vec![batch])?;
    made.write_parquet(&path).await?;
    let (array, query, queries) = (vectors(), [1.0, 2.0], [[1.0, 2.0], [11.0, 22.0]]);
    let bitmap = BooleanBuffer::collect_bool(12, |row| row % 2 == 1);

    use vexact_kernel::{Metric, Search, VectorColumn}; // the kernel alone: no SQL, no runtime

    let column = VectorColumn::try_new(&array)?; // FixedSizeList<f32 | f16 | f64>, borrowed
    let hits = Search::new(Metric::Cosine, &query)?.top_k(10).selection(&bitmap).run(&column)?;
    println!("{:?} {:?}\n{}", hits.rows, hits.scores, hits.report);
    let many = Search::batch(Metric::L2, &queries)?.top_k(10).run(&column)?;

    let ctx = datafusion::prelude::SessionContext::new(); // in any DataFusion session
    vexact_sql::register(&ctx)?;

    let session = vexact::Session::new()?; // files, Arrow and SQL together
    session.create_temp_view("docs", &session.read_parquet(path).await?)?;
    let nearest = "SELECT id FROM docs ORDER BY l2_distance(embedding, '[1 2]') LIMIT 3";
    let rows = session.sql(nearest, None).await?.collect().await?;

    assert_eq!(hits.rows.len(), 6);
    assert_eq!(many.rankings[1].rows[0], 11);
    assert_eq!(ctx.sql("SELECT l2_norm('[3 4]') AS norm").await?.count().await?, 1);
    assert_eq!(rows[0]["id"].as_primitive::<Int64Type>().values()[..2], [1, 0]);
    Ok(())
}
