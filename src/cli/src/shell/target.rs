//! The target of a shell's statements: a session over files, or an engine over a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use vexact::htap::{HtapConfig, HtapEngine, Params};
use vexact::router::{Reason, Side};
use vexact::session::Session;
use vexact_core::database_path::DatabasePath;
use vexact_core::error::{Error, Result as CoreResult};
use vexact_core::rows::concat;
use vexact_core::sql::ident;

use crate::answer::{Answer, RouteTaken, Table};
use crate::failure::{During, Failure};
use crate::output::remark;

/// The tables of a SQLite file that its user made.
const SQLITE_TABLES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
                             AND substr(name, 1, 7) <> 'sqlite_' AND lower(substr(name, 1, 8)) <> '_vexact_' ORDER BY 1";
/// Tables whose columns are completed.
const KNOWN_TABLES: usize = 50;

/// Cheap to clone; clones share the engine.
#[derive(Clone)]
pub(super) struct Target {
    session: Session,
    engine: Option<Arc<HtapEngine>>,
}

impl Target {
    /// Opens the database if there is one, and registers the files.
    pub async fn open(files: &[String], db: Option<PathBuf>) -> Result<Self, Failure> {
        let engine = match db {
            Some(db) => {
                let DatabasePath { path, .. } = DatabasePath::parse("--db", &db).during("open")?;
                if !path.try_exists().map_err(|error| Error::io(&path, error)).during("open")? {
                    return Err(Error::FileNotFound { path }).during("open");
                }
                let config = HtapConfig { oltp_path: db, ..HtapConfig::default() };
                let engine = HtapEngine::open(config).await.during("open")?;
                if let Some(warning) = engine.warning() {
                    remark(warning);
                }
                Some(Arc::new(engine))
            }
            None => None,
        };
        let session = match &engine {
            Some(engine) => engine.session().clone(),
            None => Session::new().during("start")?,
        };
        let target = Self { session, engine };
        for file in files {
            target.register(file).await?;
        }
        Ok(target)
    }

    /// Registers a file, `FILE` or `NAME=FILE`, and returns the name of its table.
    pub async fn register(&self, file: &str) -> Result<String, Failure> {
        let (name, path) = match file.split_once('=') {
            // A file whose name has the sign is a file.
            Some((name, path)) if !name.is_empty() && !Path::new(file).exists() => (Some(name.to_owned()), path),
            _ => (None, file),
        };
        let name = match name {
            Some(name) => name,
            None => self.session.probe(path).await.during("input")?.suggested_table_name,
        };
        let frame = self.session.read(path).await.during("input")?;
        self.session.create_temp_view(&name, &frame).during("input")?;
        Ok(name)
    }

    /// Runs one statement. Of a query it returns the first `limit` rows.
    pub async fn execute(&self, sql: &str, limit: Option<usize>) -> Result<Answer, Failure> {
        match &self.engine {
            None => {
                let frame = self.session.sql(sql, None).await.during("query")?;
                let schema = frame.schema();
                if schema.fields().is_empty() {
                    frame.collect().await.during("query")?;
                    return Ok(Answer::Done {});
                }
                match limit {
                    Some(limit) => first(vec![frame.head(limit).await.during("query")?], &schema, Some(limit)),
                    None => first(frame.collect().await.during("query")?, &schema, None),
                }
            }
            Some(engine) => on_engine(engine, sql, limit).await,
        }
    }

    /// Returns the names of the tables.
    async fn table_names(&self) -> CoreResult<Vec<String>> {
        let mut names = self.session.tables();
        if let Some(engine) = &self.engine {
            names.extend(texts(&engine.query(SQLITE_TABLES, Params::NONE).await?));
        }
        names.sort();
        names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Ok(names)
    }

    async fn columns(&self, table: &str) -> CoreResult<SchemaRef> {
        let sql = format!("SELECT * FROM {} LIMIT 0", ident(table));
        match &self.engine {
            None => Ok(self.session.sql(&sql, None).await?.schema()),
            Some(engine) => {
                let found = engine.query(&sql, Params::NONE).await?;
                found
                    .first()
                    .map(RecordBatch::schema)
                    .ok_or_else(|| Error::Engine(format!("table {table:?} has no columns")))
            }
        }
    }

