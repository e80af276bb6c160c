//! Rows in the order of a sort by distance, NULL and NaN included.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::buffer::BooleanBuffer;
use datafusion::common::{DataFusionError, Result, internal_err};
use vexact_kernel::{
    Acceleration, ChunkedColumn, GroupedRow, KernelError, Metric, RankedBy, Report, ScanInput, Search, Tier,
};

use super::groups::GroupEntry;
use super::run::FILTER;
use super::spec::{ScoreBounds, Scoring};
use super::ties::Ties;

/// Name of the ranking of groups in reports.
pub(super) const GROUPED: Acceleration = Acceleration::new(ScanInput::FlatBuffer, RankedBy::GroupTopK);

/// Rank class of a row: ordinary distances are ordered between the NULLs and NaNs that come first
/// and those that come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    NullFirst,
    NanFirst,
    Distance,
    NanLast,
    NullLast,
}

/// One row and its rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    class: Class,
    key: f64,
    /// The metric's value; `None` if it is NULL.
    pub distance: Option<f64>,
    pub position: u64,
}

impl Entry {
    pub fn order(&self, other: &Entry) -> Ordering {
        self.distance_order(other).then(self.position.cmp(&other.position))
    }

    fn distance_order(&self, other: &Entry) -> Ordering {
        self.class.cmp(&other.class).then(self.key.total_cmp(&other.key))
    }

    /// Returns the distance of a row that has one which is a number.
    pub fn ordinary_distance(&self) -> Option<f64> {
        self.distance.filter(|_| self.class == Class::Distance)
    }

    pub fn is_tied(&self, other: &Entry) -> bool {
        self.distance_order(other).is_eq()
    }
}

/// Parameters of a ranking, with the value of the query.
#[derive(Debug, Clone)]
pub(super) struct Ranker {
    pub scoring: Scoring,
    /// The query vector; `None` if it is NULL, so that no row has a distance.
    pub query: Option<Vec<f64>>,
    pub k: usize,
    /// The bounds of the score, of a search whose query is valid.
    pub bounds: Option<ScoreBounds>,
    pub negative_nans_first: bool,
    pub nulls_first: bool,
    pub tier: Tier,
    pub threads: usize,
    /// Name of the column, for errors.
    pub column: String,
}

impl Ranker {
    pub fn metric(&self) -> Metric {
        self.scoring.metric()
    }

    pub fn entry(&self, distance: Option<f64>, position: u64) -> Entry {
        let class = match distance {
            None if self.nulls_first => Class::NullFirst,
            None => Class::NullLast,
            Some(x) if x.is_nan() && x.is_sign_negative() == self.negative_nans_first => Class::NanFirst,
            Some(x) if x.is_nan() => Class::NanLast,
            Some(_) => Class::Distance,
        };
        let sign = if self.metric().is_larger_closer() { -1.0 } else { 1.0 };
        let key = distance.filter(|x| !x.is_nan()).map_or(0.0, |x| sign * x);
        Entry { class, key, distance, position }
    }

    /// Returns a search for the query. Returns `None` if the kernel rejects the query but SQL's
    /// distance function accepts it: the distance is then evaluated row by row.
    ///
    /// # Errors
    /// A query of another dimension; any query that the kernel rejects if the scoring is
    /// [`Scoring::Search`].
    pub fn search(&self, dim: Option<usize>) -> Result<Option<Search>> {
        let refused = |error: KernelError| on_column(&self.column, external(error));
        if let (Some(expected), Some(query)) = (dim, &self.query)
            && expected != query.len()
        {
            return Err(refused(KernelError::DimensionMismatch { expected, got: query.len() }));
        }
        let search = match &self.query {
            Some(query) => Search::new(self.metric(), query).map_err(refused),
            None => datafusion::common::exec_err!(
                "vector search on column {:?}: expected a query vector, got NULL",
                self.column
            ),
        };
        match (search, self.scoring) {
            (Ok(search), Scoring::Search(_)) => Ok(Some(search)),
            (Ok(search), Scoring::Sql(_)) => Ok(Some(search.sql_distances())),
            (Err(error), Scoring::Search(_)) => Err(error),
            (Err(_), Scoring::Sql(_)) => Ok(None),
        }
    }

