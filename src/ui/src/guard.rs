//! Access control: only programs of this machine that have the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use url::form_urlencoded;
use vexact_core::error::{Error, Result};

use super::Site;
use super::layout::problem;

/// The policy allows only files of this server, and nothing inline.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                              base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The secret of one server: 128 random bits in hexadecimal.
pub(super) struct Token(String);

impl Token {
    /// # Errors
    /// A system without random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::Engine(format!("no random numbers: {error}")))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// Constant-time comparison.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Admits requests that are for this machine and have the token, in a cookie or in the URL. A token
/// in the URL is moved into the cookie by a redirect.
pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&site, request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(other) => other,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns `None` to admit the request, else the response in its place.
fn admit(site: &Site, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    if !is_for_this_machine(uri, headers) {
        let text = "Expected a request for 127.0.0.1 or localhost, got one for another host.";
        return Some(problem(StatusCode::MISDIRECTED_REQUEST, text));
    }
    let pairs = || form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    if pairs().any(|(name, value)| name == "token" && site.token.is(&value)) {
        let rest: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs().filter(|(name, _)| name != "token"))
            .finish();
        // `//host/` would be another server, and so would `/\host/`: browsers take `\` for `/`.
        let path = format!("/{}", uri.path().trim_start_matches(['/', '\\']));
        let place = if rest.is_empty() { path } else { format!("{path}?{rest}") };
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Lax", site.cookie, site.token.text());
        let headers = [(header::LOCATION, place), (header::SET_COOKIE, cookie)];
        return Some((StatusCode::SEE_OTHER, headers).into_response());
    }
    if cookies(headers, &site.cookie).any(|value| site.token.is(value)) {
        return None;
    }
    Some(problem(
        StatusCode::UNAUTHORIZED,
        "Open the URL that vexact ui printed: it has the token that this page needs.",
    ))
}

/// Returns true if the request's host is an address of this machine. A page elsewhere whose name
/// resolves to this machine (DNS rebinding) has its own name as the host. The port may be another
/// one: that of a tunnel.
fn is_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else { return false };
    [Some(host), uri.authority().map(|authority| authority.as_str())].into_iter().flatten().all(|host| {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, ""),
        };
        ["127.0.0.1", "localhost", "[::1]"].contains(&name) && port.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Returns the values of a cookie. There may be several: browsers also send the cookies of other
/// ports.
fn cookies<'a>(headers: &'a HeaderMap, wanted: &'a str) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_and_compared_whole() {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(token.text().len(), 32);
        assert_ne!(token.text(), other.text());
        assert!(token.is(token.text()));
        for wrong in [other.text(), "", &token.text()[1..], &token.text().to_uppercase().replace(char::is_numeric, "g")]
        {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert!(!token.is(&format!("{}0", token.text())));
    }

    #[test]
    fn only_hosts_of_this_machine_are_served() {
        let served = |uri: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            is_for_this_machine(&uri.parse().unwrap(), &headers)
        };
        for host in ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "localhost", "[::1]:9000", "[::1]"] {
            assert!(served("/", &[host]), "{host}");
        }
        for host in [
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:8000",
            "",
            ":80",
            "localhost:80x",
        ] {
            assert!(!served("/", &[host]), "{host}");
        }
        assert!(!served("/", &[]));
        assert!(!served("/", &["localhost", "evil.example"]));
        assert!(!served("http://evil.example/", &["localhost"]));
        assert!(served("http://localhost/", &["localhost"]));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; vexact_ui_1=x;vexact_ui_12=y"));
        headers.append(header::COOKIE, HeaderValue::from_static("vexact_ui_1=z=z; b"));
        assert_eq!(cookies(&headers, "vexact_ui_1").collect::<Vec<_>>(), ["x", "z=z"]);
        assert_eq!(cookies(&headers, "vexact_ui").count(), 0);
    }
}
