//! An object store on loopback: S3's requests for objects, listings and uploads in parts, and plain
//! HTTP. It records requests and injects faults.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use futures::stream;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

/// Number of objects in a page of a listing.
const PAGE: usize = 3;

/// The answer to a request instead of the right one.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status with the code of S3. The body repeats the headers of the request, as those of some
    /// stores do.
    Status(u16, &'static str),
    /// The right answer, whose connection is cut after this many bytes of the body.
    Cut(usize),
    /// No answer.
    Silence,
    /// The right answer, later.
    Latency(Duration),
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// Bucket and key.
    pub path: String,
    pub query: HashMap<String, String>,
    /// Bytes of the object in the answer.
    pub bytes: usize,
}

type Choose = Box<dyn Fn(&Received, usize) -> Option<Fault> + Send>;

#[derive(Default)]
struct Stored {
    /// By bucket and key.
    objects: BTreeMap<String, (Bytes, usize)>,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    versions: usize,
    received: Vec<Received>,
    fault: Option<Choose>,
}

#[derive(Clone, Default)]
struct Shared {
    stored: Arc<Mutex<Stored>>,
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
}

/// The server. It ends with this value.
pub struct Server {
    shared: Shared,
    pub address: String,
    _runtime: Runtime,
}

impl Server {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Shared::default();
        let router = Router::new().route("/{*path}", any(answer)).layer(DefaultBodyLimit::disable());
        let router = router.with_state(shared.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { shared, address, _runtime: runtime }
    }

    /// Stores an object under a bucket and key.
    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.shared.stored.lock().put(path, bytes.into());
    }

    /// Returns the bytes of an object.
    pub fn object(&self, path: &str) -> Option<Bytes> {
        self.shared.stored.lock().objects.get(path).map(|(bytes, _)| bytes.clone())
    }

    /// Returns the buckets and keys of all objects.
    pub fn paths(&self) -> Vec<String> {
        self.shared.stored.lock().objects.keys().cloned().collect()
    }

    /// Returns the number of uploads that are neither complete nor aborted.
    pub fn unfinished(&self) -> usize {
        self.shared.stored.lock().uploads.len()
    }

    /// Answers requests with what `choose` returns for a request and the number of the requests of
    /// the same method and path before it.
    pub fn fail(&self, choose: impl Fn(&Received, usize) -> Option<Fault> + Send + 'static) {
        self.shared.stored.lock().fault = Some(Box::new(choose));
    }

    /// Answers all requests again.
    pub fn recover(&self) {
        self.shared.stored.lock().fault = None;
    }

    /// Returns the requests since the last call.
    pub fn take_requests(&self) -> Vec<Received> {
        std::mem::take(&mut self.shared.stored.lock().received)
    }

    /// Returns the maximum number of requests that ran at the same time since the last call.
    pub fn take_most_running(&self) -> usize {
        self.shared.most_running.swap(0, Ordering::SeqCst)
    }
}

impl Stored {
    fn put(&mut self, path: &str, bytes: Bytes) -> String {
        self.versions += 1;
        self.objects.insert(path.to_owned(), (bytes, self.versions));
        tag(self.versions)
    }
}

fn tag(version: usize) -> String {
    format!("\"version-{version}\"")
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_running.fetch_max(running, Ordering::SeqCst);
    let mut received = Received { method: method.to_string(), path, query, bytes: 0 };
    let fault = {
        let stored = shared.stored.lock();
        let is_same = |other: &&Received| other.method == received.method && other.path == received.path;
        let before = stored.received.iter().filter(is_same).count();
        stored.fault.as_ref().and_then(|choose| choose(&received, before))
    };
    let (status, fields, bytes) = match &fault {
        Some(Fault::Status(status, code)) => {
            let repeated: String = headers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
            let text = format!("<Error><Code>{code}</Code><Message>{repeated}</Message></Error>");
            (*status, Vec::new(), Bytes::from(text))
        }
        _ => shared.stored.lock().right(&mut received, &headers, body),
    };
    if let Some(Fault::Latency(time)) = fault {
        tokio::time::sleep(time).await;
    }
    shared.stored.lock().received.push(received.clone());
    shared.running.fetch_sub(1, Ordering::SeqCst);
    if matches!(fault, Some(Fault::Silence)) {
        return std::future::pending().await;
    }
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in fields {
        response = response.header(name, value);
    }
    let body = match fault {
        Some(Fault::Cut(after)) => {
            response = response.header("content-length", bytes.len());
            let parts = [Ok(bytes.slice(..after.min(bytes.len()))), Err(std::io::Error::other("cut"))];
            Body::from_stream(stream::iter(parts))
        }
        _ if received.method == "HEAD" => Body::empty(),
        _ => Body::from(bytes),
    };
    response.body(body).unwrap()
}

