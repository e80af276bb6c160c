//! `vexact db`: each command is a few calls of the engine.

mod arguments;
mod text;

use std::path::Path;

use clap::Subcommand;
use serde_json::{Map, Value};
use vexact::htap::{HtapEngine, InferredColumn, InferredTable};
use vexact::router::Side;
use vexact::session::{QueryVectors, VectorSearch};
use vexact_core::database_path::DatabasePath;
use vexact_core::error::{Error, Result};
use vexact_core::json::columns;
use vexact_core::schema::TableSchema;

use crate::answer::{Answer, Copied, Explained, RouteTaken, Table};
use crate::failure::{During, Failure};
use crate::output::remark;
use crate::progress::{Shown, showing_copies};
use crate::script;
use crate::values::read_text;
use arguments::{Database, DropPosition, Exec, Query, Register, Search, Status, Sync, Uninstall, Unregister};

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Run statements that write: one alone, several in one transaction
    Exec(Exec),
    /// Run one query, on SQLite or on the replicas
    Query(Query),
    /// Replicate a table
    Register(Register),
    /// Stop replicating a table
    Unregister(Unregister),
    /// Remove vexact's tables and triggers from the file
    Uninstall(Uninstall),
    /// Apply the changes that the replicas lack
    Sync(Sync),
    /// Find the rows whose vectors are closest to a query
    Search(Search),
    /// Index the text of columns
    RegisterText(text::RegisterText),
    /// Find the rows whose text matches words, and whose vectors are closest to a query
    TextSearch(text::TextQuery),
    /// Show the state of replication
    Status(Status),
    /// Drop the log position of an engine that is gone
    DropPosition(DropPosition),
}

impl DbCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let (name, Database { db, .. }) = match self {
            Self::Exec(command) => ("db exec", &command.database),
            Self::Query(command) => ("db query", &command.database),
            Self::Register(command) => ("db register", &command.database),
            Self::Unregister(command) => ("db unregister", &command.database),
            Self::Uninstall(command) => ("db uninstall", &command.database),
            Self::Sync(command) => ("db sync", &command.database),
            Self::Search(command) => ("db search", &command.database),
            Self::RegisterText(command) => ("db register-text", &command.database),
            Self::TextSearch(command) => ("db text-search", &command.database),
            Self::Status(command) => ("db status", &command.database),
            Self::DropPosition(command) => ("db drop-position", &command.database),
        };
        let details = [("command", name.to_owned()), ("db", db.display().to_string())];
        details.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Returns the timeout in milliseconds. Only commands that only read have one: they can be
    /// cancelled at any time.
    pub fn timeout_ms(&self) -> Option<u64> {
        match self {
            Self::Query(Query { timeout_ms, .. })
            | Self::Search(Search { timeout_ms, .. })
            | Self::TextSearch(text::TextQuery { timeout_ms, .. }) => *timeout_ms,
            _ => None,
        }
    }
}

/// Runs a command.
pub(crate) async fn run(command: DbCommand) -> Result<Answer, Failure> {
    match command {
        DbCommand::Exec(command) => exec(command).await,
        DbCommand::Query(command) => query(command).await,
        DbCommand::Register(command) => register(command).await,
        DbCommand::Unregister(command) => unregister(command).await,
        DbCommand::Uninstall(command) => uninstall(command).await,
        DbCommand::Sync(command) => sync(command).await,
        DbCommand::Search(command) => search(command).await,
        DbCommand::RegisterText(command) => text::register(command).await,
        DbCommand::TextSearch(command) => text::search(command).await,
        DbCommand::Status(command) => status(command).await,
        DbCommand::DropPosition(command) => drop_position(command).await,
    }
}

