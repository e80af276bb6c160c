//! Late interaction equals its reference, to the bit: rows of any number of tokens, hostile
//! components, ties, NULL rows and tokens, selections, chunks, threads and backends.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, LargeListBuilder, ListBuilder, PrimitiveBuilder};
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_buffer::BooleanBuffer;
use proptest::prelude::*;
use vexact_kernel::{Backend, Element, MaxSim, TokenColumn, reference};

type Tokens = Vec<Option<Vec<f64>>>;

#[derive(Debug, Clone)]
struct Case {
    dim: usize,
    rows: Vec<Option<Tokens>>,
    query: Vec<Vec<f64>>,
    selection: Option<Vec<bool>>,
    chunk_rows: usize,
    k: usize,
    threads: usize,
}

fn component() -> impl Strategy<Value = f64> {
    prop_oneof![
        40 => -1.0..1.0,
        20 => prop::sample::select(vec![-1.0, -0.5, 0.0, 0.5, 1.0]),
        1 => prop::sample::select(vec![1e-40, 1e18, 3e38, 1e300, -1e300, 5e-324, -1e15]),
    ]
}

fn stored_component() -> impl Strategy<Value = f64> {
    prop_oneof![400 => component(), 1 => prop::sample::select(vec![f64::NAN, f64::INFINITY])]
}

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![1..20_usize, Just(33), Just(64)].prop_flat_map(|dim| {
        let token = prop_oneof![60 => prop::collection::vec(stored_component(), dim).prop_map(Some), 1 => Just(None)];
        let tokens =
            prop_oneof![12 => prop::collection::vec(token.clone(), 0..8), 1 => prop::collection::vec(token, 60..140)];
        let row = prop_oneof![15 => tokens.prop_map(Some), 1 => Just(None)];
        let rows = prop_oneof![
            prop::collection::vec(row.clone(), 0..60),
            (prop::collection::vec(row, 1..4), prop::collection::vec(any::<prop::sample::Index>(), 0..60))
                .prop_map(|(rows, picks)| picks.iter().map(|pick| pick.get(&rows).clone()).collect()),
        ];
        (
            rows,
            prop::collection::vec(prop::collection::vec(component(), dim), 1..40),
            prop::option::of(prop::collection::vec(any::<bool>(), 60)),
            1..40_usize,
            prop_oneof![1..12_usize, Just(usize::MAX)],
            1..4_usize,
        )
            .prop_map(move |(rows, query, selection, chunk_rows, k, threads)| Case {
                dim,
                selection: selection.map(|bits| bits[..rows.len()].to_vec()),
                rows,
                query,
                chunk_rows,
                k,
                threads,
            })
    })
}

fn array<T: ArrowPrimitiveType>(
    dim: usize,
    rows: &[Option<Tokens>],
    is_large: bool,
    of: fn(f64) -> T::Native,
) -> Arc<dyn Array> {
    macro_rules! build {
        ($lists:expr) => {{
            let mut lists = $lists;
            for row in rows {
                for token in row.iter().flatten() {
                    for i in 0..dim {
                        lists.values().values().append_option(token.as_ref().map(|token| of(token[i])));
                    }
                    lists.values().append(token.is_some());
                }
                lists.append(row.is_some());
            }
            Arc::new(lists.finish()) as Arc<dyn Array>
        }};
    }
    let tokens = FixedSizeListBuilder::new(PrimitiveBuilder::<T>::new(), dim as i32);
    if is_large { build!(LargeListBuilder::new(tokens)) } else { build!(ListBuilder::new(tokens)) }
}

