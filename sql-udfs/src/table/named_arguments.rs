//! Arguments by name: `vector_search('docs', 'embedding', $1, 10, group_by => 'lang')`.

use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor, Value,
};

/// The parameters of a table function.
#[derive(Debug)]
pub struct Parameters {
    /// Name of the function, in lower case.
    pub function: &'static str,
    /// Names of the parameters, in order.
    pub names: &'static [&'static str],
    /// Numbers for parameters that are not given; the default of all others is NULL.
    pub defaults: &'static [(&'static str, &'static str)],
}

/// Puts named arguments of table functions in their places, with the defaults of those between
/// that are not given.
#[derive(Debug)]
pub struct NamedArguments(pub &'static [Parameters]);

impl RelationPlanner for NamedArguments {
    fn plan_relation(&self, mut relation: TableFactor, _: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        if let TableFactor::Table { name, args: Some(arguments), .. } = &mut relation
            && let Some(parameters) = self.0.iter().find(|parameters| is_name_of(name, parameters.function))
        {
            // DataFusion does not fold the case of a table function's name.
            *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(parameters.function))]);
            arguments.args = in_order(parameters, std::mem::take(&mut arguments.args))?;
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

fn is_name_of(name: &ObjectName, function: &str) -> bool {
    match &name.0[..] {
        [ObjectNamePart::Identifier(name)] => match name.quote_style {
            None => name.value.eq_ignore_ascii_case(function),
            Some(_) => name.value == function,
        },
        _ => false,
    }
}

fn in_order(parameters: &Parameters, arguments: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    let Parameters { function, names, defaults } = parameters;
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
        let Some(place) = names.iter().position(|parameter| name.eq_ignore_ascii_case(parameter)) else {
            return plan_err!("{function}: expected an argument of [{}], got {name:?}", names.join(", "));
        };
        if place >= places.len() {
            places.resize_with(place + 1, || None);
        }
        if places[place].is_some() {
            return plan_err!("{function}: expected argument {name:?} once, got it twice");
        }
        places[place] = Some(FunctionArg::Unnamed(value));
    }
    let default = |place: usize| {
        let number = defaults.iter().find(|(name, _)| names.get(place) == Some(name));
        let value = number.map_or(Value::Null, |(_, number)| Value::Number((*number).into(), false));
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::value(value)))
    };
    let places = places.into_iter().enumerate();
    Ok(places.map(|(place, argument)| argument.unwrap_or_else(|| default(place))).collect())
}
