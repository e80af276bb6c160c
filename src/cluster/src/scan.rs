//! Scans of Parquet files, split over tasks.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion_distributed::DistributedLeafExec;

use super::portable::Functions;

/// The number of tasks of a part of a plan, and the number of partitions of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub tasks: usize,
    pub partitions: usize,
}

/// Returns the scan of Parquet files, if the plan is one.
pub(crate) fn parquet_scan(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    let config = plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    config.file_source().is::<ParquetSource>().then_some(config)
}

/// Returns the bytes of a scan's files.
pub(crate) fn bytes(config: &FileScanConfig) -> u64 {
    config.file_groups.iter().flat_map(FileGroup::iter).map(|file| length(&range(file))).sum()
}

fn range(file: &PartitionedFile) -> FileRange {
    file.range.clone().unwrap_or(FileRange { start: 0, end: file.object_meta.size as i64 })
}

fn length(range: &FileRange) -> u64 {
    (range.end - range.start).max(0) as u64
}

/// Splits files in their order into `parts` ranges of about the same number of bytes. Some are empty
/// if there are fewer bytes.
fn split(files: impl Iterator<Item = PartitionedFile>, parts: usize, total: u64) -> Vec<Vec<PartitionedFile>> {
    let mut groups = vec![Vec::new(); parts];
    let size = total.div_ceil(parts as u64).max(1);
    let mut done = 0;
    for file in files {
        let FileRange { mut start, end } = range(&file);
        while start < end {
            let group = ((done / size) as usize).min(parts - 1);
            let room = if group + 1 == parts { i64::MAX } else { ((group as u64 + 1) * size - done) as i64 };
            let stop = end.min(start.saturating_add(room));
            let mut part = file.clone();
            part.range = Some(FileRange { start, end: stop });
            // Bounds of each column are of no use to a task, and most of a plan's size.
            part.statistics = None;
            groups[group].push(part);
            done += (stop - start) as u64;
            start = stop;
        }
    }
    groups
}

/// Returns a scan in which each task reads its range of the files, in `shape.partitions` partitions.
/// Returns `None` if a part of the scan cannot be evaluated by another process.
pub(crate) fn split_scan(
    plan: &Arc<dyn ExecutionPlan>,
    shape: Shape,
    functions: &Functions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(config) = parquet_scan(plan.as_ref()) else { return Ok(None) };
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let has_extensions = |file: &PartitionedFile| file.extensions.get::<ParquetRows>().is_some();
    if config.output_partitioning.is_some() || config.file_groups.iter().flat_map(FileGroup::iter).any(has_extensions) {
        return Ok(None);
    }
    let mut source = source.clone();
    if let Some(predicate) = source.filter() {
        let predicate = functions.portable(predicate)?;
        source = match predicate {
            Some(predicate) => source.with_predicate(predicate),
            // It only skips row groups without a matching row.
            None if !source.table_parquet_options().global.pushdown_filters => source.with_predicate(lit(true)),
            None => return Ok(None),
        };
    }
    // In the message of a plan a limit has 32 bits; a larger one is applied above the scan.
    let limit = config.limit.filter(|limit| u32::try_from(*limit).is_ok());
    let scan = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).with_limit(limit);
    let config = scan.build();
    let projection: Vec<ProjectionExpr> =
        config.file_source().projection().map(|exprs| exprs.iter().cloned().collect()).unwrap_or_default();
    let (config, above) = match projection.iter().all(|projected| functions.is_portable(&projected.expr)) {
        true => (config, None),
        false => match below_projection(&config, &projection, functions)? {
            Some((config, above)) => (config, Some(above)),
            None => return Ok(None),
        },
    };
    let files: Vec<PartitionedFile> = config.file_groups.iter().flat_map(FileGroup::iter).cloned().collect();
    let groups = split(files.into_iter(), shape.tasks * shape.partitions, bytes(&config));
    let variants = groups.chunks(shape.partitions).map(|groups| {
        let groups = groups.iter().map(|files| FileGroup::new(files.clone())).collect();
        let statistics = Statistics::new_unknown(config.file_source().table_schema().table_schema());
        let scan = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups).with_statistics(statistics);
        DataSourceExec::from_data_source(scan.build()) as Arc<dyn ExecutionPlan>
    });
    let variants: Vec<_> = variants.collect();
    let leaf: Arc<dyn ExecutionPlan> = Arc::new(DistributedLeafExec::try_new(Arc::clone(plan), variants)?);
    Ok(Some(match above {
        Some(projection) => Arc::new(ProjectionExec::try_new(projection, leaf)?),
        None => leaf,
    }))
}

/// The rows of a file that a scan reads, if they were chosen when it was planned.
type ParquetRows = datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;

/// Returns a scan of the columns that a projection needs, and the projection over it, whose
/// expressions another process can evaluate; `None` if there are other expressions.
fn below_projection(
    config: &FileScanConfig,
    projection: &[ProjectionExpr],
    functions: &Functions,
) -> Result<Option<(FileScanConfig, Vec<ProjectionExpr>)>> {
    let mut exprs = Vec::with_capacity(projection.len());
    for projected in projection {
        match functions.portable(Arc::clone(&projected.expr))? {
            Some(expr) => exprs.push((expr, projected.alias.clone())),
            None => return Ok(None),
        }
    }
    let mut columns: Vec<usize> =
        exprs.iter().flat_map(|(expr, _)| collect_columns(expr)).map(|column| column.index()).collect();
    columns.sort_unstable();
    columns.dedup();
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let mut plain = ParquetSource::new(source.table_schema().clone())
        .with_table_parquet_options(source.table_parquet_options().clone());
    if let Some(predicate) = source.filter() {
        plain = plain.with_predicate(predicate);
    }
    let scan = FileScanConfigBuilder::new(config.object_store_url.clone(), Arc::new(plain))
        .with_file_groups(config.file_groups.clone())
        .with_limit(config.limit)
        .with_projection_indices(Some(columns.clone()))?
        .build();
    let over_scan = |expr: Arc<dyn PhysicalExpr>| {
        expr.transform_up(|expr| {
            Ok(match expr.downcast_ref::<Column>() {
                Some(column) => {
                    let place = columns.binary_search(&column.index()).unwrap_or_default();
                    Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>)
                }
                None => Transformed::no(expr),
            })
        })
    };
    let above = exprs.into_iter().map(|(expr, alias)| Ok(ProjectionExpr { expr: over_scan(expr)?.data, alias }));
    Ok(Some((scan, above.collect::<Result<_>>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_split_in_their_order_into_ranges_that_cover_them() {
        for (sizes, parts) in [(vec![10, 20, 30], 4), (vec![1], 3), (vec![7; 5], 1), (vec![3, 0, 9], 5)] {
            let files = || sizes.iter().enumerate().map(|(i, size)| PartitionedFile::new(format!("f{i}"), *size));
            let total = sizes.iter().sum();
            let groups = split(files(), parts, total);
            assert_eq!(groups.len(), parts);
            let mut next = vec![0; sizes.len()];
            let mut last = 0;
            for part in groups.iter().flatten() {
                let file: usize = part.object_meta.location.as_ref()[1..].parse().unwrap();
                assert!(file >= last);
                last = file;
                let range = range(part);
                assert_eq!(range.start, next[file]);
                next[file] = range.end;
            }
            let sizes: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
            assert_eq!(next, sizes);
            let largest = groups.iter().map(|group| group.iter().map(|part| length(&range(part))).sum::<u64>()).max();
            assert!(largest.unwrap() <= total.div_ceil(parts as u64));
        }
    }
}
