//! Lifts the long query vector of a search out of its statement: `'[0.1, 0.2, ...]'` becomes `$1`,
//! so that all searches of one form have one statement, whose plan is cached.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Select, SelectItem, Statement, TableFactor, Value,
    ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use vexact_sql::{parse_vector, scalar_of_vector};

use super::vector_syntax::{VECTOR_SEARCH, function_name, is_score, is_vector_operator};

/// Minimum length of a literal, in bytes. A shorter one is cheap to plan.
const LITERAL_BYTES: usize = 128;

/// Position of the query vector among the arguments of `vector_search`.
const QUERY_ARGUMENT: usize = 2;

/// A statement whose query vector is its parameter `$1`.
pub(super) struct Lifted {
    pub statement: Statement,
    pub params: ParamValues,
    /// Length of the text that the parameter replaces.
    pub bytes: usize,
}

/// Lifts the one long vector of a query. Returns `None` if there is none or more than one, if the
/// statement has parameters of its own, if the vector is not an argument of a distance, or if the
/// lift would change the name of a result column.
pub(super) fn lift(statement: &Statement) -> Option<Lifted> {
    if !matches!(statement, Statement::Query(_)) {
        return None;
    }
    let mut found = FindVector::default();
    if statement.visit(&mut found).is_break() {
        return None;
    }
    let text = found.text?;
    let vector: ScalarValue = scalar_of_vector(parse_vector(&text).ok()?);
    let mut statement = statement.clone();
    let mut replace = ReplaceVector { text: &text, count: 0 };
    let _ = VisitMut::visit(&mut statement, &mut replace);
    let bytes = text.len() * replace.count;
    (bytes > 0).then(|| Lifted { statement, params: ParamValues::from(vec![vector]), bytes })
}

fn long_vector(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text) if text.len() >= LITERAL_BYTES && text.starts_with('[') => Some(text),
        _ => None,
    }
}

/// Finds the text of the one long vector. Stops the walk if the statement has to stay unchanged.
#[derive(Default)]
struct FindVector {
    text: Option<String>,
    /// The expressions of results without an alias: such a column takes its name from them.
    names: HashSet<*const Expr>,
    /// Number of such expressions around the current one.
    in_name: usize,
}

impl Visitor for FindVector {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.names.extend(select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Some(std::ptr::from_ref(expr)),
            _ => None,
        }));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.in_name += usize::from(self.names.contains(&std::ptr::from_ref(expr)));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.in_name -= usize::from(self.names.remove(&std::ptr::from_ref(expr)));
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if matches!(value.value, Value::Placeholder(_)) {
            return ControlFlow::Break(());
        }
        match (long_vector(&value.value), &self.text) {
            (Some(_), _) if self.in_name > 0 => return ControlFlow::Break(()),
            (Some(text), Some(other)) if text != other => return ControlFlow::Break(()),
            (Some(text), None) => self.text = Some(text.to_owned()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Replaces the vector if it is the query of a distance or of `vector_search`.
struct ReplaceVector<'t> {
    text: &'t str,
    count: usize,
}

impl ReplaceVector<'_> {
    fn replace(&mut self, expr: &mut Expr) {
        if let Expr::Value(value) = expr
            && long_vector(&value.value) == Some(self.text)
        {
            value.value = Value::Placeholder("$1".into());
            self.count += 1;
        }
    }

    fn replace_argument(&mut self, argument: &mut FunctionArg) {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } = argument
        {
            self.replace(expr);
        }
    }
}

