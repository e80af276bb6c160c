//! Ignores the bounds of floating-point columns in Parquet files, and those of text in whole files.
//!
//! A Parquet file's min and max exclude NaN, which SQL orders above every number. With them,
//! DataFusion would prune row groups that contain NaN, take NaN for the one number beside it, or
//! return a maximum that is not the greatest (apache/datafusion#15812, #24804). So two physical
//! optimizer rules remove them: the first, before the other rules, from the statistics of scans;
//! the second, after them, from the predicates by which scans prune row groups and pages. The
//! bounds of all other columns are used.
//!
//! The bounds of text and bytes in a file's statistics cover only the row groups that have bounds:
//! writers omit long ones (apache/datafusion#25226). So the first rule removes them too; the second
//! need not, as it works row group by row group.
//!
//! For the same reason the second rule removes predicates with a cast or a negation that does not
//! preserve the order of its column: DataFusion uses the times of day of two timestamps as bounds
//! of those between them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::{CastExpr, NegativeExpr, TryCastExpr};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// Removes unreliable bounds from the statistics of scans. It runs before the rules that read them.
#[derive(Debug)]
pub(crate) struct ForgetFloatStatistics;

/// Removes the pruning predicates of scans that rest on unreliable bounds. It runs after the rules
/// that push filters down.
#[derive(Debug)]
pub(crate) struct ForgetFloatPruning;

impl PhysicalOptimizerRule for ForgetFloatStatistics {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        rewrite(plan, without_statistics)
    }

    fn name(&self) -> &str {
        "vexact_forget_float_statistics"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl PhysicalOptimizerRule for ForgetFloatPruning {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        rewrite(plan, without_pruning)
    }

    fn name(&self) -> &str {
        "vexact_forget_float_pruning"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Applies a change to the scans of Parquet files.
fn rewrite(
    plan: Arc<dyn ExecutionPlan>,
    change: fn(&FileScanConfig, &ParquetSource) -> Option<FileScanConfig>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let rewritten = plan.transform_up(|plan| {
        let scan = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
            let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
            change(config, config.file_source().downcast_ref::<ParquetSource>()?)
        });
        Ok(match scan {
            Some(config) => Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(plan),
        })
    })?;
    Ok(rewritten.data)
}

fn without_statistics(config: &FileScanConfig, _: &ParquetSource) -> Option<FileScanConfig> {
    let schema = config.file_source().table_schema().table_schema();
    if !schema.fields().iter().any(|field| has_no_bounds(field.data_type())) {
        return None;
    }
    let groups = config.file_groups.iter().map(|group| {
        let files = group.iter().cloned().map(|mut file| {
            file.statistics = file.statistics.map(|statistics| Arc::new(bounded(&statistics, schema)));
            file
        });
        let files = FileGroup::new(files.collect());
        match group.file_statistics(None) {
            Some(statistics) => files.with_statistics(Arc::new(bounded(statistics, schema))),
            None => files,
        }
    });
    let builder = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups.collect());
    Some(builder.with_statistics(bounded(&config.statistics(), schema)).build())
}

/// Returns the statistics without the unreliable bounds.
fn bounded(statistics: &Statistics, schema: &Schema) -> Statistics {
    let mut statistics = statistics.clone();
    for (column, field) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
        if has_no_bounds(field.data_type()) {
            (column.min_value, column.max_value) = (Precision::Absent, Precision::Absent);
        }
    }
    statistics
}

fn without_pruning(config: &FileScanConfig, source: &ParquetSource) -> Option<FileScanConfig> {
    let predicate = config.file_source().filter()?;
    let schema = config.file_source().table_schema().table_schema();
    let is_misleading = |expr: &Arc<dyn PhysicalExpr>| {
        let is_float = |name: &str| schema.field_with_name(name).is_ok_and(|field| has_floats(field.data_type()));
        collect_columns(expr).iter().any(|column| is_float(column.name())) || !keeps_order(expr, schema)
    };
    let (misleading, others): (Vec<_>, Vec<_>) =
        split_conjunction(&predicate).into_iter().partition(|part| is_misleading(part));
    if misleading.is_empty() {
        return None;
    }
    let is_static = |part: &&Arc<dyn PhysicalExpr>| !DynamicFilterTracking::classify(part).contains_dynamic_filter();
    let filters: Vec<_> = match source.table_parquet_options().global.pushdown_filters {
        // Here the scan is the only filter; a dynamic filter is only a hint.
        true => misleading.into_iter().filter(is_static).collect(),
        false => Vec::new(),
    };
    let mut options = source.table_parquet_options().clone();
    if !filters.is_empty() {
        (options.global.pruning, options.global.enable_page_index) = (false, false);
    }
    let predicate = conjunction(others.into_iter().chain(filters).map(Arc::clone));
    let source = source.with_predicate(predicate).with_table_parquet_options(options);
    Some(FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build())
}

/// Returns true if the bounds of a predicate's columns are also bounds of the values that it
/// compares.
fn keeps_order(predicate: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let is_kept = |from: &Arc<dyn PhysicalExpr>, to: &DataType| {
        let is_time =
            |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
        from.data_type(schema).is_ok_and(|from| {
            &from == to
                || from.is_numeric() && to.is_numeric()
                || from.is_string() && to.is_string()
                || is_time(&from) && is_time(to)
        })
    };
    let mut is_kept_everywhere = true;
    let walked = predicate.apply(|expr| {
        is_kept_everywhere &= match (expr.downcast_ref::<CastExpr>(), expr.downcast_ref::<TryCastExpr>()) {
            (Some(cast), _) => is_kept(cast.expr(), cast.cast_type()),
            (_, Some(cast)) => is_kept(cast.expr(), cast.cast_type()),
            // The least integer is its own negative.
            _ => expr.downcast_ref::<NegativeExpr>().is_none(),
        };
        Ok(if is_kept_everywhere { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && is_kept_everywhere
}

/// Returns true if the bounds in a file's statistics may not cover all of its values.
fn has_no_bounds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_no_bounds(field.data_type())),
        DataType::Dictionary(_, values) => has_no_bounds(values),
        other => other.is_floating() || other.is_string() || other.is_binary(),
    }
}

/// Returns true if values of a type are, or contain, floating-point numbers.
fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::Dictionary(_, values) => has_floats(values),
        other => other.is_floating(),
    }
}
