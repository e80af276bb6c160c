//! A source and a sink that kill the process, as `kill -9` does, after a number of steps. The steps
//! are before and after each call of the engine, so around each durable write.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use vexact::Result;
use vexact::stream::{Offset, OffsetRange, Position, Sink, SinkTable, Source, SourceTable};

/// The number of remaining steps.
#[derive(Debug, Clone)]
pub struct Steps(Arc<AtomicI64>);

impl Steps {
    pub fn new(steps: i64) -> Self {
        Self(Arc::new(AtomicI64::new(steps)))
    }

    pub fn step(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
            let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::process::abort();
        }
    }
}

#[derive(Debug)]
pub struct DeadlySource {
    pub table: Arc<dyn SourceTable>,
    pub steps: Steps,
}

#[async_trait]
impl SourceTable for DeadlySource {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn is_bounded(&self) -> bool {
        self.table.is_bounded()
    }

    fn can_replay(&self) -> bool {
        self.table.can_replay()
    }

    async fn open(&self) -> Result<Box<dyn Source>> {
        let source = self.table.open().await?;
        Ok(Box::new(DeadlyReader { source, steps: self.steps.clone() }))
    }
}

#[derive(Debug)]
struct DeadlyReader {
    source: Box<dyn Source>,
    steps: Steps,
}

#[async_trait]
impl Source for DeadlyReader {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn can_replay(&self) -> bool {
        self.source.can_replay()
    }

    fn start(&self) -> Offset {
        self.source.start()
    }

    async fn next_range(&mut self) -> Result<Option<OffsetRange>> {
        self.source.next_range().await
    }

    async fn read(&mut self, range: &OffsetRange) -> Result<RecordBatch> {
        self.steps.step();
        self.source.read(range).await
    }

    async fn restore(&mut self, offset: &Offset) -> Result<()> {
        self.steps.step();
        self.source.restore(offset).await
    }
}

#[derive(Debug)]
pub struct DeadlySink {
    pub table: Arc<dyn SinkTable>,
    pub steps: Steps,
}

#[async_trait]
impl SinkTable for DeadlySink {
    fn schema(&self) -> Option<SchemaRef> {
        self.table.schema()
    }

    fn can_truncate(&self) -> bool {
        self.table.can_truncate()
    }

    async fn open(&self, schema: SchemaRef, is_restored: bool) -> Result<Box<dyn Sink>> {
        self.steps.step();
        let sink = self.table.open(schema, is_restored).await?;
        self.steps.step();
        Ok(Box::new(DeadlyWriter { sink, steps: self.steps.clone() }))
    }
}

#[derive(Debug)]
struct DeadlyWriter {
    sink: Box<dyn Sink>,
    steps: Steps,
}

#[async_trait]
impl Sink for DeadlyWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.steps.step();
        self.sink.write(batch).await?;
        self.steps.step();
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.steps.step();
        self.sink.flush().await?;
        self.steps.step();
        Ok(())
    }

    fn position(&self) -> Option<Position> {
        self.sink.position()
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        self.steps.step();
        self.sink.truncate(position).await?;
        self.steps.step();
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.steps.step();
        self.sink.finish().await?;
        self.steps.step();
        Ok(())
    }
}
