//! Prunes Parquet files in searches by call with a filter. Row groups and pages without a matching
//! row are not read, and the rows that are read keep their ordinals in the table.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, Schema};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    PagePruningAccessPlanFilter, ParquetAccessPlan, ParquetFileMetrics, RowGroupAccess, RowGroupAccessPlanFilter,
};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use vexact_sources::object_stores::ObjectStores;
use vexact_sources::parquet_reader::is_local;

/// The rows that a pruned scan reads, as ranges of the table's.
#[derive(Debug, Default)]
pub(super) struct ScannedRows {
    /// Start of each range: the row's index among the scanned rows, and its index in the table.
    ranges: Vec<(i64, i64)>,
    scanned: i64,
    rows: i64,
}

impl ScannedRows {
    fn scan(&mut self, rows: usize) {
        if rows > 0 {
            self.ranges.push((self.scanned, self.rows));
        }
        self.scanned += rows as i64;
        self.rows += rows as i64;
    }

    fn skip(&mut self, rows: usize) {
        self.rows += rows as i64;
    }

    /// Returns the ordinals in the table of rows that were scanned.
    pub fn ordinals(&self, scanned: &ArrayRef) -> ArrayRef {
        let ordinal = |row: i64| {
            let range = self.ranges.partition_point(|(first, _)| *first <= row).saturating_sub(1);
            self.ranges.get(range).map_or(row, |(first, start)| start + (row - first))
        };
        let scanned = scanned.as_primitive::<Int64Type>();
        Arc::new(Int64Array::from_iter(scanned.iter().map(|row| row.map(ordinal))))
    }
}

/// Returns the scan of Parquet files without the parts that the filter of `filtered`, a plan of the
/// same table, rules out; `None` if nothing can be pruned. `filtered` has passed the session's
/// rules, which remove predicates with unreliable bounds.
pub(super) async fn prune(
    (state, stores): (&SessionState, &ObjectStores),
    scan: &Arc<dyn ExecutionPlan>,
    filtered: &Arc<dyn ExecutionPlan>,
) -> Result<Option<(Arc<dyn ExecutionPlan>, ScannedRows)>> {
    let (Some(config), Some(predicate)) = (parquet_scan(scan.as_ref()), predicate(filtered)) else { return Ok(None) };
    let [group] = config.file_groups.as_slice() else { return Ok(None) };
    let mut rows = ScannedRows::default();
    let mut files = Vec::new();
    for file in group.iter() {
        let is_whole = |range: &FileRange| range.start <= 0 && range.end as u64 >= file.object_meta.size;
        if !file.range.as_ref().is_none_or(is_whole) {
            return Ok(None);
        }
        let metadata = metadata(state, stores, &config.object_store_url, file).await?;
        let plan = access_plan(config, &predicate, &metadata)?;
        for (access, group) in plan.inner().iter().zip(metadata.row_groups()) {
            let all = group.num_rows() as usize;
            match access {
                RowGroupAccess::Skip => rows.skip(all),
                RowGroupAccess::Scan => rows.scan(all),
                RowGroupAccess::Selection(selection) => {
                    for part in selection.iter() {
                        match part.skip {
                            true => rows.skip(part.row_count),
                            false => rows.scan(part.row_count),
                        }
                    }
                    let told: usize = selection.iter().map(|part| part.row_count).sum();
                    rows.skip(all.saturating_sub(told));
                }
            }
        }
        let mut file = file.clone().with_extension(plan);
        (file.statistics, file.range) = (None, None);
        files.push(file);
    }
    if rows.scanned == rows.rows {
        return Ok(None);
    }
    let schema = config.file_source().table_schema().table_schema();
    let pruned = FileScanConfigBuilder::from(config.clone())
        .with_file_groups(vec![FileGroup::new(files)])
        .with_statistics(Statistics::new_unknown(schema));
    Ok(Some((DataSourceExec::from_data_source(pruned.build()), rows)))
}

/// Returns the scan of Parquet files, if the plan is one.
fn parquet_scan(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    let config = plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    config.file_source().downcast_ref::<ParquetSource>().map(|_| config)
}

/// Returns the predicate by which the scan of a plan prunes row groups.
fn predicate(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn PhysicalExpr>> {
    match parquet_scan(plan.as_ref()) {
        // A scan that evaluates the filter itself keeps the conditions that bounds do not decide,
        // and does not prune by them.
        Some(config) => {
            let source = config.file_source().downcast_ref::<ParquetSource>()?;
            source.table_parquet_options().global.pruning.then(|| config.file_source().filter())?
        }
        None => match plan.children().as_slice() {
            [child] => predicate(child),
            _ => None,
        },
    }
}

async fn metadata(
    state: &SessionState,
    stores: &ObjectStores,
    store: &ObjectStoreUrl,
    file: &PartitionedFile,
) -> Result<Arc<ParquetMetaData>> {
    if !is_local(store) {
        let footer = stores.footer(store, &file.object_meta).await;
        return footer.map_err(|error| DataFusionError::External(Box::new(error)));
    }
    let runtime = state.runtime_env();
    let store = runtime.object_store(store)?;
    DFParquetMetadata::new(store.as_ref(), &file.object_meta)
        .with_file_metadata_cache(Some(runtime.cache_manager.get_file_metadata_cache()))
        .with_page_index_policy(Some(PageIndexPolicy::Optional))
        .fetch_metadata()
        .await
}

/// Returns the row groups and pages of a file that have to be read.
fn access_plan(
    config: &FileScanConfig,
    predicate: &Arc<dyn PhysicalExpr>,
    metadata: &ParquetMetaData,
) -> Result<ParquetAccessPlan> {
    let all = ParquetAccessPlan::new_all(metadata.num_row_groups());
    let table = config.file_source().table_schema().table_schema();
    let described = metadata.file_metadata();
    let file = parquet_to_arrow_schema(described.schema_descr(), described.key_value_metadata())?;
    // A file of other types has other bounds.
    let is_same = |name: &str, schema: &Schema| {
        let (here, there) = (file.field_with_name(name), schema.field_with_name(name));
        here.is_ok_and(|here| there.is_ok_and(|there| here.data_type() == there.data_type()))
    };
    if !collect_columns(predicate).iter().all(|column| is_same(column.name(), table)) {
        return Ok(all);
    }
    let metrics = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
    let pruning =
        PruningPredicateBuilder::new().with_file_schema(Arc::clone(table)).try_build(Arc::clone(predicate))?;
    let mut groups = RowGroupAccessPlanFilter::new(all);
    if !pruning.always_true() {
        groups.prune_by_statistics(table, described.schema_descr(), metadata.row_groups(), &pruning, &metrics);
    }
    let pages = PagePruningAccessPlanFilter::new(predicate, Arc::clone(table));
    Ok(pages.prune_plan_with_page_index(groups.build(), table, described.schema_descr(), metadata, &metrics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_count_what_is_skipped() {
        let mut rows = ScannedRows::default();
        rows.skip(10);
        rows.scan(3);
        rows.skip(5);
        rows.scan(0);
        rows.scan(2);
        let scanned: ArrayRef = Arc::new(Int64Array::from(vec![0, 2, 3, 4]));
        assert_eq!(rows.ordinals(&scanned).as_primitive::<Int64Type>().values(), &[10, 12, 18, 19]);
        assert_eq!((rows.scanned, rows.rows), (5, 20));
    }
}
