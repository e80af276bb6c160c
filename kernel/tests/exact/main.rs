//! The law of the crate: every path returns the reference's rows, order and scores, to the bit.

mod case;

use arrow_array::FixedSizeListArray;
use arrow_buffer::BooleanBuffer;
use half::f16;
use proptest::prelude::*;
use vexact_kernel::{
    Backend, ChunkedColumn, Metric, Ranking, Search, Sketch, SketchBasis, Tier, VectorColumn, reference,
};

use case::{Case, METRICS, Stored, case, list, noise, sketched_case, structured};

impl Case {
    /// The queries that a search accepts.
    fn valid_queries(&self) -> Vec<Vec<f64>> {
        self.queries.iter().filter(|query| Search::new(self.metric, query).is_ok()).cloned().collect()
    }

    fn check<T: Stored>(&self) -> Result<(), TestCaseError> {
        let rows: Vec<Option<Vec<T>>> =
            self.rows.iter().map(|row| Some(row.as_ref()?.iter().map(|x| T::round(*x)).collect())).collect();
        // A slice of a larger array, so that offsets are not zero.
        let padded: Vec<_> = [None, Some(vec![T::round(9.0); self.dim])].into_iter().chain(rows.clone()).collect();
        let array = list(self.dim, &padded).slice(2, rows.len());
        let chunks: Vec<FixedSizeListArray> = (0..rows.len())
            .step_by(self.chunk_rows)
            .map(|start| array.slice(start, self.chunk_rows.min(rows.len() - start)))
            .collect();
        let columns: Vec<VectorColumn> = chunks.iter().map(|chunk| VectorColumn::try_new(chunk).unwrap()).collect();
        let plain = ChunkedColumn::try_new(columns.clone()).unwrap();
        let sketches = self.sketches(&plain, &columns);
        let tier = self.sketch.filter(|sketch| sketch.is_forced).map_or(Tier::Auto, |sketch| sketch.form);
        let columns = columns.into_iter().zip(&sketches).map(|(column, sketch)| match sketch {
            Some(sketch) => column.with_sketch(sketch).unwrap(),
            None => column,
        });
        let column = ChunkedColumn::try_new(columns.collect()).unwrap();
        let selection = self.selection.as_ref().map(|bits| BooleanBuffer::from(bits.clone()));
        let selected: Vec<Option<&[T]>> = rows
            .iter()
            .enumerate()
            .map(|(i, row)| row.as_deref().filter(|_| self.selection.as_ref().is_none_or(|bits| bits[i])))
            .collect();
        let queries = self.valid_queries();
        let expected: Vec<Vec<(u64, f64)>> =
            queries.iter().map(|query| reference::search(self.metric, &selected, query, self.k)).collect();

        for backend in Backend::available() {
            for (query, expected) in queries.iter().zip(&expected) {
                let mut search = Search::new(self.metric, query).unwrap().top_k(self.k).threads(self.threads);
                search = search.backend(backend).tier(tier);
                if let Some(selection) = &selection {
                    search = search.selection(selection);
                }
                let hits = search.run(&column).unwrap();
                let ranking = Ranking { rows: hits.rows, scores: hits.scores };
                prop_assert_eq!(&pairs(&ranking), expected, "{} one query", backend);
                let comparable =
                    selected.iter().flatten().filter(|row| reference::score(self.metric, row, query).is_some()).count();
                let skipped = hits.report.candidate_rows.unwrap() - hits.report.skipped_rows.unwrap();
                prop_assert_eq!(skipped, comparable as u64, "{} skipped", backend);

                if std::ptr::eq(query, &queries[0]) {
                    self.check_inner(&search, &column, &selected, query)?;
                    self.check_groups(&search, &column, &selected, query)?;
                }

                // By radius: everything as good as the middle of the result, ties included.
                if let Some((_, radius)) = expected.get(expected.len() / 2) {
                    let hits = search.clone().radius(*radius).run(&column).unwrap();
                    let within =
                        |score: f64| if self.metric.is_larger_closer() { score >= *radius } else { score <= *radius };
                    let expected: Vec<_> = expected.iter().copied().filter(|(_, score)| within(*score)).collect();
                    prop_assert_eq!(
                        &pairs(&Ranking { rows: hits.rows, scores: hits.scores }),
                        &expected,
                        "{} radius",
                        backend
                    );
                    let mut search = Search::new(self.metric, query)
                        .unwrap()
                        .radius(*radius)
                        .rows_only()
                        .backend(backend)
                        .tier(tier);
                    if let Some(selection) = &selection {
                        search = search.selection(selection);
                    }
                    let all = reference::search(self.metric, &selected, query, usize::MAX);
                    let mut rows: Vec<u64> =
                        all.iter().filter(|(_, score)| within(*score)).map(|(row, _)| *row).collect();
                    rows.sort_unstable();
                    prop_assert_eq!(search.run(&column).unwrap().rows, rows, "{} rows within", backend);
                }
            }
            if !queries.is_empty() {
                let mut search = Search::batch(self.metric, &queries).unwrap().top_k(self.k).threads(self.threads);
                search = search.backend(backend).tier(tier);
                if let Some(selection) = &selection {
                    search = search.selection(selection);
                }
                let rankings: Vec<_> = search.run(&column).unwrap().rankings.iter().map(pairs).collect();
                prop_assert_eq!(&rankings, &expected, "{} query batch", backend);
            }
        }
        self.check_sql(&column, &selected, selection.as_ref(), &queries, tier)
    }

