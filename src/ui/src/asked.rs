//! The request of a run: its query, and a title for a run without a name.

use serde_json::Value;
use vexact_workspace::Run;

/// Characters of a query in a title.
const TITLE: usize = 72;

/// Returns the SQL of a run, if it was asked by SQL.
pub(super) fn query(inputs: Option<&Value>) -> Option<&str> {
    let inputs = inputs?;
    let options = inputs.get("options").filter(|options| options.is_object()).unwrap_or(inputs);
    options.get("query").and_then(Value::as_str).map(str::trim).filter(|query| !query.is_empty())
}

/// Returns the name of a run, or what it was asked: its action, with the beginning of its query or
/// with what was searched.
pub(super) fn title(run: &Run, inputs: Option<&Value>) -> String {
    if let Some(name) = &run.run_name {
        return name.clone();
    }
    let text = |name: &str| inputs.and_then(|inputs| inputs.get("options")?.get(name)?.as_str());
    let searched = || {
        let file = text("csv").or_else(|| text("input_path"))?;
        let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
        Some(format!("{file}, {}", text("vector_column")?))
    };
    let asked = query(inputs).map(line).or_else(searched);
    asked.map_or_else(|| run.action.clone(), |asked| format!("{}: {asked}", run.action))
}

/// Returns the beginning of a text, on one line.
fn line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_is_found_with_and_without_options() {
        assert_eq!(query(Some(&json!({"options": {"query": " SELECT 1 "}}))), Some("SELECT 1"));
        assert_eq!(query(Some(&json!({"query": "SELECT 2"}))), Some("SELECT 2"));
        assert_eq!(query(Some(&json!({"options": {"vector_column": "v"}}))), None);
        assert_eq!(query(None), None);
    }

    #[test]
    fn a_long_query_is_one_short_line() {
        assert_eq!(line("SELECT\n  1"), "SELECT 1");
        assert_eq!(line(&"é".repeat(100)), format!("{}…", "é".repeat(TITLE)));
    }
}
