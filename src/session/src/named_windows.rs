//! Named windows, merged with the window that they refine: of `(w ORDER BY x)` DataFusion drops the
//! `w`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, NamedWindowDefinition, NamedWindowExpr, Query, Select, VisitMut, VisitorMut, WindowSpec, WindowType,
};

/// Inserts the PARTITION BY, ORDER BY and frame of each named window where its name is used. An
/// unknown name stays unchanged.
pub(super) fn resolve_named_windows(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let ControlFlow::Continue(()) = inner.visit(&mut Resolver::default());
        }
        Statement::Explain(explain) => resolve_named_windows(&mut explain.statement),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

/// The windows of a SELECT, by their names in lower case.
type Windows = HashMap<String, WindowSpec>;

#[derive(Default)]
struct Resolver {
    /// The windows of each open query's last SELECT, which its ORDER BY sees too.
    queries: Vec<Windows>,
}

impl VisitorMut for Resolver {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.queries.push(Windows::new());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.queries.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        let mut windows = Windows::new();
        for NamedWindowDefinition(name, definition) in &mut select.named_window {
            let spec = match definition {
                NamedWindowExpr::WindowSpec(spec) => {
                    refine(spec, &windows);
                    spec.clone()
                }
                NamedWindowExpr::NamedWindow(of) => match windows.get(&of.value.to_ascii_lowercase()) {
                    Some(spec) => spec.clone(),
                    None => continue,
                },
            };
            windows.insert(name.value.to_ascii_lowercase(), spec);
        }
        if let Some(query) = self.queries.last_mut() {
            *query = windows;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let (Expr::Function(function), Some(windows)) = (expr, self.queries.last()) {
            match &mut function.over {
                Some(WindowType::WindowSpec(spec)) => refine(spec, windows),
                Some(WindowType::NamedWindow(name)) => {
                    if let Some(spec) = windows.get(&name.value.to_ascii_lowercase()) {
                        function.over = Some(WindowType::WindowSpec(spec.clone()));
                    }
                }
                None => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// Copies to a window the clauses that it lacks from the window that it names.
fn refine(spec: &mut WindowSpec, windows: &Windows) {
    let Some(base) = spec.window_name.as_ref().and_then(|name| windows.get(&name.value.to_ascii_lowercase())) else {
        return;
    };
    if spec.partition_by.is_empty() {
        spec.partition_by.clone_from(&base.partition_by);
    }
    if spec.order_by.is_empty() {
        spec.order_by.clone_from(&base.order_by);
    }
    if spec.window_frame.is_none() {
        spec.window_frame.clone_from(&base.window_frame);
    }
    spec.window_name = None;
}
