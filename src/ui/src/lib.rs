//! A local page that shows the runs of a workspace, their inputs, progress, artifacts and plans, and
//! the tables of an engine.
//!
//! It is for the user who started it: it listens on the loopback interface only, and answers only
//! requests with the random token of its URL. It changes nothing. Pages are rendered on the server;
//! a small script refreshes them.

mod artifact;
mod asked;
mod guard;
mod idle;
mod layout;
mod plot;
mod run;
mod runs;
mod series;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::Markup;
use tokio::net::TcpListener;
use vexact_core::error::{Error, ErrorKind, Result};
use vexact_htap::HtapEngine;
use vexact_html as html;
use vexact_workspace::Workspace;

use guard::Token;
use idle::{Impatient, SILENCE};
use tables::Database;

/// The server of the page, which listens but does not answer yet.
pub struct Ui {
    listener: TcpListener,
    site: Site,
    address: SocketAddr,
}

/// State shared by all requests.
struct Site {
    workspace: Workspace,
    token: Token,
    /// Name of the cookie that has the token. It includes the port, as browsers keep one set of
    /// cookies for all ports.
    cookie: String,
    /// The database whose tables are shown.
    database: Option<Database>,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is left out.
        write!(f, "Ui({})", self.address)
    }
}

impl Ui {
    /// Listens on `127.0.0.1`; port 0 is a free one.
    ///
    /// # Errors
    /// A port that is in use or not allowed.
    pub async fn bind(workspace: Workspace, port: u16) -> Result<Self> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let failed = |error| Error::Engine(format!("port {port}: expected a free one, got: {error}"));
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let cookie = format!("vexact_ui_{}", address.port());
        let site = Site { workspace, token: Token::random()?, cookie, database: None };
        Ok(Self { listener, site, address })
    }

    /// Shows the tables of an engine too. `name` is that of its database, such as the path.
    pub fn with_engine(mut self, engine: Arc<HtapEngine>, name: String) -> Self {
        self.site.database = Some(Database { engine, name });
        self
    }

    /// Returns the URL to open in a browser, with the token.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.site.token.text())
    }

    /// Answers requests until `end` is ready. It does not wait for responses that are in progress
    /// then.
    ///
    /// # Errors
    /// A listener that fails.
    pub async fn serve(self, end: impl Future<Output = ()>) -> Result<()> {
        let address = self.address;
        let router = router(Arc::new(self.site));
        let listener = Impatient { listener: self.listener, silence: SILENCE };
        tokio::select! {
            done = axum::serve(listener, router) => {
                done.map_err(|error| Error::Engine(format!("the page on {address} ended: {error}")))
            }
            () = end => Ok(()),
        }
    }
}

fn router(site: Arc<Site>) -> Router {
    let asset =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", get(runs_page))
        .route("/runs/{run_id}", get(run_page))
        .route("/artifacts", get(artifacts_page))
        .route("/artifacts/{artifact_id}", get(artifact_page))
        .route("/tables", get(tables_page))
        .route("/tables/{name}", get(table_page))
        .route("/assets/page.css", asset("text/css; charset=utf-8", include_str!("assets/page.css")))
        .route("/assets/values.css", asset("text/css; charset=utf-8", html::STYLE))
        .route("/assets/page.js", asset("text/javascript; charset=utf-8", include_str!("assets/page.js")))
        .route("/assets/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
        .fallback(|| async { layout::problem(StatusCode::NOT_FOUND, "There is no such page.") })
        .method_not_allowed_fallback(|| async {
            layout::problem(StatusCode::METHOD_NOT_ALLOWED, "This page only shows: expected GET or HEAD.")
        })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}

async fn runs_page(State(site): State<Arc<Site>>, Query(asked): Query<runs::RunsQuery>) -> Response {
    answer(site, move |workspace| runs::page(workspace, &asked)).await
}

async fn run_page(State(site): State<Arc<Site>>, Path(run_id): Path<String>) -> Response {
    answer(site, move |workspace| run::page(workspace, &run_id)).await
}

async fn artifacts_page(State(site): State<Arc<Site>>) -> Response {
    answer(site, artifact::list).await
}

async fn artifact_page(State(site): State<Arc<Site>>, Path(artifact_id): Path<String>) -> Response {
    answer(site, move |workspace| artifact::page(workspace, &artifact_id)).await
}

async fn tables_page(State(site): State<Arc<Site>>, Query(asked): Query<tables::ListQuery>) -> Response {
    response(tables::list(site.database.as_ref(), &asked).await)
}

async fn table_page(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Query(asked): Query<tables::TableQuery>,
) -> Response {
    response(tables::page(site.database.as_ref(), &name, &asked).await)
}

/// Returns a page, rendered on a thread that may block on files.
async fn answer(site: Arc<Site>, make: impl FnOnce(&Workspace) -> Result<Markup> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(move || make(&site.workspace)).await {
        Ok(made) => response(made),
        Err(error) => {
            layout::problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("The page could not be made: {error}"))
        }
    }
}

fn response(made: Result<Markup>) -> Response {
    match made {
        Ok(page) => layout::html(page).into_response(),
        Err(error) => {
            let status = match error.kind() {
                // Every value of a request is the name of something to find.
                ErrorKind::Value | ErrorKind::FileNotFound => StatusCode::NOT_FOUND,
                ErrorKind::Io
                | ErrorKind::Resources
                | ErrorKind::Execution
                | ErrorKind::Timeout
                | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            };
            layout::problem(status, &error.to_string())
        }
    }
}
