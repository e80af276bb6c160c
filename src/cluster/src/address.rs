//! The workers' addresses, and how a client authenticates to them.

use std::fmt;
use std::path::PathBuf;

use url::Url;
use vexact_core::error::{Error, Result};

/// A token, which is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns a token.
    ///
    /// # Errors
    /// An empty token, or one with other characters than printable ASCII without spaces.
    pub fn try_new(token: &str) -> Result<Self> {
        if token.is_empty() {
            return Err(Error::InvalidArgument("token: expected a text, got an empty one".into()));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::InvalidArgument("token: expected printable ASCII characters without spaces".into()));
        }
        Ok(Self(token.into()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The workers of a session.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `host:port`, `http://host:port`, `https://host:port` or `dns:name:port`, which stands for all
    /// addresses of a name.
    pub workers: Vec<String>,
    /// The token that the workers expect.
    pub token: Option<Secret>,
    /// A PEM file with the certificates that the workers' certificates are checked against. With it,
    /// an address without a scheme is reached by TLS.
    pub tls_ca: Option<PathBuf>,
    /// Number of further attempts, without the workers that were lost.
    pub retries: usize,
    /// Maximum size, in bytes, of the rows of tables in memory that a query sends to the workers, and
    /// of the query vectors of a join.
    pub ship_limit_bytes: usize,
    /// Minimum size, in bytes, of the files of one task.
    pub bytes_per_task: u64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            workers: Vec::new(),
            token: None,
            tls_ca: None,
            retries: 1,
            ship_limit_bytes: 64 << 20,
            bytes_per_task: 1 << 20,
        }
    }
}

/// Where workers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// One worker.
    Worker(Url),
    /// The workers of all addresses of a name.
    Dns { name: String, port: u16, is_tls: bool },
}

impl Address {
    /// Parses an address; without a scheme it is reached by TLS if `is_tls`.
    pub fn parse(text: &str, is_tls: bool) -> Result<Self> {
        // The part before an @ may be a password.
        if text.contains('@') {
            let problem = "workers: expected host:port without a user and a password; a token is an option of its own";
            return Err(Error::InvalidArgument(problem.into()));
        }
        let invalid = || {
            let expected = "host:port, http://host:port, https://host:port or dns:name:port";
            Error::InvalidArgument(format!("workers: expected {expected}, got {text:?}"))
        };
        if let Some(rest) = text.strip_prefix("dns:") {
            let (name, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
            let port = port.parse().map_err(|_| invalid())?;
            if name.is_empty() || name.contains(['/', ':']) {
                return Err(invalid());
            }
            return Ok(Self::Dns { name: name.into(), port, is_tls });
        }
        let text_url = match text.contains("://") {
            true => text.to_owned(),
            false => format!("{}://{text}", scheme(is_tls)),
        };
        let url = Url::parse(&text_url).map_err(|_| invalid())?;
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        // The parser drops the port that is a scheme's default.
        let port = url.port_or_known_default().ok_or_else(invalid)?;
        let is_given = text_url.trim_end_matches('/').ends_with(&format!(":{port}"));
        if !matches!(url.scheme(), "http" | "https")
            || url.host_str().is_none_or(str::is_empty)
            || has_more
            || !is_given
        {
            return Err(invalid());
        }
        Ok(Self::Worker(url))
    }

    /// Returns the workers' URLs, and the name that their certificates have.
    ///
    /// # Errors
    /// A name that has no address.
    pub async fn urls(&self) -> Result<Vec<(Url, Option<String>)>> {
        match self {
            Self::Worker(url) => Ok(vec![(url.clone(), None)]),
            Self::Dns { name, port, is_tls } => {
                let unknown = |problem: &dyn fmt::Display| Error::Worker {
                    worker: format!("dns:{name}:{port}"),
                    problem: format!("the name has no address: {problem}"),
                    is_lost: true,
                };
                let found = tokio::net::lookup_host((name.as_str(), *port)).await.map_err(|error| unknown(&error))?;
                let mut addresses: Vec<_> = found.collect();
                addresses.sort();
                addresses.dedup();
                let url = |address: std::net::SocketAddr| {
                    let url = Url::parse(&format!("{}://{address}", scheme(*is_tls))).map_err(|error| unknown(&error));
                    Ok((url?, is_tls.then(|| name.clone())))
                };
                addresses.into_iter().map(url).collect()
            }
        }
    }
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        let url = |text: &str, is_tls| match Address::parse(text, is_tls).unwrap() {
            Address::Worker(url) => url.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(url("w1:8815", false), "http://w1:8815/");
        assert_eq!(url("w1:8815", true), "https://w1:8815/");
        assert_eq!(url("http://10.0.0.1:8815", true), "http://10.0.0.1:8815/");
        assert_eq!(url("[::1]:8815", false), "http://[::1]:8815/");
        let dns = Address::Dns { name: "workers.internal".into(), port: 8815, is_tls: false };
        assert_eq!(Address::parse("dns:workers.internal:8815", false).unwrap(), dns);
        for bad in
            ["", "w1", "w1:", "w1:x", "ftp://w1:1", "http://w1:1/path", "dns:w1", "dns::1", "http://w1", "w1:1?x"]
        {
            let error = Address::parse(bad, false).unwrap_err().to_string();
            assert!(error.contains("host:port") && error.contains(&format!("{bad:?}")), "{bad:?}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let error = Address::parse("http://me:hunter2@w1:1", false).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let token = Secret::try_new("hunter2").unwrap();
        let options = ClusterOptions { token: Some(token), ..ClusterOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
        for bad in ["", "a b", "é", "a\n"] {
            assert!(Secret::try_new(bad).is_err(), "{bad:?}");
        }
    }
}
