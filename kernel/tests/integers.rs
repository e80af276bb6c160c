//! The law of the crate for vectors of bytes: whole numbers and bits. Every path returns the
//! reference's rows, order and scores, to the bit, whether the query is of whole numbers or not.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeBinaryArray, FixedSizeListArray, Int8Array, UInt8Array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_schema::Field;
use proptest::prelude::*;
use vexact_kernel::{
    Backend, ChunkedColumn, Element, KernelError, Metric, Ranking, Search, Tier, VectorColumn, reference,
    to_fixed_size_list,
};

const NUMBERS: [Metric; 5] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2Squared, Metric::L1];
const BITS: [Metric; 2] = [Metric::Hamming, Metric::Jaccard];

/// The vectors of a column, as bytes; how they are read is decided by the property.
#[derive(Debug, Clone)]
struct Case {
    /// Bytes of a row.
    width: usize,
    rows: Vec<Option<Vec<u8>>>,
    queries: Vec<Vec<u8>>,
    /// Added to every component of the queries: with a fraction, they are no whole numbers.
    shift: f64,
    selection: Option<Vec<bool>>,
    /// Rows of each chunk but the last.
    chunk_rows: usize,
    k: usize,
    radius: Option<f64>,
    threads: usize,
    tier: Tier,
}

/// Bytes: any, of few distinct values so that distances tie, and the extremes of both signs.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => any::<u8>(), 3 => 0..3_u8, 2 => prop::sample::select(vec![0, 127, 128, 255])]
}

fn vectors(width: usize) -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let row = prop_oneof![
        20 => prop::collection::vec(byte(), width).prop_map(Some),
        2 => prop::sample::select(vec![0, 128, 255]).prop_map(move |byte| Some(vec![byte; width])),
        1 => Just(None),
    ];
    prop_oneof![
        prop::collection::vec(row.clone(), 0..300),
        (prop::collection::vec(row, 1..6), prop::collection::vec(any::<prop::sample::Index>(), 0..300))
            .prop_map(|(rows, picks)| picks.iter().map(|pick| pick.get(&rows).clone()).collect()),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![1..70_usize, Just(96), Just(129)].prop_flat_map(|width| {
        (
            vectors(width),
            prop::collection::vec(prop::collection::vec(byte(), width), 1..12),
            prop::sample::select(vec![0.0, 0.0, 0.0, 0.25, 200.0]),
            prop::option::of(prop::collection::vec(any::<bool>(), 300)),
            (1..120_usize, prop_oneof![1..20_usize, Just(usize::MAX)]),
            prop::option::weighted(0.2, 0.0..300.0),
            1..4_usize,
            prop::sample::select(vec![Tier::Auto, Tier::Auto, Tier::F32]),
        )
            .prop_map(move |(rows, queries, shift, selection, (chunk_rows, k), radius, threads, tier)| Case {
                width,
                selection: selection.map(|bits| bits[..rows.len()].to_vec()),
                rows,
                queries,
                shift,
                chunk_rows,
                k,
                radius,
                threads,
                tier,
            })
    })
}

/// A column type whose rows are bytes.
trait Stored {
    type Element: Element;
    fn elements(row: &[u8]) -> Vec<Self::Element>;
    fn array(width: usize, rows: &[Option<Vec<u8>>]) -> Arc<dyn Array>;
}

fn flat(width: usize, rows: &[Option<Vec<u8>>]) -> (Vec<u8>, NullBuffer) {
    let bytes = rows.iter().flat_map(|row| row.clone().unwrap_or_else(|| vec![7; width])).collect();
    (bytes, NullBuffer::from_iter(rows.iter().map(Option::is_some)))
}

fn list(width: usize, values: Arc<dyn Array>, nulls: NullBuffer) -> Arc<dyn Array> {
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Arc::new(FixedSizeListArray::new(item, width as i32, values, Some(nulls)))
}

struct Signed;

impl Stored for Signed {
    type Element = i8;
    fn elements(row: &[u8]) -> Vec<i8> {
        row.iter().map(|x| *x as i8).collect()
    }
    fn array(width: usize, rows: &[Option<Vec<u8>>]) -> Arc<dyn Array> {
        let (bytes, nulls) = flat(width, rows);
        list(width, Arc::new(bytes.iter().map(|x| Some(*x as i8)).collect::<Int8Array>()), nulls)
    }
}

