//! Exact vector search inside DataFusion: scalar functions, table functions, an optimizer rule, and
//! an EXPLAIN that shows the search strategy.
//!
//! ```no_run
//! # async fn example() -> datafusion::error::Result<()> {
//! use datafusion::prelude::SessionContext;
//! let ctx = SessionContext::new();
//! vexact_sql::register(&ctx)?;
//! ctx.sql("SELECT id FROM docs ORDER BY cosine_distance(embedding, '[0.1 0.2]') LIMIT 10").await?;
//! # Ok(())
//! # }
//! ```

pub mod chunks;
mod config;
mod correlated;
pub mod deep;
mod delegate;
pub mod dialect;
pub mod exec;
mod explain;
mod functions;
mod literal;
mod operators;
mod plan;
mod register;
mod rewrite;
mod search_plan;
mod table;
mod vector;

pub use config::VexactOptions;
pub use explain::{Explained, explain_plan, strategy};
pub use functions::{negate, score_expr, vector_of_text};
pub use plan::create_physical_plan;
pub use register::register;
pub use rewrite::bind_parameters;
pub use rewrite::{Decline, VectorRewrite};
pub use search_plan::SearchPlan;
pub use table::best_of_each_group;
pub use vector::{VectorError, parse_vector, scalar_of_vector, vector_of_scalar, vectors_by_cast};
pub use vexact_kernel as kernel;
