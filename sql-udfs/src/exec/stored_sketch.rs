//! A search of files that have sketches beside the vectors: the sketches are read first, then the
//! vectors of the rows that they leave open.
//!
//! 1. The filter's columns are read, if there is a filter, and select the rows to search.
//! 2. The sketches are read. The rows that are closest by them are searched, which gives a bound.
//! 3. The rows that the bound leaves open are searched, and those of parts without a sketch.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::ExecutionPlanProperties;
use futures::StreamExt;
use vexact_kernel::{Metric, Report, Tier};

use super::in_place::kept;
use super::ranked::Ranker;
use super::run::SearchState;
use super::stream::{Best, Rows, lock, scan};
use crate::sketches::files::{FileSketches, PartRows, ScanPart, SketchedScan};

/// Sketches that are read at a time.
const READ_AHEAD: usize = 4;

/// Rows that are searched first, for each of the k best: enough that the k-th of them is close to
/// the k-th of all.
const FIRST_PER_K: usize = 2;

/// How a search read its input.
pub(super) enum Access {
    /// By sketches; the search is done.
    Sketches,
    /// The vectors have to be read, for this reason if it is worth saying.
    Vectors(Option<String>),
}

/// Searches the input by its stored sketches, if it has any.
pub(super) async fn search(
    run: &Arc<SearchState>,
    ranker: &Arc<Ranker>,
    first: usize,
    best: &Arc<Mutex<Best>>,
) -> Result<Access> {
    let Some(opener) = run.context.session_config().get_extension::<FileSketches>() else {
        return Ok(Access::Vectors(None));
    };
    let top_k = &run.top_k;
    // The bounds of a sketch's filter count rows that bounds of the score would leave out.
    let is_bounded = ranker.bounds.is_some();
    if top_k.group_by.is_some() || is_bounded || ranker.tier == Tier::F32 || ranker.k == 0 {
        return Ok(Access::Vectors(None));
    }
    let Some(search) = ranker.search(None)? else { return Ok(Access::Vectors(None)) };
    let Some(scan) = opener.0.open(&run.input, top_k.vector, &run.context).await? else {
        return Ok(Access::Vectors(None));
    };
    let fits = |part: &ScanPart| {
        let basis = part.basis.as_ref().ok()?;
        (ranker.tier == Tier::Auto || basis.tier() == ranker.tier).then(|| Arc::clone(basis))
    };
    let Some(basis) = scan.parts().iter().find_map(fits) else {
        let why = scan.parts().iter().find_map(|part| part.basis.as_ref().err().cloned());
        return Ok(Access::Vectors(why));
    };
    let selection = match &top_k.predicate {
        Some(predicate) => match select(run, predicate, &scan).await? {
            Some(selection) => Some(selection),
            None => return Ok(Access::Vectors(Some("the filter reads the vectors".into()))),
        },
        None => None,
    };
    let mut found =
        Found { run, ranker, first, best, scan: scan.as_ref(), selection, open: 0, sketched: Sketched::default() };
    let candidates = found.candidates();
    if ranker.tier == Tier::Auto
        && let Err(reason) = basis.check_search(Some(ranker.k), candidates, 1)
    {
        if found.selection.is_none() {
            return Ok(Access::Vectors(Some(reason)));
        }
        // The filter has been evaluated: only the rows that it selects are read.
        let rows = (0..scan.parts().len()).map(|part| found.selected(part)).collect();
        found.scan(rows).await?;
        found.publish(None, Some(reason), candidates)?;
        return Ok(Access::Sketches);
    }

    let mut filter = search.top_k(ranker.k).sketch_filter();
    let (mut uncovered, mut why) = (Vec::new(), None);
    let parts: Vec<usize> = (0..scan.parts().len()).collect();
    let (with, without): (Vec<usize>, Vec<usize>) =
        parts.into_iter().partition(|part| fits(&scan.parts()[*part]).is_some());
    uncovered.extend(without);
    let with: Vec<usize> = with.into_iter().filter(|part| found.selected_count(*part) > 0).collect();
    let mut sketched = Sketched::default();
    let read = with.into_iter().map(|part| {
        let scan = Arc::clone(&scan);
        async move { (part, scan.sketch(part).await) }
    });
    let mut read = futures::stream::iter(read).buffered(READ_AHEAD);
    while let Some((part, sketch)) = read.next().await {
        let selection = found.selection.as_ref().map(|selection| &selection[part]);
        match sketch {
            Ok(sketch) if sketch.len() != scan.parts()[part].rows => {
                return internal_err!("a part of a scan: expected a sketch of its rows");
            }
            Ok(sketch) if filter.add(part, &sketch, selection) => {
                let row_bytes = sketch.basis().scanned_bytes(Metric::L2) as u64;
                sketched.add(sketch.len() as u64, sketch.len() as u64 * row_bytes);
            }
            Ok(_) => {
                why.get_or_insert_with(|| "the bounds of sketches do not hold for the query".to_owned());
                uncovered.push(part);
            }
            Err(reason) => {
                why.get_or_insert(reason);
                uncovered.push(part);
            }
        }
    }
    drop(read);
    found.sketched = sketched;

    // The closest rows by their intervals first: the k-th of them bounds the others.
    let closest = filter.take_closest(ranker.k.saturating_mul(FIRST_PER_K));
    found.scan(found.rows_of(closest.iter().map(|row| (row.sketch, row.row)))).await?;
    let worst = lock(best)?.worst_distance();
    if let Some(distance) = worst {
        filter.bound_by(distance);
    }
    let open = filter.into_open();
    let mut rows = found.rows_of(open.iter().map(|row| (row.sketch, row.row)));
    for part in &uncovered {
        rows[*part] = found.selected(*part);
    }
    found.open = closest.len() as u64 + open.len() as u64;
    found.scan(rows).await?;
    let uncovered_rows: usize = uncovered.iter().map(|part| scan.parts()[*part].rows).sum();
    let mut reason = basis.describe_reads(basis.scanned_bytes(ranker.metric()), (uncovered.len(), scan.parts().len()));
    if let Some(why) =
        why.or_else(|| uncovered.iter().find_map(|part| scan.parts()[*part].basis.as_ref().err().cloned()))
    {
        reason = format!("{reason}: {why}");
    }
    let used = (found.sketched.rows > 0 || uncovered_rows == 0).then_some(&*basis);
    found.publish(used, Some(reason), candidates)?;
    Ok(Access::Sketches)
}

