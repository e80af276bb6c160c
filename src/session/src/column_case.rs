//! Columns of pandas and Excel with upper case under names without quotes, which SQL reads in lower
//! case.
//!
//! A statement that names a missing column is planned again with such names replaced by the one
//! column of its tables that differs in case alone. Columns of other sources need quotes.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, VisitMut, VisitorMut};

/// Keys of a schema's metadata that pandas and Excel sheets have. Views keep the metadata of what
/// they read.
const SPREADSHEET_KEYS: [&str; 2] = ["pandas", "vexact.excel"];

/// Returns true for the columns of a frame of pandas or of an Excel sheet.
pub(super) fn is_of_spreadsheet(schema: &Schema) -> bool {
    SPREADSHEET_KEYS.iter().any(|key| schema.metadata().contains_key(*key))
}

/// Returns true for the error of a column that does not exist.
pub(super) fn is_missing_column(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => matches!(error.as_ref(), SchemaError::FieldNotFound { .. }),
        _ => false,
    }
}

/// Replaces names without quotes by the columns of pandas and Excel, among those of the tables, that
/// they can only mean. Returns false if no name changes.
pub(super) fn spell_columns<'s>(statement: &mut Statement, tables: impl IntoIterator<Item = &'s Schema>) -> bool {
    let mut spellings: HashMap<String, Option<&str>> = HashMap::new();
    for schema in tables {
        let needs_quotes = !is_of_spreadsheet(schema);
        for column in schema.fields().iter().map(|field| field.name().as_str()) {
            let known = spellings.entry(column.to_lowercase()).or_insert(Some(column));
            if needs_quotes || *known != Some(column) {
                *known = None;
            }
        }
    }
    let mut speller = Speller { spellings, has_changed: false };
    visit(statement, &mut speller);
    speller.has_changed
}

fn visit(statement: &mut Statement, speller: &mut Speller<'_>) {
    match statement {
        Statement::Statement(inner) => {
            let ControlFlow::Continue(()) = inner.visit(speller);
        }
        Statement::Explain(explain) => visit(&mut explain.statement, speller),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

struct Speller<'c> {
    /// The spelling of each name in lower case; `None` if there are several.
    spellings: HashMap<String, Option<&'c str>>,
    has_changed: bool,
}

impl Speller<'_> {
    fn spell(&mut self, name: &mut Ident) {
        if name.quote_style.is_some() {
            return;
        }
        let lower = name.value.to_lowercase();
        if let Some(Some(spelling)) = self.spellings.get(&lower)
            && *spelling != lower
        {
            *name = Ident::with_quote_and_span('"', name.span, *spelling);
            self.has_changed = true;
        }
    }
}

impl VisitorMut for Speller<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Identifier(name) => self.spell(name),
            Expr::CompoundIdentifier(names) => names.iter_mut().skip(1).for_each(|name| self.spell(name)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