    /// Returns the first k rows of a column. Entries after `worst` are not needed.
    pub fn rank(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        worst: Option<Entry>,
    ) -> Result<(Vec<Entry>, Option<Report>)> {
        let Some(search) = self.search(column.dim())? else {
            return Ok((self.rank_plainly(column, selection), None));
        };
        let mut search = self.configured(search, selection).top_k(self.k);
        if let Some(radius) = worst.filter(|worst| worst.class == Class::Distance).and_then(|worst| worst.distance) {
            search = search.radius(self.closer(radius));
        }
        let hits = search.run(column).map_err(external)?;
        let ranked = hits.rows.iter().zip(&hits.scores).map(|(row, score)| self.entry(Some(*score), *row));
        let query = self.query.as_deref().unwrap_or_default();
        let bounds = self.bounds.as_ref();
        let distances = hits.nan_rows.iter().map(|row| (column.distance(self.metric(), *row, query), *row));
        let is_held = |(nan, _): &(Option<f64>, u64)| nan.zip(bounds).is_none_or(|(nan, bounds)| bounds.holds_nan(nan));
        let nans = distances.filter(is_held).map(|(nan, row)| self.entry(nan, row));
        let has_nulls = bounds.is_none_or(|bounds| !bounds.needs_score());
        let nulls = hits.null_rows.iter().filter(|_| has_nulls).map(|row| self.entry(None, *row));
        let mut entries: Vec<Entry> = ranked.chain(nans).chain(nulls).collect();
        if !hits.nan_rows.is_empty() || !hits.null_rows.is_empty() {
            entries.sort_unstable_by(Entry::order);
            entries.truncate(self.k);
        }
        Ok((entries, Some(hits.report)))
    }

    /// As [`Self::rank`], with ties in the order of the table.
    pub fn rank_tied(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        ties: &Ties<'_>,
    ) -> Result<(Vec<Entry>, Option<Report>)> {
        let of_so_many = |k| Self { k, ..self.clone() };
        let (entries, report) = of_so_many(self.k.saturating_add(1)).rank(column, selection, None)?;
        let all_tied = |last: &Entry| match (last.class, last.distance, self.search(column.dim())?) {
            (Class::Distance, Some(distance), Some(search)) => {
                let hits = self.configured(search, selection).radius(distance).run(column).map_err(external)?;
                Ok(hits.rows.iter().zip(&hits.scores).map(|(row, score)| self.entry(Some(*score), *row)).collect())
            }
            // Rows without a distance are counted, not searched.
            _ => Ok(of_so_many(column.len()).rank(column, selection, None)?.0),
        };
        let entries = ties.first(Some(self.k), entries, Entry::is_tied, |entry| entry.position, all_tied)?;
        Ok((entries, report.map(|report| Report { top_k: Some(self.k), ..report })))
    }

    /// The k first rows of each group, in the order of groups, and with `has_ties` all rows that
    /// are tied with the k-th. `groups`: the group of each row.
    pub fn rank_groups(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        groups: &[u32],
        has_ties: bool,
    ) -> Result<(Vec<GroupEntry>, Report)> {
        let Some(search) = self.search(column.dim())? else {
            return internal_err!("a search by group has no query that only SQL accepts");
        };
        let search = self.configured(search, selection).top_k(self.k);
        let (groups, numbers) = dense(groups);
        let hits = search.run_groups(column, &groups, has_ties).map_err(external)?;
        let number = |group: u32| numbers.as_ref().map_or(group, |numbers| numbers[group as usize]);
        let entry =
            |row: &GroupedRow| GroupEntry { group: number(row.group), entry: self.entry(Some(row.score), row.row) };
        let mut report = Report { acceleration: GROUPED, ..hits.report };
        if let Some(filter) = &mut report.filter {
            filter.execution = FILTER;
        }
        Ok((hits.rows.iter().map(entry).collect(), report))
    }