impl VisitorMut for ReplaceVector<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if function_name(&function.name).is_some_and(is_score) => {
                if let FunctionArguments::List(list) = &mut function.args {
                    list.args.iter_mut().for_each(|argument| self.replace_argument(argument));
                }
            }
            Expr::BinaryOp { left, op, right } if is_vector_operator(op) => {
                self.replace(left);
                self.replace(right);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let arguments = match factor {
            TableFactor::Table { name, args: Some(args), .. } => Some((name, &mut args.args)),
            TableFactor::Function { name, args, .. } => Some((name, args)),
            _ => None,
        };
        if let Some((name, arguments)) = arguments
            && function_name(name).is_some_and(|name| name.eq_ignore_ascii_case(VECTOR_SEARCH))
            && let Some(query) = arguments.get_mut(QUERY_ARGUMENT)
        {
            self.replace_argument(query);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::{ConfigField, SqlParserOptions};
    use datafusion::sql::parser::Statement as ParsedStatement;
    use vexact_sql::dialect::parse_statement;

    use super::*;

    fn vector() -> String {
        format!("[{}]", vec!["0.125"; 32].join(","))
    }

    fn lifted(query: &str) -> Option<Lifted> {
        let mut options = SqlParserOptions::default();
        options.set("recursion_limit", "200").unwrap();
        let ParsedStatement::Statement(statement) = parse_statement(query, &options).unwrap() else {
            panic!("{query}")
        };
        lift(&statement)
    }

    #[test]
    fn query_vector_becomes_a_parameter() {
        let v = vector();
        for (query, expected) in [
            (
                format!("SELECT id FROM t WHERE a = 'x''y' ORDER BY l2_distance(v, '{v}') LIMIT 5 -- closest"),
                "SELECT id FROM t WHERE a = 'x''y' ORDER BY l2_distance(v, $1) LIMIT 5",
            ),
            (
                format!(
                    "select id, 1 - cosine_distance(v, '{v}' ) as s FROM t ORDER BY cosine_distance(v,'{v}') desc nulls last limit 5 offset 2"
                ),
                "SELECT id, 1 - cosine_distance(v, $1) AS s FROM t ORDER BY cosine_distance(v, $1) DESC NULLS LAST LIMIT 5 OFFSET 2",
            ),
            (
                format!("SELECT id, inner_product(v, '{v}') s FROM \"T'\" /* ' */ ORDER BY s DESC LIMIT 5;"),
                "SELECT id, inner_product(v, $1) AS s FROM \"T'\" ORDER BY s DESC LIMIT 5",
            ),
            (
                format!("SELECT * FROM Vector_Search ('t', 'v', '{v}', 5) WHERE n > 1"),
                "SELECT * FROM Vector_Search('t', 'v', $1, 5) WHERE n > 1",
            ),
            (
                format!("SELECT id FROM t WHERE (v <-> '{v}') < 3 ORDER BY v <=> '{v}' LIMIT 2"),
                "SELECT id FROM t WHERE (v <-> $1) < 3 ORDER BY v <=> $1 LIMIT 2",
            ),
        ] {
            let lifted = lifted(&query).unwrap_or_else(|| panic!("{query}"));
            assert_eq!(lifted.statement.to_string(), expected);
            let value = lifted.params.get_placeholders_with_values("$1").unwrap().value;
            assert_eq!(value, scalar_of_vector(vec![0.125; 32]));
        }
    }

    #[test]
    fn nested_results_without_names_are_walked_once() {
        let (open, close) = ("(SELECT ".repeat(40), ")".repeat(40));
        assert!(lifted(&format!("SELECT {open}1{close}")).is_none());
        assert!(lifted(&format!("SELECT {open}l2_distance(v, '{}') FROM t{close}", vector())).is_none());
        let below = format!("SELECT {open}1{close} FROM t ORDER BY l2_distance(v, '{}') LIMIT 5", vector());
        assert!(lifted(&below).is_some());
    }

    #[test]
    fn any_other_statement_stays_as_it_is() {
        let v = vector();
        for query in [
            "SELECT id FROM t ORDER BY l2_distance(v, '[1,2]') LIMIT 5".to_owned(),
            format!("INSERT INTO t VALUES (1, '{v}')"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, '{}') LIMIT 5", v.replace(']', ",x]")),
            format!("SELECT id, l2_distance(v, '{v}') FROM t LIMIT 5"),
            format!("SELECT d FROM (SELECT l2_distance(v, '{v}') FROM t) x(d) ORDER BY d LIMIT 5"),
            format!("SELECT id, '{v}' FROM t"),
            format!("SELECT id, '{v}' AS q FROM t"),
            format!("SELECT id FROM t WHERE n = $1 ORDER BY l2_distance(v, '{v}') LIMIT 5"),
            format!("SELECT id FROM t WHERE n = ? ORDER BY l2_distance(v, '{v}') LIMIT 5"),
            format!("SELECT id FROM t ORDER BY l2_distance(v, E'{v}') LIMIT 5"),
            format!(
                "SELECT id, l2_distance(w, '{v}') AS a FROM t ORDER BY l2_distance(v, '{}') LIMIT 5",
                v.replace('5', "7")
            ),
            format!("SELECT round(l2_distance(v, '{v}'), 2) FROM t"),
        ] {
            assert!(lifted(&query).is_none(), "{query}");
        }
    }
}
