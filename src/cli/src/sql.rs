//! `vexact csv-sql` and `vexact file-sql`: SQL on one file.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::answer::{Answer, Explained};
use super::failure::{During, Failure};
use super::input::{Input, shown_path};
use super::produce::Rows;
use super::track::Track;
use super::workers::Workers;

#[derive(Debug, Clone, Args, Serialize)]
#[command(after_help = "\
Answer: {\"ok\": true, \"table\", \"query\", \"schema\": [{\"name\", \"type\"}], \"rows\": [{...}]}; with --output-path the first rows
        (50, and 200 KiB at most), and \"row_count\", \"truncated\", \"output_path\".
A cell [1 2 3] of a CSV file, and a list of numbers in JSON, is a vector: cosine_distance(embedding, '[0.1 0.2]').

Examples:
  vexact csv-sql --csv docs.csv --query \"SELECT lang, count(*) AS n FROM input_table GROUP BY lang\"
  vexact file-sql --input-path docs.parquet --table docs --query \"SELECT * FROM docs WHERE year > 2020\" \\
      --output-path recent.parquet
  vexact file-sql --input-path /data/docs/ --workers w1:8815,w2:8815 --token-file token \\
      --query \"SELECT lang, count(*) FROM input_table GROUP BY lang\"")]
pub(super) struct FileSql {
    #[command(flatten)]
    pub input: Input,
    /// One SQL query
    #[arg(long, value_name = "SQL")]
    pub query: String,
    /// Write the rows into this file or object: .parquet, .arrow or .csv; a path, or a URL of s3, gs or az
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "shown_path")]
    pub output_path: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub workers: Workers,
}

impl FileSql {
    pub async fn run(self, track: &Track) -> Result<Answer, Failure> {
        let session = self.workers.session().during("start")?;
        self.input.open(&session).await.during("input")?;
        let frame = session.sql(&self.query, None).await.during("query")?;
        let planned = frame.planned().await.during("query")?;
        let rows = Rows {
            schema: frame.schema(),
            stream: planned.stream().during("query")?,
            output_path: self.output_path.as_deref(),
            stores: session.object_stores(),
        };
        let (table, written) = rows.produced(track, "query").await?;
        track.explain(&Explained::from(planned.explained())).during("output")?;
        Ok(Answer::FileQueried { table: self.input.table, query: self.query, rows: table, written })
    }
}