impl Case {
    fn check<T: ArrowPrimitiveType>(&self, is_large: bool, of: fn(f64) -> T::Native) -> Result<(), TestCaseError>
    where
        T::Native: Element,
    {
        let all = array::<T>(self.dim, &self.rows, is_large, of);
        let slices: Vec<Arc<dyn Array>> = (0..self.rows.len())
            .step_by(self.chunk_rows)
            .map(|start| all.slice(start, self.chunk_rows.min(self.rows.len() - start)))
            .collect();
        let chunks: Vec<TokenColumn> = slices.iter().map(|slice| TokenColumn::try_new(slice).unwrap()).collect();
        let query: Vec<&[f64]> = self.query.iter().map(Vec::as_slice).collect();
        let score = |row: &Option<Tokens>| -> Option<f64> {
            let tokens: Vec<Vec<T::Native>> = row
                .as_ref()?
                .iter()
                .map(|token| Some(token.as_ref()?.iter().map(|x| of(*x)).collect()))
                .collect::<Option<_>>()?;
            reference::max_sim(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>(), &query)
        };
        let scores: Vec<Option<f64>> = self.rows.iter().map(score).collect();
        let is_selected = |row: &usize| self.selection.as_ref().is_none_or(|bits| bits[*row]);
        let mut expected: Vec<(u64, f64)> =
            (0..self.rows.len()).filter(is_selected).filter_map(|row| Some((row as u64, scores[row]?))).collect();
        let skipped = (0..self.rows.len()).filter(is_selected).count() - expected.len();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        expected.truncate(self.k);
        for backend in Backend::available() {
            let mut search = MaxSim::new(&self.query).unwrap().top_k(self.k).threads(self.threads).backend(backend);
            if let Some(selection) = &self.selection {
                search = search.selection(&BooleanBuffer::from(selection.clone()));
            }
            let hits = search.run(&chunks).unwrap();
            let got: Vec<(u64, f64)> = hits.rows.iter().copied().zip(hits.scores.iter().copied()).collect();
            prop_assert_eq!(&got, &expected, "{}", backend);
            prop_assert_eq!(hits.skipped_rows, skipped as u64);
        }
        let search = MaxSim::new(&self.query).unwrap();
        let mut row = 0;
        for chunk in &chunks {
            for within in 0..chunk.len() {
                prop_assert_eq!(search.score(chunk, within), scores[row]);
                row += 1;
            }
        }
        Ok(())
    }
}

/// Cases of each property; `VEXACT_PROPERTY_CASES` for a soak.
fn cases() -> u32 {
    std::env::var("VEXACT_PROPERTY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn float32_tokens_equal_the_reference(case in case()) {
        case.check::<Float32Type>(false, |x| x as f32)?;
    }

    #[test]
    fn float64_tokens_equal_the_reference(case in case()) {
        case.check::<Float64Type>(true, |x| x)?;
    }
}

/// Most rows are decided by their bounds.
#[test]
fn bounds_decide_most_rows() {
    let mut state = 7_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
    };
    let mut tokens =
        |count: usize| -> Tokens { (0..count).map(|_| Some((0..32).map(|_| noise()).collect())).collect() };
    let rows: Vec<Option<Tokens>> = (0..3000).map(|i| Some(tokens(1 + i % 9))).collect();
    let query: Vec<Vec<f64>> = tokens(12).into_iter().flatten().collect();
    let all = array::<Float32Type>(32, &rows, false, |x| x as f32);
    let column = TokenColumn::try_new(&all).unwrap();
    let hits = MaxSim::new(&query).unwrap().top_k(10).run(&[column]).unwrap();
    assert_eq!(hits.rows.len(), 10);
    assert!(hits.refined_rows < 100, "{}", hits.refined_rows);
}

#[test]
fn bad_searches_are_refused() {
    let rows = [Some(vec![Some(vec![1.0, 2.0])])];
    let all = array::<Float32Type>(2, &rows, false, |x| x as f32);
    let column = TokenColumn::try_new(&all).unwrap();
    let refused = |search: MaxSim| search.run(std::slice::from_ref(&column)).unwrap_err().to_string();
    let query = MaxSim::new(&[[1.0, 2.0]]).unwrap();
    assert_eq!(refused(query.clone().top_k(0)), "invalid top_k: expected at least 1, got 0");
    assert_eq!(refused(MaxSim::new(&[[1.0; 3]]).unwrap()), "query dimension mismatch: expected 2 components, got 3");
    assert_eq!(
        refused(query.selection(&BooleanBuffer::new_set(2))),
        "selection length mismatch: expected one bit for each of 1 rows, got 2"
    );
    let none: [[f64; 2]; 0] = [];
    assert_eq!(MaxSim::new(&none).unwrap_err().to_string(), "empty query: expected at least one component, got none");
    let ragged = MaxSim::new(&[vec![1.0], vec![1.0, 2.0]]).unwrap_err().to_string();
    assert_eq!(ragged, "query dimension mismatch: expected 1 components, got 2");
    let vectors = arrow_array::FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0)])], 1);
    let message = TokenColumn::try_new(&vectors).unwrap_err().to_string();
    assert!(
        message.starts_with("not a column of token vectors: expected List or LargeList of FixedSizeList"),
        "{message}"
    );
}
