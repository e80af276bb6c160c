//! `vexact stream-sql-once`: streaming SQL over a folder of CSV files, for a limited number of
//! micro-batches.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures::FutureExt;
use serde::{Serialize, Serializer};
use tokio::time::MissedTickBehavior;
use vexact::session::Session;
use vexact::sources::create::parse_columns;
use vexact::sources::row_file::RowFormat;
use vexact::stream::file_sink::FileSink;
use vexact::stream::{Delivery, ExecutionMode, StreamOptions, StreamingQuery};
use vexact_core::error::{Error, Result};

use super::answer::{Answer, Explained, Streamed, Table};
use super::failure::{During, Failure};
use super::input::delimiter;
use super::output::remark;
use super::progress::Shown;
use super::stream_sink::{WatchedSink, format_of};
use super::track::Track;

/// Interval between two progress reports of a query.
const TOLD_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Args, Serialize)]
#[command(after_help = "\
Answer: {\"ok\": true, \"query\", \"source_table\", \"sink_table\", \"sink_path\"?, \"batches_processed\", \"rows_written\", \"schema\", \"rows\",
        \"truncated\", \"progress\": {...}}; rows are the first of those written (50, and 200 KiB at most), all of them without
        --sink-path, progress the last snapshot: its status, rows_processed, late_rows, last_batch_latency_ms and more.
A micro-batch is up to 8 MiB of the files, in the order of their names; the first one waits for files that were written just
now. It gives the new values of the groups that it touched. The command waits for input until it has processed --max-batches of
them. Ctrl-C ends it, and what was written stays.

Examples:
  vexact stream-sql-once --source-csv-dir in --sink-schema \"key STRING, value_sum INT\" \\
      --query \"INSERT INTO output_sink SELECT key, sum(value) AS value_sum FROM input_stream GROUP BY key\"
  vexact stream-sql-once --source-csv-dir in --sink-path out.csv --sink-schema \"key STRING, value_sum INT\" \\
      --query \"INSERT INTO output_sink SELECT key, sum(value) AS value_sum FROM input_stream GROUP BY key\"
  vexact stream-sql-once --source-csv-dir in --sink-path out.json --max-batches 0 --checkpoint-path state \\
      --checkpoint-delivery-mode exactly-once --query \"SELECT * FROM input_stream WHERE value > 10\"")]
pub(super) struct StreamSqlOnce {
    /// The folder of CSV files with header lines; those that come later are read too
    #[arg(long, value_name = "FOLDER")]
    pub source_csv_dir: PathBuf,
    /// Name of the stream in SQL
    #[arg(long, value_name = "NAME", default_value = "input_stream")]
    pub source_table: String,
    /// Delimiter of the source's files: one character, \t for a tab
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    pub source_delimiter: char,
    /// Name of the sink in SQL
    #[arg(long, value_name = "NAME", default_value = "output_sink")]
    pub sink_table: String,
    /// The sink's columns and their SQL types, such as "key STRING, value_sum INT" [default: those
    /// of the query]
    #[arg(long, value_name = "COLUMNS")]
    pub sink_schema: Option<String>,
    /// The file to write, outside of the source's folder: .json (an object on each line) or
    /// .parquet; all else is CSV. Without it the rows are in the answer, and an artifact of a
    /// tracked run
    #[arg(long, value_name = "PATH")]
    pub sink_path: Option<PathBuf>,
    /// Delimiter of a CSV sink: one character, \t for a tab
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    pub sink_delimiter: char,
    /// INSERT INTO the sink SELECT from the stream, or the SELECT alone
    #[arg(long, value_name = "SQL")]
    pub query: String,
    /// Minimum time between two triggers, in milliseconds; at a trigger all input that has come is
    /// processed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub trigger_interval_ms: u64,
    /// The folder of its checkpoints; the same query resumes from there
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint_path: Option<PathBuf>,
    /// Delivery guarantee of the sink after a crash; exactly-once needs --checkpoint-path
    #[arg(long, value_name = "MODE", default_value = "at-least-once", value_parser = delivery())]
    #[serde(serialize_with = "delivery_name")]
    pub checkpoint_delivery_mode: Delivery,
    /// Execution mode of micro-batches
    #[arg(long, value_name = "MODE", default_value = "single-process", value_parser = execution())]
    #[serde(serialize_with = "execution_name")]
    pub execution_mode: ExecutionMode,
    /// Number of partitions of a micro-batch under local-workers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub local_workers: usize,
    /// Maximum number of partitions at a time; 0: all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_inflight_partitions: usize,
    /// End after this many micro-batches; 0: run until it is stopped
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub max_batches: u64,
}

fn columns(text: &str) -> Result<SchemaRef> {
    let field = |(name, data_type): (String, DataType)| Field::new(name, data_type, true);
    Ok(Arc::new(Schema::new(parse_columns(text)?.into_iter().map(field).collect::<Vec<_>>())))
}

fn delivery() -> impl TypedValueParser<Value = Delivery> {
    let modes = [Delivery::AtLeastOnce, Delivery::BestEffort, Delivery::ExactlyOnce].map(Delivery::name);
    PossibleValuesParser::new(modes).try_map(|name| name.parse())
}

