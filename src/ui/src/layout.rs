//! The common parts of all pages.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use url::form_urlencoded;
use vexact_workspace::RunStatus;

/// One page.
pub(super) struct Page<'a> {
    pub title: &'a str,
    /// The path of the page of the navigation that it belongs to.
    pub place: &'a str,
    /// Milliseconds after which the page is refreshed; `None` if it is never refreshed.
    pub refresh_ms: Option<u32>,
    pub body: Markup,
}

impl Page<'_> {
    /// The whole document. Elements with `data-live` and an id are replaced when it is refreshed.
    pub fn render(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · vexact" }
                    link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href="/assets/values.css";
                    link rel="stylesheet" href="/assets/page.css";
                    script src="/assets/page.js" defer {}
                }
                body data-refresh=[self.refresh_ms] {
                    header.top {
                        a.brand href="/" { img src="/assets/icon.svg" alt="" width="22" height="22"; "vexact" }
                        nav {
                            @for (path, name) in [("/", "Runs"), ("/artifacts", "Artifacts"), ("/tables", "Tables")] {
                                a href=(path) aria-current=[(path == self.place).then_some("page")] { (name) }
                            }
                        }
                        span.offline role="status" {}
                    }
                    main { (self.body) }
                }
            }
        }
    }
}

/// Returns a document as a response.
pub(super) fn html(page: Markup) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string())
}

/// Returns a page with an error message.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Problem");
    let body = html! {
        h1 { (title) }
        p.problem { (text) }
        p { a href="/" { "All runs" } " · " a href="/tables" { "All tables" } }
    };
    (status, html(Page { title, place: "", refresh_ms: None, body }.render())).into_response()
}

/// A path with a name in it.
pub(super) fn link(folder: &str, name: &str) -> String {
    // A space is `+` in a query alone.
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/{folder}/{}", name.replace('+', "%20"))
}

/// Returns the status of a run, in words and colour.
pub(super) fn status(status: RunStatus) -> Markup {
    let (sign, words) = match status {
        RunStatus::Running => ("●", "running"),
        RunStatus::Succeeded => ("✓", "succeeded"),
        RunStatus::Failed => ("✕", "failed"),
        RunStatus::TimedOut => ("◷", "timed out"),
        RunStatus::Cancelled => ("–", "cancelled"),
    };
    html! { span.status data-status=(status.name()) { span.sign aria-hidden="true" { (sign) } (words) } }
}

/// An instant of an ISO text in UTC; the script shows the reader's own time.
pub(super) fn time(iso: &str) -> Markup {
    let short = iso.get(..19).map_or_else(|| iso.to_owned(), |text| text.replacen('T', " ", 1) + " UTC");
    html! { time datetime=(iso) { (short) } }
}

/// Tags, each a link to the runs that have it.
pub(super) fn tags(tags: &[String]) -> Markup {
    html! {
        @if !tags.is_empty() {
            span.tags {
                @for tag in tags {
                    a.tag href=(format!("/?{}", form_urlencoded::Serializer::new(String::new()).append_pair("tag", tag).finish())) { (tag) }
                    " "
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_encoded() {
        assert_eq!(link("runs", "20260131T120000Z_0badcafe"), "/runs/20260131T120000Z_0badcafe");
        assert_eq!(link("artifacts", "a/../b c+d?e#f%\"<ü"), "/artifacts/a%2F..%2Fb%20c%2Bd%3Fe%23f%25%22%3C%C3%BC");
    }

    #[test]
    fn times_are_shown_to_the_second_and_other_texts_as_they_are() {
        let page = |iso| time(iso).into_string();
        assert!(page("2026-01-31T12:00:00.000Z").ends_with(">2026-01-31 12:00:00 UTC</time>"));
        assert!(page("<now>").ends_with(">&lt;now&gt;</time>"));
        assert!(page("ääääääääääääää").contains(">ääääääääääääää<"));
    }
}
