//! A PostgreSQL server for one test: in a temporary folder, on a free port, stopped at the end of
//! the test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use tempfile::TempDir;

/// Certificates for a server, as files.
pub struct Certificates {
    /// Certificate of the authority that signed the server's certificate.
    pub authority: String,
    /// Certificate of another authority.
    pub stranger: String,
}

/// A server that accepts connections.
pub struct Server {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
}

/// Reports that a part of the machine is missing, so that a test is skipped.
///
/// # Panics
/// If `VEXACT_MAY_SKIP` is set, as `.ci/run` sets it, and does not name the part.
pub fn report_missing(part: &str, why: &str) {
    if let Ok(may_skip) = std::env::var("VEXACT_MAY_SKIP") {
        let is_named = may_skip.split_whitespace().any(|name| name == part);
        assert!(is_named, "{part}: {why}. VEXACT_MAY_SKIP={may_skip:?} does not name {part}");
    }
    eprintln!("\n*** SKIPPED: {part}: {why} ***\n");
}

/// The folder of PostgreSQL's programs: the one that the environment names, or that of the newest
/// installed.
fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("VEXACT_POSTGRES_BIN") {
        return Some(named.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let path = version.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/initdb").exists().then(|| (number, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

/// Runs one of PostgreSQL's programs. A root user runs it as another user, since PostgreSQL rejects
/// root.
fn run(bin: &Path, program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(bin.join(program));
            command
        }
        false => Command::new(bin.join(program)),
    };
    command.args(arguments).current_dir("/").stdin(Stdio::null()).output()
}

impl Server {
    /// Starts a server whose user `postgres` needs the password `pass word`. Returns `None` and
    /// reports why if it cannot be started.
    pub fn start() -> Option<Self> {
        match programs() {
            Some(bin) => Self::start_from(bin),
            None => {
                report_missing("postgresql", "expected /usr/lib/postgresql/*/bin/initdb");
                None
            }
        }
    }