fn execution() -> impl TypedValueParser<Value = ExecutionMode> {
    let modes = [ExecutionMode::SingleProcess, ExecutionMode::LocalWorkers].map(ExecutionMode::name);
    PossibleValuesParser::new(modes).try_map(|name| name.parse())
}

fn delivery_name<S: Serializer>(mode: &Delivery, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

fn execution_name<S: Serializer>(mode: &ExecutionMode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

impl StreamSqlOnce {
    pub async fn run(self, track: &Track) -> Result<Answer, Failure> {
        self.check_apart().during("arguments")?;
        let declared = self.sink_schema.as_deref().map(columns).transpose().during("arguments")?;
        let session = Session::new().during("start")?;
        let source = session.read_stream_csv_dir(&self.source_csv_dir, self.source_delimiter).during("input")?;
        session.create_stream_view(&self.source_table, &source).during("input")?;
        let file = match &self.sink_path {
            Some(path) => {
                let format = format_of(path, self.sink_delimiter);
                Some((FileSink::try_new(path, format, declared.clone()).during("output")?, path.clone(), format.name()))
            }
            None => None,
        };
        let sink = WatchedSink::new(file.as_ref().map(|(sink, ..)| sink.clone()), declared, track);
        session.create_sink(&self.sink_table, Arc::new(sink.clone())).during("output")?;
        let opened = session.start_stream_sql_into(&self.sink_table, &self.query, self.options()).await;
        let (query, explained) = opened.during("query")?;
        track.explain(&Explained::from(explained)).during("output")?;

        let batches_processed = processed(&query, self.max_batches, track, &sink).await?;
        let written = sink.preview().during("output")?;
        let copy = sink.finish_copy().during("output")?;
        let (row_count, is_truncated) = (written.row_count(), written.is_truncated());
        let all = sink.rows().filter(|_| copy.is_none());
        let shown = written.rows().clone();
        let sink_path = match (file, copy) {
            (Some((_, path, format)), copy) => {
                let path = std::path::absolute(&path).map_err(|error| Error::io(&path, error)).during("output")?;
                track.artifact(format, path.clone(), copy, written).during("output")?;
                Some(path)
            }
            (None, Some(path)) => {
                let format = RowFormat::of_suffix(&path).during("output")?.name();
                track.artifact(format, path.clone(), None, written).during("output")?;
                Some(path)
            }
            (None, None) => None,
        };
        let progress = Box::new(query.progress());
        if let Some(warning) = &progress.warning {
            remark(format_args!("warning: {warning}"));
        }
        Ok(Answer::Streamed(Streamed {
            query: self.query,
            source_table: self.source_table,
            sink_table: self.sink_table,
            sink_path,
            batches_processed,
            rows_written: row_count,
            truncated: is_truncated && all.is_none(),
            rows: Table::new(all.unwrap_or_else(|| vec![shown])),
            progress,
        }))
    }

    /// Rejects a sink in the folder of the source: the query would read its own output.
    fn check_apart(&self) -> Result<()> {
        let Some(path) = &self.sink_path else { return Ok(()) };
        let sink_folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        match (self.source_csv_dir.canonicalize(), sink_folder.canonicalize()) {
            (Ok(source), Ok(sink)) if source == sink => Err(Error::InvalidArgument(format!(
                "--sink-path: expected a file outside of --source-csv-dir, got {}",
                path.display()
            ))),
            // A missing folder is reported when it is opened.
            _ => Ok(()),
        }
    }

    fn options(&self) -> StreamOptions {
        StreamOptions {
            trigger_interval: Duration::from_millis(self.trigger_interval_ms),
            checkpoint_path: self.checkpoint_path.clone(),
            delivery: self.checkpoint_delivery_mode,
            execution: self.execution_mode,
            local_workers: self.local_workers,
            max_inflight_partitions: self.max_inflight_partitions,
        }
    }
}

/// Runs a query to its end and reports its progress. Returns the number of micro-batches that it
/// processed.
async fn processed(
    query: &StreamingQuery,
    max_batches: u64,
    track: &Track,
    sink: &WatchedSink,
) -> Result<u64, Failure> {
    let shown = Shown::new("stream");
    let mut told = None;
    let mut tell = || {
        let progress = query.progress();
        shown.say(format!("stream, micro-batches so far: {}", progress.batches_processed));
        if told.as_ref() == Some(&progress) {
            return Ok(());
        }
        let line = track.progress(&progress).during("output");
        told = Some(progress);
        line?;
        match sink.latest().during("output")? {
            Some(latest) => track.latest(&latest).during("output"),
            None => Ok(()),
        }
    };
    let mut ticks = tokio::time::interval(TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = pin!(query.await_termination(max_batches));
    let mut stop = pin!(track.stop.asked().fuse());
    loop {
        tokio::select! {
            biased;
            ended = &mut end => {
                tell()?;
                return ended.during("query");
            }
            () = &mut stop => query.stop(),
            _ = ticks.tick() => tell()?,
        }
    }
}