    /// The tables as an answer.
    pub async fn tables(&self) -> Result<Answer, Failure> {
        let names = self.table_names().await.during("query")?;
        rows(vec![("table", names)])
    }

    /// The columns of a table as an answer.
    pub async fn schema(&self, table: &str) -> Result<Answer, Failure> {
        let schema = self.columns(table).await.during("query")?;
        let fields = schema.fields();
        let names = fields.iter().map(|field| field.name().clone()).collect();
        rows(vec![("column", names), ("type", fields.iter().map(|field| field.data_type().to_string()).collect())])
    }

    /// The names to complete: tables, columns and functions.
    pub async fn names(&self) -> Vec<String> {
        let tables = self.table_names().await.unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for table in tables.iter().take(KNOWN_TABLES) {
            if let Ok(schema) = self.columns(table).await {
                names.extend(schema.fields().iter().map(|field| field.name().clone()));
            }
        }
        names.extend(tables);
        let state = self.session.state();
        names.extend(state.scalar_functions().keys().cloned());
        names.extend(state.aggregate_functions().keys().cloned());
        names.extend(state.table_functions().keys().filter(|name| name.to_lowercase() == **name).cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Closes the database.
    pub async fn close(&self) {
        if let Some(engine) = &self.engine {
            engine.shutdown().await;
        }
    }
}

async fn on_engine(engine: &HtapEngine, sql: &str, limit: Option<usize>) -> Result<Answer, Failure> {
    let route = engine.route(sql).await.during("query")?;
    let keyword = match &route.reason {
        Reason::NotAQuery(keyword) => Some(keyword.to_ascii_uppercase()),
        _ => None,
    };
    match keyword.as_deref() {
        Some("PRAGMA") | None => {}
        Some(_) if sql.to_ascii_uppercase().contains("RETURNING") => {
            let found = engine.execute_returning(sql, Params::NONE).await.during("execute")?;
            let schema = found.first().map(RecordBatch::schema);
            return match schema {
                Some(schema) => first(found, &schema, limit),
                None => Ok(Answer::Done {}),
            };
        }
        Some(_) => {
            let rows_affected = engine.execute(sql, Params::NONE).await.during("execute")?;
            return Ok(Answer::Executed { rows_affected });
        }
    }
    // A search finds what was written before it.
    if route.side == Side::Olap {
        engine.sync_all().await.during("sync")?;
    }
    let found = match engine.query(sql, Params::NONE).await {
        Ok(found) => found,
        // A PRAGMA that sets something.
        Err(error) if keyword.is_some() => match engine.execute(sql, Params::NONE).await {
            Ok(rows_affected) => return Ok(Answer::Executed { rows_affected }),
            Err(_) => return Err(error).during("query"),
        },
        Err(error) => return Err(error).during("query"),
    };
    let side = match route.side {
        Side::Sqlite => "sqlite",
        Side::Olap => "olap",
    };
    let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
    let Some(schema) = found.first().map(RecordBatch::schema) else { return Ok(Answer::Done {}) };
    match limit.filter(|limit| rows > *limit) {
        Some(_) => first(found, &schema, limit),
        None => {
            let route = RouteTaken { side, reason: route.reason.to_string() };
            Ok(Answer::Queried { route, table: Table::new(found) })
        }
    }
}

/// Returns the first rows of a result.
fn first(batches: Vec<RecordBatch>, schema: &SchemaRef, limit: Option<usize>) -> Result<Answer, Failure> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let truncated = limit.is_some_and(|limit| rows > limit);
    let batches = match limit.filter(|_| truncated) {
        Some(limit) => vec![concat(schema, &batches).during("query")?.slice(0, limit)],
        None if batches.is_empty() => vec![RecordBatch::new_empty(schema.clone())],
        None => batches,
    };
    Ok(Answer::Rows { table: Table::new(batches), truncated })
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let column = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<StringArray>().cloned();
    batches
        .iter()
        .filter_map(column)
        .flat_map(|names| names.iter().flatten().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn rows(columns: Vec<(&str, Vec<String>)>) -> Result<Answer, Failure> {
    let array = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
    let batch = RecordBatch::try_from_iter(columns.into_iter().map(|(name, texts)| (name, array(texts))));
    let batch = batch.map_err(Error::arrow).during("query")?;
    Ok(Answer::Rows { table: Table::new(vec![batch]), truncated: false })
}
