//! Statistics of the files of a scan, from their footers and folders.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;

/// Returns the files in consecutive groups by name, with the statistics of each group and of all.
pub(super) fn with_statistics(
    files: Vec<PartitionedFile>,
    groups: usize,
    schema: &SchemaRef,
) -> Result<(Vec<FileGroup>, Statistics)> {
    let of_group = |group: FileGroup| {
        let statistics =
            Statistics::try_merge_iter(group.iter().filter_map(|file| file.statistics.as_deref()), schema)?;
        Ok(group.with_statistics(Arc::new(statistics)))
    };
    let groups = FileGroup::new(files).split_files(groups).into_iter().map(of_group);
    let groups = groups.collect::<Result<Vec<_>>>()?;
    let all = groups.iter().filter_map(|group| group.file_statistics(None));
    let statistics = Statistics::try_merge_iter(all, schema)?;
    Ok((groups, statistics))
}

/// Adds the statistics of the folders' columns, each of which has one value in all rows.
pub(super) fn with_values(mut statistics: Statistics, values: &[ScalarValue]) -> Statistics {
    let column = |value: &ScalarValue| match value.is_null() {
        true => ColumnStatistics { null_count: statistics.num_rows, ..ColumnStatistics::new_unknown() },
        false => ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: Precision::Exact(value.clone()),
            max_value: Precision::Exact(value.clone()),
            distinct_count: Precision::Exact(1),
            ..ColumnStatistics::new_unknown()
        },
    };
    let columns: Vec<ColumnStatistics> = values.iter().map(column).collect();
    statistics.column_statistics.extend(columns);
    statistics
}
