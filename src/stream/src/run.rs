//! Runs a streaming query: one micro-batch after another, from its source through its pipeline into
//! its sink.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use tokio::sync::watch;
use vexact_core::disk::FileSystem;
use vexact_core::error::{Error, Result};
use vexact_sources::keep::kept;

use super::checkpoint::{Checkpoint, Found, Owner, Store};
use super::control::{Control, Shared, query_id};
use super::options::{Delivery, StreamOptions};
use super::pipeline::Pipeline;
use super::progress::{Progress, Status};
use super::pull::{AHEAD, Next, Pull, Pulled, Pulls};
use super::run_plan::concat;
use super::sink::Sink;
use super::source::{OffsetRange, Source};
use super::target::Target;
use super::workers::Workers;

/// Grace period of a micro-batch after the query is stopped.
const GRACE: Duration = Duration::from_secs(1);
/// Minimum duration of a write that counts as back-pressure.
const BLOCKED: Duration = Duration::from_millis(10);

/// Minimum distance of an event time ahead of the clock for a warning: a day, in milliseconds.
const FAR_MS: i64 = 86_400_000;

/// A query that is opened and ready to run.
pub(super) struct StreamDriver {
    pipeline: Pipeline,
    source: Box<dyn Source>,
    /// Logged micro-batch that runs first.
    next: Option<OffsetRange>,
    sink: Box<dyn Sink>,
    sink_schema: SchemaRef,
    store: Option<Store>,
    checkpoint: Checkpoint,
    workers: Workers,
    options: StreamOptions,
}

impl fmt::Debug for StreamDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamDriver({:?})", self.source)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Waits until a query with this number of processed micro-batches has to end.
async fn ended(control: &mut watch::Receiver<Control>, processed: u64) {
    let is_enough =
        |control: &Control| control.is_stopped || (control.max_batches > 0 && processed >= control.max_batches);
    if control.wait_for(is_enough).await.is_err() {
        std::future::pending().await
    }
}

/// Waits for `stop`.
async fn stopped(control: &mut watch::Receiver<Control>) {
    // A query whose handles are gone cannot be stopped any more, so this waits forever.
    if control.wait_for(|control| control.is_stopped).await.is_err() {
        std::future::pending().await
    }
}

impl StreamDriver {
    /// Opens source, sink and checkpoint. `query` is the text of the query.
    ///
    /// # Errors
    /// A mismatch of columns; a delivery mode that the source or the sink does not support; a
    /// checkpoint of another query.
    pub async fn open(
        mut pipeline: Pipeline,
        target: &Target,
        query: String,
        options: StreamOptions,
        workers: Workers,
    ) -> Result<(Self, Progress)> {
        options.check()?;
        let table = Arc::clone(&pipeline.source);
        if options.delivery == Delivery::ExactlyOnce {
            let lacks = match (table.can_replay(), target.sink.can_truncate()) {
                (false, _) => Some("a source that can be read again from an offset (a CSV directory)"),
                (_, false) => Some("a sink that can be cut back (a csv or json file)"),
                _ => None,
            };
            if let Some(lacks) = lacks {
                let problem = format!("checkpoint_delivery_mode exactly-once: expected {lacks}");
                return Err(Error::InvalidArgument(problem));
            }
        }
        let sink_schema = target.schema(pipeline.schema())?;
        let opened = match &options.checkpoint_path {
            Some(path) => Some(open_store(path.clone()).await?),
            None => None,
        };
        let (store, found) = opened.map_or((None, None), |(store, found)| (Some(store), found));
        let owner = Owner { query, source: table.identity(), sink: target.sink.identity() };
        if let Some(found) = &found {
            owner.check(&found.checkpoint.owner)?;
        }
        let mut source = table.open().await?;
        let is_restored = found.is_some();
        let (checkpoint, next) = match found {
            None => (Checkpoint::start(owner, source.start()), None),
            Some(Found { checkpoint, state, next }) => {
                pipeline.restore(checkpoint.newest, checkpoint.late_rows, state)?;
                if checkpoint.offset != source.start() {
                    match source.restore(&checkpoint.offset).await {
                        Ok(()) => source.verify(&checkpoint.evidence).await?,
                        Err(error) if options.delivery != Delivery::BestEffort => return Err(error),
                        Err(_) => {}
                    }
                }
                (checkpoint, next.filter(|_| options.delivery == Delivery::ExactlyOnce))
            }
        };
        pipeline.open().await?;
        let mut sink = target.sink.open(Arc::clone(&sink_schema), is_restored).await?;
        if let Some(position) = checkpoint.position.as_ref().filter(|_| options.delivery == Delivery::ExactlyOnce) {
            sink.truncate(position).await?;
        }
        let mut run = Self { pipeline, source, next, sink, sink_schema, store, checkpoint, workers, options };
        if !is_restored && run.options.delivery == Delivery::ExactlyOnce {
            run.save().await?;
        }
        let progress = run.progress(if is_restored { Status::Restored } else { Status::Created });
        Ok((run, progress))
    }

