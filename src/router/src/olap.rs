//! Rewrites a query for DataFusion: each name gets the spelling of the replica.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, ExcludeSelectItem, Expr, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, JoinConstraint, ObjectName, ObjectNamePart, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement as SqlStatement, TableAlias, TableFactor, TableWithJoins, UnaryOperator,
    Value, ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use vexact_core::error::{Error, Result};

use super::analysis::{bare, function_name, table_function};
use super::canonical_names::{CanonicalNames, olap_table};
use super::filter::filter_for_olap;
use super::names::{OLAP_CATALOG, OLAP_SCHEMA, OlapTable, TableLookup};
use super::order::qualify_hidden_columns;
use super::scope::Ctes;
use super::shared_columns::expand_wildcard;
use super::tree::{constraint_of, first_select, joined, set_text, spell};

/// Rewrites the tables, columns and aliases of a statement of [`super::read_only`] to their
/// canonical spelling, so that DataFusion, which compares names exactly, finds what SQLite would
/// find in any case; the aliases of the result are unchanged. The table and column that
/// `vector_search`, `vector_join` and `as_of` name in text are rewritten too, and the names in a
/// filter. Unknown names are unchanged.
///
/// # Errors
/// A table that the OLAP side lacks; a column without its table where two tables spell it
/// differently; a parameter `@name`.
pub fn for_olap(statement: Statement, names: &dyn TableLookup) -> Result<Statement> {
    match statement {
        Statement::Explain(mut explain) => {
            explain.statement = Box::new(for_olap(*explain.statement, names)?);
            Ok(Statement::Explain(explain))
        }
        Statement::Statement(mut statement) => {
            let spelling = CanonicalNames::of(&statement, names)?;
            let mut rewriter = Rewriter {
                names,
                spelling,
                ctes: Ctes::default(),
                scopes: Vec::new(),
                output: None,
                results: Vec::new(),
            };
            match statement.visit(&mut rewriter) {
                ControlFlow::Continue(()) => Ok(Statement::Statement(statement)),
                ControlFlow::Break(error) => Err(*error),
            }
        }
        other => Ok(other),
    }
}

/// Returns true if the negated expression may have another width. It has the same width for
/// literals and functions, for which searches look.
fn is_computed(mut expr: &Expr) -> bool {
    while let Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } = expr
    {
        expr = inner;
    }
    !matches!(expr, Expr::Value(_) | Expr::Function(_))
}

/// Returns the type that SQLite's affinity gives the one in a CAST; `None` if SQLite has no such
/// type.
fn affinity(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::TinyInt(_)
        | DataType::SmallInt(_)
        | DataType::MediumInt(_)
        | DataType::Int(_)
        | DataType::Int2(_)
        | DataType::Int4(_)
        | DataType::Integer(_)
        | DataType::Int8(_) => DataType::BigInt(None),
        DataType::Real | DataType::Float(_) | DataType::Double(_) | DataType::DoublePrecision => {
            DataType::Double(ExactNumberInfo::None)
        }
        _ => return None,
    })
}

pub(super) struct Rewriter<'a> {
    names: &'a dyn TableLookup,
    spelling: CanonicalNames,
    ctes: Ctes,
    /// One scope for each open query and SELECT. After its first SELECT, a query has the scope of
    /// that SELECT, for its ORDER BY.
    scopes: Vec<Scope>,
    /// SELECT that names the result's columns, by an address that is only compared.
    output: Option<*const Select>,
    /// Aliases of the result, as written.
    results: Vec<String>,
}

/// Tables of one FROM by their names in it.
type Scope = Option<Vec<(String, OlapTable)>>;

type Flow = ControlFlow<Box<Error>>;

impl<'a> Rewriter<'a> {
    /// Creates a rewriter of an expression over one table.
    pub(super) fn of_table(names: &'a dyn TableLookup, table: &OlapTable) -> Self {
        Self {
            names,
            spelling: CanonicalNames::of_table(table),
            ctes: Ctes::default(),
            scopes: vec![Some(vec![(table.name.clone(), table.clone())])],
            output: None,
            results: Vec::new(),
        }
    }
}

