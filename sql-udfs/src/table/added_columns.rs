//! Schemas of logical operators that add columns to those of their input.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result};

/// Returns the columns of an input and behind them those that an operator adds.
///
/// # Errors
/// A column of the input that has the name of an added one.
pub fn with_added_columns(input: &DFSchema, added: Vec<Field>) -> Result<DFSchemaRef> {
    let fields = input.iter().map(|(table, field)| (table.cloned(), Arc::clone(field)));
    let fields = fields.chain(added.into_iter().map(|field| (None, Arc::new(field)))).collect();
    Ok(Arc::new(DFSchema::new_with_metadata(fields, input.metadata().clone())?))
}

/// Returns the columns of the input that such an operator needs for some of its output: those that
/// are in the output, and its own. Returns `None` if one of its own is no column of the input.
pub fn needed_of_input<'c>(
    input: &DFSchema,
    output: &[usize],
    own: impl IntoIterator<Item = &'c Column>,
) -> Option<Vec<usize>> {
    let mut needed: Vec<usize> = output.iter().copied().filter(|column| *column < input.fields().len()).collect();
    for column in own {
        needed.push(input.maybe_index_of_column(column)?);
    }
    needed.sort_unstable();
    needed.dedup();
    Some(needed)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Schema};

    use super::*;

    #[test]
    fn added_columns_are_last_and_never_asked_of_the_input() {
        let field = |name: &str| Field::new(name, DataType::Int64, false);
        let input = DFSchema::try_from(Schema::new(vec![field("a"), field("b"), field("c")])).unwrap();
        let schema = with_added_columns(&input, vec![field("score")]).unwrap();
        assert_eq!(
            schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["a", "b", "c", "score"]
        );
        assert!(with_added_columns(&schema, vec![field("score")]).is_err());
        let own = [Column::from_name("c"), Column::from_name("a")];
        assert_eq!(needed_of_input(&input, &[1, 3], &own), Some(vec![0, 1, 2]));
        assert_eq!(needed_of_input(&input, &[3], &own[..1]), Some(vec![2]));
        assert_eq!(needed_of_input(&input, &[0], &[Column::from_name("x")]), None);
    }
}
