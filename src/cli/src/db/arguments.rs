//! The arguments of `vexact db`. The comments are the texts of `--help`.

use std::path::PathBuf;

use clap::Args;
use vexact::htap::{Blobs, HtapConfig, Param, StorageMode};
use vexact::replica::{StorageFormat, Store, SyncMode};
use vexact_kernel::Metric;

use crate::values::{QueryVector, blobs, column, metric, param};

/// The database of a command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Database {
    /// The SQLite file; as file:FILE?mode=ro it is read and never written
    #[arg(long, value_name = "FILE")]
    pub db: PathBuf,
    /// The folder that keeps the replicas; without it they are in memory, copied each time
    #[arg(long, value_name = "FOLDER")]
    pub storage_path: Option<PathBuf>,
    /// parquet or arrow_ipc [default: what the folder has; of a new one, parquet]
    #[arg(long, value_name = "FORMAT", requires = "storage_path", value_parser = HtapConfig::parse_storage_mode)]
    pub storage_mode: Option<StorageMode>,
    /// destructive: the replicas equal their tables; temporal: they keep the history [default: what
    /// the folder has; else destructive]
    #[arg(long, value_parser = HtapConfig::parse_sync_mode, value_name = "MODE")]
    pub mode: Option<SyncMode>,
    /// Changes that the log takes while no engine runs; then the tables are copied anew [default:
    /// what the file has; at first as many as the tables have rows, and at least 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub log_limit: Option<u64>,
}

impl Database {
    /// Returns the configuration of an engine on this database.
    pub fn config(&self) -> HtapConfig {
        let stored = self.storage_path.as_deref().and_then(Store::made_with);
        let stored_format = stored.map(|(format, _)| match format {
            StorageFormat::ArrowIpc => StorageMode::ArrowIpc,
            StorageFormat::Parquet => StorageMode::Parquet,
        });
        let new = if self.storage_path.is_some() { StorageMode::Parquet } else { StorageMode::InMemory };
        HtapConfig {
            oltp_path: self.db.clone(),
            log_limit: self.log_limit,
            storage_path: self.storage_path.clone(),
            storage_mode: self.storage_mode.or(stored_format).unwrap_or(new),
            sync_mode: self.mode.or(stored.and_then(|(_, mode)| mode)).unwrap_or(SyncMode::Destructive),
            ..HtapConfig::default()
        }
    }
}

const PARAM_HELP: &str = "\
A value for the next ? (or $1, $2): JSON where it is JSON, else text. A list of numbers is a vector;
objects and other lists are bound as their text. @FILE is the text of a file (@- of stdin), \"@x\" the text
@x. Repeat it for more";

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"rows_affected\": n}; 0 for DDL.

Examples:
  vexact db exec --db app.db --create \"CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, embedding BLOB)\"
  vexact db exec --db app.db --param 1 --param Ants --param '[0.1, 0.2]' \"INSERT INTO docs VALUES (?, ?, ?)\"
  vexact db exec --db app.db --file schema.sql")]
pub(crate) struct Exec {
    #[command(flatten)]
    pub database: Database,
    #[arg(long = "param", value_name = "V", value_parser = param, allow_hyphen_values = true, help = PARAM_HELP)]
    pub params: Vec<Param>,
    /// Create the database if the file does not exist
    #[arg(long)]
    pub create: bool,
    /// A file of statements, - for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// Statements that return no rows. Several are one transaction: all or nothing
    #[arg(required_unless_present = "file")]
    pub sql: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"route\": {\"side\", \"reason\"}, \"schema\": [{\"name\", \"type\"}], \"rows\": [{...}]}
Values: integers as they are, also beyond 2^53; NaN and infinities as \"NaN\", \"Infinity\", \"-Infinity\"; blobs as hex;
        vectors as lists; times as ISO 8601; decimals as text. A second column \"n\" is named \"n_2\".

Examples:
  vexact db query --db app.db --param 7 \"SELECT * FROM docs WHERE id = ?\"
  vexact db query --db app.db --format table \"SELECT lang, count(*) AS n FROM docs GROUP BY lang\"")]
pub(crate) struct Query {
    #[command(flatten)]
    pub database: Database,
    #[arg(long = "param", value_name = "V", value_parser = param, allow_hyphen_values = true, help = PARAM_HELP)]
    pub params: Vec<Param>,
    /// Query the replicas, whatever the query's shape
    #[arg(long)]
    pub olap: bool,
    /// Timeout in milliseconds
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
    /// One query that only reads
    pub sql: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"table\", \"columns\": [{\"name\", \"type\"}], \"key\", \"rows\", \"unloaded_rows\"}
Types:  int8..int64, uint8..uint64, float16, float32, float64, utf8, bool, binary, vector(N), float16[N],
        int8[N], uint8[N], bit[N]
Without --column and --key they are read from SQLite; --vector says which BLOBs are vectors.
The registration is kept in the file: each later command opens with the table's replica. Harmless to repeat.

Examples:
  vexact db register --db app.db --table docs --vector embedding:2 --initial-sync
  vexact db register --db app.db --table docs --column id:int64 --column title:utf8 \\
      --column \"embedding:vector(2)\" --key id --initial-sync")]
