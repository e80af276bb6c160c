//! `vector_join(queries, query_column, table, column, k [, metric [, radius]])`: for each row of
//! `queries` its closest rows of `table`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast};
use datafusion::physical_plan::ExecutionPlan;
use vexact_kernel::Metric;

use super::{Table, given, metric_argument, text_argument};
use crate::exec::{Join, JoinColumn, VectorJoinExec};
use crate::functions::k_argument;
use crate::vector::{vector_type, vectors_by_cast};

pub(super) const NAME: &str = "vector_join";
pub(super) const PARAMETERS: &[&str] = &["queries", "query_column", "table", "column", "k", "metric", "radius"];
const RANK: &str = "rank";
const SCORE: &str = "score";

/// The function, for DataFusion.
#[derive(Debug)]
pub(crate) struct VectorJoin;

impl TableFunctionImpl for VectorJoin {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [queries, query_column, table, column, k, rest @ ..] = args.exprs() else {
            return plan_err!(
                "{NAME}: expected (queries, query_column, table, column, k [, metric [, radius]]), got {} arguments",
                args.exprs().len()
            );
        };
        if rest.len() > 2 {
            return plan_err!("{NAME}: expected at most 7 arguments, got {}", rest.len() + 5);
        }
        let queries = Table::find(NAME, &text_argument(NAME, "queries", queries)?, args.session())?;
        let table = Table::find(NAME, &text_argument(NAME, "table", table)?, args.session())?;
        let query_column = queries.vector_column(NAME, &text_argument(NAME, "query_column", query_column)?)?;
        let column = table.vector_column(NAME, &text_argument(NAME, "column", column)?)?;
        for (table, name) in [(&queries, RANK), (&queries, SCORE), (&table, RANK), (&table, SCORE)] {
            table.refuse_column(NAME, name)?;
        }
        let dim = |table: &Table, column| {
            let data_type = table.schema().field(column).data_type().clone();
            vector_type(&vectors_by_cast(&data_type).unwrap_or(data_type)).flatten()
        };
        if let (Some(expected), Some(got)) = (dim(&table, column), dim(&queries, query_column))
            && expected != got
        {
            let name = queries.schema().field(query_column).name().clone();
            return plan_err!(
                "{NAME}: query column {name:?} of table {}: expected vectors of {expected} components, got {got}",
                queries.reference
            );
        }
        let k = match k {
            Expr::Literal(value, _) if value.is_null() => None,
            Expr::Literal(value, _) => Some(k_argument(NAME, value)?),
            other => return plan_err!("{NAME}: k: expected a whole number of at least 1 or NULL, got {other}"),
        };
        let metric = metric_argument(NAME, rest.first())?;
        queries.check_metric(NAME, query_column, metric)?;
        table.check_metric(NAME, column, metric)?;
        let radius = match given(rest.get(1)) {
            None => None,
            Some(Expr::Literal(value, _)) => match value.cast_to(&DataType::Float64) {
                Ok(ScalarValue::Float64(Some(radius))) if radius.is_finite() && value.data_type().is_numeric() => {
                    Some(radius)
                }
                _ => return plan_err!("{NAME}: radius: expected a number, got {value}"),
            },
            Some(other) => return plan_err!("{NAME}: radius: expected a number, got {other}"),
        };
        if k.is_none() && radius.is_none() {
            return plan_err!("{NAME}: expected k, a radius or both, got neither");
        }
        let join = JoinTable::new(queries, table, (query_column, column), metric, k, radius);
        let names: Vec<&str> = join.schema.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some(name) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name)
        {
            return plan_err!(
                "{NAME}: tables {} and {} give two columns {name:?}: expected distinct names, so make a view that gives one an alias",
                join.queries.reference,
                join.table.reference
            );
        }
        Ok(Arc::new(join))
    }
}

