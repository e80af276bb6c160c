//! The page over a real connection.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use vexact_workspace::{ArtifactKind, NewArtifact, NewRun, Preview, RunError, RunOutcome, Workspace};

use super::Ui;

/// A page that is served, and its workspace.
struct Served {
    workspace: Workspace,
    address: SocketAddr,
    token: String,
    /// Ends the page when it is dropped.
    _end: oneshot::Sender<()>,
    _folder: TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Served {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let ui = Ui::bind(workspace.clone(), 0).await.unwrap();
        let address = ui.address;
        assert!(address.ip().is_loopback() && address.port() > 0);
        let url = ui.url();
        let token = url.strip_prefix(&format!("http://127.0.0.1:{}/?token=", address.port())).unwrap().to_owned();
        assert!(!format!("{ui:?}").contains(&token));
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(ui.serve(async { drop(ended.await) }));
        Self { workspace, address, token, _end: end, _folder: folder }
    }

    async fn ask(&self, request: &str) -> Answer {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.into(), body: body.into() }
    }

    async fn with_headers(&self, path: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).await
    }

    fn cookie(&self) -> String {
        format!("Cookie: other=1; vexact_ui_{}={}\r\n", self.address.port(), self.token)
    }

    /// As a browser that has the cookie.
    async fn get(&self, path: &str) -> Answer {
        self.with_headers(path, &self.cookie()).await
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.starts_with("<!DOCTYPE html>"), "{path}");
        answer.body
    }

    fn run(&self, name: &str, action: &str, tags: &[&str]) -> vexact_workspace::ActiveRun {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let inputs = json!({"options": {"query": format!("SELECT '{name}'"), "where": null, "columns": []}, "input_path": "a.csv"});
        let new = NewRun { action: action.into(), run_name: Some(name.into()), tags, inputs, ..NewRun::default() };
        self.workspace.start(new).unwrap()
    }
}

fn error(text: &str) -> RunError {
    RunError {
        error: text.into(),
        error_type: "value_error".into(),
        phase: "query".into(),
        details: Default::default(),
    }
}

#[tokio::test]
async fn the_token_of_the_url_becomes_a_cookie() {
    let served = Served::new().await;
    let first = served.with_headers(&format!("/runs/x%20y?a=b+c&token={}&d", served.token), "").await;
    assert_eq!((first.status, first.header("location")), (303, Some("/runs/x%20y?a=b+c&d=")));
    let cookie = format!("vexact_ui_{}={}; Path=/; HttpOnly; SameSite=Lax", served.address.port(), served.token);
    assert_eq!(first.header("set-cookie"), Some(cookie.as_str()));
    assert!(!first.body.contains(&served.token));
    let page = served.page("/").await;
    assert!(page.contains("There are no runs yet") && !page.contains(&served.token), "{page}");
    // No path leads to another server.
    let elsewhere = served.with_headers(&format!("//evil.example/?token={}", served.token), "").await;
    assert_eq!(elsewhere.header("location"), Some("/evil.example/"));
    for path in [r"/\evil.example/", r"\/evil.example/", r"/\/evil.example/", r"/\\evil.example/"] {
        let elsewhere = served.with_headers(&format!("{path}?token={}", served.token), "").await;
        assert!(matches!(elsewhere.header("location"), None | Some("/evil.example/")), "{path}: {}", elsewhere.head);
    }
}