    fn progress(&self, status: Status) -> Progress {
        let (mode, reason) = self.workers.mode();
        let (implementation, why) = aggregate_facts(&self.pipeline);
        Progress {
            query_id: query_id(),
            status,
            requested_execution_mode: self.workers.requested().into(),
            execution_mode: mode.into(),
            execution_reason: reason.into(),
            checkpoint_delivery_mode: self.options.delivery.name().into(),
            batches_pulled: 0,
            batches_processed: self.checkpoint.batches_processed,
            rows_processed: self.checkpoint.rows_processed,
            late_rows: self.checkpoint.late_rows,
            warning: self.warning(),
            blocked_count: 0,
            max_backlog_batches: 0,
            inflight_batches: 0,
            inflight_partitions: 0,
            last_batch_latency_ms: 0.0,
            last_sink_latency_ms: 0.0,
            last_state_latency_ms: 0.0,
            last_source_offset: (self.checkpoint.batches_processed > 0).then(|| self.checkpoint.offset.to_string()),
            backpressure_active: false,
            has_stateful_ops: self.pipeline.groups().is_some() || self.pipeline.needs_end.is_some(),
            has_window: self.pipeline.window().is_some(),
            sink_is_blocking: self.sink.is_blocking(),
            source_is_bounded: self.source.is_bounded(),
            estimated_state_size_bytes: self.pipeline.state_bytes() as u64,
            backpressure_max_queue_batches: AHEAD.high as u64,
            backpressure_high_watermark: AHEAD.high as u64,
            backpressure_low_watermark: AHEAD.low as u64,
            aggregate_impl: implementation.into(),
            aggregate_reason: why,
        }
    }

    /// Returns a warning about an event time far ahead of the clock, which makes current rows late.
    fn warning(&self) -> Option<String> {
        let window = self.pipeline.window().filter(|window| window.lateness_ms.is_some())?;
        let newest = self.pipeline.newest?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        (newest > now.saturating_add(FAR_MS)).then(|| {
            let time = &window.time;
            let days = (newest - now) / FAR_MS;
            format!("event time {newest} ms in column {time:?} is {days} days ahead of the clock and closes all windows before it")
        })
    }

    /// Runs until the input ends, the query is stopped, or it fails.
    pub async fn work_to_end(mut self, shared: Arc<Shared>) -> Result<()> {
        let mut control = shared.control.subscribe();
        shared.progress.send_modify(|progress| {
            if progress.status == Status::Created {
                progress.status = Status::Running;
            }
        });
        let has_ended = if self.checkpoint.is_finished { false } else { self.work(&shared, &mut control).await? };
        if has_ended {
            let rows = self.pipeline.finish().await?;
            self.write(rows, &shared, &mut control).await?;
            self.checkpoint.is_finished = self.pipeline.needs_end.is_some();
            self.save().await?;
        }
        self.sink.finish().await
    }

