//! `*` of joins with USING or NATURAL. SQLite has each shared column once, where its first table in the query stands; DataFusion where
//! the first by the tables' names stands, which a LEFT JOIN has NULL.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, ObjectName, Select, SelectItem, TableFactor, WildcardAdditionalOptions,
};

use super::names::OlapTable;
use super::tree::constraint_of;

/// Puts the columns of a join in the place of a `*`, in SQLite's order. `tables`: those of the FROM that are known, by their names in
/// it. Where others are joined too, the `*` stays.
pub(super) fn expand_wildcard(select: &mut Select, tables: &[(String, OlapTable)]) {
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
    let is_plain = |item: &SelectItem| matches!(item, SelectItem::Wildcard(options) if *options == no_options);
    if shared.iter().all(Vec::is_empty) || !select.projection.iter().any(is_plain) {
        return;
    }
    let columns = tables.iter().zip(&shared).flat_map(|((name, table), shared)| {
        let is_shared = |column: &str| shared.iter().any(|shared| shared.eq_ignore_ascii_case(column));
        let own = table.schema.fields().iter().map(|field| field.name()).filter(move |column| !is_shared(column));
        let item = |column: &String| vec![Ident::with_quote('"', name), Ident::with_quote('"', column)];
        own.map(item).map(Expr::CompoundIdentifier).map(SelectItem::UnnamedExpr).collect::<Vec<_>>()
    });
    let columns: Vec<SelectItem> = columns.collect();
    let items = std::mem::take(&mut select.projection).into_iter();
    select.projection = items.flat_map(|item| if is_plain(&item) { columns.clone() } else { vec![item] }).collect();
}

/// The column that USING names.
fn name(column: &ObjectName) -> Option<String> {
    Some(column.0.last()?.as_ident()?.value.clone())
}
