//! An explain: the strategy as blocks, the plans as trees.

use maud::{Markup, html};
use vexact_sql::Explained;

use super::plan::tree;

/// Returns the three sections of an explain, and their text to copy.
pub fn explain(explained: &Explained) -> Markup {
    let Explained { logical, physical, strategy } = explained;
    html! {
        div.vexact-explain {
            @for search in strategy.split("\n\n").filter(|search| !search.trim().is_empty()) { (block(search)) }
            details open { summary { "Physical plan" } (tree(physical)) }
            details { summary { "Logical plan" } (tree(logical)) }
            details { summary { "As text" } pre { (explained) } }
        }
    }
}

/// The strategy of one search: `key=value` lines.
fn block(strategy: &str) -> Markup {
    let pairs: Vec<(&str, &str)> = strategy.lines().map(|line| line.split_once('=').unwrap_or((line, ""))).collect();
    html! {
        div.vexact-strategy {
            div.vexact-title { (title(&pairs)) }
            dl {
                @for (key, value) in &pairs {
                    div class=[(value.len() > 40).then_some("vexact-wide")] { dt { (key) } dd class=[(*value == "unknown").then_some("vexact-unknown")] { (value) } }
                }
            }
        }
    }
}

fn title(pairs: &[(&str, &str)]) -> String {
    let of = |key: &str| pairs.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| *value);
    match (of("mode"), of("rewrite")) {
        ("sql", _) => "SQL without a vector search".into(),
        (_, "declined") => "A sort by distance that is no vector search".into(),
        ("", _) => "Strategy".into(),
        (mode, _) => {
            let kind = match mode {
                "exact-scan" => "Exact vector search",
                "exact-scan-hybrid-search" => "Exact vector search with a filter or a threshold",
                other => other,
            };
            let limit = match of("top_k") {
                "" | "all" => String::new(),
                top_k => format!(", top {top_k}"),
            };
            let metric = of("metric");
            format!("{kind}{}{metric}{limit}", if metric.is_empty() { "" } else { ": " })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(strategy: &str) -> String {
        let text = |text: &str| text.to_owned();
        explain(&Explained { logical: text("Limit"), physical: text("A\n  B"), strategy: text(strategy) }).into_string()
    }

    #[test]
    fn each_search_is_a_block_with_a_title() {
        let page = explained(
            "mode=exact-scan\nmetric=cosine\ntop_k=3\nskipped_rows=unknown\n\nrewrite=declined\nreason=no-limit",
        );
        assert_eq!(page.matches("vexact-strategy").count(), 2);
        assert!(page.contains("Exact vector search: cosine, top 3"));
        assert!(page.contains("<div><dt>metric</dt><dd>cosine</dd></div>"), "{page}");
        assert!(page.contains("<dd class=\"vexact-unknown\">unknown</dd>"), "{page}");
        assert!(page.contains("A sort by distance that is no vector search"));
        assert!(explained("mode=sql").contains("SQL without a vector search"));
        assert!(explained("mode=exact-scan\nmetric=l2\ntop_k=all").contains("Exact vector search: l2<"));
    }

    #[test]
    fn strategies_of_other_forms_are_shown_as_they_are() {
        let page = explained("no pair\nreason=a=b<c>");
        assert!(page.contains("<dt>no pair</dt>"));
        assert!(page.contains("<dd>a=b&lt;c&gt;</dd>"), "{page}");
        assert_eq!(explained("").matches("vexact-strategy").count(), 0);
    }
}