type Right = (u16, Vec<(&'static str, String)>, Bytes);

impl Stored {
    fn right(&mut self, received: &mut Received, headers: &HeaderMap, body: Bytes) -> Right {
        let has = |name: &str| received.query.contains_key(name);
        let query = received.query.clone();
        let path = received.path.clone();
        match received.method.as_str() {
            "GET" if has("list-type") => self.list(&path, &query),
            "GET" | "HEAD" => self.get(received, headers),
            "POST" if has("uploads") => {
                self.versions += 1;
                let id = format!("upload-{}", self.versions);
                self.uploads.insert(id.clone(), BTreeMap::new());
                let text =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                (200, Vec::new(), text.into())
            }
            "PUT" if has("uploadId") => match self.uploads.get_mut(&query["uploadId"]) {
                Some(parts) => {
                    let number: usize = query["partNumber"].parse().unwrap();
                    parts.insert(number, body);
                    (200, vec![("etag", format!("\"part-{number}\""))], Bytes::new())
                }
                None => missing("NoSuchUpload"),
            },
            "POST" => match self.uploads.remove(&query["uploadId"]) {
                Some(parts) => {
                    let whole: Vec<u8> = parts.values().flat_map(|part| part.iter().copied()).collect();
                    let tag = self.put(&path, whole.into());
                    let text =
                        format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
                    (200, Vec::new(), text.into())
                }
                None => missing("NoSuchUpload"),
            },
            "DELETE" if has("uploadId") => {
                self.uploads.remove(&query["uploadId"]);
                (204, Vec::new(), Bytes::new())
            }
            "PUT" => {
                let tag = self.put(&path, body);
                (200, vec![("etag", tag)], Bytes::new())
            }
            other => (405, Vec::new(), format!("unexpected {other}").into()),
        }
    }

    fn get(&self, received: &mut Received, headers: &HeaderMap) -> Right {
        let Some((bytes, version)) = self.objects.get(&received.path) else { return missing("NoSuchKey") };
        let mut fields = vec![
            ("etag", tag(*version)),
            ("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT".to_owned()),
            ("accept-ranges", "bytes".to_owned()),
        ];
        if received.method == "HEAD" {
            fields.push(("content-length", bytes.len().to_string()));
            return (200, fields, Bytes::new());
        }
        let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
            received.bytes = bytes.len();
            return (200, fields, bytes.clone());
        };
        let (start, end): (usize, usize) = match (start, end) {
            ("", last) => (bytes.len().saturating_sub(last.parse().unwrap()), bytes.len()),
            (start, "") => (start.parse().unwrap(), bytes.len()),
            (start, end) => (start.parse().unwrap(), bytes.len().min(end.parse::<usize>().unwrap() + 1)),
        };
        if start >= end {
            return (416, fields, Bytes::new());
        }
        received.bytes = end - start;
        fields.push(("content-range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
        (206, fields, bytes.slice(start..end))
    }

    fn list(&self, bucket: &str, query: &HashMap<String, String>) -> Right {
        let bucket = format!("{}/", bucket.trim_end_matches('/'));
        if !self.objects.keys().any(|path| path.starts_with(&bucket)) {
            return missing("NoSuchBucket");
        }
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let after = query.get("continuation-token").cloned().unwrap_or_default();
        let keys = self.objects.iter().filter_map(|(path, object)| Some((path.strip_prefix(&bucket)?, object)));
        let (mut contents, mut folders, mut last) = (String::new(), Vec::new(), None);
        let mut keys = keys.filter(|(key, _)| key.starts_with(&prefix) && **key > *after).peekable();
        for (key, (bytes, version)) in keys.by_ref().take(PAGE) {
            last = Some(key.to_owned());
            let rest = &key[prefix.len()..];
            match rest.split_once('/') {
                Some((folder, _)) if query.contains_key("delimiter") => {
                    folders.push(format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"));
                }
                _ => {
                    contents += &format!(
                        "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-09-01T00:00:00.000Z</LastModified>\
                     <ETag>{}</ETag></Contents>",
                        bytes.len(),
                        tag(*version)
                    )
                }
            }
        }
        folders.dedup();
        let next = match (keys.peek(), last) {
            (Some(_), Some(last)) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
            _ => String::new(),
        };
        let text = format!("<ListBucketResult>{contents}{}{next}</ListBucketResult>", folders.concat());
        (200, Vec::new(), text.into())
    }
}

fn missing(code: &str) -> Right {
    (404, Vec::new(), format!("<Error><Code>{code}</Code></Error>").into())
}