async fn exec(command: Exec) -> Result<Answer, Failure> {
    let texts = match &command.file {
        Some(file) => vec![read_text(file).during("arguments")?],
        None => command.sql,
    };
    let mut statements: Vec<String> =
        texts.iter().flat_map(|text| script::statements(text)).map(str::to_owned).collect();
    if statements.is_empty() {
        return Err(Failure::usage("expected a statement, got none"));
    }
    if statements.len() > 1 && !command.params.is_empty() {
        let got = statements.len();
        return Err(Failure::usage(format!("--param: expected one statement to bind it to, got {got}")));
    }
    let engine = match command.create {
        true => create(&command.database).await?,
        false => open(&command.database).await.map_err(|failure| failure.with_hint("--create creates the database"))?,
    };
    let done = async {
        match statements.len() {
            1 => engine.execute(&statements.remove(0), &command.params).await,
            _ => engine.execute_batch(statements).await,
        }
    };
    let rows_affected = closing(&engine, async { done.await.during("execute") }).await?;
    Ok(Answer::Executed { rows_affected })
}

async fn query(command: Query) -> Result<Answer, Failure> {
    let Query { database, params, olap, sql, .. } = command;
    let engine = open(&database).await?;
    closing(&engine, async {
        let (route, batches) = if olap {
            let route = RouteTaken { side: "olap", reason: "asked for".into() };
            (route, engine.query_olap(&sql, &params).await)
        } else {
            let route = engine.route(&sql).await.during("query")?;
            let side = match route.side {
                Side::Sqlite => "sqlite",
                Side::Olap => "olap",
            };
            (RouteTaken { side, reason: route.reason.to_string() }, engine.query(&sql, &params).await)
        };
        Ok(Answer::Queried { route, table: Table::new(batches.during("query")?) })
    })
    .await
}

async fn register(command: Register) -> Result<Answer, Failure> {
    let Register { database, table, columns: wanted, key, vectors, initial_sync } = command;
    let given = match wanted.is_empty() {
        true => None,
        false => Some(TableSchema::try_new(&table, &wanted, &key).during("arguments")?),
    };
    let engine = create(&database).await?;
    closing(&engine, async {
        let schema = match given {
            Some(schema) => schema,
            None => inferred(engine.infer_table(&table, vectors).await.during("register")?).during("register")?,
        };
        let columns = columns(&schema.arrow());
        let key = schema.key_columns().map(|column| column.name.clone()).collect();
        let unloaded_rows = engine.register_table(schema, initial_sync).await.during("register")?.unloaded_rows;
        let status = engine.sync_status().await.during("register")?;
        let found = status.tables.iter().find(|found| found.name.eq_ignore_ascii_case(&table));
        let rows = found.map_or(0, |found| found.rows);
        Ok(Answer::Registered { table, columns, key, rows, unloaded_rows })
    })
    .await
}

/// Returns the schema of a table whose types are all certain.
fn inferred(InferredTable { name, columns, key }: InferredTable) -> Result<TableSchema> {
    let types = columns.iter().map(|column| (column.name.clone(), column.column_type.to_string()));
    let unsure: Vec<&InferredColumn> = columns.iter().filter(|column| !column.is_certain).collect();
    if unsure.is_empty() {
        return TableSchema::try_new(&name, &types.collect::<Vec<_>>(), &key);
    }
    let problems = unsure.iter().map(|column| format!("{:?} ({})", column.name, column.reason));
    let problems = problems.collect::<Vec<_>>().join(", ");
    let wanted = types.map(|(column, kind)| format!("--column '{column}:{kind}'")).collect::<Vec<_>>().join(" ");
    Err(Error::InvalidArgument(format!(
        "table {name:?}: expected a declaration or values that say the type of each column, which these have not: {problems}; \
         --vector NAME:DIM or NAME:bytes says what a BLOB is, or all of it: {wanted} --key '{}'",
        key.join(",")
    )))
}

async fn unregister(Unregister { database, table }: Unregister) -> Result<Answer, Failure> {
    let engine = open(&database).await?;
    closing(&engine, async {
        engine.unregister_table(&table).await.during("unregister")?;
        Ok(Answer::Unregistered { table })
    })
    .await
}