    /// As [`Self::rank_groups`], best first, with ties in the order of the table.
    pub fn rank_groups_tied(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        groups: &[u32],
        ties: Option<&Ties<'_>>,
    ) -> Result<(Vec<Entry>, Report)> {
        let (ranked, report) = self.rank_groups(column, selection, groups, ties.is_some())?;
        let mut entries: Vec<Entry> = Vec::with_capacity(ranked.len());
        for group in ranked.chunk_by(|a, b| a.group == b.group) {
            let group: Vec<Entry> = group.iter().map(|ranked| ranked.entry).collect();
            match ties {
                None => entries.extend(group),
                Some(ties) => {
                    let all_tied = |last: &Entry| Ok(group.iter().filter(|row| row.is_tied(last)).copied().collect());
                    let first =
                        ties.first(Some(self.k), group.clone(), Entry::is_tied, |row| row.position, all_tied)?;
                    entries.extend(first);
                }
            }
        }
        entries.sort_unstable_by(Entry::order);
        if let Some(ties) = ties {
            entries = ties.first(None, entries, Entry::is_tied, |row| row.position, |_| Ok(Vec::new()))?;
        }
        Ok((entries, report))
    }

    /// The closer one of a value and the radius.
    fn closer(&self, value: f64) -> f64 {
        let Some(radius) = self.bounds.as_ref().and_then(|bounds| bounds.radius) else { return value };
        if self.metric().is_larger_closer() { value.max(radius) } else { value.min(radius) }
    }

    fn configured(&self, search: Search, selection: Option<&BooleanBuffer>) -> Search {
        let mut search = search.tier(self.tier).threads(self.threads);
        if let Some(ScoreBounds { radius, inner_radius, .. }) = self.bounds {
            search = radius.into_iter().fold(search, Search::radius);
            search = inner_radius.into_iter().fold(search, Search::inner_radius);
        }
        match selection {
            Some(selection) => search.selection(selection),
            None => search,
        }
    }

    fn rank_plainly(&self, column: &ChunkedColumn<'_>, selection: Option<&BooleanBuffer>) -> Vec<Entry> {
        let is_selected = |row: &usize| selection.is_none_or(|bits| bits.value(*row));
        let distance = |row: u64| {
            let query = self.query.as_ref()?;
            column.distance(self.metric(), row, query)
        };
        let rows = (0..column.len()).filter(is_selected).map(|row| row as u64);
        let mut entries: Vec<Entry> = rows.map(|row| self.entry(distance(row), row)).collect();
        entries.sort_unstable_by(Entry::order);
        entries.truncate(self.k);
        entries
    }
}

/// Numbers groups anew where their numbers are larger than those of so many rows have to be: the
/// kernel's memory grows with the largest. Returns the old number of each new one.
fn dense(groups: &[u32]) -> (Cow<'_, [u32]>, Option<Vec<u32>>) {
    let largest = groups.iter().max().map_or(0, |group| *group as usize);
    if largest <= groups.len() {
        return (Cow::Borrowed(groups), None);
    }
    let (mut numbers, mut of_group) = (Vec::new(), HashMap::new());
    let new = groups.iter().map(|group| {
        *of_group.entry(*group).or_insert_with(|| {
            numbers.push(*group);
            numbers.len() as u32 - 1
        })
    });
    let new: Vec<u32> = new.collect();
    (Cow::Owned(new), Some(numbers))
}

/// A kernel error as DataFusion's, its source kept.
pub(crate) fn external(error: KernelError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error with the column that it is about.
pub(super) fn on_column(column: &str, error: DataFusionError) -> DataFusionError {
    error.context(format!("vector search on column {column:?}"))
}
