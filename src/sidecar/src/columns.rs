//! Resolves column names of the configuration to columns of a source's table.

use vexact_core::error::{Error, Result};

use super::config::TimestampTableConfig;

/// Finds a column by its exact name, or else by its name ignoring ASCII case.
pub(super) fn find(table: &TimestampTableConfig, names: &[&str], name: &str) -> Result<usize> {
    let exact = names.iter().position(|known| *known == name);
    exact.or_else(|| names.iter().position(|known| known.eq_ignore_ascii_case(name))).ok_or_else(|| {
        Error::Engine(format!(
            "table {:?} of the source has no column {name:?}: expected one of [{}]",
            table.table_name,
            names.join(", ")
        ))
    })
}

/// Rejects a configured type for a column that does not exist.
pub(super) fn check_types(table: &TimestampTableConfig, names: &[&str]) -> Result<()> {
    table.column_types.iter().try_for_each(|(name, _)| find(table, names, name).map(drop))
}

/// Returns the positions of the replica's columns in the table: all columns, or those of the key
/// and the configured ones.
pub(super) fn wanted(table: &TimestampTableConfig, names: &[&str]) -> Result<Vec<usize>> {
    let key = table.primary_key.iter().map(|name| find(table, names, name)).collect::<Result<Vec<_>>>()?;
    if table.columns.is_empty() {
        return Ok((0..names.len()).collect());
    }
    let named = table.columns.iter().map(|name| find(table, names, name)).collect::<Result<Vec<_>>>()?;
    let mut columns: Vec<usize> = key.into_iter().filter(|column| !named.contains(column)).collect();
    columns.extend(named);
    Ok(columns)
}