    /// Runs the query; returns true if its input has ended, and false if the query was stopped
    /// before.
    async fn work(&mut self, shared: &Shared, control: &mut watch::Receiver<Control>) -> Result<bool> {
        if let Some(range) = self.next.take() {
            self.source.restore(&range.from).await?;
            let batch = self.source.read(&range).await?;
            let evidence = self.source.evidence();
            self.source.restore(&range.to).await?;
            if !self.micro_batch(Pulled { range, batch, evidence }, 0, shared, control).await? {
                return Ok(false);
            }
        }
        let pulls = Arc::new(Pulls::default());
        let closed = Box::new(super::source::Taken(self.source.schema()));
        let source = std::mem::replace(&mut self.source, closed);
        let mut pull = Pull::new(source, Arc::clone(&pulls))?;
        let mut trigger = None;
        let mut is_triggered = false;
        loop {
            let processed = shared.processed.load(Ordering::Relaxed);
            let next = tokio::select! {
                biased;
                () = ended(control, processed) => return Ok(false),
                next = pull.next() => next?,
            };
            let backlog = pull.backlog();
            let batch = match next {
                Next::End => return Ok(true),
                Next::Idle => {
                    is_triggered = false;
                    // The source's idle report was counted as a micro-batch.
                    shared.progress.send_modify(|progress| progress.inflight_batches = backlog);
                    continue;
                }
                Next::Batch(batch) => batch,
            };
            if !is_triggered {
                if let Some(due) =
                    trigger.and_then(|last: tokio::time::Instant| last.checked_add(self.options.trigger_interval))
                {
                    tokio::select! {
                        biased;
                        () = stopped(control) => return Ok(false),
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                (trigger, is_triggered) = (Some(tokio::time::Instant::now()), true);
            }
            shared.progress.send_modify(|progress| {
                progress.batches_pulled = pulls.pulled.load(Ordering::Relaxed);
                progress.max_backlog_batches = pulls.max_backlog.load(Ordering::Relaxed);
                progress.inflight_batches = backlog + 1;
            });
            if !self.micro_batch(batch, pulls.blocked.load(Ordering::Relaxed), shared, control).await? {
                return Ok(false);
            }
        }
    }

    /// Processes a micro-batch. Returns false if the query was stopped before the end.
    async fn micro_batch(
        &mut self,
        Pulled { range, batch, evidence }: Pulled,
        blocked_pulls: u64,
        shared: &Shared,
        control: &mut watch::Receiver<Control>,
    ) -> Result<bool> {
        let started = Instant::now();
        if let Some(store) = self.store.as_ref().filter(|_| self.options.delivery == Delivery::ExactlyOnce) {
            store.log(&range)?;
        }
        let partitions = self.workers.divide(batch.num_rows());
        shared.progress.send_modify(|progress| progress.inflight_partitions = partitions as u64);
        let mut stop = control.clone();
        let late = async {
            stopped(&mut stop).await;
            tokio::time::sleep(GRACE).await;
        };
        let rows = match batch.num_rows() {
            0 => Vec::new(),
            _ => tokio::select! {
                biased;
                rows = self.pipeline.run(&batch, partitions) => rows?,
                () = late => return Ok(false),
            },
        };
        let ran = started.elapsed();
        self.workers.observe(batch.num_rows(), partitions, ran);
        if !self.write(rows, shared, control).await? {
            return Ok(false);
        }
        let written = started.elapsed();
        self.checkpoint.offset = range.to;
        self.checkpoint.evidence = evidence;
        self.checkpoint.batches_processed += 1;
        self.checkpoint.rows_processed += batch.num_rows() as u64;
        self.save().await?;
        shared.processed.fetch_add(1, Ordering::Relaxed);
        let saved = started.elapsed();
        let (mode, reason) = self.workers.mode();
        let state_time = self.pipeline.take_state_time();
        shared.progress.send_modify(|progress| {
            progress.status = Status::Running;
            progress.execution_mode = mode.into();
            progress.execution_reason = reason.into();
            progress.batches_processed = self.checkpoint.batches_processed;
            progress.rows_processed = self.checkpoint.rows_processed;
            progress.late_rows = self.pipeline.late_rows;
            progress.warning = self.warning();
            progress.blocked_count = progress.blocked_count.max(blocked_pulls);
            progress.inflight_batches = progress.inflight_batches.saturating_sub(1);
            progress.inflight_partitions = 0;
            progress.last_batch_latency_ms = millis(saved);
            progress.last_sink_latency_ms = millis(written - ran);
            progress.last_state_latency_ms = millis(state_time + (saved - written));
            progress.last_source_offset = Some(self.checkpoint.offset.to_string());
            progress.estimated_state_size_bytes = self.pipeline.state_bytes() as u64;
        });
        Ok(true)
    }

    /// Writes rows to the sink. Returns false if the query was stopped while the sink had no room.
    async fn write(
        &mut self,
        rows: Vec<RecordBatch>,
        shared: &Shared,
        control: &mut watch::Receiver<Control>,
    ) -> Result<bool> {
        let rows = concat(rows, self.pipeline.schema())?;
        if rows.num_rows() == 0 {
            return Ok(true);
        }
        let rows = as_declared(&rows, &self.sink_schema)?;
        let is_blocking = self.sink.is_blocking();
        let mut writing = std::pin::pin!(self.sink.write(rows));
        if !is_blocking {
            return writing.await.map(|()| true);
        }
        if let Ok(written) = tokio::time::timeout(BLOCKED, &mut writing).await {
            return written.map(|()| true);
        }
        shared.progress.send_modify(|progress| {
            progress.status = Status::Backpressure;
            progress.backpressure_active = true;
            progress.blocked_count += 1;
        });
        let written = tokio::select! {
            biased;
            written = &mut writing => written.map(|()| true),
            () = stopped(control) => Ok(false),
        };
        shared.progress.send_modify(|progress| {
            progress.status = Status::Running;
            progress.backpressure_active = false;
        });
        written
    }

    /// Saves a checkpoint of the current position.
    async fn save(&mut self) -> Result<()> {
        let Some(mut store) = self.store.take() else { return Ok(()) };
        if self.options.delivery != Delivery::BestEffort {
            self.sink.flush().await?;
        }
        self.checkpoint.position = self.sink.position();
        self.checkpoint.newest = self.pipeline.newest;
        self.checkpoint.late_rows = self.pipeline.late_rows;
        let state = self.pipeline.state();
        let checkpoint = Checkpoint { state: Vec::new(), ..self.checkpoint.clone() };
        // Waiting for a disk must not block the runtime's threads.
        let saving = tokio::task::spawn_blocking(move || {
            let saved = store.save(checkpoint, &state);
            (store, saved)
        });
        let (store, saved) =
            saving.await.map_err(|error| Error::Interrupted(format!("a checkpoint ended early: {error}")))?;
        self.store = Some(store);
        saved
    }
}

async fn open_store(path: PathBuf) -> Result<(Store, Option<Found>)> {
    let opening = tokio::task::spawn_blocking(move || Store::open(&path, Arc::new(FileSystem)));
    opening.await.map_err(|error| Error::Interrupted(format!("a checkpoint ended early: {error}")))?
}

/// Returns `aggregate_impl` and `aggregate_reason`.
pub(super) fn aggregate_facts(pipeline: &Pipeline) -> (&'static str, String) {
    match &pipeline.aggregates {
        Some(names) if names.is_empty() => ("merged-states", "distinct keys: each is kept once".into()),
        Some(names) => {
            ("merged-states", format!("{names}: the states of a micro-batch are merged into those of its groups"))
        }
        None => ("none", "no aggregate: what comes of a row depends on the row".into()),
    }
}

/// Casts rows to the declared columns of the sink. A value that does not fit without loss is an
/// error.
fn as_declared(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
        kept(column, field.data_type())
            .map_err(|problem| Error::InvalidArgument(format!("column {:?} of the sink: {problem}", field.name())))
    });
    let columns = columns.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::arrow)
}
