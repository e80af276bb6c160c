//! Expressions and functions that a worker has too.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// The functions of a worker, by their names. In a plan a function is its name, so that a function of
/// the session that only has the name of one of these must not be sent.
#[derive(Debug)]
pub(crate) struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
}

impl Functions {
    /// Returns the functions of a worker with a session's state.
    pub fn of(state: &SessionState) -> Self {
        let scalar = scalar_functions(state).into_iter().map(|function| (function.name().to_owned(), function));
        Self { scalar: scalar.collect(), aggregate: state.aggregate_functions().clone() }
    }

    /// Returns an expression with the same value that a worker can evaluate; `None` if there is none.
    pub fn portable(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let expr = with_subquery_values(vexact_session::portable(expr)?)?;
        Ok(self.is_portable(&expr).then_some(expr))
    }

    /// Returns true if a worker can evaluate an expression.
    pub fn is_portable(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        let mut is_portable = true;
        let visited = expr.apply(|expr| {
            is_portable &= self.has(expr.as_ref());
            Ok(if is_portable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        visited.is_ok() && is_portable
    }

    fn has(&self, expr: &dyn PhysicalExpr) -> bool {
        if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            let function = call.fun();
            let of_worker = self.scalar.get(function.name());
            return of_worker.is_some_and(|own| match is_unnamed(own) {
                true => own.as_ref() == function,
                false => type_of(own.inner().as_ref()) == type_of(function.inner().as_ref()),
            });
        }
        expr.is::<Column>()
            || expr.is::<Literal>()
            || expr.is::<BinaryExpr>()
            || expr.is::<CastExpr>()
            || expr.is::<TryCastExpr>()
            || expr.is::<CaseExpr>()
            || expr.is::<InListExpr>()
            || expr.is::<IsNullExpr>()
            || expr.is::<IsNotNullExpr>()
            || expr.is::<LikeExpr>()
            || expr.is::<NegativeExpr>()
            || expr.is::<NotExpr>()
    }

    /// Returns an aggregate with the same value that a worker can compute; `None` if there is none.
    pub fn portable_aggregate(&self, aggregate: &AggregateFunctionExpr) -> Result<Option<AggregateFunctionExpr>> {
        let function = aggregate.fun();
        let of_worker = self.aggregate.get(function.name());
        if of_worker.is_none_or(|own| type_of(own.inner().as_ref()) != type_of(function.inner().as_ref())) {
            return Ok(None);
        }
        let all = aggregate.all_expressions();
        let (mut args, mut order) = (Vec::new(), Vec::new());
        for (exprs, portable) in [(all.args, &mut args), (all.order_by_exprs, &mut order)] {
            for expr in exprs {
                match self.portable(expr)? {
                    Some(expr) => portable.push(expr),
                    None => return Ok(None),
                }
            }
        }
        // Aggregates whose expressions cannot be replaced have to be portable as they are.
        let is_portable = |expr: &Arc<dyn PhysicalExpr>| self.is_portable(expr);
        let all = aggregate.all_expressions();
        match all.args.iter().chain(&all.order_by_exprs).all(is_portable) {
            true => Ok(Some(aggregate.clone())),
            false => Ok(aggregate.with_new_expressions(args, order)),
        }
    }
}

/// Returns the scalar functions of a worker: those of its session, and those that a plan may call and
/// a user cannot name.
pub(crate) fn scalar_functions(state: &SessionState) -> Vec<Arc<ScalarUDF>> {
    let mut functions = vexact_sql::unnamed_functions();
    functions.retain(|function| !state.scalar_functions().contains_key(function.name()));
    functions.extend(state.scalar_functions().values().cloned());
    functions
}

/// Returns true for a function that is equal to one without a name in SQL.
fn is_unnamed(function: &ScalarUDF) -> bool {
    vexact_sql::unnamed_functions().iter().any(|unnamed| unnamed.as_ref() == function)
}

/// Replaces the scalar subqueries that have been evaluated by their values.
fn with_subquery_values(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expr.transform_up(|expr| {
        let empty = || RecordBatch::new_empty(Arc::new(Schema::empty()));
        let value = match expr.is::<ScalarSubqueryExpr>().then(|| expr.evaluate(&empty())) {
            Some(Ok(ColumnarValue::Scalar(value))) => Some(value),
            _ => None,
        };
        Ok(match value {
            Some(value) => Transformed::yes(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

/// Returns the type of a function's implementation.
fn type_of(function: &dyn Any) -> TypeId {
    function.type_id()
}