    /// Rows that are no closer than one in the middle, ties included.
    fn check_inner<T: Stored>(
        &self,
        search: &Search,
        column: &ChunkedColumn<'_>,
        selected: &[Option<&[T]>],
        query: &[f64],
    ) -> Result<(), TestCaseError> {
        let all = reference::search(self.metric, selected, query, usize::MAX);
        for place in [all.len() / 10, all.len() / 2] {
            let Some((_, inner)) = all.get(place).copied() else { return Ok(()) };
            let beyond = |score: f64| if self.metric.is_larger_closer() { score <= inner } else { score >= inner };
            let expected: Vec<_> = all.iter().copied().filter(|(_, score)| beyond(*score)).take(self.k).collect();
            let hits = search.clone().inner_radius(inner).run(column).unwrap();
            let ranking = Ranking { rows: hits.rows, scores: hits.scores };
            prop_assert_eq!(&pairs(&ranking), &expected, "{:?} inner radius", hits.report.backend);
        }
        Ok(())
    }

    /// The k best rows of each group, without and with the rows tied with the k-th, and within
    /// bounds.
    fn check_groups<T: Stored>(
        &self,
        search: &Search,
        column: &ChunkedColumn<'_>,
        selected: &[Option<&[T]>],
        query: &[f64],
    ) -> Result<(), TestCaseError> {
        let count = [1, 3, 17, 400][self.chunk_rows % 4];
        let groups: Vec<u32> = (0..selected.len() as u64).map(|i| (i * 7919 % count) as u32).collect();
        let all = reference::search(self.metric, selected, query, usize::MAX);
        let bounds = (all.get(all.len() / 9), all.get(all.len() / 3));
        for (has_ties, is_bounded) in [(false, false), (true, false), (true, true), (false, true)] {
            let mut search = search.clone();
            let mut rows = all.clone();
            if let (true, (Some((_, inner)), Some((_, radius)))) = (is_bounded, bounds) {
                search = search.inner_radius(*inner).radius(*radius);
                let key = |score: f64| if self.metric.is_larger_closer() { -score } else { score };
                rows.retain(|(_, score)| (key(*inner)..=key(*radius)).contains(&key(*score)));
            }
            let mut expected = Vec::new();
            for group in 0..count as u32 {
                let of_group: Vec<_> = rows.iter().filter(|(row, _)| groups[*row as usize] == group).collect();
                let last = of_group.get(self.k.saturating_sub(1)).map(|(_, score)| *score);
                let is_kept = |(i, (_, score)): &(usize, &&(u64, f64))| {
                    *i < self.k || has_ties && last.is_some_and(|last| last.to_bits() == score.to_bits())
                };
                let kept = of_group.iter().enumerate().filter(is_kept);
                expected.extend(kept.map(|(_, (row, score))| (group, *row, score.to_bits())));
            }
            let hits = search.run_groups(column, &groups, has_ties).unwrap();
            let found: Vec<_> = hits.rows.iter().map(|row| (row.group, row.row, row.score.to_bits())).collect();
            prop_assert_eq!(found, expected, "{:?} groups", hits.report.backend);
        }
        Ok(())
    }

