//! Registers all functions and rules with a session.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::prelude::SessionContext;

use crate::config::VexactOptions;
use crate::explain::StrategyPlanner;
use crate::literal::NumberArrays;
use crate::operators::VectorOperators;
use crate::plan::FastPathPlanner;
use crate::rewrite::{BindQueries, BreakTies, OrderZeros, VectorRewrite};
use crate::{functions, table};

/// The rule before which [`VectorRewrite`] runs: it may push a distance into the scan of a file,
/// where the rewrite would not recognise it. By then the sorts have their limits and merges.
const NEXT_RULE: &str = "ProjectionPushdown";

/// The rule that pushes the dynamic filters of sorts down, which have to be of all keys.
const DYNAMIC_FILTERS_RULE: &str = "FilterPushdown(Post)";

/// Registers the vector functions, the table functions `vector_search` and `vector_join`, the
/// rewrite of `ORDER BY distance LIMIT k`, the third section of EXPLAIN and the settings
/// `vexact.*`. Idempotent.
///
/// `cosine_distance`, `inner_product` and `dot_product` replace DataFusion's functions of these
/// names, return the same results bit for bit, and accept text and `$1` as well.
///
/// # Errors
/// None at present; a later DataFusion may reject a registration.
pub fn register(ctx: &SessionContext) -> Result<()> {
    let state = ctx.state();
    if state.config_options().extensions.get::<VexactOptions>().is_some() {
        return Ok(());
    }
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = state.physical_optimizers().to_vec();
    let place = rules.iter().position(|rule| rule.name() == NEXT_RULE).unwrap_or(rules.len());
    rules.insert(place, Arc::new(VectorRewrite { is_in_place: false }));
    rules.insert(place + 1, Arc::new(BreakTies));
    let place = rules.iter().position(|rule| rule.name() == DYNAMIC_FILTERS_RULE).unwrap_or(rules.len());
    rules.insert(place, Arc::new(OrderZeros));
    rules.insert(0, Arc::new(VectorRewrite { is_in_place: true }));
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(NumberArrays), Arc::new(VectorOperators)];
    planners.extend(state.expr_planners().iter().cloned());
    let mut analyzers: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(BindQueries)];
    analyzers.extend(state.analyzer().rules.iter().cloned());
    let planner = StrategyPlanner::new(Arc::clone(state.query_planner()));
    let short = Arc::new(FastPathPlanner::new(Arc::clone(state.runtime_env())));
    let config = state.config().clone().with_option_extension(VexactOptions::default()).with_extension(short);
    let state = SessionStateBuilder::new_from_existing(state)
        .with_config(config)
        .with_analyzer_rules(analyzers)
        .with_physical_optimizer_rules(rules)
        .with_expr_planners(planners)
        .with_query_planner(Arc::new(planner))
        .build();
    *ctx.state_ref().write() = state;
    for function in functions::all() {
        ctx.register_udf(function);
    }
    for name in functions::AGGREGATES {
        ctx.register_udaf(functions::with_vectors(ctx.udaf(name)?));
    }
    ctx.register_relation_planner(Arc::new(table::NamedArguments(table::PARAMETERS)))?;
    // DataFusion does not fold the case of a table function's name.
    for name in ["vector_search", "VECTOR_SEARCH"] {
        ctx.register_udtf(name, Arc::new(table::VectorSearch));
    }
    for name in ["vector_join", "VECTOR_JOIN"] {
        ctx.register_udtf(name, Arc::new(table::VectorJoin));
    }
    Ok(())
}
