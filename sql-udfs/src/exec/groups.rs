//! Rows in groups by the values of a column, and the k best rows of each group.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef};
use arrow::compute::kernels::numeric::add;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, plan_err};

use super::ranked::Entry;

/// A row that is ranked within its group.
pub(super) trait Grouped {
    fn group(&self) -> u32;
    fn entry(&self) -> &Entry;
}

/// A row of a batch or a column of chunks, by its position in the entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupEntry {
    pub group: u32,
    pub entry: Entry,
}

impl Grouped for GroupEntry {
    fn group(&self) -> u32 {
        self.group
    }

    fn entry(&self) -> &Entry {
        &self.entry
    }
}

/// Keeps the first `k` rows of each group, with `has_ties` also those that are tied with the k-th.
/// Leaves the rows in the order of their groups, each group best first.
pub(super) fn keep_first_of_each<T: Grouped>(rows: &mut Vec<T>, k: usize, has_ties: bool) {
    rows.sort_unstable_by(|a, b| a.group().cmp(&b.group()).then_with(|| a.entry().order(b.entry())));
    let mut last: Option<(u32, usize, Entry)> = None;
    rows.retain(|row| {
        let kept = match last {
            Some((group, kept, _)) if group == row.group() => kept,
            _ => 0,
        };
        let is_tied = has_ties && kept >= k && last.is_some_and(|(_, _, entry)| entry.is_tied(row.entry()));
        if kept >= k && !is_tied {
            return false;
        }
        last = Some((row.group(), kept + 1, *row.entry()));
        true
    });
}

/// Checks that rows can be grouped by a column.
///
/// # Errors
/// A type whose values cannot be compared for equality.
pub fn check_group_type(column: &str, data_type: &DataType) -> Result<()> {
    if RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
        return Ok(());
    }
    plan_err!("group_by: column {column:?}: expected values that can be grouped, got {data_type}")
}

/// Numbers the different values of a column. NULL is a value, and both zeros are one.
#[derive(Debug)]
pub(super) struct Groups {
    converter: RowConverter,
    numbers: HashMap<Box<[u8]>, u32>,
    bytes: usize,
}

impl Groups {
    pub fn try_new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { converter, numbers: HashMap::new(), bytes: 0 })
    }

    /// The group of each row.
    pub fn number(&mut self, values: &ArrayRef) -> Result<Vec<u32>> {
        let values = match values.data_type() {
            // The sum of -0.0 and 0.0 is 0.0.
            float if float.is_floating() => add(values, &ScalarValue::new_zero(float)?.to_scalar()?)?,
            _ => ArrayRef::clone(values),
        };
        let rows = self.converter.convert_columns(&[values])?;
        let mut groups = Vec::with_capacity(rows.num_rows());
        for row in rows.iter() {
            let group = match self.numbers.get(row.as_ref()) {
                Some(group) => *group,
                None => {
                    let group = self.numbers.len() as u32;
                    self.bytes += row.as_ref().len() + size_of::<(Box<[u8]>, u32)>();
                    self.numbers.insert(row.as_ref().into(), group);
                    group
                }
            };
            groups.push(group);
        }
        Ok(groups)
    }

    /// Memory that the values take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn null_is_a_group_and_both_zeros_are_one() {
        let mut groups = Groups::try_new(&DataType::Utf8).unwrap();
        let values = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        assert_eq!(groups.number(&values(vec![Some("a"), None, Some(""), Some("a")])).unwrap(), [0, 1, 2, 0]);
        assert_eq!(groups.number(&values(vec![None, Some("b"), Some("a")])).unwrap(), [1, 3, 0]);
        let mut groups = Groups::try_new(&DataType::Float64).unwrap();
        let zeros = Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), None, Some(1.0)])) as ArrayRef;
        assert_eq!(groups.number(&zeros).unwrap(), [0, 0, 1, 2]);
    }
}
