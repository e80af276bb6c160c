//! vexact: exact vector search inside SQL analytics.
//!
//! A [`Session`] is one isolated catalog over files and Arrow data, with the vector functions of [`vexact_sql`] in its SQL. An
//! [`HtapEngine`](htap::HtapEngine) is a SQLite database whose tables are replicated into columnar memory as they are written.
//! The scan kernel alone is the crate [`vexact_kernel`]; its functions for any DataFusion session are [`vexact_sql`].
//!
//! ```no_run
//! # async fn example() -> vexact::Result<()> {
//! let session = vexact::Session::new()?;
//! let docs = session.read_parquet("docs.parquet").await?;
//! session.create_temp_view("docs", &docs)?;
//! let hits = session.sql("SELECT id FROM docs ORDER BY cosine_distance(embedding, '[0.1 0.2]') LIMIT 10", None).await?;
//! println!("{}", hits.show(20).await?);
//! # Ok(())
//! # }
//! ```

// In the order of their dependencies: a module imports only from those above it.
#[cfg(feature = "duckdb-linked")]
pub mod duckdb;
pub mod error;
mod locked_file;
pub mod schema;

pub mod json;

pub mod oltp;

pub mod replica;
pub mod replication;
pub mod sidecar;

pub mod router;

pub mod html;

pub mod session;
pub mod sources;
pub mod stream;

pub mod workspace;

pub mod htap;

pub mod ui;

pub mod cli;

pub use error::{Error, Result};
pub use schema::{ColumnType, TableSchema};
pub use session::{DataFrame, QueryVectors, Session, SessionOptions, VectorSearch};
pub use stream::{StreamFrame, StreamOptions, StreamingQuery};
pub use vexact_kernel as kernel;
pub use vexact_sql as sql;
