//! In-memory Arrow batches as a source: one [`RecordBatch`] is one micro-batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact_core::error::{Error, Result};

use super::source::{Offset, OffsetRange, Source, SourceTable};

/// In-memory batches, in their order. The source ends after the last one, and can be read any
/// number of times; its offsets count batches.
#[derive(Debug, Clone)]
pub struct MemoryTable {
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

impl MemoryTable {
    /// Nothing is copied.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn try_new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self> {
        if let Some(batch) = batches.iter().find(|batch| batch.schema().fields() != schema.fields()) {
            return Err(Error::InvalidArgument(format!(
                "a batch does not match its stream: expected {schema}, got {}",
                batch.schema()
            )));
        }
        Ok(Self { schema, batches: batches.into() })
    }
}

#[async_trait]
impl SourceTable for MemoryTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn can_replay(&self) -> bool {
        true
    }

    async fn open(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(MemorySource { table: self.clone(), next: 0 }))
    }
}

#[derive(Debug)]
struct MemorySource {
    table: MemoryTable,
    next: usize,
}

impl MemorySource {
    /// Returns the number of batches before an offset.
    fn ordinal(&self, offset: &Offset) -> Result<usize> {
        let count = self.table.batches.len();
        let ordinal = offset.as_u64().and_then(|ordinal| usize::try_from(ordinal).ok());
        ordinal.filter(|ordinal| *ordinal <= count).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "source offset: expected a number of batches from 0 to {count}, got {offset}"
            ))
        })
    }
}

#[async_trait]
impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn can_replay(&self) -> bool {
        true
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        if self.next == self.table.batches.len() {
            return Ok(None);
        }
        let from = self.next;
        self.next += 1;
        Ok(Some(OffsetRange { from: from.into(), to: self.next.into() }))
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        let (from, to) = (self.ordinal(&range.from)?, self.ordinal(&range.to)?);
        match self.table.batches.get(from) {
            Some(batch) if to == from + 1 => Ok(batch.clone()),
            _ => {
                Err(Error::InvalidArgument(format!("source offsets: expected those of one batch, got {from} to {to}")))
            }
        }
    }

    async fn restore(&mut self, offset: &Offset) -> Result<()> {
        self.next = self.ordinal(offset)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
    }

    #[tokio::test]
    async fn a_restored_reader_goes_on_where_the_other_stopped() {
        let table = MemoryTable::try_new(batch(0).schema(), (0..3).map(batch).collect()).unwrap();
        let mut first = table.open().await.unwrap();
        let range = first.next_range().await.unwrap().unwrap();
        assert_eq!(range.from, first.start());
        assert_eq!(first.read(&range).await.unwrap(), batch(0));
        let mut second = table.open().await.unwrap();
        second.restore(&range.to).await.unwrap();
        for value in 1..3 {
            let range = second.next_range().await.unwrap().unwrap();
            assert_eq!(second.read(&range).await.unwrap(), batch(value));
        }
        assert_eq!(second.next_range().await.unwrap(), None);
        assert!(second.restore(&Offset::from(4)).await.is_err());
    }

    #[test]
    fn batches_of_another_schema_are_refused() {
        let other = RecordBatch::try_from_iter([("y", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let error = MemoryTable::try_new(batch(0).schema(), vec![other]).unwrap_err().to_string();
        assert!(error.contains("\"y\"") && error.contains("\"x\""), "{error}");
    }
}
