//! Rows as a table: numbers are aligned to the right, NULL looks different from text, vectors are
//! cut to their first components.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use maud::{Markup, html};
use vexact_core::error::{Error, Result};
use vexact_core::json::columns;
use vexact_core::rows::{cell_text, unreadable_cells};

/// Maximum number of characters of a cell.
const CELL_CHARS: usize = 100;
/// Maximum number of characters of a cell's tooltip.
const TITLE_CHARS: usize = 2000;
/// Maximum number of components shown of a vector.
const COMPONENTS: usize = 4;

/// Returns the rows of a batch under their columns' names and types; `note` stands below.
///
/// A cell whose value has no text, such as a date beyond the calendar, shows the text of the error,
/// and a note below names it.
///
/// # Errors
/// Errors of Arrow only.
pub fn table(rows: &RecordBatch, note: Option<&str>) -> Result<Markup> {
    let schema = rows.schema();
    let kinds = columns(&schema);
    let heads = schema.fields().iter().zip(&kinds).map(|(field, column)| (field.name(), &column.kind));
    let are_numbers: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let mut lines = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        lines.push(rows.columns().iter().map(|column| cell(column, row)).collect::<Result<Vec<Option<String>>>>()?);
    }
    let unreadable = unreadable_cells(std::slice::from_ref(rows));
    Ok(html! {
        div.vexact-rows {
            table {
                thead { tr {
                    @for ((name, kind), is_number) in heads.zip(&are_numbers) {
                        th class=[(*is_number).then_some("vexact-number")] scope="col" { (name) span { (kind) } }
                    }
                } }
                tbody {
                    @for line in &lines { tr {
                        @for (cell, is_number) in line.iter().zip(&are_numbers) {
                            @match cell {
                                Some(text) => (shown(text, *is_number)),
                                None => td class=[(*is_number).then_some("vexact-number")] { i { "NULL" } },
                            }
                        }
                    } }
                }
            }
            @if let Some(note) = note { p { (note) } }
            @if !unreadable.is_empty() { p { "values without text: " (unreadable.join("; ")) } }
        }
    })
}

fn shown(text: &str, is_number: bool) -> Markup {
    match text.char_indices().nth(CELL_CHARS) {
        None => html! { td class=[(is_number).then_some("vexact-number")] { (text) } },
        Some((end, _)) => {
            let title_end = text.char_indices().nth(TITLE_CHARS).map_or(text.len(), |(end, _)| end);
            html! { td title=(text[..title_end]) { (text[..end]) "…" } }
        }
    }
}

/// Returns a value as text, or `None` for NULL.
fn cell(column: &ArrayRef, row: usize) -> Result<Option<String>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let items = match column.data_type() {
        DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().value(row)),
        DataType::List(_) => Some(column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(column.as_list::<i64>().value(row)),
        _ => None,
    };
    match items {
        Some(items) if items.data_type().is_numeric() && items.len() > 2 * COMPONENTS => {
            let first = cast(&items.slice(0, COMPONENTS), &DataType::Float64).map_err(Error::arrow)?;
            let first: Vec<String> = first.as_primitive::<Float64Type>().iter().map(component).collect();
            // The header of a vector's column shows the number of components.
            let more = match column.data_type() {
                DataType::FixedSizeList(..) => String::new(),
                _ => format!(" {} items", items.len()),
            };
            Ok(Some(format!("[{}, …{more}]", first.join(", "))))
        }
        _ => Ok(Some(cell_text(column, row))),
    }
}

/// Returns the first digits of a component: the vector is cut in any case.
fn component(value: Option<f64>) -> String {
    match value {
        None => "NULL".into(),
        // Small ones are not zero, and large ones are not long.
        Some(value) if value != 0.0 && !(0.001..1e6).contains(&value.abs()) => format!("{value:.1e}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn page(columns: Vec<(&str, ArrayRef)>) -> String {
        table(&RecordBatch::try_from_iter(columns).unwrap(), None).unwrap().into_string()
    }

    fn vectors(dim: usize) -> ArrayRef {
        let values = Float32Array::from_iter_values((0..dim).map(|component| component as f32 / 2.0));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None))
    }

    #[test]
    fn numbers_stand_to_the_right_and_null_is_no_text() {
        let page = page(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(7), None]))),
            ("x", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)]))),
            ("s", Arc::new(StringArray::from(vec![Some("NULL"), None]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ]);
        assert!(page.contains("<th class=\"vexact-number\" scope=\"col\">n<span>int64</span></th>"), "{page}");
        assert!(page.contains("<th scope=\"col\">s<span>utf8</span></th>"), "{page}");
        let first =
            "<tr><td class=\"vexact-number\">7</td><td class=\"vexact-number\">0.1</td><td>NULL</td><td>true</td></tr>";
        let second = "<tr><td class=\"vexact-number\"><i>NULL</i></td><td class=\"vexact-number\">NaN</td>\
                      <td><i>NULL</i></td><td>false</td></tr>";
        assert!(page.contains(first) && page.contains(second), "{page}");
    }

    #[test]
    fn long_vectors_show_their_first_components() {
        assert!(page(vec![("v", vectors(384))]).contains("<td>[0.0000, 0.5000, 1.0000, 1.5000, …]</td>"));
        assert!(page(vec![("v", vectors(3))]).contains("<td>[0.0, 0.5, 1.0]</td>"));
    }

    #[test]
    fn long_texts_are_cut_at_whole_characters() {
        let page = page(vec![("s", Arc::new(StringArray::from(vec!["é".repeat(5000)])))]);
        let (title, cell) = ("é".repeat(TITLE_CHARS), "é".repeat(CELL_CHARS));
        assert!(page.contains(&format!("<td title=\"{title}\">{cell}…</td>")));
    }

    #[test]
    fn a_value_without_text_costs_no_other_cell() {
        let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![i32::MAX]));
        let page = page(vec![("n", Arc::new(Int64Array::from(vec![7]))), ("d", days)]);
        assert!(
            page.contains(">7</td>") && page.contains("ERROR: ") && page.contains("column &quot;d&quot;, row 0"),
            "{page}"
        );
    }

    #[test]
    fn no_value_is_markup() {
        let page = page(vec![("<b>", Arc::new(StringArray::from(vec!["<i>&\"'"])))]);
        assert!(page.contains("&lt;b&gt;<span>") && page.contains("<td>&lt;i&gt;&amp;&quot;'</td>"), "{page}");
    }

    #[test]
    fn no_columns_and_no_rows_are_tables_too() {
        let none = table(&RecordBatch::new_empty(Arc::new(Schema::empty())), Some("0 rows")).unwrap().into_string();
        assert!(none.contains("<tbody></tbody>") && none.contains("<p>0 rows</p>"));
        assert!(page(vec![("n", Arc::new(Int64Array::from(Vec::<i64>::new())))]).contains("<tbody></tbody>"));
    }
}
