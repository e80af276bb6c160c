//! A scalar subquery without rows is NULL, even if its column is not nullable. DataFusion treats
//! such a value as never NULL, and folds expressions that depend on it (apache/datafusion#24513),
//! so the plan is marked as nullable.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Makes the columns of scalar subqueries nullable if the subquery may have no rows.
#[derive(Debug)]
pub(super) struct NullWithoutRows;

impl AnalyzerRule for NullWithoutRows {
    fn name(&self) -> &str {
        "null_without_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut is_changed = false;
        plan.transform_up_with_subqueries(|node| {
            let node = node.map_expressions(|expr| {
                expr.transform_up(|expr| match expr {
                    Expr::ScalarSubquery(subquery) if is_null_without_rows(&subquery) => {
                        Ok(Transformed::yes(Expr::ScalarSubquery(nullable(subquery)?)))
                    }
                    other => Ok(Transformed::no(other)),
                })
            })?;
            is_changed |= node.transformed;
            // The schemas of the nodes above depend on this node's columns.
            match is_changed {
                true => Ok(Transformed::yes(node.data.recompute_schema()?)),
                false => Ok(node),
            }
        })
        .data()
    }
}

fn is_null_without_rows(subquery: &Subquery) -> bool {
    subquery.subquery.schema().fields().first().is_some_and(|field| !field.is_nullable())
        && !has_one_row(&subquery.subquery)
}

/// Returns true if a plan is an aggregate without groups.
fn has_one_row(mut plan: &LogicalPlan) -> bool {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Aggregate(aggregate) => return aggregate.group_expr.is_empty(),
            _ => return false,
        };
    }
}

fn nullable(subquery: Subquery) -> Result<Subquery> {
    let columns = subquery.subquery.schema().columns().into_iter().map(|column| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let value = ScalarFunction::new_udf(Arc::clone(&MAYBE_NULL), vec![Expr::Column(column)]);
        Expr::ScalarFunction(value).alias_qualified(relation, name)
    });
    let columns = columns.collect();
    let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(&subquery.subquery))?);
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// Returns its argument, marked as nullable. It is volatile, because a call with a constant would
/// be folded to the constant, which is not NULL.
static MAYBE_NULL: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(MaybeNull { signature: Signature::any(1, Volatility::Volatile) })));

#[derive(Debug, PartialEq, Eq, Hash)]
struct MaybeNull {
    signature: Signature,
}

impl ScalarUDFImpl for MaybeNull {
    fn name(&self) -> &str {
        "maybe_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args.swap_remove(0))
    }
}
