//! URLs of objects, folders and patterns in a store.

use std::borrow::Cow;
use std::fmt;
use std::path::Path as LocalPath;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;
use vexact_core::error::{Error, Result};

/// Schemes of the stores beside local files.
pub(super) const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"];

/// A place in a store: an object, a folder (with a slash at its end, or the name of no object) or a
/// pattern.
///
/// The key of an object is its text after the authority. Keys in URLs of HTTP are percent-decoded;
/// those of other stores are literal, as their own tools read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    store: ObjectStoreUrl,
    key: String,
}

/// Returns true if a path is a URL of a store other than local files.
pub fn is_remote(path: impl AsRef<LocalPath>) -> bool {
    parts(path.as_ref()).is_some()
}

/// Returns the scheme and the rest of a URL of a store.
fn parts(path: &LocalPath) -> Option<(&str, &str)> {
    path.to_str()?.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme))
}

/// Returns the text of a path as it may be shown and recorded: `***` stands for what may be
/// credentials in a URL, its user and its query.
pub fn shown(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = parts(LocalPath::new(text)) else { return Cow::Borrowed(text) };
    let (authority, key) = rest.find(['/', '?', '#']).map_or((rest, ""), |end| rest.split_at(end));
    let has_query = scheme.starts_with("http") && key.contains(['?', '#']);
    let has_user = match authority.rsplit_once('@') {
        None => false,
        Some((user, _)) => !scheme.starts_with("abfs") || user.contains(':'),
    };
    if !has_query && !has_user {
        return Cow::Borrowed(text);
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if has_user { format!("***@{host}") } else { authority.to_owned() };
    let key = match key.find(['?', '#']) {
        Some(end) if has_query => format!("{}?***", &key[..end]),
        _ => key.to_owned(),
    };
    Cow::Owned(format!("{scheme}://{host}{key}"))
}

impl Location {
    /// Parses a URL.
    ///
    /// # Errors
    /// A URL with credentials or a query; one without a bucket or host.
    pub fn parse(path: impl AsRef<LocalPath>) -> Result<Self> {
        let path = path.as_ref();
        let text = path.to_string_lossy();
        let refused = |problem: &str| Error::InvalidArgument(format!("{}: {problem}", shown(&text)));
        let Some((scheme, rest)) = parts(path) else {
            return Err(refused(&format!("expected a URL of {}", SCHEMES.join(", "))));
        };
        if shown(&text) != text {
            return Err(refused(
                "expected a URL without a user or query: credentials come from the environment or object_stores",
            ));
        }
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(refused(&format!("expected {scheme}://NAME/PATH, got no name")));
        }
        let store = ObjectStoreUrl::parse(format!("{scheme}://{authority}"));
        let store =
            store.map_err(|_| refused(&format!("expected {scheme}://NAME/PATH, got the name {authority:?}")))?;
        let key = match scheme.starts_with("http") {
            true => {
                let end = if key.ends_with('/') { "/" } else { "" };
                let decoded = Path::from_url_path(key).map_err(|error| refused(&error.to_string()))?;
                format!("{decoded}{end}")
            }
            false => key.to_owned(),
        };
        Ok(Self { store, key })
    }

    /// Returns the URL of the store.
    pub fn store(&self) -> &ObjectStoreUrl {
        &self.store
    }

    /// Returns the key, or the pattern of keys, without a slash in front.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns true if this is a store of plain HTTP, which lists no folders and takes no files.
    pub fn is_http(&self) -> bool {
        self.store.as_str().starts_with("http")
    }

    /// Returns the path of the object.
    ///
    /// # Errors
    /// A key that no object has, such as one with `//`.
    pub fn path(&self) -> Result<Path> {
        Path::parse(&self.key).map_err(|error| Error::InvalidArgument(format!("{self}: expected a key, got {error}")))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.store.as_str(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_literal_and_those_of_http_are_decoded() {
        for (text, store, key) in [
            ("s3://bucket/a b/%20.parquet", "s3://bucket/", "a b/%20.parquet"),
            ("s3://bucket", "s3://bucket/", ""),
            ("s3://bucket/2026/*.parquet", "s3://bucket/", "2026/*.parquet"),
            ("http://127.0.0.1:80/a%20b.csv", "http://127.0.0.1/", "a b.csv"),
            ("https://host:444/a/", "https://host:444/", "a/"),
            ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net/", "a"),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!((location.store().as_str(), location.key()), (store, key), "{text}");
        }
        assert!(is_remote("s3://b/a") && !is_remote("file:///a") && !is_remote("a://b") && !is_remote("C:/a"));
    }

    #[test]
    fn credentials_in_urls_are_refused_and_not_shown() {
        for text in [
            "https://host/a.parquet?X-Signature=marker",
            "https://user:marker@host/a.parquet",
            "s3://id:marker@bucket/a.parquet",
            "abfss://box:marker@account/a",
            "https://host?marker",
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected a URL without a user or query") && !error.contains("marker"), "{error}");
            assert!(!shown(text).contains("marker"), "{}", shown(text));
        }
        for text in ["s3://bucket/a?.parquet", "abfss://box@account/a", "/a@b?c", "a.csv"] {
            assert_eq!(shown(text), text);
        }
        for (text, expected) in [("s3:///a", "got no name"), ("http://[/a", "got the name"), ("s3://b/a//b", "")] {
            let error = Location::parse(text).and_then(|location| location.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(text), "{error}");
        }
    }
}
