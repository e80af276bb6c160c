//! A client of PostgreSQL's protocol, version 3.0, of just what a poller needs: it connects, and runs one statement after the other.
//! It blocks, and has no TLS. Messages are made and passwords answered by `postgres-protocol`; an async client would build
//! DataFusion's futures with other features (see docs/internals/build.md).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend::{self, BindError};
use rusqlite::types::Value;

use super::address::Address;
use super::wire::{self, Body};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is silent for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(300);

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's answer: severity, message and code. The connection is sound.
    Server(String),
    /// The connection is of no use any more.
    Lost(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Lost(error)
    }
}

/// What cannot be understood.
pub(super) fn malformed(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection that is ready for a statement.
pub(super) struct Client {
    stream: Box<dyn Stream>,
    received: BytesMut,
    sent: BytesMut,
}

fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    #[cfg(unix)]
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        let stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SILENCE))?;
        return Ok(Box::new(stream));
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", address.host));
    for address in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Client {
    /// Connects and says who is there.
    ///
    /// # Errors
    /// A server that is not there, or that refuses: each ends the connection.
    pub fn connect(address: &Address) -> Result<Self, Failure> {
        let mut client = Self { stream: connect(address)?, received: BytesMut::new(), sent: BytesMut::new() };
        let mut parameters = vec![
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("application_name", "vexact"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, YMD"),
            ("TimeZone", "UTC"),
        ];
        parameters.extend(address.options.as_deref().map(|options| ("options", options)));
        frontend::startup_message(parameters, &mut client.sent)?;
        client.flush()?;
        client.authenticate(address)?;
        Ok(client)
    }

    fn authenticate(&mut self, address: &Address) -> Result<(), Failure> {
        let password = address.password.as_bytes();
        let mut scram: Option<ScramSha256> = None;
        loop {
            let (tag, mut body) = self.message()?;
            match tag {
                b'Z' => return Ok(()),
                b'E' => return Err(Failure::Server(wire::problem(body))),
                b'R' => match body.i32()? {
                    0 => continue,
                    _ if password.is_empty() => {
                        return Err(Failure::Server("the server asks for a password, and the address has none".into()));
                    }
                    3 => frontend::password_message(password, &mut self.sent)?,
                    5 => {
                        let salt = body.array::<4>()?;
                        let hash = md5_hash(address.user.as_bytes(), password, salt);
                        frontend::password_message(hash.as_bytes(), &mut self.sent)?;
                    }
                    10 => {
                        let mut known = Vec::new();
                        while let Some(mechanism) = Some(body.text()?).filter(|mechanism| !mechanism.is_empty()) {
                            known.push(mechanism);
                        }
                        if !known.iter().any(|mechanism| mechanism == SCRAM_SHA_256) {
                            let known = known.join(", ");
                            return Err(Failure::Server(format!("expected {SCRAM_SHA_256} as a login, got {known}")));
                        }
                        let begun = ScramSha256::new(password, ChannelBinding::unsupported());
                        frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut self.sent)?;
                        scram = Some(begun);
                    }
                    step @ (11 | 12) => {
                        let scram = scram.as_mut().ok_or_else(|| malformed("a login that was not begun goes on"))?;
                        if step == 12 {
                            scram.finish(body.rest())?;
                            continue;
                        }
                        scram.update(body.rest())?;
                        frontend::sasl_response(scram.message(), &mut self.sent)?;
                    }
                    other => {
                        return Err(Failure::Server(format!(
                            "expected a login by password (SCRAM-SHA-256, MD5 or plain), got kind {other}"
                        )));
                    }
                },
                _ => continue,
            }
            self.flush()?;
        }
    }

    /// Runs statements without results.
    pub fn run(&mut self, sql: &str) -> Result<(), Failure> {
        frontend::query(sql, &mut self.sent)?;
        self.flush()?;
        self.rows().map(drop)
    }

    /// Runs one statement; its rows. Parameters are texts and NULL.
    pub fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Failure> {
        const TEXT: i16 = 0;
        const BINARY: i16 = 1;
        frontend::parse("", sql, std::iter::empty(), &mut self.sent)?;
        let bound = frontend::bind(
            "",
            "",
            std::iter::once(TEXT),
            params,
            |param, out| match param {
                Value::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
                _ => Ok(IsNull::Yes),
            },
            std::iter::once(BINARY),
            &mut self.sent,
        );
        bound.map_err(|error| match error {
            BindError::Conversion(error) => malformed(error.to_string()),
            BindError::Serialization(error) => error,
        })?;
        frontend::describe(b'P', "", &mut self.sent)?;
        frontend::execute("", 0, &mut self.sent)?;
        frontend::sync(&mut self.sent);
        self.flush()?;
        self.rows()
    }

    /// What the server answers until it is ready again.
    fn rows(&mut self) -> Result<Vec<Vec<Value>>, Failure> {
        let mut types: Vec<u32> = Vec::new();
        let mut rows = Vec::new();
        let mut problem: Option<String> = None;
        loop {
            let (tag, mut body) = match (self.message(), &mut problem) {
                (Ok(message), _) => message,
                // A server that ends says why, and no more.
                (Err(error), Some(problem)) => {
                    return Err(Failure::Lost(io::Error::new(error.kind(), problem.clone())));
                }
                (Err(error), None) => return Err(error.into()),
            };
            match tag {
                b'T' => types = wire::types(&mut body)?,
                b'D' => match wire::row(&mut body, &types)? {
                    Ok(row) => rows.push(row),
                    Err(unfit) => problem = problem.or(Some(unfit)),
                },
                b'E' => problem = Some(wire::problem(body)),
                b'Z' => return problem.map_or(Ok(rows), |problem| Err(Failure::Server(problem))),
                _ => {}
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.sent)?;
        self.stream.flush()?;
        self.sent.clear();
        Ok(())
    }

    /// The next message: its kind and its body.
    fn message(&mut self) -> io::Result<(u8, Body)> {
        const HEADER: usize = 5;
        self.receive(HEADER)?;
        let length = i32::from_be_bytes([self.received[1], self.received[2], self.received[3], self.received[4]]);
        let length = usize::try_from(length).ok().filter(|length| *length >= 4);
        let length = length.ok_or_else(|| malformed("expected a message of PostgreSQL, got another protocol"))?;
        self.receive(1 + length)?;
        let mut message = self.received.split_to(1 + length).freeze();
        let tag = message[0];
        Ok((tag, Body::new(message.split_off(HEADER))))
    }

    /// Waits for so many bytes.
    fn receive(&mut self, bytes: usize) -> io::Result<()> {
        const CHUNK: usize = 1 << 14;
        while self.received.len() < bytes {
            let before = self.received.len();
            self.received.resize(before.max(bytes.min(before + (1 << 20))).max(before + CHUNK), 0);
            let read = self.stream.read(&mut self.received[before..]);
            self.received.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => drop(read?),
            }
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        frontend::terminate(&mut self.sent);
        // A server that does not hear it sees the connection end.
        let _ = self.flush();
    }
}