pub(crate) struct Register {
    #[command(flatten)]
    pub database: Database,
    /// A table of the database
    #[arg(long)]
    pub table: String,
    /// A column to replicate. Repeat it
    #[arg(long = "column", value_name = "NAME:TYPE", value_parser = column, requires = "key")]
    pub columns: Vec<(String, String)>,
    /// The columns that identify a row
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', requires = "columns")]
    pub key: Vec<String>,
    /// A BLOB column of vectors of DIM float32, or NAME:bytes. Repeat it
    #[arg(long = "vector", value_name = "NAME:DIM", value_parser = blobs, conflicts_with = "columns")]
    pub vectors: Vec<(String, Blobs)>,
    /// Copy the table's rows now
    #[arg(long)]
    pub initial_sync: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"table\"}
The table and its rows stay as they are. It may have been dropped or renamed; it can be registered again, with other columns or
another key.

Example:
  vexact db unregister --db app.db --table docs")]
pub(crate) struct Unregister {
    #[command(flatten)]
    pub database: Database,
    /// A registered table
    #[arg(long)]
    pub table: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"dropped\": [names]}
Drops the triggers and tables that vexact made in the file, in one transaction; the app's own stay as they are.

Example:
  vexact db uninstall --db app.db")]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub database: Database,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"events_processed\", \"rows_inserted\", \"rows_updated\", \"rows_deleted\", \"pruned_count\"},
        with --table also \"table\" and \"rows_copied\"
Opening the file brings the replicas up to date, by a copy where they are in memory: what is left to apply are changes since then.

Examples:
  vexact db sync --db app.db --table docs
  vexact db sync --db app.db --storage-path replicas")]
pub(crate) struct Sync {
    #[command(flatten)]
    pub database: Database,
    /// Copy all rows of this table first
    #[arg(long)]
    pub table: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"metric\", \"top_k\", \"schema\", \"rows\"}, best first: the key's columns, score, then --columns;
        with --explain also \"explain\": {\"logical\", \"physical\", \"strategy\"}

Example:
  vexact db search --db app.db --table docs --column embedding --query-vector \"0.1,0.2\" \\
      --top-k 5 --where \"lang = 'en'\" --columns title")]
pub(crate) struct Search {
    #[command(flatten)]
    pub database: Database,
    /// A registered table
    #[arg(long)]
    pub table: String,
    /// Its vector column
    #[arg(long)]
    pub column: String,
    /// "0.1,0.2", "[0.1, 0.2]", or @FILE that holds such a list (@- for stdin)
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    pub query_vector: QueryVector,
    /// Number of rows to return
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top_k: usize,
    /// cosine, dot or l2
    #[arg(long, default_value = "cosine", value_parser = metric)]
    pub metric: Metric,
    /// A SQL predicate on the table, applied before the search
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// Search only rows of at least this score: under a distance it leaves out the closest rows
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub min_score: Option<f64>,
    /// Return the K best rows of each group of rows with one value in this column
    #[arg(long, value_name = "NAME")]
    pub group_by: Option<String>,
    /// Columns to return, * for all
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Show how the search was done
    #[arg(long)]
    pub explain: bool,
    /// Timeout in milliseconds
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"position\", \"pruned_count\"}
The replicas of that engine are copied anew if it comes back. db status shows the positions.

Example:
  vexact db drop-position --db app.db --position 1a2b-3c4d5e-0")]
pub(crate) struct DropPosition {
    #[command(flatten)]
    pub database: Database,
    /// The name of the engine, which must not run
    #[arg(long, value_name = "ID")]
    pub position: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"lag\", \"last_synced_seq\", \"last_error\",
        \"tables\": [{\"name\", \"rows\", \"lag\", \"state\", \"last_error\", \"warning\"}],
        \"log_rows\", \"positions\": [{\"id\", \"applied_seq\", \"lag\", \"folder\", \"is_running\"}]}
The change log is kept for the engines in \"positions\"; this command is one of them while it runs.

Example:
  vexact db status --db app.db --format table")]
pub(crate) struct Status {
    #[command(flatten)]
    pub database: Database,
}