/// Rows whose sketch was read, and its bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Sketched {
    rows: u64,
    bytes: u64,
}

impl Sketched {
    fn add(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
    }
}

/// A search by sketches, as it goes on.
struct Found<'s> {
    run: &'s Arc<SearchState>,
    ranker: &'s Arc<Ranker>,
    first: usize,
    best: &'s Arc<Mutex<Best>>,
    scan: &'s dyn SketchedScan,
    /// The selected rows of each part; `None` if there is no filter.
    selection: Option<Vec<BooleanBuffer>>,
    /// Rows that the sketches left open.
    open: u64,
    sketched: Sketched,
}

impl Found<'_> {
    fn selected_count(&self, part: usize) -> usize {
        match &self.selection {
            Some(selection) => selection[part].count_set_bits(),
            None => self.scan.parts()[part].rows,
        }
    }

    fn candidates(&self) -> usize {
        (0..self.scan.parts().len()).map(|part| self.selected_count(part)).sum()
    }

    fn selected(&self, part: usize) -> PartRows {
        match &self.selection {
            Some(selection) => PartRows::Some(selection[part].set_indices().collect()),
            None => PartRows::All,
        }
    }

    /// Returns rows, which are in order, by part.
    fn rows_of(&self, rows: impl Iterator<Item = (usize, usize)>) -> Vec<PartRows> {
        let mut parts = vec![Vec::new(); self.scan.parts().len()];
        rows.for_each(|(part, row)| parts[part].push(row));
        parts.into_iter().map(PartRows::Some).collect()
    }

    /// Searches some rows, all of which the filter selects.
    async fn scan(&self, rows: Vec<PartRows>) -> Result<()> {
        let parts = self.scan.parts();
        if rows.iter().zip(parts).all(|(rows, part)| rows.count(part.rows) == 0) {
            return Ok(());
        }
        let partitions = self.run.input.output_partitioning().partition_count();
        let mut scanned = vec![ScannedRows::default(); partitions];
        for (rows, part) in rows.iter().zip(parts) {
            scanned[part.partition].add(rows, part.rows);
        }
        let input = self.scan.of_rows(&rows)?;
        let scanned = Arc::new(scanned);
        let rows = Rows { input, predicate: None, scanned: Some(Arc::clone(&scanned)) };
        scan(self.run, rows, self.ranker, self.first, self.best).await
    }

    /// Completes the report and the numbers of rows.
    fn publish(
        &self,
        basis: Option<&vexact_kernel::SketchBasis>,
        reason: Option<String>,
        candidates: usize,
    ) -> Result<()> {
        let parts = self.scan.parts();
        let mut best = lock(self.best)?;
        let mut rows = vec![0; self.run.input.output_partitioning().partition_count()];
        parts.iter().for_each(|part| rows[part.partition] += part.rows as u64);
        best.set_input_rows(rows);
        let (open, sketched) = (self.open, self.sketched);
        best.amend(|report: &mut Report| {
            let read = report.candidate_rows.unwrap_or(0);
            report.candidate_rows = Some(candidates as u64);
            if let Some(reason) = reason {
                report.reason = reason;
            }
            if let Some(basis) = basis {
                report.tier = basis.tier();
                report.components = Some(basis.components());
            }
            let planned = report.bytes_planned.unwrap_or(0);
            report.bytes_planned = Some(planned + sketched.bytes);
            if let Some(execution) = &mut report.execution {
                execution.rows_scanned += (candidates as u64).saturating_sub(read);
                execution.pruned += (candidates as u64).saturating_sub(read);
                execution.bytes_read += sketched.bytes;
                execution.rows_left = basis.map(|_| open);
            }
        });
        Ok(())
    }
}