    fn sketches(&self, column: &ChunkedColumn<'_>, chunks: &[VectorColumn<'_>]) -> Vec<Option<Sketch>> {
        let basis = self.sketch.and_then(|sketch| SketchBasis::train(column, sketch.form).basis);
        let is_partial = self.sketch.is_some_and(|sketch| sketch.is_partial);
        let sketch = |(i, chunk)| match &basis {
            Some(basis) if !is_partial || i % 2 == 0 => Some(basis.encode(chunk).unwrap()),
            _ => None,
        };
        chunks.iter().enumerate().map(sketch).collect()
    }

    /// SQL's distances: what the scalar function says of every row, NaN and NULL apart.
    fn check_sql<T: Stored>(
        &self,
        column: &ChunkedColumn<'_>,
        selected: &[Option<&[T]>],
        selection: Option<&BooleanBuffer>,
        queries: &[Vec<f64>],
        tier: Tier,
    ) -> Result<(), TestCaseError> {
        for query in queries.iter().take(2) {
            let mut search = Search::new(self.metric, query).unwrap().sql_distances().top_k(self.k).tier(tier);
            if let Some(selection) = selection {
                search = search.selection(selection);
            }
            let hits = search.run(column).unwrap();
            let is_selected = |i: usize| self.selection.as_ref().is_none_or(|bits| bits[i]);
            let distances: Vec<(u64, Option<f64>)> = (0..selected.len())
                .filter(|i| is_selected(*i))
                .map(|i| (i as u64, selected[i].and_then(|row| reference::distance(self.metric, row, query))))
                .collect();
            let of = |keep: &dyn Fn(Option<f64>) -> bool| -> Vec<u64> {
                distances.iter().filter(|(_, d)| keep(*d)).map(|(i, _)| *i).collect()
            };
            let nulls = of(&|d| d.is_none());
            prop_assert_eq!(&hits.null_rows, &nulls[..nulls.len().min(self.k)]);
            prop_assert_eq!(&hits.nan_rows, &of(&|d| d.is_some_and(f64::is_nan)));
            let mut ranked: Vec<(u64, f64)> =
                distances.iter().filter_map(|(i, d)| Some((*i, d.filter(|d| !d.is_nan())?))).collect();
            let sign = if self.metric.is_larger_closer() { -1.0 } else { 1.0 };
            ranked.sort_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)).then(a.0.cmp(&b.0)));
            ranked.truncate(self.k);
            prop_assert_eq!(&pairs(&Ranking { rows: hits.rows, scores: hits.scores }), &ranked);
        }
        Ok(())
    }
}

fn pairs(ranking: &Ranking) -> Vec<(u64, f64)> {
    ranking.rows.iter().copied().zip(ranking.scores.iter().copied()).collect()
}

/// Cases of each property; `VEXACT_PROPERTY_CASES` for a soak.
fn cases() -> u32 {
    std::env::var("VEXACT_PROPERTY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn float32_equals_the_reference(case in case()) {
        case.check::<f32>()?;
    }

    #[test]
    fn float64_equals_the_reference(case in case()) {
        case.check::<f64>()?;
    }

    #[test]
    fn float16_equals_the_reference(case in case()) {
        case.check::<f16>()?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sketches_of_float32_equal_the_reference(case in sketched_case()) {
        case.check::<f32>()?;
    }

    #[test]
    fn sketches_of_float64_equal_the_reference(case in sketched_case()) {
        case.check::<f64>()?;
    }

    #[test]
    fn sketches_of_float16_equal_the_reference(case in sketched_case()) {
        case.check::<f16>()?;
    }
}

/// Rows far from the origin and close together: the bound of `qq + xx - 2 dot` is coarse, the
/// answer must not be.
#[test]
fn l2_far_from_the_origin_equals_the_reference() {
    let rows: Vec<Option<Vec<f32>>> = (0..500_u32)
        .map(|i| Some((0..33).map(|j| 1000.0 + ((i * 37 + j * 11) % 101) as f32 / 100.0).collect()))
        .collect();
    let borrowed: Vec<Option<&[f32]>> = rows.iter().map(|row| row.as_deref()).collect();
    let array = list(33, &rows);
    let column = VectorColumn::try_new(&array).unwrap();
    let queries: Vec<Vec<f64>> = (0..17).map(|i| vec![1000.3 + f64::from(i) / 50.0; 33]).collect();
    let hits = Search::batch(Metric::L2, &queries).unwrap().top_k(7).run(&column).unwrap();
    for (query, ranking) in queries.iter().zip(&hits.rankings) {
        assert_eq!(pairs(ranking), reference::search(Metric::L2, &borrowed, query, 7));
    }
}

/// Enough rows that a sketch prunes, waits and, for queries unlike the rows, is left.
#[test]
fn sketches_of_many_rows_equal_the_reference() {
    let (count, dim) = (12_000, 200);
    for flavour in [0, 1, 2, 7] {
        let rows: Vec<Option<Vec<f32>>> = structured(dim, count, 5, flavour)
            .into_iter()
            .enumerate()
            .map(|(i, row)| (i % 50 != 7).then(|| row.unwrap_or_default().iter().map(|x| *x as f32).collect()))
            .collect();
        let borrowed: Vec<Option<&[f32]>> = rows.iter().map(|row| row.as_deref()).collect();
        let array = list(dim, &rows);
        let plain = VectorColumn::try_new(&array).unwrap();
        let mut noise = noise(3);
        let mut queries: Vec<Vec<f64>> = (0..5)
            .map(|i| rows[i * 2000 + 1].iter().flatten().map(|x| f64::from(*x) + 0.01 * noise()).collect())
            .collect();
        queries.push((0..dim).map(|_| noise()).collect());
        for form in [Tier::I8, Tier::Pca4] {
            let basis = SketchBasis::train(&ChunkedColumn::from(&plain), form).basis.unwrap();
            let sketch = basis.encode(&plain).unwrap();
            let column = plain.clone().with_sketch(&sketch).unwrap();
            for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
                let expected: Vec<_> =
                    queries.iter().map(|query| reference::search(metric, &borrowed, query, 20)).collect();
                for (backend, tier) in Backend::available().into_iter().flat_map(|b| [(b, Tier::Auto), (b, form)]) {
                    for (query, expected) in queries.iter().zip(&expected) {
                        let search =
                            Search::new(metric, query).unwrap().top_k(20).backend(backend).tier(tier).threads(2);
                        let hits = search.run(&column).unwrap();
                        let what = format!("{flavour} {form} {metric} {backend} {tier}");
                        assert_eq!(&pairs(&Ranking { rows: hits.rows, scores: hits.scores }), expected, "{what}");
                    }
                    let search = Search::batch(metric, &queries).unwrap().top_k(20).backend(backend).tier(tier);
                    let rankings: Vec<_> = search.run(&column).unwrap().rankings.iter().map(pairs).collect();
                    assert_eq!(rankings, expected, "{flavour} {form} {metric} {backend} {tier} batch");
                }
            }
        }
    }
}

