//! CTEs that are in scope at a table name.

use datafusion::sql::sqlparser::ast::Query;

/// The CTEs in scope while a tree is visited. A CTE sees those before it, and itself if it is
/// recursive.
#[derive(Default)]
pub(super) struct Ctes {
    queries: Vec<Frame>,
}

struct Frame {
    /// Name in lower case, and the address of its query, which is only compared: the tree does not
    /// move during the visit.
    ctes: Vec<(String, *const Query)>,
    is_recursive: bool,
    visible: usize,
}

impl Frame {
    fn position(&self, query: &Query) -> Option<usize> {
        self.ctes.iter().position(|(_, cte)| std::ptr::eq(*cte, query))
    }
}

impl Ctes {
    /// Enters a query, before its children. Returns true if it is the query of a CTE.
    pub fn enter(&mut self, query: &Query) -> bool {
        let mut is_cte = false;
        if let Some(around) = self.queries.last_mut()
            && let Some(at) = around.position(query)
        {
            is_cte = true;
            around.visible = at + usize::from(around.is_recursive);
        }
        let with = query.with.as_ref();
        let ctes = with.map_or(&[][..], |with| &with.cte_tables);
        self.queries.push(Frame {
            ctes: ctes.iter().map(|cte| (cte.alias.name.value.to_ascii_lowercase(), &raw const *cte.query)).collect(),
            is_recursive: with.is_some_and(|with| with.recursive),
            visible: 0,
        });
        is_cte
    }

    /// Leaves a query, after its children.
    pub fn leave(&mut self, query: &Query) {
        self.queries.pop();
        if let Some(around) = self.queries.last_mut()
            && let Some(at) = around.position(query)
        {
            around.visible = at + 1;
        }
    }

    /// Returns the number of open queries.
    pub fn depth(&self) -> usize {
        self.queries.len()
    }

    /// Returns true if a name without a schema refers to a CTE here.
    pub fn contains(&self, name: &str) -> bool {
        self.queries
            .iter()
            .any(|frame| frame.ctes[..frame.visible].iter().any(|(cte, _)| cte.eq_ignore_ascii_case(name)))
    }
}
