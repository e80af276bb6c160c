//! Finds the types of a query's columns by planning it over tables that need not exist.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::{Result as PlanResult, not_impl_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, Signature, SimpleAggregateUDF, SimpleScalarUDF, Volatility};
use datafusion::sql::parser::Statement;
use vexact_core::error::Result;

use super::Session;
use super::catalog::Views;
use super::frame::settled;
use super::named_windows::resolve_named_windows;

/// Functions that SQLite has and DataFusion lacks, with their result types. They accept arguments
/// of any type, including types that no replica has.
const SQLITE_SCALARS: [(&str, DataType); 22] = [
    ("char", DataType::Utf8),
    ("date", DataType::Utf8),
    ("datetime", DataType::Utf8),
    ("format", DataType::Utf8),
    ("hex", DataType::Utf8),
    ("json", DataType::Utf8),
    ("json_array", DataType::Utf8),
    ("json_object", DataType::Utf8),
    ("json_type", DataType::Utf8),
    ("julianday", DataType::Float64),
    ("printf", DataType::Utf8),
    ("quote", DataType::Utf8),
    ("randomblob", DataType::Binary),
    ("sqlite_version", DataType::Utf8),
    ("strftime", DataType::Utf8),
    ("time", DataType::Utf8),
    ("typeof", DataType::Utf8),
    ("unhex", DataType::Binary),
    ("unicode", DataType::Int64),
    ("unixepoch", DataType::Int64),
    ("vector", DataType::Binary),
    ("zeroblob", DataType::Binary),
];
const SQLITE_AGGREGATES: [(&str, DataType); 4] = [
    ("group_concat", DataType::Utf8),
    ("json_group_array", DataType::Utf8),
    ("json_group_object", DataType::Utf8),
    ("total", DataType::Float64),
];

impl Session {
    /// Returns the columns that a query would have over these tables and the session's own. No rows
    /// are read.
    ///
    /// # Errors
    /// A query that cannot be planned.
    pub async fn columns_of(&self, mut statement: Statement, tables: HashMap<String, SchemaRef>) -> Result<SchemaRef> {
        resolve_named_windows(&mut statement);
        let state = self.ctx.state();
        let names = &state.config_options().catalog;
        let (catalog, schema) = (names.default_catalog.clone(), names.default_schema.clone());
        let own = MemoryCatalogProvider::new();
        own.register_schema(&schema, Arc::new(Overlay { tables, views: Arc::clone(&self.views) }))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(catalog, Arc::new(own));
        let mut state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs)).build();
        for (name, returned) in SQLITE_SCALARS {
            state.register_udf(Arc::new(scalar(name, returned)))?;
        }
        for (name, returned) in SQLITE_AGGREGATES {
            state.register_udaf(Arc::new(aggregate(name, returned)))?;
        }
        let plan = state.statement_to_plan(statement).await?;
        settled(&state, plan)
    }
}

fn scalar(name: &str, returned: DataType) -> ScalarUDF {
    let never = Arc::new(|_: &[_]| not_impl_err!("it is only planned"));
    let signature = Signature::variadic_any(Volatility::Volatile);
    ScalarUDF::from(SimpleScalarUDF::new_with_signature(name, signature, returned, never))
}

fn aggregate(name: &str, returned: DataType) -> AggregateUDF {
    let never =
        Arc::new(|_: datafusion::logical_expr::function::AccumulatorArgs<'_>| not_impl_err!("it is only planned"));
    let signature = Signature::variadic_any(Volatility::Volatile);
    AggregateUDF::from(SimpleAggregateUDF::new_with_signature(name, signature, returned, never, Vec::new()))
}

/// Tables without rows over those of a session.
#[derive(Debug)]
struct Overlay {
    tables: HashMap<String, SchemaRef>,
    views: Arc<Views>,
}

#[async_trait]
impl SchemaProvider for Overlay {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> PlanResult<Option<Arc<dyn TableProvider>>> {
        match self.tables.get(name) {
            Some(schema) => Ok(Some(Arc::new(EmptyTable::new(Arc::clone(schema))))),
            None => self.views.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.views.table_exist(name)
    }
}
