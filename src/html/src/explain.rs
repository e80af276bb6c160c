//! An explain: the strategy as blocks, the plans as trees.

use maud::{Markup, html};

use super::plan::tree;

/// The three sections of an explain.
#[derive(Debug)]
pub struct Explain<'e> {
    /// The logical plan.
    pub logical: &'e str,
    /// The physical plan.
    pub physical: &'e str,
    /// The names and values of each section of the strategy.
    pub strategy: Vec<Vec<(&'e str, &'e str)>>,
    /// All of it, to copy.
    pub text: &'e str,
}

/// Returns the three sections of an explain, and their text to copy.
pub fn explain(explained: &Explain<'_>) -> Markup {
    let Explain { logical, physical, strategy, text } = explained;
    html! {
        div.vexact-explain {
            @for section in strategy { (block(section)) }
            details open { summary { "Physical plan" } (tree(physical)) }
            details { summary { "Logical plan" } (tree(logical)) }
            details { summary { "As text" } pre { (text) } }
        }
    }
}

/// The strategy of one search.
fn block(pairs: &[(&str, &str)]) -> Markup {
    html! {
        div.vexact-strategy {
            div.vexact-title { (title(pairs)) }
            dl {
                @for (key, value) in pairs {
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

    fn explained(strategy: &[&[(&str, &str)]]) -> String {
        let strategy = strategy.iter().map(|pairs| pairs.to_vec()).collect();
        explain(&Explain { logical: "Limit", physical: "A\n  B", strategy, text: "all of it" }).into_string()
    }

    #[test]
    fn each_search_is_a_block_with_a_title() {
        let search = [("mode", "exact-scan"), ("metric", "cosine"), ("top_k", "3"), ("skipped_rows", "unknown")];
        let page = explained(&[&search, &[("rewrite", "declined"), ("reason", "no-limit")]]);
        assert_eq!(page.matches("vexact-strategy").count(), 2);
        assert!(page.contains("Exact vector search: cosine, top 3"));
        assert!(page.contains("<div><dt>metric</dt><dd>cosine</dd></div>"), "{page}");
        assert!(page.contains("<dd class=\"vexact-unknown\">unknown</dd>"), "{page}");
        assert!(page.contains("A sort by distance that is no vector search"));
        assert!(explained(&[&[("mode", "sql")]]).contains("SQL without a vector search"));
        let all = [("mode", "exact-scan"), ("metric", "l2"), ("top_k", "all")];
        assert!(explained(&[&all]).contains("Exact vector search: l2<"));
        assert!(page.contains("<pre>all of it</pre>"), "{page}");
    }

    #[test]
    fn strategies_of_other_forms_are_shown_as_they_are() {
        let page = explained(&[&[("no pair", ""), ("reason", "a=b<c>")]]);
        assert!(page.contains("<dt>no pair</dt>"));
        assert!(page.contains("<dd>a=b&lt;c&gt;</dd>"), "{page}");
        assert_eq!(explained(&[]).matches("vexact-strategy").count(), 0);
    }
}
