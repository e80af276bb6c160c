//! `postgres://user:password@host:port/database?..`: where a server is, and as whom to come.

use std::fmt;

use url::Url;

use crate::error::{Error, Result};

/// A server's address.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, an IP address, or the folder of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    /// What the server is told at the start, such as `-c search_path=sales`.
    pub options: Option<String>,
}

const DEFAULT_PORT: u16 = 5432;

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, database, .. } = self;
        write!(f, "postgres://{user}@{host}:{port}/{database}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn refused(problem: impl fmt::Display) -> Error {
    Error::InvalidArgument(format!("sidecar_source: {problem}"))
}

/// `%41` is `A`.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| refused("expected UTF-8 behind the % signs of the address"))
}

/// The same with a host where the user has none: `postgres://user@/database?host=..`, which is no URL.
fn with_host(text: &str) -> String {
    let begin = text.find("://").map_or(0, |at| at + 3);
    let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |at| begin + at);
    match text[begin..end].ends_with('@') {
        true => format!("{}localhost{}", &text[..end], &text[end..]),
        false => text.to_owned(),
    }
}

impl Address {
    /// Reads an address. Messages never show the password.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: no URL, no user, parameters that are not known, and TLS, which this client does not speak.
    pub fn parse(text: &str) -> Result<Self> {
        let expected = "expected postgres://user:password@host:port/database";
        let url = Url::parse(&with_host(text)).map_err(|error| refused(format!("{expected}: {error}")))?;
        let mut address = Self {
            host: decoded(url.host_str().unwrap_or_default())?.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(DEFAULT_PORT),
            user: decoded(url.username())?,
            password: decoded(url.password().unwrap_or_default())?,
            database: decoded(url.path().trim_start_matches('/'))?,
            options: None,
        };
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*name {
                "host" => address.host = value,
                "port" => {
                    address.port =
                        value.parse().map_err(|_| refused(format!("port: expected a number, got {value:?}")))?;
                }
                "user" => address.user = value,
                "password" => address.password = value,
                "dbname" => address.database = value,
                "options" => address.options = Some(value),
                "sslmode" => match value.as_str() {
                    "disable" | "allow" | "prefer" => {}
                    "require" | "verify-ca" | "verify-full" => {
                        return Err(refused(format!(
                            "sslmode={value}: TLS is not supported: expected sslmode=disable, or a tunnel to the server"
                        )));
                    }
                    _ => return Err(refused(format!("sslmode: expected disable, allow or prefer, got {value:?}"))),
                },
                "application_name" | "connect_timeout" => {}
                other => {
                    return Err(refused(format!(
                        "expected the parameters host, port, user, password, dbname, options and sslmode, got {other:?}"
                    )));
                }
            }
        }
        if address.user.is_empty() {
            return Err(refused(format!("{expected}, got no user")));
        }
        if address.host.is_empty() {
            address.host = "localhost".into();
        }
        if address.database.is_empty() {
            address.database = address.user.clone();
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address = Address::parse("postgres://me:p%40ss%2Fword@db.example:6000/shop?sslmode=disable").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("db.example", 6000));
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me", "p@ss/word"));
        assert_eq!(address.to_string(), "postgres://me@db.example:6000/shop");
        let address = Address::parse("postgresql://me@[::1]").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.database.as_str()), ("::1", 5432, "me"));
        let address = Address::parse("postgres:///d?host=/run/pg&user=me&options=-c%20search_path%3Ds").unwrap();
        assert_eq!((address.host.as_str(), address.options.as_deref()), ("/run/pg", Some("-c search_path=s")));
        let address = Address::parse("postgres://me:pw@/d?host=/run/pg&port=7").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.user.as_str()), ("/run/pg", 7, "me"));
        assert_eq!(Address::parse("postgres://me@%2Frun%2Fpg/d").unwrap().host, "/run/pg");
    }

    #[test]
    fn addresses_that_cannot_be_used_say_why() {
        for (text, problem) in [
            ("postgres://host/db", "got no user"),
            ("postgres://me@h/d?sslmode=require", "TLS is not supported"),
            ("postgres://me@h/d?sslmode=on", "got \"on\""),
            ("postgres://me@h/d?keepalives=1", "got \"keepalives\""),
            ("postgres://me:secret@h:port/d", "expected postgres://"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{error}");
        }
    }
}
