//! Bad searches and columns are refused, with errors that name the thing, the expected value and
//! the given one.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, LargeListBuilder, ListBuilder};
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray, Float32Array, Int64Array, ListArray};
use arrow_buffer::BooleanBuffer;
use vexact_kernel::{Backend, ChunkedColumn, Metric, Search, VectorColumn, to_fixed_size_list};

fn column(rows: &[[f32; 2]]) -> FixedSizeListArray {
    let rows = rows.iter().map(|row| Some(row.iter().copied().map(Some)));
    FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2)
}

/// The message of the error.
fn refused<T: std::fmt::Debug>(result: Result<T, vexact_kernel::KernelError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn floats_and_queries_of_an_array_are_checked() {
    for (floats, dim) in [(3, 2), (2, 0), (1, 3)] {
        let expected = format!(
            "not a whole number of vectors: expected a multiple of {dim} floats, at least 1 for each, got {floats}"
        );
        assert_eq!(refused(VectorColumn::from_floats(&vec![0.0; floats], dim)), expected);
    }
    assert!(VectorColumn::from_floats(&[], 2).unwrap().is_empty());
    let batch = |rows: Vec<Option<Vec<Option<f32>>>>| {
        let queries = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2);
        refused(Search::batch_of(Metric::Cosine, &queries))
    };
    assert_eq!(batch(vec![]), "empty query batch: expected at least one query, got none");
    let whole = Some(vec![Some(1.0), Some(0.0)]);
    let null = "query 1 is NULL or has a NULL: expected a number for each component";
    assert_eq!(batch(vec![whole.clone(), None]), null);
    assert_eq!(batch(vec![whole.clone(), Some(vec![Some(1.0), None])]), null);
    let zero = "zero query under cosine: expected a vector of non-zero length, got all zeros";
    assert_eq!(batch(vec![whole, Some(vec![Some(0.0), Some(0.0)])]), zero);
    let numbers = Int64Array::from(vec![1]);
    assert!(refused(Search::batch_of(Metric::L2, &numbers)).starts_with("not a vector column"));
}

#[test]
fn a_batch_of_an_array_is_that_of_its_rows() {
    let array = column(&[[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]]);
    let floats = [1.0_f32, 2.0, 3.0, 4.0, -1.0, 0.5];
    let (of_array, of_floats) =
        (VectorColumn::try_new(&array).unwrap(), VectorColumn::from_floats(&floats, 2).unwrap());
    let queries = column(&[[9.0, 9.0], [1.0, 1.5], [-2.0, 0.0]]).slice(1, 2);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let expected = Search::batch(metric, &[[1.0_f32, 1.5], [-2.0, 0.0]]).unwrap().top_k(2).run(&of_array).unwrap();
        let got = Search::batch_of(metric, &queries).unwrap().top_k(2).run(&of_floats).unwrap();
        for (expected, got) in expected.rankings.iter().zip(&got.rankings) {
            assert_eq!((&expected.rows, &expected.scores), (&got.rows, &got.scores), "{metric:?}");
        }
        assert_eq!(got.rankings.len(), 2);
    }
}

#[test]
fn bad_requests_name_the_thing_expected_and_got() {
    let array = column(&[[1.0, 2.0], [3.0, 4.0]]);
    let column = VectorColumn::try_new(&array).unwrap();
    let search = |query: &[f32]| Search::new(Metric::L2, query);
    let cases = [
        (refused(search(&[])), "empty query: expected at least one component, got none"),
        (refused(search(&[1.0, f32::NAN])), "query component 1 is not finite: expected a number, got NaN"),
        (
            refused(Search::new(Metric::Cosine, &[0.0_f32; 2])),
            "zero query under cosine: expected a vector of non-zero length, got all zeros",
        ),
        (
            refused(search(&[1.0; 3]).unwrap().top_k(1).run(&column)),
            "query dimension mismatch: expected 2 components, got 3",
        ),
        (refused(search(&[1.0; 2]).unwrap().top_k(0).run(&column)), "invalid top_k: expected at least 1, got 0"),
        (
            refused(search(&[1.0; 2]).unwrap().radius(f64::NAN).run(&column)),
            "invalid radius: expected a number, got NaN",
        ),
        (
            refused(search(&[1.0; 2]).unwrap().run(&column)),
            "unbounded search: expected top_k, a radius or both, got neither",
        ),
        (
            refused(search(&[1.0; 2]).unwrap().top_k(1).selection(&BooleanBuffer::new_set(3)).run(&column)),
            "selection length mismatch: expected one bit for each of 2 rows, got 3",
        ),
        (
            refused(Search::batch::<f32, Vec<f32>>(Metric::L2, &[])),
            "empty query batch: expected at least one query, got none",
        ),
        (
            refused(Search::batch(Metric::L2, &[vec![1.0_f32], vec![1.0, 2.0]])),
            "query dimension mismatch: expected 1 components, got 2",
        ),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
}

#[test]
fn columns_that_hold_no_vectors_are_refused_with_their_type() {
    let empty = FixedSizeListBuilder::new(Float32Builder::new(), 0).finish();
    for (array, name) in [
        (Arc::new(Int64Array::from(vec![1])) as Arc<dyn Array>, "Int64"),
        (Arc::new(Float32Array::from(vec![1.0])), "Float32"),
        (Arc::new(empty), "FixedSizeList(0"),
    ] {
        let message = refused(VectorColumn::try_new(&array));
        assert!(message.starts_with("not a vector column: expected FixedSizeList"), "{message}");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn chunks_of_different_dims_are_refused() {
    let two = column(&[[1.0, 2.0]]);
    let three = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0); 3])], 3);
    let chunks = vec![VectorColumn::try_new(&two).unwrap(), VectorColumn::try_new(&three).unwrap()];
    let message = refused(ChunkedColumn::try_new(chunks));
    assert_eq!(message, "chunk 1 does not match the column: expected float32[2], got float32[3]");
}

