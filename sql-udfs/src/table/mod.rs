//! The table functions, and the parsing of arguments that they share.

mod added_columns;
mod by_group;
mod filter;
mod named_arguments;
mod vector_join;
mod vector_search;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, TableReference, plan_datafusion_err, plan_err};
use datafusion::logical_expr::Expr;
use futures::FutureExt;
use vexact_kernel::Metric;

pub use added_columns::{needed_of_input, with_added_columns};
pub use by_group::best_of_each_group;
pub(crate) use by_group::{BestOfEachGroup, GroupPlanner};
pub use filter::{FilterPlanner, filter_expr};
pub use named_arguments::{NamedArguments, Parameters};
pub(crate) use vector_join::VectorJoin;
pub(crate) use vector_search::VectorSearch;

use crate::vector::{check_metric, vector_type, vectors_by_cast};

/// The table functions of this crate.
pub(crate) const PARAMETERS: &[Parameters] = &[
    Parameters { function: vector_search::NAME, names: vector_search::PARAMETERS, defaults: &[] },
    Parameters { function: vector_join::NAME, names: vector_join::PARAMETERS, defaults: &[] },
];

/// A table that a function names.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub reference: TableReference,
    /// The table.
    pub provider: Arc<dyn TableProvider>,
}

/// Returns a text argument; `name` is its name in the documentation.
///
/// # Errors
/// An argument that is not text.
pub fn text_argument(function: &str, name: &str, expr: &Expr) -> Result<String> {
    match expr {
        Expr::Literal(value, _) if let Some(Some(text)) = value.try_as_str() => Ok(text.to_owned()),
        other => plan_err!("{function}: {name}: expected text, got {other}"),
    }
}

/// Returns an argument that may be left out, also by NULL.
pub fn given(expr: Option<&Expr>) -> Option<&Expr> {
    expr.filter(|expr| !matches!(expr, Expr::Literal(value, _) if value.is_null()))
}

/// Returns the metric; the default is cosine.
fn metric_argument(function: &str, expr: Option<&Expr>) -> Result<Metric> {
    let Some(expr) = given(expr) else { return Ok(Metric::Cosine) };
    let name = text_argument(function, "metric", expr)?;
    name.parse().map_err(|error| plan_datafusion_err!("{function}: {error}"))
}

impl Table {
    /// Looks a table up by its exact name, then as SQL reads it (`schema.name`, case folded).
    ///
    /// # Errors
    /// A table that does not exist.
    pub fn find(function: &str, name: &str, session: &dyn Session) -> Result<Self> {
        for reference in [TableReference::bare(name), TableReference::from(name)] {
            let options = &session.config_options().catalog;
            let resolved = reference.clone().resolve(&options.default_catalog, &options.default_schema);
            let catalog = session.catalog_list().catalog(&resolved.catalog);
            let Some(schema) = catalog.and_then(|catalog| catalog.schema(&resolved.schema)) else { continue };
            let Some(found) = schema.table(&resolved.table).now_or_never() else {
                return plan_err!(
                    "{function}: table {name:?} is in a catalog that answers asynchronously: make a view of it"
                );
            };
            if let Some(provider) = found? {
                return Ok(Self { reference, provider });
            }
        }
        plan_err!("{function}: table {name:?} not found: expected the name of a table or view")
    }

    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        self.provider.schema()
    }

    /// Returns the columns, qualified by the table's name.
    ///
    /// # Errors
    /// Two columns of one name.
    pub fn df_schema(&self) -> Result<DFSchema> {
        DFSchema::try_from_qualified_schema(self.reference.clone(), &self.schema())
    }

    /// Returns the ordinal of a column, by its exact name or in lower case.
    pub fn column(&self, name: &str) -> Option<usize> {
        let schema = self.schema();
        let find = |name: &str| schema.index_of(name).ok();
        find(name).or_else(|| find(&name.to_lowercase()))
    }

    /// The ordinal of a vector column. Lists of whole numbers are vectors too.
    fn vector_column(&self, function: &str, name: &str) -> Result<usize> {
        let schema = self.schema();
        let Some(column) = self.column(name) else {
            let is_vector = |field: &&Arc<arrow::datatypes::Field>| vector_type(field.data_type()).is_some();
            let vectors: Vec<&str> =
                schema.fields().iter().filter(is_vector).map(|field| field.name().as_str()).collect();
            return plan_err!(
                "{function}: column {name:?} not found in table {}: expected one of its vector columns [{}]",
                self.reference,
                vectors.join(", ")
            );
        };
        let field = schema.field(column);
        if vector_type(field.data_type()).is_none() && vectors_by_cast(field.data_type()).is_none() {
            return plan_err!(
                "{function}: column {name:?} of table {}: expected vectors (FixedSizeList, List or LargeList of numbers, or FixedSizeBinary), got {}",
                self.reference,
                field.data_type()
            );
        }
        Ok(column)
    }

    /// Rejects a metric that cannot compare the vectors of a column.
    fn check_metric(&self, function: &str, column: usize, metric: Metric) -> Result<()> {
        let schema = self.schema();
        let field = schema.field(column);
        check_metric(metric, field.data_type()).map_err(|error| {
            plan_datafusion_err!("{function}: column {:?} of table {}: {error}", field.name(), self.reference)
        })
    }

    /// Rejects a table that already has a column which the function adds.
    ///
    /// # Errors
    /// A column of this name.
    pub fn refuse_column(&self, function: &str, name: &str) -> Result<()> {
        if self.schema().index_of(name).is_ok() {
            return plan_err!(
                "{function}: table {} has a column {name:?}, which {function} adds: expected another name, so make a view \
                 that gives the column an alias (CREATE VIEW v AS SELECT {name} AS other, ...)",
                self.reference
            );
        }
        Ok(())
    }
}
