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
mod portable;
mod register;
mod rewrite;
mod search_plan;
pub mod sketches;
mod strategy;
mod table;
mod vector;

pub use config::VexactOptions;
pub use explain::{Explained, ExtensionPlanners, explain_plan, strategy, without_long_vectors};
pub use functions::{DISTANCE_FUNCTIONS, negate, score_expr, unnamed_functions, vector_of_text};
pub use plan::create_physical_plan;
pub use portable::portable;
pub use register::register;
pub use rewrite::{Decline, VectorRewrite, bind_parameters, range_searches, with_score_bounds};
pub use search_plan::SearchPlan;
pub use strategy::{Facts, SearchStrategy, Section, Strategy};
pub use table::{
    FilterPlanner, NamedArguments, Parameters, Table, best_of_each_group, filter_expr, given, needed_of_input,
    text_argument, with_added_columns,
};
pub use vector::{VectorError, parse_vector, scalar_of_vector, vector_of_scalar, vector_type, vectors_by_cast};
pub use vexact_kernel as kernel;
