//! `postgres://user:password@host:port/database?..`: the address of a server, the user, and the TLS
//! settings.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use url::form_urlencoded;
use vexact_core::error::{Error, Result};

use super::tls::{Check, Roots};

/// Default timeout of connecting, if the address does not set one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle time after which TCP sends a keepalive probe.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Number of unanswered keepalive probes after which the connection is closed.
const KEEPALIVE_RETRIES: u32 = 3;

/// A server's address.
#[derive(Clone)]
pub(super) struct Address {
    pub config: Config,
    /// The check of the server's certificate, if TLS is used.
    pub check: Check,
    /// Without the password: `postgres://user@host:port/database`.
    name: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
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

/// TLS parameters that `tokio-postgres` does not support, as they are written in the address.
#[derive(Default)]
struct Guard {
    mode: Option<String>,
    roots: Option<String>,
}

impl Guard {
    /// Takes its parameters out of an address.
    fn taken_from(text: &str) -> (String, Self) {
        let mut guard = Self::default();
        let Some((rest, query)) = text.split_once('?') else { return (text.to_owned(), guard) };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            // A plus is a literal plus, not a space.
            let plain = pair.replace('+', "%2B");
            match form_urlencoded::parse(plain.as_bytes()).next() {
                Some((name, value)) if name == "sslmode" => guard.mode = Some(value.into_owned()),
                Some((name, value)) if name == "sslrootcert" => guard.roots = Some(value.into_owned()),
                _ => kept.push(pair),
            }
        }
        (format!("{rest}?{}", kept.join("&")), guard)
    }

    fn read(self) -> Result<(SslMode, Check)> {
        let roots = || match self.roots.as_deref() {
            None | Some("system") => Roots::System,
            Some(file) => Roots::File(PathBuf::from(file)),
        };
        let mode = self.mode.as_deref().unwrap_or("prefer");
        Ok(match mode {
            "disable" | "allow" | "prefer" if self.roots.is_some() => {
                return Err(refused(format!(
                    "sslrootcert: expected sslmode=verify-full or verify-ca beside it, got sslmode={mode}, which checks no certificate"
                )));
            }
            "disable" => (SslMode::Disable, Check::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Check::Nothing),
            // As in PostgreSQL's own clients, a file of roots is there to be used.
            "require" if self.roots.is_some() => (SslMode::Require, Check::Signers(roots())),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Signers(roots())),
            "verify-full" => (SslMode::Require, Check::SignersAndName(roots())),
            other => {
                return Err(refused(format!(
                    "sslmode: expected disable, allow, prefer, require, verify-ca or verify-full, got {other:?}"
                )));
            }
        })
    }
}

/// `host:port`, or several with commas.
fn places(config: &Config) -> String {
    let port = |at: usize| config.get_ports().get(at).or(config.get_ports().last()).copied().unwrap_or(5432);
    let place = |(at, host): (usize, &Host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        #[cfg(unix)]
        Host::Unix(folder) => format!("{}:{}", folder.display(), port(at)),
    };
    config.get_hosts().iter().enumerate().map(place).collect::<Vec<_>>().join(",")
}

impl Address {
    /// Reads an address. Messages never show the password.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: no URL of PostgreSQL's, no user, parameters that are not known or do not go together.
    pub fn parse(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected postgres://user:password@host:port/database";
        let (_, rest) = text.split_once("://").ok_or_else(|| refused(EXPECTED))?;
        let (rest, guard) = Guard::taken_from(rest);
        let mut config: Config =
            format!("postgres://{rest}").trim_end_matches('?').parse().map_err(|error: tokio_postgres::Error| {
                let reason = error.into_source().map_or_else(String::new, |source| format!(": {source}"));
                refused(format!("{EXPECTED}{reason}"))
            })?;
        let (mode, check) = guard.read()?;
        let Some(user) = config.get_user().filter(|user| !user.is_empty()).map(str::to_owned) else {
            return Err(refused(format!("{EXPECTED}, got no user")));
        };
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        #[cfg(unix)]
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        #[cfg(not(unix))]
        let is_local = false;
        // A Unix socket has no TLS, even if the address requests it.
        config.ssl_mode(if is_local { SslMode::Disable } else { mode });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        let is_given = |name: &str| text.contains(&format!("{name}="));
        if !is_given("keepalives_idle") {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if !is_given("keepalives_interval") {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if !is_given("keepalives_retries") {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        if config.get_application_name().is_none() {
            config.application_name("vexact");
        }
        let database = config.get_dbname().unwrap_or(&user);
        let name = format!("postgres://{user}@{}/{database}", places(&config));
        Ok(Self { config, check, name })
    }

    /// Longest time of connecting to any of the servers, the login included; also of each step that
    /// a server answers at once.
    pub fn connect_limit(&self) -> Duration {
        let each = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        each.saturating_mul(u32::try_from(self.config.get_hosts().len().max(1)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> String {
        Address::parse(text).unwrap().to_string()
    }

    #[test]
    fn addresses_are_read() {
        let address = Address::parse("postgres://me:p%40ss%2Fword@db.example:6000/shop?sslmode=disable").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db.example:6000/shop");
        assert_eq!(address.config.get_password(), Some(&b"p@ss/word"[..]));
        assert_eq!(named("PostgreSQL://me@[::1]"), "postgres://me@::1:5432/me");
        assert_eq!(named("postgres://me@a,b:7/d"), "postgres://me@a:5432,b:7/d");
        let address = Address::parse("postgres:///d?host=/run/pg&user=me&options=-c%20search_path%3Ds").unwrap();
        assert_eq!(address.to_string(), "postgres://me@/run/pg:5432/d");
        assert_eq!(address.config.get_options(), Some("-c search_path=s"));
        assert_eq!(named("postgres://me:pw@/d?host=/run/pg&port=7"), "postgres://me@/run/pg:7/d");
        assert_eq!(named("postgres://me@%2Frun%2Fpg/d"), "postgres://me@/run/pg:5432/d");
    }

    #[test]
    fn modes_of_tls_say_what_is_checked() {
        let file = || Roots::File("/etc/my roots+.pem".into());
        for (query, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("?sslmode=disable", SslMode::Disable, Check::Nothing),
            ("?sslmode=require", SslMode::Require, Check::Nothing),
            ("?sslmode=require&sslrootcert=/etc/my%20roots+.pem", SslMode::Require, Check::Signers(file())),
            ("?sslrootcert=/etc/my%20roots+.pem&sslmode=verify-ca", SslMode::Require, Check::Signers(file())),
            ("?sslmode=verify-full&connect_timeout=3", SslMode::Require, Check::SignersAndName(Roots::System)),
            ("?sslmode=verify-full&sslrootcert=system", SslMode::Require, Check::SignersAndName(Roots::System)),
        ] {
            let address = Address::parse(&format!("postgres://me@h/d{query}")).unwrap();
            assert_eq!((address.config.get_ssl_mode(), &address.check), (mode, &check), "{query}");
        }
        let socket = Address::parse("postgres://me@/d?host=/run/pg&sslmode=verify-full").unwrap();
        assert_eq!(socket.config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn addresses_that_cannot_be_used_say_why() {
        for (text, problem) in [
            ("postgres://host/db", "got no user"),
            ("postgres://me@h/d?sslmode=on", "got \"on\""),
            ("postgres://me@h/d?sslrootcert=a.pem", "sslrootcert: expected sslmode=verify-full"),
            ("postgres://me@h/d?sslkey=k", "unknown option `sslkey`"),
            ("postgres://me:secret@h:port/d", "expected postgres://"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{error}");
        }
    }
}