struct Unsigned;

impl Stored for Unsigned {
    type Element = u8;
    fn elements(row: &[u8]) -> Vec<u8> {
        row.to_vec()
    }
    fn array(width: usize, rows: &[Option<Vec<u8>>]) -> Arc<dyn Array> {
        let (bytes, nulls) = flat(width, rows);
        list(width, Arc::new(UInt8Array::from(bytes)), nulls)
    }
}

struct Bits;

impl Stored for Bits {
    type Element = bool;
    fn elements(row: &[u8]) -> Vec<bool> {
        reference::bits(row)
    }
    fn array(width: usize, rows: &[Option<Vec<u8>>]) -> Arc<dyn Array> {
        let (bytes, nulls) = flat(width, rows);
        Arc::new(FixedSizeBinaryArray::new(width as i32, Buffer::from(bytes), Some(nulls)))
    }
}

fn pairs(ranking: &Ranking) -> Vec<(u64, f64)> {
    ranking.rows.iter().copied().zip(ranking.scores.iter().copied()).collect()
}

impl Case {
    fn check<S: Stored>(&self, metric: Metric) -> Result<(), TestCaseError> {
        // A slice of a larger array, so that offsets are not zero.
        let padded: Vec<_> = [None, Some(vec![9; self.width])].into_iter().chain(self.rows.clone()).collect();
        let array = S::array(self.width, &padded).slice(2, self.rows.len());
        let chunks: Vec<Arc<dyn Array>> = (0..self.rows.len())
            .step_by(self.chunk_rows)
            .map(|start| array.slice(start, self.chunk_rows.min(self.rows.len() - start)))
            .collect();
        let columns = chunks.iter().map(|chunk| VectorColumn::try_new(chunk)).collect::<Result<_, _>>().unwrap();
        let column = ChunkedColumn::try_new(columns).unwrap();
        let rows: Vec<Option<Vec<S::Element>>> = self.rows.iter().map(|row| Some(S::elements(row.as_ref()?))).collect();
        let is_selected = |i: usize| self.selection.as_ref().is_none_or(|bits| bits[i]);
        let selected: Vec<Option<&[S::Element]>> =
            rows.iter().enumerate().map(|(i, row)| row.as_deref().filter(|_| is_selected(i))).collect();
        let selection = self.selection.as_ref().map(|bits| BooleanBuffer::from(bits.clone()));
        let shift = if metric.is_of_bits() { 0.0 } else { self.shift };
        let query = |query: &Vec<u8>| S::elements(query).iter().map(|x| x.to_f64() + shift).collect::<Vec<f64>>();
        let queries: Vec<Vec<f64>> =
            self.queries.iter().map(query).filter(|query| Search::new(metric, query).is_ok()).collect();
        let is_within = |score: f64| match self.radius {
            None => true,
            Some(radius) if metric.is_larger_closer() => score >= radius,
            Some(radius) => score <= radius,
        };
        let expected: Vec<Vec<(u64, f64)>> = queries
            .iter()
            .map(|query| {
                let mut all = reference::search(metric, &selected, query, usize::MAX);
                all.retain(|(_, score)| is_within(*score));
                all.truncate(self.k);
                all
            })
            .collect();
        for backend in Backend::available() {
            for (query, expected) in queries.iter().zip(&expected) {
                let search = Search::new(metric, query).unwrap();
                let hits = self.with(search, backend, selection.as_ref()).run(&column).unwrap();
                let got = pairs(&Ranking { rows: hits.rows, scores: hits.scores });
                prop_assert_eq!(&got, expected, "{} {}", metric, backend);
                if let Some((_, inner)) = expected.get(expected.len() / 2).copied() {
                    let is_beyond =
                        |score: f64| if metric.is_larger_closer() { score <= inner } else { score >= inner };
                    let mut all = reference::search(metric, &selected, query, usize::MAX);
                    all.retain(|(_, score)| is_within(*score) && is_beyond(*score));
                    let search = Search::new(metric, query).unwrap().inner_radius(inner);
                    let search = self.with(search, backend, selection.as_ref());
                    let hits = search.run(&column).unwrap();
                    let got = pairs(&Ranking { rows: hits.rows, scores: hits.scores });
                    prop_assert_eq!(&got, &all[..all.len().min(self.k)], "{} {} inner radius", metric, backend);
                    let groups: Vec<u32> = (0..rows.len() as u32).map(|i| i % 3).collect();
                    let of_group = |group: u32| all.iter().filter(move |(row, _)| row % 3 == u64::from(group));
                    let grouped: Vec<_> = (0..3).flat_map(|group| of_group(group).take(self.k)).copied().collect();
                    let hits = search.run_groups(&column, &groups, false).unwrap();
                    let got: Vec<_> = hits.rows.iter().map(|row| (row.row, row.score)).collect();
                    prop_assert_eq!(&got, &grouped, "{} {} groups", metric, backend);
                }
                let comparable = selected.iter().flatten().filter(|row| reference::score(metric, row, query).is_some());
                let candidates = (0..rows.len()).filter(|i| is_selected(*i)).count();
                if self.radius.is_none() {
                    prop_assert_eq!(hits.report.skipped_rows, Some((candidates - comparable.count()) as u64));
                }
            }
            if !queries.is_empty() {
                let search = Search::batch(metric, &queries).unwrap();
                let hits = self.with(search, backend, selection.as_ref()).run(&column).unwrap();
                let got: Vec<_> = hits.rankings.iter().map(pairs).collect();
                prop_assert_eq!(&got, &expected, "{} {} batch", metric, backend);
            }
        }
        for query in queries.iter().take(2) {
            let hits = Search::new(metric, query).unwrap().sql_distances().top_k(usize::MAX).run(&column).unwrap();
            let distances: Vec<Option<f64>> =
                rows.iter().map(|row| reference::distance(metric, row.as_ref()?, query)).collect();
            let nulls: Vec<u64> = (0..).zip(&distances).filter(|(_, d)| d.is_none()).map(|(i, _)| i).collect();
            prop_assert_eq!(&hits.null_rows, &nulls);
            for (row, score) in hits.rows.iter().zip(&hits.scores) {
                prop_assert_eq!(Some(*score), distances[*row as usize]);
                prop_assert_eq!(column.distance(metric, *row, query), Some(*score));
            }
        }
        Ok(())
    }