impl Rewriter<'_> {
    fn scoped(&self) -> impl Iterator<Item = &(String, OlapTable)> {
        self.scopes.iter().rev().flatten().flatten()
    }

    /// Rewrites a column without its table.
    fn column(&self, ident: &mut Ident) -> Flow {
        for scope in self.scopes.iter().rev().flatten() {
            let mut found: Option<(&OlapTable, &str)> = None;
            for (_, table) in scope {
                match (found, table.column(&ident.value)) {
                    (_, None) => {}
                    (None, Some(column)) => found = Some((table, column)),
                    (Some((_, first)), Some(column)) if first == column => {}
                    (Some((other, first)), Some(column)) => {
                        return ControlFlow::Break(Box::new(Error::Engine(format!(
                            "column {:?} is ambiguous: expected a table's name before it, got {first:?} of table {:?} and \
                             {column:?} of table {:?}",
                            ident.value, other.name, table.name
                        ))));
                    }
                }
            }
            if let Some((_, column)) = found {
                spell(ident, column);
                return ControlFlow::Continue(());
            }
        }
        if let Some(column) = self.spelling.column(&ident.value) {
            spell(ident, column);
        }
        ControlFlow::Continue(())
    }

    /// Rewrites `table.column`, also with a schema, or `column.field`.
    fn compound(&self, parts: &mut Vec<Ident>) -> Flow {
        self.drop_schema(parts, 1);
        let [relation, column, ..] = &mut parts[..] else { return ControlFlow::Continue(()) };
        let table = self.scoped().find(|(name, _)| name.eq_ignore_ascii_case(&relation.value)).map(|(_, table)| table);
        let Some(spelled) = self.spelling.relation(&relation.value) else {
            return self.column(relation);
        };
        spell(relation, spelled);
        let spelled =
            table.and_then(|table| table.column(&column.value)).or_else(|| self.spelling.column(&column.value));
        if let Some(spelled) = spelled {
            spell(column, spelled);
        }
        ControlFlow::Continue(())
    }

    /// Removes the schema from a name of a table and `after` further parts: on the OLAP side all
    /// tables are in one schema.
    fn drop_schema(&self, parts: &mut Vec<Ident>, after: usize) {
        let is = |at: usize, expected: &str| parts[at].value.eq_ignore_ascii_case(expected);
        let schemas = match parts.len().saturating_sub(1 + after) {
            2 if is(0, OLAP_CATALOG) && is(1, OLAP_SCHEMA) => 2,
            1.. if is(0, "main") || is(0, OLAP_SCHEMA) => 1,
            _ => return,
        };
        if self.spelling.relation(&parts[schemas].value).is_some() {
            parts.drain(..schemas);
        }
    }

    /// Rewrites the `table` of `table.*`.
    fn relation(&self, name: &mut ObjectName) {
        let parts: Option<Vec<Ident>> = name.0.iter().map(|part| part.as_ident().cloned()).collect();
        let Some(mut parts) = parts else { return };
        self.drop_schema(&mut parts, 0);
        if let [relation] = &mut parts[..]
            && let Some(spelled) = self.spelling.relation(&relation.value)
        {
            spell(relation, spelled);
        }
        *name = ObjectName::from(parts);
    }

    fn table(&self, name: &mut ObjectName) -> Flow {
        if bare(name).is_some_and(|bare| self.ctes.contains(bare)) {
            self.relation(name);
            return ControlFlow::Continue(());
        }
        match olap_table(name, self.names) {
            Ok(Some(table)) => {
                let mut parts = vec![Ident::with_quote('"', &table.name)];
                if self.ctes.contains(&table.name) {
                    // With its schema, the name does not refer to the CTE.
                    parts.insert(0, Ident::with_quote('"', OLAP_SCHEMA));
                }
                *name = ObjectName::from(parts);
            }
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        ControlFlow::Continue(())
    }

    fn alias(&self, alias: &mut TableAlias) {
        if let Some(spelled) = self.spelling.relation(&alias.name.value) {
            spell(&mut alias.name, spelled);
        }
        for column in &mut alias.columns {
            if let Some(spelled) = self.spelling.column(&column.name.value) {
                spell(&mut column.name, spelled);
            }
        }
    }

    /// Returns the tables of a FROM, by their names before the rewrite.
    fn tables(&self, from: &[TableWithJoins], tables: &mut Vec<(String, OlapTable)>) {
        for factor in from.iter().flat_map(|from| std::iter::once(&from.relation).chain(joined(from))) {
            match factor {
                TableFactor::Table { name, alias, args: None, .. }
                    if !bare(name).is_some_and(|bare| self.ctes.contains(bare)) =>
                {
                    if let Ok(Some(table)) = olap_table(name, self.names) {
                        let name = alias.as_ref().map_or(&table.name, |alias| &alias.name.value);
                        tables.push((name.clone(), table));
                    }
                }
                TableFactor::NestedJoin { table_with_joins, .. } => {
                    self.tables(std::slice::from_ref(table_with_joins), tables);
                }
                _ => {}
            }
        }
    }

    fn constraint(&self, constraint: &mut JoinConstraint) -> Flow {
        match constraint {
            JoinConstraint::Using(columns) => {
                for part in columns.iter_mut().flat_map(|column| &mut column.0) {
                    if let ObjectNamePart::Identifier(ident) = part {
                        self.column(ident)?;
                    }
                }
            }
            // DataFusion would match only exact names, and so fewer columns than SQLite.
            JoinConstraint::Natural => {
                let tables = self.scopes.last().into_iter().flatten().flatten();
                for field in tables.flat_map(|(_, table)| table.schema.fields()) {
                    self.column(&mut Ident::new(field.name()))?;
                }
            }
            JoinConstraint::On(_) | JoinConstraint::None => {}
        }
        ControlFlow::Continue(())
    }

    fn wildcard(&self, options: &mut WildcardAdditionalOptions) -> Flow {
        let excluded = match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
            Some(ExcludeSelectItem::Multiple(names)) => &mut names[..],
            None => &mut [],
        };
        for part in excluded.iter_mut().flat_map(|name| name.0.last_mut()) {
            if let ObjectNamePart::Identifier(ident) = part {
                self.column(ident)?;
            }
        }
        if let Some(except) = &mut options.opt_except {
            self.column(&mut except.first_element)?;
            except.additional_elements.iter_mut().try_for_each(|ident| self.column(ident))?;
        }
        let replaced = options.opt_replace.iter_mut().flat_map(|replace| &mut replace.items);
        replaced.map(|item| &mut item.column_name).try_for_each(|ident| self.column(ident))
    }

    fn projection(&mut self, select: &mut Select, is_output: bool) -> Flow {
        for item in &mut select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } if is_output => {
                    self.results.push(alias.value.clone());
                    alias.quote_style = Some('"');
                }
                SelectItem::ExprWithAlias { alias, .. } => {
                    if let Some(spelled) = self.spelling.column(&alias.value) {
                        spell(alias, spelled);
                    }
                }
                SelectItem::Wildcard(options) => self.wildcard(options)?,
                SelectItem::QualifiedWildcard(kind, options) => {
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = kind {
                        self.relation(name);
                    }
                    self.wildcard(options)?;
                }
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAliases { .. } => {}
            }
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Rewriter<'_> {
    type Break = Box<Error>;

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> Flow {
        match statement {
            SqlStatement::ExplainTable { table_name, .. } => self.table(table_name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        self.ctes.enter(query);
        if self.ctes.depth() == 1 {
            self.output = first_select(&query.body).map(|select| &raw const *select);
        }
        self.scopes.push(None);
        if let Some(with) = &mut query.with {
            with.cte_tables.iter_mut().for_each(|cte| self.alias(&mut cte.alias));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Flow {
        if let Some(scope) = self.scopes.pop().flatten() {
            qualify_hidden_columns(query, &scope);
        }
        self.ctes.leave(query);
        // ORDER BY prefers the result's names to the tables'.
        if self.ctes.depth() == 0
            && let Some(OrderByKind::Expressions(by)) = query.order_by.as_mut().map(|order| &mut order.kind)
        {
            for by in by {
                if let Expr::Identifier(ident) = &mut by.expr
                    && let Some(result) = self.results.iter().find(|result| result.eq_ignore_ascii_case(&ident.value))
                {
                    spell(ident, result);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        let mut tables = Vec::new();
        self.tables(&select.from, &mut tables);
        if let Err(error) = expand_wildcard(select, &tables) {
            return ControlFlow::Break(Box::new(error));
        }
        self.scopes.push(Some(tables));
        let is_output = self.output.is_some_and(|output| std::ptr::eq(output, select));
        self.projection(select, is_output)?;
        for from in &mut select.from {
            for join in &mut from.joins {
                if let Some(constraint) = constraint_of(&mut join.join_operator) {
                    self.constraint(constraint)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> Flow {
        let scope = self.scopes.pop().flatten();
        if let Some(query @ None) = self.scopes.last_mut() {
            *query = scope;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        let named = table_function(factor).map(|call| call.named_tables()).unwrap_or_default();
        match factor {
            TableFactor::Table { name, args, alias, .. } => {
                if let Some(alias) = alias {
                    self.alias(alias);
                }
                let Some(args) = args else { return self.table(name) };
                // DataFusion looks up table functions by their exact names.
                *name = ObjectName::from(vec![Ident::new(function_name(name))]);
                for argument in named {
                    let table = match olap_table(&argument.table, self.names) {
                        Ok(Some(table)) => table,
                        Ok(None) => continue,
                        Err(error) => return ControlFlow::Break(Box::new(error)),
                    };
                    set_text(args.args.get_mut(argument.at), |_| Some(table.name.clone()));
                    let column = argument.column_at.and_then(|at| args.args.get_mut(at));
                    set_text(column, |column| table.column(column).map(str::to_owned));
                    if let Some(filter) = argument.filter_at.and_then(|at| args.args.get_mut(at)) {
                        let mut problem = None;
                        set_text(Some(filter), |text| {
                            filter_for_olap(text, &table).map_err(|error| problem = Some(error)).ok()
                        });
                        if let Some(error) = problem {
                            return ControlFlow::Break(Box::new(error));
                        }
                    }
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                alias.iter_mut().for_each(|alias| self.alias(alias));
                for join in &mut table_with_joins.joins {
                    if let Some(constraint) = constraint_of(&mut join.join_operator) {
                        self.constraint(constraint)?;
                    }
                }
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => alias.iter_mut().for_each(|alias| self.alias(alias)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        match expr {
            Expr::Identifier(ident) => self.column(ident)?,
            Expr::CompoundIdentifier(parts) => self.compound(parts)?,
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: negated } if is_computed(negated) => {
                // SQLite computes it with 64 bits, and without -0.0.
                let zero = Box::new(Expr::Value(Value::Number("0".into(), false).into()));
                let right = Box::new(Expr::Nested(negated.clone()));
                *expr = Expr::BinaryOp { left: zero, op: BinaryOperator::Minus, right };
            }
            Expr::Cast { kind: CastKind::Cast, data_type, .. } => {
                if let Some(affinity) = affinity(data_type) {
                    *data_type = affinity;
                }
            }
            Expr::Function(function) => {
                if bare(&function.name).is_some() {
                    function.name = ObjectName::from(vec![Ident::new(function_name(&function.name))]);
                }
                if let FunctionArguments::List(list) = &mut function.args {
                    for argument in &mut list.args {
                        if let FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) = argument {
                            self.relation(name);
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        match &value.value {
            Value::Placeholder(name) if name.starts_with('@') => {
                ControlFlow::Break(Box::new(Error::Engine(format!("parameter {name}: expected ? or $1"))))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
