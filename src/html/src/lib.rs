//! HTML of rows and explains: the same in a notebook and on the local page.
//!
//! Every value is escaped by [`maud`]. Markup has classes and no style of its own, so that it can
//! be shown under a strict content policy; [`STYLE`] is the style of these classes. Its colours are
//! shades of the text's own, for light and dark grounds alike.

mod explain;
mod plan;
mod table;

use arrow::array::RecordBatch;
use maud::{Markup, PreEscaped, html};
use vexact_core::error::Result;

pub use explain::{Explain, explain};
pub use table::table;

/// The style of this crate's markup.
pub const STYLE: &str = include_str!("style.css");

/// Returns at most `max_rows` rows as a table with its style. A note says so if there are more.
///
/// # Errors
/// Errors of Arrow only.
pub fn first_rows(rows: &RecordBatch, max_rows: usize) -> Result<String> {
    let note = (rows.num_rows() > max_rows).then(|| format!("first {max_rows} rows"));
    let shown = rows.slice(0, rows.num_rows().min(max_rows));
    Ok(with_style(&table(&shown, note.as_deref())?))
}

/// Returns a fragment with its style, for a document that has none, such as a notebook's cell.
pub fn with_style(fragment: &Markup) -> String {
    html! { style { (PreEscaped(STYLE)) } (fragment) }.into_string()
}