#[test]
fn an_empty_column_gives_an_empty_result() {
    let array = column(&[]);
    let hits = Search::new(Metric::Cosine, &[1.0_f32, 0.0])
        .unwrap()
        .top_k(10)
        .run(&VectorColumn::try_new(&array).unwrap())
        .unwrap();
    assert!(hits.rows.is_empty() && hits.scores.is_empty());
    assert_eq!(hits.report.candidate_rows, Some(0));
}

#[test]
fn a_null_component_makes_its_row_incomparable() {
    let rows = [Some(vec![Some(1.0), None]), Some(vec![Some(5.0), Some(5.0)])];
    let array = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2);
    let column = VectorColumn::try_new(&array).unwrap();
    let hits = Search::new(Metric::L2, &[1.0_f32, 0.0]).unwrap().top_k(10).run(&column).unwrap();
    assert_eq!((hits.rows, hits.report.skipped_rows), (vec![1], Some(1)));
}

#[test]
fn lists_of_one_length_become_vectors_with_null_rows_of_any_length() {
    let mut lists = ListBuilder::new(Float32Builder::new());
    let mut large = LargeListBuilder::new(Float32Builder::new());
    for row in [Some([1.0, 2.0]), None, Some([3.0, 4.0])] {
        for value in row.iter().flatten() {
            lists.values().append_value(*value);
            large.values().append_value(*value);
        }
        lists.append(row.is_some());
        large.append(row.is_some());
    }
    for array in [Arc::new(lists.finish()) as Arc<dyn Array>, Arc::new(large.finish())] {
        let array = to_fixed_size_list(&array, None).unwrap();
        let column = VectorColumn::try_new(&array).unwrap();
        let hits = Search::new(Metric::L2, &[3.0_f32, 4.0]).unwrap().top_k(9).run(&column).unwrap();
        assert_eq!((hits.rows, hits.scores), (vec![2, 0], vec![0.0, 8.0_f64.sqrt()]));
    }
}

#[test]
fn lists_of_different_lengths_are_refused_with_the_first_row() {
    let rows = [Some(vec![Some(1.0); 2]), None, Some(vec![Some(1.0); 3]), Some(vec![])];
    let array = ListArray::from_iter_primitive::<Float32Type, _, _>(rows);
    let expected = "vectors of different lengths: row 2 has 3 components, expected 2";
    assert_eq!(refused(to_fixed_size_list(&array, None)), expected);
    let expected = "vectors of different lengths: row 0 has 2 components, expected 3";
    assert_eq!(refused(to_fixed_size_list(&array, Some(3))), expected);
}

#[test]
fn a_backend_that_the_processor_lacks_is_refused() {
    let array = column(&[[1.0, 2.0]]);
    let column = VectorColumn::try_new(&array).unwrap();
    let available = Backend::available();
    assert!(available.contains(&Backend::Portable) && available.contains(&Backend::Simsimd));
    for backend in [Backend::Avx512, Backend::Avx2, Backend::Neon] {
        let result = Search::new(Metric::L2, &[1.0_f32, 2.0]).unwrap().top_k(1).backend(backend).run(&column);
        match available.contains(&backend) {
            true => assert_eq!(result.unwrap().report.backend, backend),
            false => assert!(refused(result).contains("is not available: expected one of")),
        }
    }
}
