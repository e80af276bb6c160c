//! The strategy of a plan: how each of its vector searches is done, as values. Text is made by
//! [`Display`](fmt::Display) alone.

use std::fmt;

use vexact_kernel::Report;

use crate::rewrite::Decline;

/// Names and values, in the order in which they are shown.
pub type Facts = Vec<(&'static str, String)>;

/// The strategy of a plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Strategy {
    /// The stream that the plan belongs to, if it does.
    pub stream: Option<Facts>,
    /// The vector searches, and the sorts by distance that are none.
    pub sections: Vec<Section>,
    /// Where the parts of the plan run; `None` in a session without workers.
    pub workers: Option<Facts>,
}

/// The strategy of one vector search, or the reason why a sort by distance is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Section {
    /// A search, as executed or as planned.
    Search(Box<SearchStrategy>),
    /// A sort by distance that was not rewritten.
    Declined(Decline),
}

/// The strategy of one vector search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchStrategy {
    /// The report of the search.
    pub report: Report,
    /// The column of which each value is found once, if there is one.
    pub group_by: Option<String>,
    /// The least score of a result, if there is one.
    pub min_score: Option<f64>,
}

impl From<Report> for SearchStrategy {
    fn from(report: Report) -> Self {
        Self { report, group_by: None, min_score: None }
    }
}

impl From<SearchStrategy> for Section {
    fn from(search: SearchStrategy) -> Self {
        Self::Search(Box::new(search))
    }
}

impl Strategy {
    /// Returns the first vector search.
    pub fn search_mut(&mut self) -> Option<&mut SearchStrategy> {
        self.sections.iter_mut().find_map(|section| match section {
            Section::Search(search) => Some(&mut **search),
            Section::Declined(_) => None,
        })
    }

    /// Returns the facts of each section: `mode=sql` if the plan has no vector search and no
    /// stream.
    pub fn facts(&self) -> Vec<Facts> {
        let mut facts: Vec<Facts> = self.stream.iter().cloned().collect();
        facts.extend(self.sections.iter().map(Section::facts));
        if facts.is_empty() {
            facts.push(vec![("mode", "sql".to_owned())]);
        }
        if let (Some(last), Some(workers)) = (facts.last_mut(), &self.workers) {
            last.extend(workers.iter().cloned());
        }
        facts
    }
}

impl Section {
    fn facts(&self) -> Facts {
        match self {
            Self::Declined(reason) => vec![("rewrite", "declined".to_owned()), ("reason", reason.to_string())],
            Self::Search(search) => {
                let SearchStrategy { report, group_by, min_score } = &**search;
                let mut facts = report.facts();
                facts.extend(group_by.iter().map(|group| ("group_by", group.clone())));
                facts.extend(min_score.map(|least| ("min_score", least.to_string())));
                facts
            }
        }
    }
}

impl fmt::Display for Strategy {
    /// `key=value` lines, with an empty line between sections.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |facts: &Facts| facts.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        let sections: Vec<String> = self.facts().iter().map(|facts| lines(facts).join("\n")).collect();
        f.write_str(&sections.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use vexact_kernel::{Metric, Tier};

    use super::*;

    #[test]
    fn sections_are_shown_in_order_with_the_workers_last() {
        let mut strategy = Strategy::default();
        assert_eq!(strategy.to_string(), "mode=sql");
        strategy.workers = Some(vec![("workers", "none".into())]);
        assert_eq!(strategy.to_string(), "mode=sql\nworkers=none");
        let report = Report::planned(Metric::L2, Some(3), Some(5), Tier::Auto);
        let search = SearchStrategy { group_by: Some("g".into()), min_score: Some(0.5), ..report.clone().into() };
        strategy.sections = vec![search.into(), Section::Declined(Decline::Disabled)];
        let declined = "rewrite=declined\nreason=disabled: vexact.rewrite is false";
        let expected = format!("{report}\ngroup_by=g\nmin_score=0.5\n\n{declined}\nworkers=none");
        assert_eq!(strategy.to_string(), expected);
        strategy.stream = Some(vec![("mode", "stream".into())]);
        assert_eq!(strategy.to_string(), format!("mode=stream\n\n{expected}"));
        assert_eq!(strategy.search_mut().map(|search| search.report.clone()), Some(report));
    }
}
