//! Expands `*` of joins with USING or NATURAL, and of tables with a row id. SQLite has each shared
//! column once, at the position of its first table in the query, and no row id; DataFusion takes
//! the shared column from the first table by name, where a LEFT JOIN may have NULL, and has all
//! columns.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, ObjectName, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    WildcardAdditionalOptions,
};
use vexact_core::error::{Error, Result};

use super::names::OlapTable;
use super::tree::constraint_of;

/// Replaces a `*` by the columns of a join, in SQLite's order. `tables` are the known tables of the
/// FROM, by their names in it. If it joins other relations too, the `*` is unchanged.
///
/// # Errors
/// A `*` that is not expanded and would include a row id; NATURAL of a table with one.
pub(super) fn expand_wildcard(select: &mut Select, tables: &[(String, OlapTable)]) -> Result<()> {
    let with_row_id = tables.iter().map(|(_, table)| table).find(|table| table.row_id.is_some());
    expand(select, tables, with_row_id.is_some());
    let Some(table) = with_row_id else { return Ok(()) };
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let constraints = select.from.iter_mut().flat_map(|from| &mut from.joins);
    let mut constraints = constraints.filter_map(|join| constraint_of(&mut join.join_operator));
    let is_natural = constraints.any(|constraint| matches!(constraint, JoinConstraint::Natural));
    if is_natural || select.projection.iter().any(is_wildcard) {
        return Err(Error::Engine(format!(
            "expected columns by name, got * or NATURAL over table {:?}, whose replica has its row id as a column",
            table.name
        )));
    }
    Ok(())
}

fn expand(select: &mut Select, tables: &[(String, OlapTable)], has_row_id: bool) {
    let [from] = &mut select.from[..] else { return };
    let is_table = |factor: &TableFactor| matches!(factor, TableFactor::Table { args: None, .. });
    let are_known = tables.len() == 1 + from.joins.len()
        && is_table(&from.relation)
        && from.joins.iter().all(|join| is_table(&join.relation));
    if !are_known {
        return;
    }
    let mut shared: Vec<Vec<String>> = vec![Vec::new()];
    for (at, join) in from.joins.iter_mut().enumerate() {
        shared.push(match constraint_of(&mut join.join_operator) {
            Some(JoinConstraint::Using(columns)) => columns.iter().filter_map(name).collect(),
            Some(JoinConstraint::Natural) => {
                let is_before = |column: &str| tables[..=at].iter().any(|(_, table)| table.column(column).is_some());
                let columns = tables[at + 1].1.schema.fields().iter().map(|field| field.name());
                columns.filter(|column| is_before(column)).cloned().collect()
            }
            _ => Vec::new(),
        });
    }
    let no_options = WildcardAdditionalOptions::default();
    if shared.iter().all(Vec::is_empty) && !has_row_id {
        return;
    }
    let columns_of = |at: usize, is_whole: bool| {
        let (name, table) = &tables[at];
        let is_shared = |column: &str| !is_whole && shared[at].iter().any(|shared| shared.eq_ignore_ascii_case(column));
        let item = |column: &String| vec![Ident::with_quote('"', name), Ident::with_quote('"', column)];
        let own = table.visible_columns().filter(|column| !is_shared(column));
        own.map(item).map(Expr::CompoundIdentifier).map(SelectItem::UnnamedExpr).collect::<Vec<_>>()
    };
    let named = |kind: &SelectItemQualifiedWildcardKind| match kind {
        SelectItemQualifiedWildcardKind::ObjectName(name) => {
            let name = name.0.last()?.as_ident()?;
            tables.iter().position(|(table, _)| table.eq_ignore_ascii_case(&name.value))
        }
        SelectItemQualifiedWildcardKind::Expr(_) => None,
    };
    let items = std::mem::take(&mut select.projection).into_iter();
    let expanded = items.flat_map(|item| match &item {
        SelectItem::Wildcard(options) if *options == no_options => {
            (0..tables.len()).flat_map(|at| columns_of(at, false)).collect()
        }
        SelectItem::QualifiedWildcard(kind, options) if has_row_id && *options == no_options => match named(kind) {
            Some(at) => columns_of(at, true),
            None => vec![item],
        },
        _ => vec![item],
    });
    select.projection = expanded.collect();
}

/// Returns the column that USING names.
fn name(column: &ObjectName) -> Option<String> {
    Some(column.0.last()?.as_ident()?.value.clone())
}