    /// The same with the programs of a folder.
    pub fn start_from(bin: PathBuf) -> Option<Self> {
        let skipped = |why: String| {
            report_missing("postgresql", &why);
            None
        };
        let folder = match tempfile::tempdir() {
            Ok(folder) => folder,
            Err(error) => return skipped(error.to_string()),
        };
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).output();
            if !owned.is_ok_and(|owned| owned.status.success()) {
                return skipped("the folder cannot be given to the user postgres".into());
            }
        }
        let data = folder.path().join("data").display().to_string();
        let secret = folder.path().join("secret").display().to_string();
        std::fs::write(&secret, "pass word\n").unwrap();
        let made =
            run(&bin, "initdb", &["-D", &data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", &secret, "-N"]);
        match made {
            Ok(made) if made.status.success() => {}
            Ok(made) => return skipped(String::from_utf8_lossy(&made.stderr).into_owned()),
            Err(error) => return skipped(error.to_string()),
        }
        let rules = folder.path().join("data/pg_hba.conf");
        let known = std::fs::read_to_string(&rules).unwrap();
        let of = |user: &str, login: &str| format!("host all {user} 127.0.0.1/32 {login}\n");
        let guarded = "hostnossl all guarded 127.0.0.1/32 reject\n".to_owned();
        std::fs::write(&rules, of("old", "md5") + &of("plain", "password") + &guarded + &known).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
        let server = Self { bin, folder, port };
        match server.control("start") {
            Ok(started) if started.status.success() => Some(server),
            Ok(started) => skipped(String::from_utf8_lossy(&started.stdout).into_owned()),
            Err(error) => skipped(error.to_string()),
        }
    }

    fn control(&self, action: &str) -> std::io::Result<Output> {
        let folder = self.folder.path().display();
        let (data, log) = (format!("{folder}/data"), format!("{folder}/log"));
        let options = format!("-p {} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off", self.port);
        run(&self.bin, "pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "-m", "immediate", action])
    }

    pub fn stop(&self) {
        assert!(self.control("stop").unwrap().status.success());
    }

    pub fn restart(&self) {
        assert!(self.control("start").unwrap().status.success());
    }

    /// Gives the server TLS and a certificate for the name `localhost`. Returns `None` and reports
    /// it if `openssl` is missing.
    pub fn encrypt(&self) -> Option<Certificates> {
        let folder = self.folder.path().display().to_string();
        let file = |name: &str| format!("{folder}/{name}");
        let openssl = |arguments: &str| {
            let arguments: Vec<String> = arguments.split(' ').map(|word| word.replace("FOLDER", &folder)).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(Path::new(""), "openssl", &arguments).is_ok_and(|output| output.status.success())
        };
        if !openssl("version") {
            report_missing("openssl", "it makes the certificates of the tests of TLS");
            return None;
        }
        std::fs::write(file("extensions"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
        const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for name in ["authority", "stranger"] {
            let made =
                format!("req -x509 {KEY} -days 2 -subj /CN={name} -keyout FOLDER/{name}.key -out FOLDER/{name}.crt");
            assert!(openssl(&made));
        }
        assert!(openssl(&format!("req {KEY} -subj /CN=server -keyout FOLDER/server.key -out FOLDER/server.csr")));
        assert!(openssl(
            "x509 -req -in FOLDER/server.csr -CA FOLDER/authority.crt -CAkey FOLDER/authority.key -CAcreateserial -days 2 \
             -extfile FOLDER/extensions -out FOLDER/server.crt"
        ));
        self.certify("server");
        Some(Certificates { authority: file("authority.crt"), stranger: file("stranger.crt") })
    }

    /// Starts the server again, with one of the certificates of [`Self::encrypt`].
    pub fn certify(&self, name: &str) {
        let folder = self.folder.path();
        let settings = folder.join("data/postgresql.conf");
        let known = std::fs::read_to_string(&settings).unwrap();
        let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        let tls = format!("\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n", file("crt"), file("key"));
        std::fs::write(&settings, known + &tls).unwrap();
        self.stop();
        self.restart();
    }

    pub fn address(&self) -> String {
        format!("postgres://postgres:pass%20word@127.0.0.1:{}/postgres", self.port)
    }

    /// Returns the address with the server's Unix socket.
    pub fn socket_address(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://postgres:pass%20word@/postgres?host={folder}&port={}", self.port)
    }

    /// Runs statements, by the server's own client.
    pub fn run(&self, sql: &str) {
        let output = self.answered(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Locks a table against reads until the result is dropped.
    pub fn lock(&self, table: &str) -> Lock {
        let mut command = self.client();
        let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = session.stdin.take().unwrap();
        writeln!(input, "BEGIN; LOCK TABLE {table}; SELECT 'locked';").unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(session.stdout.take().unwrap());
        while !line.contains("locked") {
            assert!(output.read_line(&mut line).unwrap() > 0, "the session ended: {line}");
        }
        Lock { session, input: Some(input) }
    }

    /// Returns true if a session waits for a lock on a table.
    pub fn has_waiters(&self, table: &str) -> bool {
        self.try_run(&format!("SELECT 1 / count(*) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"))
    }

    /// Returns true if the server ran the statements.
    pub fn try_run(&self, sql: &str) -> bool {
        self.answered(sql).status.success()
    }

    fn answered(&self, sql: &str) -> Output {
        self.client().args(["-c", sql]).output().unwrap()
    }

    fn client(&self) -> Command {
        let port = self.port.to_string();
        let mut command = Command::new(self.bin.join("psql"));
        command.env("PGPASSWORD", "pass word");
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q"]);
        command
    }
}

/// A session that holds a lock.
pub struct Lock {
    session: Child,
    input: Option<ChildStdin>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.input.take();
        let _ = self.session.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.control("stop");
    }
}
