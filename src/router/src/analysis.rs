//! One walk over a statement that collects what its route depends on.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query,
    Select, SelectItem, SetExpr, Statement, TableFactor, Value, Visit, Visitor,
};

use super::functions::{filter_argument, is_aggregate, is_olap_table, is_vector, table_arguments};
use super::names::idents;
use super::parse::ParsedQuery;
use super::reason::{Shape, first_word};
use super::scope::Ctes;

/// Properties of a statement that determine its route. Of each kind, the first occurrence is
/// stored.
#[derive(Default)]
pub(super) struct StatementAnalysis {
    /// Word that shows that the statement is more than a query; `None` for a query.
    pub change: Option<String>,
    /// Name of the statement, if it is SHOW or DESCRIBE.
    pub olap_statement: Option<&'static str>,
    pub vector_function: Option<String>,
    pub olap_function: Option<String>,
    pub sqlite_function: Option<String>,
    pub sqlite_syntax: Option<&'static str>,
    pub shape: Option<Shape>,
    /// Names of the tables, without CTEs, and with those that a table function names.
    pub tables: Vec<ObjectName>,
    ctes: Ctes,
}

impl StatementAnalysis {
    pub fn of(statement: &Statement) -> Self {
        let mut survey = Self::default();
        let ControlFlow::Continue(()) = statement.visit(&mut survey);
        survey
    }

    fn has(&mut self, shape: Shape) {
        self.shape.get_or_insert(shape);
    }

    fn table_function(&mut self, call: &TableFunction<'_>) {
        let name = call.name.clone();
        if is_vector(&name) {
            self.tables.extend(call.named_tables().into_iter().map(|argument| argument.table));
            self.vector_function.get_or_insert(name);
        } else if is_olap_table(&name) {
            self.olap_function.get_or_insert(name);
        } else {
            self.sqlite_function.get_or_insert(name);
        }
    }

    fn function(&mut self, function: &Function) {
        let name = function_name(&function.name);
        let arguments = match &function.args {
            FunctionArguments::List(list) => {
                // Only aggregates have DISTINCT and ORDER BY among their arguments.
                if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
                    self.has(Shape::Aggregate(name.clone()));
                }
                list.args.len()
            }
            FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
        };
        if is_vector(&name) {
            self.vector_function.get_or_insert(name);
        } else if function.over.is_some() {
            self.has(Shape::Window);
        } else if is_aggregate(&name, arguments) || function.filter.is_some() || !function.within_group.is_empty() {
            self.has(Shape::Aggregate(name));
        }
    }
}

impl Visitor for StatementAnalysis {
    type Break = std::convert::Infallible;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        match statement {
            Statement::Query(_) | Statement::Explain { .. } => {}
            Statement::ExplainTable { table_name, .. } => {
                self.olap_statement = Some("DESCRIBE");
                self.tables.push(table_name.clone());
            }
            Statement::ShowTables { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowFunctions { .. }
            | Statement::ShowVariable { .. } => self.olap_statement = Some("SHOW"),
            other => {
                self.change.get_or_insert_with(|| first_word(other));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let is_cte = self.ctes.enter(query);
        if query.with.is_some() {
            self.has(Shape::Cte);
        }
        if self.ctes.depth() > 1 && !is_cte {
            self.has(Shape::Subquery);
        }
        if matches!(*query.body, SetExpr::SetOperation { .. }) {
            self.has(Shape::SetOperation);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.ctes.leave(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            self.change.get_or_insert_with(|| "SELECT INTO".into());
        }
        if matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_))) {
            self.has(Shape::Distinct);
        }
        let is_grouped = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(by, _) => !by.is_empty(),
        };
        if is_grouped {
            self.has(Shape::GroupBy);
        }
        if select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty()) {
            self.has(Shape::Join);
        }
        if select.having.is_some() {
            self.has(Shape::Having);
        }
        if !select.named_window.is_empty() || select.qualify.is_some() {
            self.has(Shape::Window);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                if name.0.iter().filter_map(|part| part.as_ident()).any(|part| part.quote_style == Some('\'')) {
                    self.sqlite_syntax.get_or_insert("a table name in single quotes");
                }
                if !bare(name).is_some_and(|bare| self.ctes.contains(bare)) {
                    self.tables.push(name.clone());
                }
            }
            TableFactor::Table { .. } | TableFactor::Function { .. } => {
                table_function(factor).iter().for_each(|call| self.table_function(call));
            }
            TableFactor::UNNEST { .. } => {
                self.olap_function.get_or_insert_with(|| "unnest".into());
            }
            TableFactor::Derived { .. } => {}
            TableFactor::NestedJoin { table_with_joins, .. } if table_with_joins.joins.is_empty() => {}
            TableFactor::NestedJoin { .. } => self.has(Shape::Join),
            _ => self.has(Shape::Relation),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expr {
            self.function(function);
        }
        ControlFlow::Continue(())
    }
}

