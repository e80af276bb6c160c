//! Reuses the physical plan of a search for another query vector. Planning takes longer than
//! searching a small table, and plans of one search differ only in the query vector.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::chunks::{ChunkScanExec, Chunks};
use crate::exec::VectorTopKExec;
use crate::functions::bind_query;
use crate::rewrite::{has_call, is_in_place};
use crate::vector::{is_bits, vector_of_scalar};

/// The physical plan of a search of chunks in memory, whose query vector is a parameter. The chunks
/// can be replaced too, for example by those of the table's newest version.
#[derive(Debug)]
pub struct SearchPlan {
    physical: Arc<dyn ExecutionPlan>,
    /// The parameter that is the query vector, and its components.
    query: String,
    dim: usize,
    /// True if the query vector was given as bits.
    is_of_bits: bool,
    /// Values of the other parameters, on which the plan depends.
    others: Vec<(String, ScalarValue)>,
    count: usize,
}

impl SearchPlan {
    /// `physical` was planned of `plan` with these parameters. Returns `None` if the plan is no
    /// search of chunks in memory, or if it uses the query vector outside the search.
    pub fn of(plan: &LogicalPlan, params: &ParamValues, physical: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let (query, others) = parameters(plan, params)?;
        let dim = vector(params, &query)?.len();
        let is_of_bits = is_of_bits(params, &query);
        let (search, others_than_distance) = search_in_place(physical)?;
        if search.top_k().literal().is_none() || others_than_distance.into_iter().any(has_call) {
            return None;
        }
        let others = others.into_iter().map(|id| value(params, &id).map(|value| (id, value))).collect::<Option<_>>()?;
        Some(Self { physical: Arc::clone(physical), query, dim, is_of_bits, others, count: count(params) })
    }

    /// Detaches the plan from its chunks, so that caching it does not pin a table version;
    /// [`Self::with`] must then be called with chunks. Returns `None` if the plan does not search
    /// `chunks`.
    pub fn without(mut self, chunks: &Arc<Chunks>) -> Option<Self> {
        if !Arc::ptr_eq(scan_of(&self.physical)?.chunks(), chunks) {
            return None;
        }
        self.physical = replaced(&self.physical, None, Some(&Arc::default())).ok()??;
        Some(self)
    }

    /// Returns true if the plan can be reused for these parameters.
    pub fn fits(&self, params: &ParamValues) -> bool {
        self.with(params, None).is_some()
    }

    /// Returns the plan for these parameters and chunks; if `chunks` is `None`, the plan's own
    /// chunks are searched. Returns `None` if the search must be planned again, or if the query
    /// vector is invalid.
    pub fn with(&self, params: &ParamValues, chunks: Option<&Arc<Chunks>>) -> Option<Arc<dyn ExecutionPlan>> {
        replaced(&self.physical, Some(&self.query(params)?), chunks).ok()?
    }

    fn query(&self, params: &ParamValues) -> Option<Vec<f64>> {
        let is_same = |(id, other): &(String, ScalarValue)| value(params, id).as_ref() == Some(other);
        if count(params) != self.count || !self.others.iter().all(is_same) {
            return None;
        }
        if is_of_bits(params, &self.query) != self.is_of_bits {
            return None;
        }
        vector(params, &self.query).filter(|query| query.len() == self.dim)
    }
}

fn count(params: &ParamValues) -> usize {
    match params {
        ParamValues::List(values) => values.len(),
        ParamValues::Map(values) => values.len(),
    }
}

fn value(params: &ParamValues, id: &str) -> Option<ScalarValue> {
    params.get_placeholders_with_values(id).ok().map(|found| found.value)
}

fn is_of_bits(params: &ParamValues, id: &str) -> bool {
    value(params, id).is_some_and(|value| is_bits(&value.data_type()))
}

fn vector(params: &ParamValues, id: &str) -> Option<Vec<f64>> {
    vector_of_scalar(&value(params, id)?).ok()?
}

/// Returns the parameter that is the query of the only distance, however often that distance is
/// written, and the other parameters.
fn parameters(plan: &LogicalPlan, params: &ParamValues) -> Option<(String, Vec<String>)> {
    let mut distances: Vec<Expr> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if bind_query(expr, Some(params)).is_some() {
                    distances.push(expr.clone());
                    return Ok(TreeNodeRecursion::Jump);
                }
                if let Expr::Placeholder(placeholder) = expr {
                    others.push(placeholder.id.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    let first = distances.first()?;
    let Expr::ScalarFunction(call) = first else { return None };
    let mut queries = call.args.iter().filter_map(|argument| match argument {
        Expr::Placeholder(placeholder) => Some(placeholder.id.clone()),
        _ => None,
    });
    let query = queries.next()?;
    let is_one = visited.is_ok() && distances.iter().all(|distance| distance == first) && !others.contains(&query);
    is_one.then_some((query, others))
}

/// Returns the search of chunks in memory in a plan, and the expressions over its rows and the
/// table's other than the distance.
pub(crate) fn search_in_place(plan: &Arc<dyn ExecutionPlan>) -> Option<(&VectorTopKExec, Vec<&Arc<dyn PhysicalExpr>>)> {
    let node: &dyn ExecutionPlan = plan.as_ref();
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let (search, mut exprs) = search_in_place(projection.input())?;
        exprs.extend(projection.expr().iter().map(|projected| &projected.expr));
        return Some((search, exprs));
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let (search, mut exprs) = search_in_place(filter.input())?;
        exprs.push(filter.predicate());
        return Some((search, exprs));
    }
    let search = node.downcast_ref::<VectorTopKExec>().filter(|_| is_in_place(plan))?;
    let output = search.top_k().output.iter().map(|projected| &projected.expr);
    Some((search, output.chain(&search.top_k().predicate).collect()))
}

/// Returns the scan of chunks that is the only leaf of a plan.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&ChunkScanExec> {
    match &plan.children()[..] {
        [] => plan.downcast_ref(),
        [input] => scan_of(input),
        _ => None,
    }
}

/// Returns the plan with another query and with other chunks, each if it is given.
fn replaced(
    plan: &Arc<dyn ExecutionPlan>,
    query: Option<&[f64]>,
    chunks: Option<&Arc<Chunks>>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let node: &dyn ExecutionPlan = plan.as_ref();
    if let (Some(scan), Some(chunks)) = (node.downcast_ref::<ChunkScanExec>(), chunks) {
        return Ok(Some(Arc::new(scan.over(Arc::clone(chunks)))));
    }
    let mut inputs = Vec::new();
    for input in plan.children() {
        let Some(input) = replaced(input, query, chunks)? else { return Ok(None) };
        inputs.push(input);
    }
    if let (Some(search), Some(query), [input]) = (node.downcast_ref::<VectorTopKExec>(), query, &inputs[..]) {
        return Ok(search.with_query(query, Arc::clone(input)).map(|search| Arc::new(search) as _));
    }
    if inputs.is_empty() {
        return Ok(Some(Arc::clone(plan)));
    }
    let of_same_columns = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    Arc::clone(plan).replace_children(inputs, of_same_columns).map(Some)
}
