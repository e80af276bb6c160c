//! The rows of a table in memory, to send them to another process.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;

use super::{InPlace, in_place};

/// The columns of a table in memory that a plan scans.
pub struct MemoryRows {
    scan: InPlace,
    schema: SchemaRef,
}

impl MemoryRows {
    /// Returns the rows of a plan that scans a table in memory and does nothing else; `None` for
    /// another plan.
    pub fn of_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if !plan.children().is_empty() {
            return None;
        }
        Some(Self { scan: in_place(plan)?, schema: plan.schema() })
    }

    /// Returns the names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    /// Returns the size of the columns, in bytes, deleted rows included.
    pub fn bytes(&self) -> usize {
        let batches = self.scan.chunks.batches();
        let columns =
            batches.iter().flat_map(|batch| self.scan.columns.iter().map(move |column| batch.column(*column)));
        columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
    }

    /// Returns true if a row's ordinal in [`Self::batch`] is its position in the table.
    pub fn keeps_positions(&self) -> bool {
        self.scan.chunks.tie_order().is_empty() && self.scan.chunks.selection().is_none()
    }

    /// Returns the live rows, in the order in which rows of equal distance come.
    ///
    /// # Errors
    /// More rows than a batch can have.
    pub fn batch(&self) -> Result<RecordBatch> {
        let chunks = &self.scan.chunks;
        // The columns that order ties are dropped at the end.
        let mut columns = self.scan.columns.clone();
        columns.extend(chunks.tie_order());
        let mut batches = Vec::with_capacity(chunks.batches().len());
        for (ordinal, batch) in chunks.batches().iter().enumerate() {
            let projected = batch.project(&columns)?;
            batches.push(match chunks.live(ordinal, 0, batch.num_rows()) {
                Some(live) => filter_record_batch(&projected, &BooleanArray::new(live, None))?,
                None => projected,
            });
        }
        let Some(first) = batches.first() else { return Ok(RecordBatch::new_empty(Arc::clone(&self.schema))) };
        let rows = concat_batches(&first.schema(), &batches)?;
        let own = self.scan.columns.len();
        let ties = &rows.columns()[own..];
        let rows = match ties.is_empty() {
            true => rows,
            false => {
                let keys = ties.iter().map(|values| SortColumn { values: Arc::clone(values), options: None });
                take_record_batch(&rows, &lexsort_to_indices(&keys.collect::<Vec<_>>(), None)?)?
            }
        };
        let rows = rows.project(&(0..own).collect::<Vec<_>>())?;
        Ok(rows.with_schema(Arc::clone(&self.schema))?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::buffer::BooleanBuffer;
    use arrow::datatypes::Int64Type;

    use super::super::{BATCH_ROWS, Bounds, ChunkScanExec, Chunks};
    use super::*;

    fn batch(keys: &[i64]) -> RecordBatch {
        let keys = Int64Array::from(keys.to_vec());
        let values = Int64Array::from_iter_values(keys.values().iter().map(|key| key * 10));
        RecordBatch::try_from_iter([("key", Arc::new(keys) as _), ("value", Arc::new(values) as _)]).unwrap()
    }

    fn rows(chunks: Chunks, columns: Vec<usize>) -> MemoryRows {
        let schema = batch(&[]).schema();
        let scan = ChunkScanExec::try_new(&schema, Arc::new(chunks), columns, BATCH_ROWS).unwrap();
        MemoryRows::of_scan(&(Arc::new(scan) as Arc<dyn ExecutionPlan>)).unwrap()
    }

    #[test]
    fn live_rows_come_in_the_order_of_ties() {
        let live = |batch: &RecordBatch| BooleanBuffer::collect_bool(batch.num_rows(), |row| row != 1);
        let batches = vec![batch(&[5, 6, 1]), batch(&[3, 2])];
        let found = |rows: &MemoryRows| {
            let batch = rows.batch().unwrap();
            assert_eq!(batch.num_columns(), 1);
            batch.column(0).as_primitive::<Int64Type>().values().to_vec()
        };
        let plain = rows(Chunks::new(batches.clone()), vec![1]);
        assert!(plain.keeps_positions());
        assert_eq!((plain.columns(), plain.bytes()), (vec!["value"], 5 * 8));
        assert_eq!(found(&plain), [50, 60, 10, 30, 20]);
        let bounds = || batches.iter().map(|batch| Arc::new(Bounds::new(batch.num_columns()))).collect::<Vec<_>>();
        let deleted = Some(batches.iter().map(|batch| Some(live(batch))).collect());
        let deleted = rows(Chunks::of_parts(batches.clone(), deleted, bounds()), vec![1]);
        assert!(!deleted.keeps_positions());
        assert_eq!(found(&deleted), [50, 10, 30]);
        let keyed = rows(Chunks::new(batches.clone()).with_ties_by(vec![0]), vec![1]);
        assert!(!keyed.keeps_positions());
        assert_eq!(found(&keyed), [10, 20, 30, 50, 60]);
        assert_eq!(rows(Chunks::default(), vec![1]).batch().unwrap().num_rows(), 0);
    }
}
