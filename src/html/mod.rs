//! How rows and explains look in HTML: the same in a notebook and on the local page.
//!
//! Every value is escaped by [`maud`]. Markup has classes and no style of its own, so that it can be shown under a strict content
//! policy; [`STYLE`] is the style of these classes. Its colours are shades of the text's own, for light and dark grounds alike.

mod explain;
mod plan;
mod table;

use maud::{Markup, PreEscaped, html};

pub use explain::explain;
pub use table::table;

/// The style of what this module makes.
pub const STYLE: &str = include_str!("style.css");

/// A fragment with its style, for where there is none: a notebook's cell.
pub fn with_style(fragment: &Markup) -> String {
    html! { style { (PreEscaped(STYLE)) } (fragment) }.into_string()
}