    fn with<Q>(&self, search: Search<Q>, backend: Backend, selection: Option<&BooleanBuffer>) -> Search<Q> {
        let mut search = search.top_k(self.k).threads(self.threads).backend(backend).tier(self.tier);
        if let Some(radius) = self.radius {
            search = search.radius(radius);
        }
        if let Some(selection) = selection {
            search = search.selection(selection);
        }
        search
    }
}

/// Cases of each property; `VEXACT_PROPERTY_CASES` for a soak.
fn cases() -> u32 {
    std::env::var("VEXACT_PROPERTY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn int8_equals_the_reference(case in case(), metric in prop::sample::select(&NUMBERS[..])) {
        case.check::<Signed>(metric)?;
    }

    #[test]
    fn uint8_equals_the_reference(case in case(), metric in prop::sample::select(&NUMBERS[..])) {
        case.check::<Unsigned>(metric)?;
    }

    #[test]
    fn bits_equal_the_reference(case in case(), metric in prop::sample::select(&BITS[..])) {
        case.check::<Bits>(metric)?;
    }

    #[test]
    fn distances_of_bits_are_those_of_their_components(
        (row, query) in (1..40_usize).prop_flat_map(|n| (prop::collection::vec(byte(), n), prop::collection::vec(byte(), n))),
    ) {
        let components: Vec<f64> = reference::bits(&query).iter().map(|bit| bit.to_f64()).collect();
        for metric in BITS {
            let expected = reference::distance(metric, &reference::bits(&row), &components);
            prop_assert_eq!(reference::distance_of_bits(metric, &row, &query), expected);
            prop_assert_eq!(&reference::packed(&components), &query);
        }
    }
}

