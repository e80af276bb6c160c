//! Columns of a CSV file that contain vectors.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Builder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};

use super::cell::{BadCell, Cells};
use super::vector_text::{self, Shape};

/// A column of vectors of float32 of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VectorColumn {
    pub dim: usize,
}

/// Returns the length of the vectors in a column that begins with these cells; `None` if it does
/// not contain vectors.
pub(super) fn vector_dim<'a>(cells: impl Iterator<Item = &'a str>) -> Option<usize> {
    let (mut vectors, mut brackets, mut others) = (0, 0, 0);
    // Lengths in the order of their first occurrence, with the number of vectors.
    let mut lengths: Vec<(usize, usize)> = Vec::new();
    for cell in cells {
        match vector_text::shape(cell) {
            Shape::Empty => {}
            Shape::Bracket => brackets += 1,
            Shape::Other => others += 1,
            Shape::Vector => {
                vectors += 1;
                // A text that is not a vector has no length; it is an error once the column is
                // known to contain vectors.
                let Ok(vector) = vector_text::parse(cell) else { continue };
                match lengths.iter_mut().find(|(length, _)| *length == vector.len()) {
                    Some((_, count)) => *count += 1,
                    None => lengths.push((vector.len(), 1)),
                }
            }
        }
    }
    let most = lengths.iter().rev().max_by_key(|(_, count)| *count);
    // Text in brackets is an invalid vector if it is among vectors, else text.
    (vectors > others && vectors >= brackets).then(|| most.map_or(1, |(length, _)| *length))
}

impl VectorColumn {
    /// Returns the type of the column.
    pub fn data_type(&self) -> DataType {
        DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), self.dim as i32)
    }

    /// Parses text cells as vectors; empty cells are NULL.
    pub fn parse(&self, cells: &impl Cells) -> Result<ArrayRef, BadCell> {
        let mut values = Float32Builder::with_capacity(cells.len() * self.dim);
        let mut valid = Vec::with_capacity(cells.len());
        for row in 0..cells.len() {
            let cell = cells.get(row).filter(|cell| !cell.trim().is_empty());
            match cell {
                Some(cell) => {
                    let vector = self.parse_cell(cell).map_err(|problem| BadCell { row, problem })?;
                    vector.iter().for_each(|x| values.append_value(*x as f32));
                }
                None => values.append_nulls(self.dim),
            }
            valid.push(cell.is_some());
        }
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let nulls = Some(NullBuffer::from(valid));
        Ok(Arc::new(FixedSizeListArray::new(item, self.dim as i32, Arc::new(values.finish()), nulls)))
    }

    fn parse_cell(&self, cell: &str) -> Result<Vec<f64>, String> {
        let vector = vector_text::parse(cell).map_err(|error| error.to_string())?;
        if vector.len() != self.dim {
            let (expected, got) = (self.dim, vector.len());
            return Err(format!("vectors of different lengths: expected {expected} components, got {got}"));
        }
        match vector.iter().find(|x| x.is_finite() && !(**x as f32).is_finite()) {
            Some(x) => Err(format!("expected components within Float32, got {x}")),
            None => Ok(vector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_cells_decide_on_vectors_and_their_length() {
        for (cells, expected) in [
            (&["[1 2]", "[3 4]"][..], Some(2)),
            (&["[1]", "[1 2]", "[3 4]"], Some(2)),
            (&["[1 2 3]", "[1 2]"], Some(3)),
            (&["", " [1 2]", "[]"], Some(2)),
            (&["[1 x]"], Some(1)),
            (&["[1 2]", "[1 2", "hello", "[3 4]"], Some(2)),
            (&["[1 2]", "hello"], None),
            (&["[1]", "[draft] 1", "[draft] 2"], None),
            (&["[]", "[]"], None),
            (&["[\"a\"]", "[]"], None),
            (&["", ""], None),
            (&[], None),
        ] {
            assert_eq!(vector_dim(cells.iter().copied()), expected, "{cells:?}");
        }
    }
}