/// Enough rows that several threads share the work; the result must not depend on them.
#[test]
fn threads_do_not_change_the_result() {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let rows: Vec<Option<Vec<f32>>> = (0..20_000).map(|_| Some((0..48).map(|_| noise()).collect())).collect();
    let borrowed: Vec<Option<&[f32]>> = rows.iter().map(|row| row.as_deref()).collect();
    let array = list(48, &rows);
    let column = VectorColumn::try_new(&array).unwrap();
    let query: Vec<f64> = (0..48).map(|_| f64::from(noise())).collect();
    for metric in METRICS {
        let expected = reference::search(metric, &borrowed, &query, 100);
        for threads in [0, 1, 2, 7] {
            let hits = Search::new(metric, &query).unwrap().top_k(100).threads(threads).run(&column).unwrap();
            assert_eq!(pairs(&Ranking { rows: hits.rows, scores: hits.scores }), expected, "{metric} {threads}");
            let execution = hits.report.execution.unwrap();
            assert!(execution.refined < 2_000, "{metric}: {execution:?}");
        }
    }
}

/// Groups whose sizes differ, over rows that a sketch prunes: the answer is the reference's, and
/// few vectors are read.
#[test]
fn groups_by_sketches_equal_the_reference() {
    let (count, dim) = (12_000, 96);
    let rows: Vec<Option<Vec<f32>>> = structured(dim, count, 8, 0)
        .into_iter()
        .map(|row| row.map(|row| row.iter().map(|x| *x as f32).collect()))
        .collect();
    let borrowed: Vec<Option<&[f32]>> = rows.iter().map(|row| row.as_deref()).collect();
    let array = list(dim, &rows);
    let plain = VectorColumn::try_new(&array).unwrap();
    let basis = SketchBasis::train(&ChunkedColumn::from(&plain), Tier::Pca4).basis.unwrap();
    let sketch = basis.encode(&plain).unwrap();
    let column = plain.clone().with_sketch(&sketch).unwrap();
    let groups: Vec<u32> = (0..count as u32).map(|i| if i % 3 == 0 { i % 5 } else { 7 }).collect();
    let query: Vec<f64> = borrowed[77].unwrap().iter().map(|x| f64::from(*x) + 0.01).collect();
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let all = reference::search(metric, &borrowed, &query, usize::MAX);
        let of_group = |group: u32| -> Vec<_> {
            let rows = all.iter().filter(|(row, _)| groups[*row as usize] == group).take(4);
            rows.map(|(row, score)| (group, *row, *score)).collect()
        };
        let expected: Vec<_> = (0..8).flat_map(of_group).collect();
        let search = Search::new(metric, &query).unwrap().top_k(4).tier(Tier::Pca4);
        let hits = search.run_groups(&column, &groups, false).unwrap();
        let found: Vec<_> = hits.rows.iter().map(|row| (row.group, row.row, row.score)).collect();
        assert_eq!(found, expected, "{metric}");
        let left = hits.report.execution.unwrap().rows_left.unwrap();
        assert!(left < count as u64 / 4, "{metric}: {left} rows left");
    }
    let message = Search::new(Metric::L2, &query).unwrap().top_k(1).run_groups(&column, &groups[1..], false);
    let message = message.unwrap_err().to_string();
    assert_eq!(message, "groups length mismatch: expected one group for each of 12000 rows, got 11999");
}