/// Enough rows that several threads share the work, with ties at every rank.
#[test]
fn threads_do_not_change_the_result_where_most_rows_tie() {
    let rows: Vec<Option<Vec<u8>>> =
        (0..200_000_u32).map(|i| Some((i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()[..2].to_vec())).collect();
    let array = Bits::array(2, &rows);
    let column = VectorColumn::try_new(&array).unwrap();
    let components: Vec<Vec<bool>> = rows.iter().flatten().map(|row| reference::bits(row)).collect();
    let borrowed: Vec<Option<&[bool]>> = components.iter().map(|row| Some(row.as_slice())).collect();
    let query: Vec<f64> = [1.0, 0.0].repeat(8);
    for metric in BITS {
        let expected = reference::search(metric, &borrowed, &query, 500);
        for threads in [0, 1, 2, 7] {
            let hits = Search::new(metric, &query).unwrap().top_k(500).threads(threads).run(&column).unwrap();
            assert_eq!(pairs(&Ranking { rows: hits.rows, scores: hits.scores }), expected, "{metric} {threads}");
            assert_eq!(hits.report.tier, Tier::Integer);
            assert_eq!(hits.report.execution.unwrap().refined, 0);
        }
    }
}

#[test]
fn whole_numbers_are_summed_without_bounds_and_other_queries_with_them() {
    let rows: Vec<Option<Vec<u8>>> = (0..100).map(|i| Some(vec![i, 255 - i, 3])).collect();
    let array = Signed::array(3, &rows);
    let column = VectorColumn::try_new(&array).unwrap();
    let run = |query: [f64; 3]| Search::new(Metric::L2, &query).unwrap().top_k(3).run(&column).unwrap().report;
    assert_eq!(run([1.0, -128.0, 3.0]).tier, Tier::Integer);
    assert_eq!(run([1.0, -128.0, 3.0]).bytes_planned, Some(300));
    assert_eq!(run([1.0, -128.5, 3.0]).tier, Tier::F32);
    assert_eq!(run([1.0, 200.0, 3.0]).tier, Tier::F32);
}

#[test]
fn two_vectors_without_a_bit_are_the_same_set() {
    let array = Bits::array(1, &[Some(vec![0]), Some(vec![1]), Some(vec![3])]);
    let column = VectorColumn::try_new(&array).unwrap();
    let search = |query: [f64; 8]| Search::new(Metric::Jaccard, &query).unwrap().top_k(3).run(&column).unwrap();
    assert_eq!(search([0.0; 8]).scores, [0.0, 1.0, 1.0]);
    let hits = search([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!((hits.rows, hits.scores), (vec![1, 2, 0], vec![0.0, 0.5, 1.0]));
}

#[test]
fn metrics_of_bits_and_of_numbers_refuse_each_other() {
    let bits = Bits::array(1, &[Some(vec![5])]);
    let numbers = Signed::array(8, &[Some(vec![1; 8])]);
    let refused = |metric, array: &Arc<dyn Array>| -> KernelError {
        let column = VectorColumn::try_new(array).unwrap();
        Search::new(metric, &[1.0_f32; 8]).unwrap().top_k(1).run(&column).unwrap_err()
    };
    for metric in NUMBERS {
        let expected = format!("metric {metric} cannot compare bits: expected vectors of numbers");
        assert_eq!(refused(metric, &bits).to_string(), expected);
    }
    for metric in BITS {
        let expected = format!("metric {metric} cannot compare int8: expected bits");
        assert_eq!(refused(metric, &numbers).to_string(), expected);
        let error = Search::new(metric, &[1.0, 0.5]).unwrap_err();
        assert_eq!(error.to_string(), "query component 1 is not a bit: expected 0 or 1, got 0.5");
    }
}

#[test]
fn lists_of_bytes_become_vectors() {
    use arrow_array::builder::{ListBuilder, UInt8Builder};
    let mut lists = ListBuilder::new(UInt8Builder::new());
    for row in [Some([1, 2]), None, Some([3, 4])] {
        row.iter().flatten().for_each(|x| lists.values().append_value(*x));
        lists.append(row.is_some());
    }
    let array = to_fixed_size_list(&lists.finish(), None).unwrap();
    let column = VectorColumn::try_new(&array).unwrap();
    let hits = Search::new(Metric::L2, &[3_u8, 4]).unwrap().top_k(9).run(&column).unwrap();
    assert_eq!((hits.rows, hits.scores), (vec![2, 0], vec![0.0, 8.0_f64.sqrt()]));
    assert_eq!(hits.report.tier, Tier::Integer);
}