#[tokio::test]
async fn nothing_is_shown_without_the_token() {
    let served = Served::new().await;
    let wrong = "0".repeat(served.token.len());
    let other_port = format!("Cookie: vexact_ui_1={}\r\n", served.token);
    let wrong_cookie = format!("Cookie: vexact_ui_{}={wrong}\r\n", served.address.port());
    for path in ["/", "/artifacts", "/runs/x", "/assets/page.js", "/nowhere", &format!("/?token={wrong}"), "/?token="] {
        for headers in ["", other_port.as_str(), wrong_cookie.as_str()] {
            let answer = served.with_headers(path, headers).await;
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.header("set-cookie").is_none() && !answer.body.contains(&served.token), "{path}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_name_is_refused_even_with_the_token() {
    let served = Served::new().await;
    for host in [
        "Host: evil.example\r\n",
        "Host: localhost.evil.example:80\r\n",
        "",
        "Host: localhost\r\nHost: evil.example\r\n",
    ] {
        for path in [format!("/?token={}", served.token), "/".into()] {
            let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{}\r\n", served.cookie());
            let answer = served.ask(&request).await;
            assert!([400, 421].contains(&answer.status), "{host:?}: {}", answer.status);
            assert!(answer.header("set-cookie").is_none());
        }
    }
    let elsewhere =
        format!("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", served.cookie());
    assert_eq!(served.ask(&elsewhere).await.status, 421);
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let served = Served::new().await;
    for path in ["/", "/nowhere", "/assets/page.css"] {
        for answer in [served.get(path).await, served.with_headers(path, "").await] {
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    for (asset, kind) in [
        ("page.js", "text/javascript"),
        ("page.css", "text/css"),
        ("values.css", "text/css"),
        ("icon.svg", "image/svg"),
    ] {
        let answer = served.get(&format!("/assets/{asset}")).await;
        assert!(answer.status == 200 && answer.header("content-type").unwrap().starts_with(kind), "{asset}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_can_be_sent() {
    let served = Served::new().await;
    for path in
        ["/nowhere", "/runs/none", "/artifacts/none", "/runs/", "/runs/..%2f..%2fetc", "/assets/", "/?status=lost"]
    {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.contains("<!DOCTYPE html>"), "{path}");
    }
    assert!(served.get("/runs/%3Cscript%3E").await.body.contains("&lt;script&gt;"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let headers = format!("Host: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{}", served.cookie());
        assert_eq!(served.ask(&format!("{method} / HTTP/1.1\r\n{headers}\r\n")).await.status, 405, "{method}");
    }
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_filtered() {
    let served = Served::new().await;
    served.run("first", "csv-sql", &["nightly", "a&b"]).finish(RunOutcome::Succeeded).unwrap();
    served.run("second <b>", "vector-search", &[]).finish(RunOutcome::Failed(error("column \"x\" <gone>"))).unwrap();
    let third = served.run("third", "my-action", &["nightly"]);
    let names = |page: &str| {
        let mut found: Vec<(usize, &str)> = ["first", "second", "third"]
            .into_iter()
            .filter_map(|name| Some((page.find(&format!("\">{name}"))?, name)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
    };
    let page = served.page("/").await;
    let mut shown: Vec<String> = names(&page).split(' ').map(str::to_owned).collect();
    shown.sort();
    assert_eq!(shown, ["first", "second", "third"]);
    assert!(page.contains("second &lt;b&gt;") && page.contains("column &quot;x&quot; &lt;gone&gt;"), "{page}");
    assert!(page.contains("href=\"/?tag=a%26b\"") && page.contains("data-refresh=\"1000\""), "{page}");
    assert!(page.contains("<option value=\"my-action\">my-action</option>"), "{page}");
    for (query, expected) in [
        ("status=failed", "second"),
        ("status=running", "third"),
        ("status=", "all"),
        ("action=csv-sql", "first"),
        ("tag=nightly&status=succeeded", "first"),
        ("tag=a%26b", "first"),
        ("q=SECOND", "second"),
        ("q=SELECT+%27third", "third"),
        ("q=%25", "none"),
    ] {
        let page = served.page(&format!("/?{query}")).await;
        match expected {
            "all" => assert_eq!(page.matches("<td class=\"state\">").count(), 3),
            "none" => assert!(page.contains("No run fits")),
            name => assert_eq!(names(&page), name, "{query}"),
        }
    }
    let limited = served.page("/?limit=2&tag=&action=").await;
    assert_eq!(limited.matches("<td class=\"state\">").count(), 2);
    assert!(limited.contains("href=\"/?limit=10\""), "{limited}");
    third.finish(RunOutcome::Succeeded).unwrap();
    assert!(served.page("/").await.contains("data-refresh=\"5000\""));
}

#[tokio::test]
async fn a_run_shows_all_that_is_known_of_it() {
    let served = Served::new().await;
    let run = served.run("live <stream>", "stream-sql-once", &["t"]);
    for number in 0..5 {
        run.progress(&json!({"status": "running", "rows_processed": number * 100, "last_batch_latency_ms": 7, "inflight_batches": 3}))
            .unwrap();
    }
    run.stderr("remark <1>\n").unwrap();
    run.explain(
        &json!({"logical": "Scan: docs", "physical": "SortExec: a\n  VectorTopKExec: k=3, metrics=[output_rows=3]",
        "strategy": "mode=exact-scan\nmetric=l2\ntop_k=3"}),
    )
    .unwrap();
    let path = format!("/runs/{}", run.run_id());
    let page = served.page(&path).await;
    for text in [
        "live &lt;stream&gt;",
        "data-refresh=\"1000\"",
        "data-status=\"running\"",
        "SELECT 'live &lt;stream&gt;'",
        "Micro-batch latency",
        "<output data-newest=\"7 ms\">",
        "<output data-newest=\"3\">",
        "<dt>rows_processed</dt><dd>400</dd>",
        "<dt>options.query</dt>",
        "remark &lt;1&gt;",
        "Exact vector search: l2, top 3",
        "<span>output_rows <b>3</b></span>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("options.where") && !page.contains("options.columns"), "{page}");
    run.finish(RunOutcome::Failed(error("it broke <here>"))).unwrap();
    let page = served.page(&path).await;
    assert!(page.contains("it broke &lt;here&gt;") && page.contains("data-status=\"failed\""), "{page}");
    assert!(!page.contains("data-refresh"), "{page}");
}

#[tokio::test]
async fn an_artifact_shows_its_first_rows() {
    let served = Served::new().await;
    let run = served.run("rows", "csv-sql", &[]);
    let path = run.artifact_path("result.csv");
    std::fs::write(&path, "n,x,s\n").unwrap();
    let columns: [(&str, ArrayRef); 3] = [
        ("n", Arc::new(Int64Array::from_iter_values(0..80))),
        ("x", Arc::new(Float64Array::from_iter((0..80).map(|n| (n % 2 == 0).then_some(f64::from(n) / 4.0))))),
        ("s", Arc::new(StringArray::from_iter_values((0..80).map(|n| format!("<{n}>"))))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let preview = Preview::new(&rows.schema(), &[rows], 80).unwrap();
    let artifact = run
        .add_artifact(NewArtifact { kind: ArtifactKind::Result, format: "csv", path, rows_path: None, preview })
        .unwrap();
    run.finish(RunOutcome::Succeeded).unwrap();
    let link = format!("href=\"/artifacts/{}\"", artifact.artifact_id);
    for page in [served.page("/artifacts").await, served.page(&format!("/runs/{}", artifact.run_id)).await] {
        assert!(page.contains(&link) && page.contains("csv"), "{page}");
    }
    let page = served.page(&format!("/artifacts/{}", artifact.artifact_id)).await;
    assert_eq!(page.matches("<tr>").count(), 51);
    for text in
        ["50 rows of 80", "<td>&lt;49&gt;</td>", "<i>NULL</i>", "result.csv", "<td class=\"vexact-number\">12.0</td>"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let served = Served::new().await;
    let error = Ui::bind(served.workspace.clone(), served.address.port()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("port {}: expected a free one, got: ", served.address.port())), "{error}");
}

#[tokio::test]
async fn the_page_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let ui = Ui::bind(Workspace::open(folder.path()).unwrap(), 0).await.unwrap();
    let address = ui.address;
    // A connection that asks nothing does not hold it.
    let _idle = TcpStream::connect(address).await.unwrap();
    ui.serve(async {}).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
