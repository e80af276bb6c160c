//! Limits: the default memory limit of a session, and the accepted values of settings.

use vexact_core::error::{Error, Result};

/// The share of the machine's memory that is a session's default limit, in hundredths.
const SHARE: u64 = 75;
/// Maximum number of threads, files and batches at the same time.
const MAX_PARALLEL: u64 = 1024;
/// Partitions of a query.
pub(super) const MAX_PARTITIONS: usize = MAX_PARALLEL as usize;

/// Settings whose value is a size that is allocated, or a number of threads or rounds: the smallest
/// and the largest value.
const BOUNDS: &[(&str, u64, u64)] = &[
    ("datafusion.execution.batch_size", 1, 1 << 20),
    ("datafusion.execution.max_buffered_batches_per_output_file", 1, MAX_PARALLEL),
    ("datafusion.execution.meta_fetch_concurrency", 1, MAX_PARALLEL),
    ("datafusion.execution.minimum_parallel_output_files", 1, MAX_PARALLEL),
    ("datafusion.execution.parquet.bloom_filter_ndv", 1, 100_000_000),
    ("datafusion.execution.parquet.maximum_buffered_record_batches_per_stream", 1, MAX_PARALLEL),
    ("datafusion.execution.parquet.maximum_parallel_row_group_writers", 1, MAX_PARALLEL),
    ("datafusion.execution.planning_concurrency", 0, MAX_PARALLEL),
    ("datafusion.execution.target_partitions", 0, MAX_PARALLEL),
    ("datafusion.optimizer.max_passes", 0, 100),
    ("datafusion.sql_parser.recursion_limit", 1, 1000),
    ("vexact.threads", 0, MAX_PARALLEL),
];

/// Rejects a value of a setting that no machine can serve.
///
/// # Errors
/// A value outside the bounds: the setting, expected and got.
pub(super) fn check_setting(name: &str, value: &str) -> Result<()> {
    let Some((name, least, most)) = BOUNDS.iter().find(|(bounded, ..)| bounded.eq_ignore_ascii_case(name)) else {
        return Ok(());
    };
    match value.trim().parse::<u64>() {
        Ok(number) if !(*least..=*most).contains(&number) => {
            Err(Error::InvalidArgument(format!("{name}: expected {least} to {most}, got {value}")))
        }
        // The setting itself rejects a value that is not a number.
        _ => Ok(()),
    }
}

/// Returns the default memory limit of a session in bytes: a share of the machine's memory, or of
/// its control group's. Returns `None` if neither is known.
pub(super) fn default_memory() -> Option<usize> {
    let of_machine = machine_memory()?;
    let memory = control_group_memory().map_or(of_machine, |limit| limit.min(of_machine));
    usize::try_from(memory / 100 * SHARE).ok()
}

#[cfg(target_os = "linux")]
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(not(target_os = "linux"))]
fn machine_memory() -> Option<u64> {
    None
}

/// Returns the smallest limit of the control groups that the process is in.
fn control_group_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limits = std::path::Path::new(group).ancestors().filter_map(|group| {
        let file = std::path::Path::new("/sys/fs/cgroup").join(group.strip_prefix("/").ok()?).join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_no_machine_can_serve_are_refused() {
        for (name, value) in [
            ("datafusion.execution.batch_size", "1000000000000"),
            ("DATAFUSION.execution.batch_size", "0"),
            ("datafusion.execution.target_partitions", "1000000"),
            ("vexact.threads", "18446744073709551615"),
        ] {
            let error = check_setting(name, value).unwrap_err().to_string();
            assert!(error.contains("expected") && error.ends_with(&format!("got {value}")), "{error}");
        }
        for (name, value) in [("datafusion.execution.batch_size", "8192"), ("datafusion.catalog.default_schema", "x")] {
            check_setting(name, value).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_default_limit_is_a_share_of_the_memory() {
        let limit = default_memory().unwrap() as u64;
        assert!(limit > 64 << 20 && limit < machine_memory().unwrap());
    }
}