/// The rows of one partition that a scan of some rows reads.
#[derive(Debug, Default, Clone)]
pub(super) struct ScannedRows {
    /// Start of each range: the row's ordinal among the rows that are read, and its ordinal in the
    /// partition.
    ranges: Vec<(u64, u64)>,
    /// Rows that are read.
    pub read: u64,
    rows: u64,
}

impl ScannedRows {
    fn add(&mut self, rows: &PartRows, of: usize) {
        rows.for_each_range(of, |start, len| {
            self.ranges.push((self.read, self.rows + start as u64));
            self.read += len as u64;
        });
        self.rows += of as u64;
    }

    /// Returns the ordinal in the partition of a row that was read.
    pub fn ordinal(&self, read: u64) -> u64 {
        let range = self.ranges.partition_point(|(first, _)| *first <= read).saturating_sub(1);
        self.ranges.get(range).map_or(read, |(first, start)| start + (read - first))
    }
}

/// Returns the rows of each part that pass a predicate. Returns `None` if it reads the vectors.
async fn select(
    run: &SearchState,
    predicate: &Arc<dyn PhysicalExpr>,
    scan: &Arc<dyn SketchedScan>,
) -> Result<Option<Vec<BooleanBuffer>>> {
    let mut columns: Vec<usize> = collect_columns(predicate).iter().map(|column| column.index()).collect();
    columns.sort_unstable();
    if columns.is_empty() || columns.contains(&run.top_k.vector) {
        return Ok(None);
    }
    let filtered = scan.of_columns(&columns)?;
    let predicate = reassign_expr_columns(Arc::clone(predicate), &filtered.schema())?;
    let mut partitions = Vec::new();
    for partition in 0..filtered.output_partitioning().partition_count() {
        let mut rows = filtered.execute(partition, Arc::clone(&run.context))?;
        let mut selected = BooleanBufferBuilder::new(0);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let started = Instant::now();
            selected.append_buffer(&kept(predicate.as_ref(), &batch)?);
            run.filter_us.add(started.elapsed().as_micros() as usize);
        }
        partitions.push(selected.finish());
    }
    let mut starts = vec![0; partitions.len()];
    let mut selection = Vec::with_capacity(scan.parts().len());
    for part in scan.parts() {
        let bits = partitions.get(part.partition);
        let start = starts.get_mut(part.partition);
        let (Some(bits), Some(start)) = (bits, start) else {
            return Err(internal_datafusion_err!(
                "a scan of the filter's columns: expected the partitions of the scan"
            ));
        };
        if bits.len() < *start + part.rows {
            return internal_err!("a scan of the filter's columns: expected all rows, got {}", bits.len());
        }
        selection.push(bits.slice(*start, part.rows));
        *start += part.rows;
    }
    match starts.iter().zip(&partitions).all(|(rows, bits)| *rows == bits.len()) {
        true => Ok(Some(selection)),
        false => internal_err!("a scan of the filter's columns: expected the rows of the scan, got more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_count_the_rows_that_are_left_out() {
        let mut rows = ScannedRows::default();
        rows.add(&PartRows::Some(Vec::new()), 10);
        rows.add(&PartRows::Some(vec![0, 1, 5]), 7);
        rows.add(&PartRows::All, 2);
        let ordinals: Vec<u64> = (0..rows.read).map(|row| rows.ordinal(row)).collect();
        assert_eq!(ordinals, [10, 11, 15, 17, 18]);
    }
}