async fn uninstall(Uninstall { database }: Uninstall) -> Result<Answer, Failure> {
    let dropped = vexact::htap::uninstall(database.db).await.during("uninstall")?;
    Ok(Answer::Uninstalled { dropped })
}

async fn sync(command: Sync) -> Result<Answer, Failure> {
    let engine = open(&command.database).await?;
    closing(&engine, async {
        let copied = match command.table {
            Some(table) => {
                let rows_copied = showing_copies(&engine, &format!("copying {table}"), engine.initial_sync(&table))
                    .await
                    .during("sync")?;
                Some(Copied { table, rows_copied })
            }
            None => None,
        };
        let result = engine.sync_all().await.during("sync")?;
        // A table that cannot be synced does not stop the others.
        for table in engine.sync_status().await.during("sync")?.tables {
            if let Some(error) = table.last_error() {
                remark(format_args!("table {:?} does not follow: {error}", table.name));
            }
        }
        Ok(Answer::Synced { copied, result })
    })
    .await
}

async fn search(command: Search) -> Result<Answer, Failure> {
    let query = command.query_vector.components()?;
    let Search { database, table, column, top_k, metric, filter, min_score, group_by, columns, explain, .. } = command;
    let query = QueryVectors::One(query);
    let search =
        VectorSearch { table, column, query, top_k, metric, filter, params: None, min_score, group_by, columns };
    let engine = open(&database).await?;
    closing(&engine, async {
        let (batches, explained) = engine.vector_search_explained(&search, false).await.during("search")?;
        let explain = explain.then(|| Explained::from(explained));
        Ok(Answer::Found { metric: metric.name(), top_k, table: Table::new(batches), explain })
    })
    .await
}

async fn status(command: Status) -> Result<Answer, Failure> {
    let engine = open(&command.database).await?;
    closing(&engine, async { engine.sync_status().await.during("status").map(Answer::Status) }).await
}

async fn drop_position(command: DropPosition) -> Result<Answer, Failure> {
    let DropPosition { database, position } = command;
    let engine = open(&database).await?;
    closing(&engine, async {
        let pruned_count = engine.drop_position(&position).await.during("drop-position")?;
        Ok(Answer::PositionDropped { position, pruned_count })
    })
    .await
}

/// Opens an existing database with replicas in memory.
pub(crate) async fn engine_of(db: &Path) -> Result<HtapEngine, Failure> {
    open(&Database { db: db.into(), storage_path: None, storage_mode: None, mode: None, log_limit: None }).await
}

/// Opens an existing database: a misspelled path in a query must not create a file.
async fn open(database: &Database) -> Result<HtapEngine, Failure> {
    let DatabasePath { path, .. } = DatabasePath::parse("--db", &database.db).during("open")?;
    let is_there = path.try_exists().map_err(|error| Error::io(&path, error)).during("open")?;
    if !is_there {
        return Err(Error::FileNotFound { path }).during("open");
    }
    opened(database).await
}

/// Opens or creates a database.
async fn create(database: &Database) -> Result<HtapEngine, Failure> {
    let DatabasePath { path, .. } = DatabasePath::parse("--db", &database.db).during("open")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::FolderNotFound { path: folder.into() }).during("open");
    }
    opened(database).await
}

async fn opened(database: &Database) -> Result<HtapEngine, Failure> {
    let _shown = Shown::new(format!("opening {}", database.db.display()));
    let engine = HtapEngine::open(database.config()).await.during("open")?;
    if let Some(warning) = engine.warning() {
        remark(warning);
    }
    Ok(engine)
}

/// Runs work with an engine, and closes the engine whether or not the work succeeds.
pub(crate) async fn closing<T>(
    engine: &HtapEngine,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let done = work.await;
    engine.shutdown().await;
    done
}
