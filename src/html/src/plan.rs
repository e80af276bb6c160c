//! A plan's indented text as a tree.

use maud::{Markup, PreEscaped, html};

/// Maximum depth of the tree; deeper operators are shown on the last level. Browsers fail at some
/// hundreds of levels.
const MAX_DEPTH: usize = 64;

/// One operator, a line of the plan.
#[derive(Debug, PartialEq)]
struct Operator<'a> {
    depth: usize,
    name: &'a str,
    detail: &'a str,
    /// `name=value`, for a plan that has run.
    metrics: Vec<&'a str>,
}

/// The operators of a plan, parents before their inputs.
fn operators(plan: &str) -> Vec<Operator<'_>> {
    let mut indents: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    for line in plan.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        while indents.last().is_some_and(|last| *last >= indent) {
            indents.pop();
        }
        let depth = indents.len().min(MAX_DEPTH);
        indents.push(indent);
        let (text, metrics) = split_metrics(text.trim_end());
        // Only a word is a name: the rest of a text with line breaks is none.
        let (name, detail) = match text.split_once([':', ' ']) {
            Some((name, detail)) if name.chars().all(char::is_alphanumeric) => (name, detail.trim_start()),
            None if text.chars().all(char::is_alphanumeric) => (text, ""),
            _ => ("", text),
        };
        found.push(Operator { depth, name, detail, metrics });
    }
    found
}

/// Splits `, metrics=[a=1, b=2]` off the end.
fn split_metrics(text: &str) -> (&str, Vec<&str>) {
    let Some((rest, metrics)) = text.rsplit_once("metrics=[").filter(|(_, metrics)| metrics.ends_with(']')) else {
        return (text, Vec::new());
    };
    let metrics = metrics[..metrics.len() - 1].split(", ").filter(|metric| !metric.is_empty()).collect();
    (rest.trim_end_matches([',', ' ']), metrics)
}

/// Returns a plan as a tree with branches that can be folded.
pub(super) fn tree(plan: &str) -> Markup {
    let operators = operators(plan);
    let mut page = String::with_capacity(plan.len() * 3);
    page.push_str("<ul class=\"vexact-tree\">");
    let mut open = 0;
    for (at, operator) in operators.iter().enumerate() {
        while open > operator.depth {
            page.push_str("</ul></details></li>");
            open -= 1;
        }
        let line = line(operator).into_string();
        if operators.get(at + 1).is_some_and(|next| next.depth > operator.depth) {
            page.push_str(&format!("<li><details open><summary>{line}</summary><ul>"));
            open += 1;
        } else {
            page.push_str(&format!("<li><div class=\"vexact-leaf\">{line}</div></li>"));
        }
    }
    page.push_str(&"</ul></details></li>".repeat(open));
    page.push_str("</ul>");
    PreEscaped(page)
}

fn line(operator: &Operator<'_>) -> Markup {
    let Operator { name, detail, metrics, .. } = operator;
    html! {
        @if !name.is_empty() {
            b class=[(name.starts_with("Vector")).then_some("vexact-vector")] { (name) }
        }
        @if !detail.is_empty() { " " span.vexact-detail { (detail) } }
        @if !metrics.is_empty() {
            span.vexact-metrics {
                @for metric in metrics {
                    " "
                    @match metric.split_once('=') {
                        Some((name, value)) => span { (name) " " b { (value) } },
                        None => span { (metric) },
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "\
SortExec: expr=[a: ASC], metrics=[output_rows=3, elapsed_compute=1.5ms]
  UnionExec
    VectorTopKExec: k=3, metrics=[]
    DataSourceExec: partitions=1
  A
";

    #[test]
    fn an_indented_plan_is_read_as_operators() {
        let operator =
            |depth, name, detail, metrics: &[&'static str]| Operator { depth, name, detail, metrics: metrics.to_vec() };
        let expected = [
            operator(0, "SortExec", "expr=[a: ASC]", &["output_rows=3", "elapsed_compute=1.5ms"]),
            operator(1, "UnionExec", "", &[]),
            operator(2, "VectorTopKExec", "k=3", &[]),
            operator(2, "DataSourceExec", "partitions=1", &[]),
            operator(1, "A", "", &[]),
        ];
        assert_eq!(operators(PLAN), expected);
    }

    #[test]
    fn every_branch_closes_where_it_ends() {
        let page = tree(PLAN).into_string();
        assert_eq!(page.matches("<details open>").count(), 2);
        for tag in ["details", "ul", "li", "summary", "div", "b", "span"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        let union = "<li><details open><summary><b>UnionExec</b></summary><ul><li><div class=\"vexact-leaf\">\
                     <b class=\"vexact-vector\">VectorTopKExec</b>";
        assert!(page.contains(union), "{page}");
    }

    #[test]
    fn no_text_of_a_plan_is_markup() {
        let page = tree("Filter: a = '<script>&\n</script>'\n  x\"y").into_string();
        assert!(!page.contains("<script>") && !page.contains("</script>"));
        assert!(page.contains("a = '&lt;script&gt;&amp;"), "{page}");
    }

    #[test]
    fn plans_of_any_depth_are_shown() {
        let deep: String = (0..5000).map(|depth| format!("{}A\n", " ".repeat(depth))).collect();
        let page = tree(&deep).into_string();
        assert_eq!(page.matches("<b>A</b>").count(), 5000);
        assert_eq!(page.matches("<details").count(), MAX_DEPTH);
        assert_eq!(tree("").into_string(), "<ul class=\"vexact-tree\"></ul>");
    }
}
