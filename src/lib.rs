//! vexact: exact vector search inside SQL analytics.
//!
//! A [`Session`] is one isolated catalog over files and Arrow data, with the vector functions of
//! [`vexact_sql`] in its SQL. An [`HtapEngine`](htap::HtapEngine) is a SQLite database whose tables
//! are replicated into columnar memory as they are written. The scan kernel alone is the crate
//! [`vexact_kernel`]; its functions for any DataFusion session are [`vexact_sql`].
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

pub use vexact_core::temporary_file::discard_unfinished;
pub use vexact_core::{ColumnType, Error, Result, TableSchema, disk, entry, error, json, schema};
pub use vexact_htap as htap;
pub use vexact_kernel as kernel;
pub use vexact_locks as locks;
pub use vexact_replica as replica;
pub use vexact_replica::Tokenizer;
pub use vexact_router as router;
pub use vexact_session as session;
pub use vexact_session::{
    DataFrame, HybridSearch, QuerySyntax, QueryVectors, Session, SessionOptions, TextSearch, Tier, VectorSearch,
};
pub use vexact_sidecar as sidecar;
pub use vexact_sources as sources;
pub use vexact_sql as sql;
pub use vexact_sqlite::{oltp, replication};
pub use vexact_stream as stream;
pub use vexact_stream::{StreamFrame, StreamOptions, StreamingQuery};