/// The join as a table.
struct JoinTable {
    queries: Table,
    table: Table,
    vectors: (usize, usize),
    metric: Metric,
    k: Option<usize>,
    radius: Option<f64>,
    columns: Vec<JoinColumn>,
    schema: SchemaRef,
}

impl std::fmt::Debug for JoinTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "vector_join({}, {}, k={:?}, radius={:?})",
            self.queries.reference, self.table.reference, self.k, self.radius
        )
    }
}

impl JoinTable {
    fn new(
        queries: Table,
        table: Table,
        vectors: (usize, usize),
        metric: Metric,
        k: Option<usize>,
        radius: Option<f64>,
    ) -> Self {
        let (left, right) = (queries.schema(), table.schema());
        let mut columns: Vec<JoinColumn> = (0..left.fields().len()).map(JoinColumn::Query).collect();
        let mut fields: Vec<Field> = left.fields().iter().map(|field| field.as_ref().clone()).collect();
        for (i, field) in right.fields().iter().enumerate() {
            let field = match left.index_of(field.name()) {
                Ok(_) => field.as_ref().clone().with_name(format!("{}_{}", table.reference.table(), field.name())),
                Err(_) => field.as_ref().clone(),
            };
            columns.push(JoinColumn::Found(i));
            fields.push(field);
        }
        columns.extend([JoinColumn::Rank, JoinColumn::Score]);
        fields.extend([Field::new(RANK, DataType::Int64, false), Field::new(SCORE, DataType::Float64, false)]);
        let schema = Arc::new(Schema::new(fields));
        Self { queries, table, vectors, metric, k, radius, columns, schema }
    }
}

/// Columns of a table that a join needs: first its vectors, then other columns.
struct Needed<'t> {
    table: &'t Table,
    vector: usize,
    /// Type to which the vectors are cast, if the stored column holds whole numbers; the cast is a
    /// column of its own.
    cast: Option<DataType>,
    columns: Vec<usize>,
}

impl<'t> Needed<'t> {
    fn new(table: &'t Table, vector: usize) -> Self {
        let cast = vectors_by_cast(table.schema().field(vector).data_type());
        Self { table, vector, columns: if cast.is_some() { vec![] } else { vec![vector] }, cast }
    }

    /// The ordinal of a column among those needed.
    fn place(&mut self, column: usize) -> usize {
        let known = self.columns.iter().position(|known| *known == column);
        let place = known.unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        });
        place + usize::from(self.cast.is_some())
    }

    async fn plan(&self, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let (table, schema) = (self.table, self.table.schema());
        let column = |i: &usize| Expr::Column(Column::new(Some(table.reference.clone()), schema.field(*i).name()));
        let vectors = self.cast.iter().map(|floats| cast(column(&self.vector), floats.clone()).alias("vectors"));
        let plan =
            LogicalPlanBuilder::scan(table.reference.clone(), provider_as_source(Arc::clone(&table.provider)), None)?
                .project(vectors.chain(self.columns.iter().map(column)).collect::<Vec<_>>())?
                .build()?;
        state.create_physical_plan(&plan).await
    }
}

#[async_trait]
impl TableProvider for JoinTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let projection = projection.unwrap_or(&all);
        let (mut left, mut right) =
            (Needed::new(&self.queries, self.vectors.0), Needed::new(&self.table, self.vectors.1));
        let mut place = |column: JoinColumn| match column {
            JoinColumn::Query(i) => JoinColumn::Query(left.place(i)),
            JoinColumn::Found(i) => JoinColumn::Found(right.place(i)),
            other => other,
        };
        let columns = projection.iter().map(|i| place(self.columns[*i])).collect();
        let join =
            Join { metric: self.metric, vectors: (0, 0), predicate: None, k: self.k, radius: self.radius, columns };
        let (queries, searched) = (left.plan(state).await?, right.plan(state).await?);
        let schema = Arc::new(self.schema.project(projection)?);
        Ok(Arc::new(VectorJoinExec::new(queries, searched, join, schema)))
    }
}