/// Returns true if each column of a query is plainly a column of one table.
pub fn is_of_columns(query: &ParsedQuery, is_table: &dyn Fn(&str) -> bool) -> bool {
    let Ok(DfStatement::Statement(statement)) = query.statement() else { return false };
    let Statement::Query(query) = statement.as_ref() else { return false };
    let (None, SetExpr::Select(select)) = (&query.with, query.body.as_ref()) else { return false };
    let is_column = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        }
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => true,
        SelectItem::ExprWithAliases { .. } => false,
    };
    let is_read = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|part| part.as_ident()).is_some_and(|table| is_table(&table.value))
        }
        _ => false,
    };
    let [from] = &select.from[..] else { return false };
    select.projection.iter().all(is_column) && is_read(&from.relation) && from.joins.is_empty()
}

/// Returns a function's name in lower case, without its schema.
pub(super) fn function_name(name: &ObjectName) -> String {
    match name.0.last().and_then(|part| part.as_ident()) {
        Some(name) => name.value.to_ascii_lowercase(),
        None => name.to_string(),
    }
}

/// Returns a name, if it has no schema.
pub(super) fn bare(name: &ObjectName) -> Option<&str> {
    match idents(name)?[..] {
        [name] => Some(&name.value),
        _ => None,
    }
}

/// A function call in place of a table.
pub(super) struct TableFunction<'a> {
    /// Name in lower case.
    pub name: String,
    arguments: &'a [FunctionArg],
}

/// A table that a table function names, with the positions of the arguments that name it and a
/// column of it.
pub(super) struct NamedTable {
    pub table: ObjectName,
    pub at: usize,
    pub column_at: Option<usize>,
    pub filter_at: Option<usize>,
}

pub(super) fn table_function(factor: &TableFactor) -> Option<TableFunction<'_>> {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => {
            Some(TableFunction { name: function_name(name), arguments: &args.args })
        }
        TableFactor::Function { name, args, .. } => Some(TableFunction { name: function_name(name), arguments: args }),
        _ => None,
    }
}

impl TableFunction<'_> {
    /// Returns the index of the argument that is a filter, by name or by its place.
    fn filter_at(&self) -> Option<usize> {
        let place = filter_argument(&self.name)?;
        let is_filter = |argument: &FunctionArg| matches!(argument, FunctionArg::Named { name, .. } if name.value.eq_ignore_ascii_case("filter"));
        let named = self.arguments.iter().position(is_filter);
        named.or_else(|| matches!(self.arguments.get(place)?, FunctionArg::Unnamed(_)).then_some(place))
    }

    /// Returns the named tables in the order of the arguments; an argument that is not text is
    /// skipped.
    pub fn named_tables(&self) -> Vec<NamedTable> {
        let named = |(at, column_at): &(usize, Option<usize>)| {
            let table = named_in_text(text_argument(self.arguments.get(*at)?)?);
            Some(NamedTable { table, at: *at, column_at: *column_at, filter_at: self.filter_at() })
        };
        table_arguments(&self.name).iter().filter_map(named).collect()
    }
}

/// Returns the text of an argument that is a literal.
fn text_argument(argument: &FunctionArg) -> Option<&str> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(Expr::Value(value)), .. } => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the table that a text names, as [`vexact_sql`] reads it: a whole name, with or without
/// SQLite's schema.
fn named_in_text(text: &str) -> ObjectName {
    match text.get(..5) {
        Some(schema) if schema.eq_ignore_ascii_case("main.") => {
            ObjectName::from(vec![Ident::new("main"), Ident::new(&text[5..])])
        }
        _ => ObjectName::from(vec![Ident::new(text)]),
    }
}
