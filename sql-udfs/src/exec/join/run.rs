//! One execution of a join: its searches, and the output made from their results.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use vexact_kernel::{Many, Report, Search, VectorColumn};

use super::super::ranked::external;
use super::super::run::vectors;
use super::{Join, JoinColumn};
use crate::config::VexactOptions;
use crate::vector::components_of_bits;

/// Number of queries that are searched together: enough that arithmetic is the bottleneck, few
/// enough to stay in the cache.
pub(in crate::exec) const QUERY_BLOCK: usize = 512;

/// A pair that was found.
#[derive(Debug, Clone, Copy)]
pub(in crate::exec) struct Found {
    pub score: f64,
    pub position: u64,
    /// The chunk, and the row in it.
    pub place: (usize, usize),
}

/// One execution.
pub(in crate::exec) struct SearchState {
    pub join: Arc<Join>,
    pub schema: SchemaRef,
    pub options: VexactOptions,
    pub context: Arc<TaskContext>,
    pub executed: Arc<Mutex<Option<Report>>>,
}

impl SearchState {
    pub fn search(
        &self,
        queries: &[Vec<f64>],
        selection: Option<&BooleanBuffer>,
        k: Option<usize>,
        radius: Option<f64>,
    ) -> Result<Search<Many>> {
        let mut search = Search::batch(self.join.metric, queries).map_err(external)?;
        if let Some(k) = k {
            search = search.top_k(k);
        }
        if let Some(radius) = radius {
            search = search.radius(radius);
        }
        if let Some(selection) = selection {
            search = search.selection(selection);
        }
        Ok(search.threads(self.options.threads).tier(self.options.tier))
    }

    /// Adds a report to those already published.
    pub fn publish(&self, report: Report, add: fn(&mut Report, &Report)) {
        if let Ok(mut executed) = self.executed.lock() {
            match executed.as_mut() {
                Some(all) => add(all, &report),
                None => *executed = Some(report),
            }
        }
    }

    /// The output for some queries: `rows` are their ordinals, `found` what each found, `searched`
    /// the chunks.
    pub fn output(
        &self,
        queries: &RecordBatch,
        rows: &[usize],
        found: &[Vec<Found>],
        searched: &dyn Fn(usize) -> Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let pairs = || rows.iter().zip(found);
        let repeated: UInt64Array =
            pairs().flat_map(|(row, found)| std::iter::repeat_n(Some(*row as u64), found.len())).collect();
        let places: Vec<(usize, usize)> = found.iter().flatten().map(|found| found.place).collect();
        let column = |(ordinal, column): (usize, &JoinColumn)| -> Result<ArrayRef> {
            Ok(match column {
                JoinColumn::Query(i) => take(queries.column(*i), &repeated, None)?,
                JoinColumn::Found(_) if places.is_empty() => {
                    arrow::array::new_empty_array(self.schema.field(ordinal).data_type())
                }
                JoinColumn::Found(i) => {
                    let chunks = searched(*i);
                    let chunks: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.as_ref()).collect();
                    interleave(&chunks, &places)?
                }
                JoinColumn::Ordinal => {
                    Arc::new(found.iter().flatten().map(|found| Some(found.position as i64)).collect::<Int64Array>())
                }
                JoinColumn::Rank => {
                    Arc::new(found.iter().flat_map(|found| 1..=found.len() as i64).collect::<Int64Array>())
                }
                JoinColumn::Score => {
                    Arc::new(found.iter().flatten().map(|found| Some(found.score)).collect::<Float64Array>())
                }
            })
        };
        let columns = self.join.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The rows of the queries' input that are queries, and their vectors.
    pub fn queries(&self, batch: &RecordBatch) -> Result<(Vec<usize>, Vec<Vec<f64>>)> {
        let (vector, schema) = (batch.column(self.join.vectors.0), batch.schema());
        let array = vectors(vector, schema.field(self.join.vectors.0).name(), None, None, 0)?;
        if let Some(bits) = array.as_fixed_size_binary_opt() {
            let present: Vec<usize> = (0..bits.len()).filter(|row| bits.is_valid(*row)).collect();
            let queries = present.iter().map(|row| components_of_bits(bits.value(*row))).collect();
            return Ok((present, queries));
        }
        let list = array.as_fixed_size_list();
        let values = cast(list.values(), &DataType::Float64)?;
        let dim = list.value_length() as usize;
        let column = VectorColumn::try_new(&array).map_err(external)?;
        let mut rows = Vec::new();
        let mut queries = Vec::new();
        for row in 0..column.len() {
            let range = values.slice(row * dim, dim);
            if list.is_null(row) || range.null_count() > 0 {
                continue;
            }
            let query = range.as_primitive::<Float64Type>().values().to_vec();
            if Search::new(self.join.metric, &query).is_ok() {
                rows.push(row);
                queries.push(query);
            }
        }
        Ok((rows, queries))
    }
}
