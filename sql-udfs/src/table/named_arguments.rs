//! Arguments by name: `vector_search('docs', 'embedding', $1, 10, group_by => 'lang')`.

use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor, Value,
};

use super::{vector_join, vector_search};

/// Puts named arguments of the table functions in their places, with NULL for those between that
/// are not given.
#[derive(Debug)]
pub(crate) struct NamedArguments;

impl RelationPlanner for NamedArguments {
    fn plan_relation(&self, mut relation: TableFactor, _: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        if let TableFactor::Table { name, args: Some(arguments), .. } = &mut relation
            && let Some((function, parameters)) = function(name)
        {
            // DataFusion does not fold the case of a table function's name.
            *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(function))]);
            arguments.args = in_order(function, parameters, std::mem::take(&mut arguments.args))?;
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

fn function(name: &ObjectName) -> Option<(&'static str, &'static [&'static str])> {
    let [ObjectNamePart::Identifier(name)] = &name.0[..] else { return None };
    let is_of = |function: &str| match name.quote_style {
        None => name.value.eq_ignore_ascii_case(function),
        Some(_) => name.value == function,
    };
    [(vector_search::NAME, vector_search::PARAMETERS), (vector_join::NAME, vector_join::PARAMETERS)]
        .into_iter()
        .find(|(function, _)| is_of(function))
}

fn in_order(function: &str, parameters: &[&str], arguments: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    let mut places: Vec<Option<FunctionArg>> = Vec::new();
    let mut is_named = false;
    for argument in arguments {
        let (name, value) = match argument {
            FunctionArg::Named { name, arg, .. } => (name.value, arg),
            FunctionArg::ExprNamed { name, arg, .. } => (name.to_string(), arg),
            unnamed if is_named => return plan_err!("{function}: expected a name before argument {unnamed}"),
            unnamed => {
                places.push(Some(unnamed));
                continue;
            }
        };
        is_named = true;
        let Some(place) = parameters.iter().position(|parameter| name.eq_ignore_ascii_case(parameter)) else {
            return plan_err!("{function}: expected an argument of [{}], got {name:?}", parameters.join(", "));
        };
        if place >= places.len() {
            places.resize_with(place + 1, || None);
        }
        if places[place].is_some() {
            return plan_err!("{function}: expected argument {name:?} once, got it twice");
        }
        places[place] = Some(FunctionArg::Unnamed(value));
    }
    let null = || FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::value(Value::Null)));
    Ok(places.into_iter().map(|argument| argument.unwrap_or_else(null)).collect())
}
