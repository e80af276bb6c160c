//! Corrections of wrong answers of DataFusion 55.
//!
//! Each file has the rule for one kind of defect and names the issue, so that the rule can be
//! removed when a newer DataFusion has the fix:
//!
//! | file | defect |
//! |---|---|
//! | `opaque` | simplification, pruning, sort elimination and interval analysis assume that casts and negations preserve values |
//! | `in_list` | a list with a column in it is treated as constant; `-0.0` is not found among zeros |
//! | `in_subquery` | NOT IN with NULL in a correlated subquery, or below another operator |
//! | `exists_offset` | OFFSET in a correlated EXISTS |
//! | `offset` | a sort below OFFSET is removed, or its limit is made smaller |
//! | `extremes` | `min` and `max` of groups with NaN or infinities depend on the order of rows |
//! | `limit_zero` | a sort with a limit of 0 panics |
//! | `float_bounds` | NaN is missing in the bounds of Parquet files, and text in those of row groups without bounds |
//! | `statistics` | statistics that cannot be computed fail the query |
//! | `unique_names` | a filter is pushed to another column of the same name |
//! | `limited_aggregates` | a limit is applied to an aggregate below a window function, or of floats |
//! | `ordered_aggregates` | ORDER BY within aggregates that do not depend on it panics in groups |
//! | `instants` | dates and timestamps are compared with constants as nanoseconds, which end in 2262 |
//! | `null_semantics` | an unknown value becomes false or true when expressions are simplified |
//! | `grouping_sets` | grouping sets are assumed to have the order of the input |
//! | `nested_equality` | a sort by a column that a filter makes equal to an expression of it fails |
//! | `round` | `round` of decimals is planned with another type than it returns |
//! | `vector_text` | vectors are not cast to text, nor text to vectors |
//! | `coalesce` | nested calls double at each level; a volatile argument is evaluated twice |
//! | `date_part` | `extract(year ...)` against years that a timestamp cannot have |
//! | `set_operations` | EXCEPT ALL and INTERSECT ALL do not count the copies of a row |
//! | `peer_frames` | windows sorted by a type without arithmetic fail |
//! | `interval_length` | 25 hours are less than a day |
//! | `time_units` | times of day of different units are not compared |
//! | `projection_pushdown` | a projection above an outer join with a condition of one side fails |
//! | `nullability` | a plan fails because of what it says of NULL |

mod coalesce;
mod date_part;
mod exists_offset;
mod extremes;
mod float_bounds;
mod grouping_sets;
mod in_list;
mod in_subquery;
mod instant_text;
mod instants;
mod interval_length;
mod limit_zero;
mod limited_aggregates;
mod nested_equality;
mod null_semantics;
mod nullability;
mod offset;
mod opaque;
mod ordered_aggregates;
mod peer_frames;
mod portable;
mod preimage;
mod projection_pushdown;
mod rewrite;
mod round;
mod set_operations;
mod statistics;
mod time_units;
mod unique_names;
mod vector_text;

use std::sync::Arc;

use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};
use vexact_sources::object_stores::ObjectStores;
use vexact_sources::parquet_reader::CheckParquet;

pub use portable::portable;

type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// Turns off the options that cause wrong answers.
pub(crate) fn configure(config: &mut SessionConfig) {
    let options = config.options_mut();
    // With this option, `min` and `max` lose rows if one of them has seen only NULL so far
    // (apache/datafusion#25147), or has an expression as its argument (#24816).
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // With this option, a partition reads files of another partition, so that the order of rows
    // differs each time.
    options.execution.enable_file_stream_work_stealing = false;
}

/// Returns DataFusion's physical optimizer rules with the corrections.
pub(crate) fn physical_rules(stores: &Arc<ObjectStores>) -> Vec<PhysicalRule> {
    let mut rules: Vec<PhysicalRule> =
        vec![Arc::new(float_bounds::ForgetFloatStatistics), Arc::new(statistics::TolerateStatistics)];
    for rule in PhysicalOptimizer::new().rules {
        let rule: PhysicalRule = Arc::new(nullability::AnyNullability(rule));
        match rule.name() {
            "ProjectionPushdown" => rules.push(Arc::new(projection_pushdown::OptionalProjectionPushdown(rule))),
            "LimitAggregation" => rules.push(Arc::new(limited_aggregates::LimitedAggregates(rule))),
            "FilterPushdown" | "FilterPushdown(Post)" => {
                rules.push(Arc::new(unique_names::FilterPushdownByUniqueNames(rule)));
            }
            "EnsureRequirements" => {
                rules.extend([Arc::new(offset::MarkOffsets) as PhysicalRule, rule, Arc::new(offset::UnmarkOffsets)]);
            }
            _ => rules.push(rule),
        }
    }
    rules.push(Arc::new(limit_zero::EmptySorts));
    rules.push(Arc::new(float_bounds::ForgetFloatPruning));
    rules.push(Arc::new(CheckParquet(Arc::clone(stores))));
    rules
}

/// Returns DataFusion's analyzer rules, preceded by those that have to run before type coercion.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(set_operations::CountedSetOperations),
        Arc::new(peer_frames::PeerFrames),
        Arc::new(time_units::TimesOfOneUnit),
        Arc::new(instants::ExactInstants),
        Arc::new(round::RoundToPlaces),
    ];
    rules.extend(Analyzer::new().rules);
    rules
}

/// Adds the analyzer rules and the functions. They run after DataFusion's own rules, which coerce
/// the types.
pub(crate) fn register(ctx: &SessionContext) {
    let rules: [Arc<dyn AnalyzerRule + Send + Sync>; 12] = [
        Arc::new(nullability::NullableRecursion),
        Arc::new(ordered_aggregates::UnorderedAggregates),
        Arc::new(coalesce::BoundedCoalesce),
        Arc::new(grouping_sets::UnorderedGroupingSets),
        Arc::new(null_semantics::UnknownStaysUnknown),
        Arc::new(vector_text::VectorsAsText),
        Arc::new(in_subquery::ThreeValuedIn),
        Arc::new(exists_offset::CountedExists),
        Arc::new(in_list::ConstantLists),
        Arc::new(interval_length::IntervalsByLength),
        Arc::new(opaque::OpaqueConversions),
        Arc::new(nested_equality::OpaqueEqualities),
    ];
    for rule in rules {
        ctx.add_analyzer_rule(rule);
    }
    extremes::register(ctx);
    interval_length::register(ctx);
}
