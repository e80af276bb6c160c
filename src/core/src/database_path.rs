//! The path of a database file, and no URI.

use std::path::Path;

use crate::error::{Error, Result};

/// Schemes that stand for a database file elsewhere: SQLite's own, and SQLAlchemy's.
const SCHEMES: [&str; 2] = ["file", "sqlite"];

/// Refuses a URI, which would be taken for the name of a file. `name` is the argument's.
///
/// # Errors
/// [`Error::InvalidArgument`]: a text that begins with `file:`, `sqlite:` or another scheme and `//`.
pub fn refuse_uri(name: &str, path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    let Some((scheme, rest)) = text.split_once(':') else { return Ok(()) };
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_uri =
        SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) || (is_scheme && rest.starts_with("//"));
    if !is_uri {
        return Ok(());
    }
    let options = match rest.split_once('?') {
        Some((_, options)) if !options.is_empty() => {
            " (options such as mode=ro are not supported: an engine writes its file, a sidecar only reads its source)"
        }
        _ => "",
    };
    Err(Error::InvalidArgument(format!(
        "{name}: expected the path of a file, got the URI {text:?}{options}; the path of a file of this name begins with ./"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_refused_and_a_path_is_not() {
        for uri in [
            "file:a.db",
            "FILE:a.db?mode=ro",
            "file:///a/b.db",
            "file::memory:?cache=shared",
            "sqlite:///a.db",
            "sqlite:a.db",
            "sqlite:/a.db",
            "sqlite+aiosqlite:///a.db",
            "https://host/a.db",
        ] {
            let error = refuse_uri("oltp_path", Path::new(uri)).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("oltp_path: expected the path of a file, got the URI {uri:?}")),
                "{error}"
            );
            assert_eq!(error.contains("mode=ro"), uri.contains('?'), "{error}");
            assert!(refuse_uri("oltp_path", &Path::new(".").join(uri)).is_ok());
        }
        for path in
            ["a.db", "/a/file:b", "files:a", "my file:a", "a:b.db", "C:\\a.db", ":memory:", "", "ü:b", "filename"]
        {
            assert!(refuse_uri("oltp_path", Path::new(path)).is_ok(), "{path}");
        }
    }
}
