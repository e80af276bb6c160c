//! The path of a database file, or a URI that opens it read-only.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Schemes of URIs of database files: SQLite's own, and SQLAlchemy's.
const SCHEMES: [&str; 2] = ["file", "sqlite"];

/// A database file and its access mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePath {
    /// The file.
    pub path: PathBuf,
    /// True if the file is opened with `mode=ro`.
    pub is_read_only: bool,
}

impl DatabasePath {
    /// Parses a path, or a URI of SQLite with the option `mode=ro`: `file:app.db?mode=ro`,
    /// `file:///data/app.db?mode=ro`, with `%20` for a space. `name` is the argument's.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: any other URI, which would be taken for the name of a file; other options; a host.
    pub fn parse(name: &str, path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        let Some((scheme, rest)) = uri(&text) else { return Ok(Self { path: path.into(), is_read_only: false }) };
        let refused = |problem: &str| {
            Err(Error::InvalidArgument(format!(
                "{name}: expected the path of a file, or file:PATH?mode=ro to read it alone, got the URI {text:?}{problem}; the \
                 path of a file of this name begins with ./"
            )))
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let Some((file, options)) = rest.split_once('?').filter(|_| scheme.eq_ignore_ascii_case("file")) else {
            return refused("");
        };
        let mut is_read_only = false;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option {
                "mode=ro" => is_read_only = true,
                other => return refused(&format!(", whose option {other:?} is not mode=ro")),
            }
        }
        let file = match file.strip_prefix("//") {
            None => file,
            Some(of_host) => match of_host.find('/').map(|at| of_host.split_at(at)) {
                Some(("" | "localhost", file)) => file,
                _ => return refused(", which names a host"),
            },
        };
        match decoded(file) {
            _ if !is_read_only => refused(""),
            Some(path) if path.as_os_str() == ":memory:" => refused(""),
            Some(path) if !path.as_os_str().is_empty() => Ok(Self { path, is_read_only }),
            _ => refused(", whose path is empty or has a % that two hexadecimal digits do not follow"),
        }
    }
}

/// Returns the scheme of a URI, and the text after its colon. Returns `None` for a path.
fn uri(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_uri =
        SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) || (is_scheme && rest.starts_with("//"));
    is_uri.then_some((scheme, rest))
}

/// Decodes the path of a URI, with its `%20`. Returns `None` if it has other uses of `%`, or a NUL.
fn decoded(file: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(file.len());
    let mut rest = file.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digits =
                    std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
                u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?
            }
            byte => *byte,
        });
    }
    path_of(bytes)
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    Some(PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes)))
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Rejects a URI, which would be taken for the name of a file. `name` is the argument's.
///
/// # Errors
/// [`Error::InvalidArgument`]: a text that begins with `file:`, `sqlite:` or another scheme and `//`.
pub fn refuse_uri(name: &str, path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    match uri(&text) {
        None => Ok(()),
        Some(_) => Err(Error::InvalidArgument(format!(
            "{name}: expected the path of a file, got the URI {text:?}; the path of a file of this name begins with ./"
        ))),
    }
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
            assert!(refuse_uri("oltp_path", &Path::new(".").join(uri)).is_ok());
            if !uri.contains("mode=ro") {
                let error = DatabasePath::parse("oltp_path", Path::new(uri)).unwrap_err().to_string();
                assert!(error.contains("or file:PATH?mode=ro to read it alone") && error.contains(uri), "{error}");
            }
        }
        for path in
            ["a.db", "/a/file:b", "files:a", "my file:a", "a:b.db", "C:\\a.db", ":memory:", "", "ü:b", "filename"]
        {
            assert!(refuse_uri("oltp_path", Path::new(path)).is_ok(), "{path}");
            let written = DatabasePath { path: path.into(), is_read_only: false };
            assert_eq!(DatabasePath::parse("oltp_path", Path::new(path)).unwrap(), written);
        }
    }

    #[test]
    fn a_uri_with_mode_ro_names_a_file_as_sqlite_reads_it() {
        for (uri, path) in [
            ("file:a.db?mode=ro", "a.db"),
            ("FILE:a.db?mode=ro", "a.db"),
            ("file:/data/a.db?mode=ro", "/data/a.db"),
            ("file:///data/a%20b%3f.db?mode=ro", "/data/a b?.db"),
            ("file://localhost/a.db?mode=ro#part", "/a.db"),
            ("file:%C3%BC.db?&mode=ro&", "\u{fc}.db"),
        ] {
            let read = DatabasePath { path: path.into(), is_read_only: true };
            assert_eq!(DatabasePath::parse("oltp_path", Path::new(uri)).unwrap(), read, "{uri}");
        }
        for (uri, problem) in [
            ("file:a.db?mode=rw", "\"mode=rw\" is not mode=ro"),
            ("file:a.db?mode=ro&immutable=1", "\"immutable=1\" is not mode=ro"),
            ("file:a.db?mode=RO", "\"mode=RO\""),
            ("file://host/a.db?mode=ro", "names a host"),
            ("file://a.db?mode=ro", "names a host"),
            ("file:?mode=ro", "path is empty"),
            ("file:a%2.db?mode=ro", "has a %"),
            ("file:a%00.db?mode=ro", "has a %"),
            ("file::memory:?mode=ro", "got the URI"),
            ("file:a.db?", "got the URI"),
            ("sqlite:///a.db?mode=ro", "got the URI"),
        ] {
            let error = DatabasePath::parse("oltp_path", Path::new(uri)).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(uri), "{error}");
        }
    }
}
