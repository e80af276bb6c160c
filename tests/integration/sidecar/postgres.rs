//! A sidecar that follows a PostgreSQL server.

use vexact::sidecar::DeleteDetection;

use super::server::{Server, report_missing};
use super::silence::silence;
use super::*;

async fn open(server: &Server, tables: Vec<TimestampTableConfig>) -> HtapEngine {
    open_with(SidecarConfig::new(server.address(), tables)).await
}

async fn open_with(sidecar: SidecarConfig) -> HtapEngine {
    HtapEngine::open(HtapConfig { sidecar: Some(sidecar), ..HtapConfig::default() }).await.unwrap()
}

const AT: &str = "2024-05-05 10:00:00";

#[tokio::test]
async fn postgres_is_followed() {
    let Some(server) = Server::start() else { return };
    types(&server).await;
    clocks(&server).await;
    keys(&server).await;
    late_commits_and_deletes(&server).await;
    failures(&server).await;
    logins(&server).await;
    vectors(&server).await;
    encrypted(&server).await;
    silence(&server).await;
    outages(&server).await;
}

async fn types(server: &Server) {
    server.run(
        "CREATE DOMAIN grade AS int2 CHECK (VALUE > 0);
         CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE kinds (id int8 PRIMARY KEY, a int2, b int4, c float4, d float8, e text, f varchar(9), g char(4), h bool,
            i bytea, j timestamp, k timestamptz, l date, m numeric(10, 2), n uuid, o jsonb, p real[], q grade, r mood, s int[],
            created_at timestamptz, updated_at timestamptz);
         INSERT INTO kinds VALUES (9007199254740993, -1, 2, 0.1, 0.1, 'é', 'f', 'g', true, '\\x00ff', '1970-01-02',
            '1970-01-01 02:00:00+02', '1970-01-02', 12.34, '00000000-0000-0000-0000-000000000001', '{\"x\": 1}', '{1,2.5}', 3, 'ok',
            '{1,2}', '2024-05-05', '2024-05-05');
         INSERT INTO kinds (id, c, d, j, p, created_at, updated_at)
            VALUES (2, 'NaN', '-Infinity', 'infinity', '{3,NaN}', '2024-05-05', '2024-05-05')",
    );
    let engine = open(server, vec![table("kinds")]).await;
    assert_eq!(sync_all(&engine).await, (2, 0, 0));
    let found = engine.query("SELECT * FROM kinds ORDER BY id DESC", &[]).await.unwrap();
    let types: Vec<String> = found[0].schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    let list = found[0].schema().field_with_name("p").unwrap().data_type().to_string();
    let expected = [
        "Int64", "Int16", "Int32", "Float32", "Float64", "Utf8", "Utf8", "Utf8", "Boolean", "Binary", "Int64", "Int64",
        "Int64", "Float64", "Utf8", "Utf8", &list, "Int16", "Utf8", "Utf8", "Int64", "Int64",
    ];
    assert_eq!(types, expected);
    let day = 86_400_000_000i64;
    let at = 1_714_867_200_000_000i64;
    assert_eq!(
        texts(&found),
        [
            format!(
                "9007199254740993|-1|2|0.1|0.1|é|f|g|true|00ff|{day}|0|{day}|12.34|00000000-0000-0000-0000-000000000001|\
                 {{\"x\": 1}}|[1.0, 2.5]|3|ok|{{1,2}}|{at}|{at}"
            ),
            format!(
                "2|NULL|NULL|NaN|-inf|NULL|NULL|NULL|NULL|NULL|{}|NULL|NULL|NULL|NULL|NULL|[3.0, NaN]|NULL|NULL|NULL|{at}|{at}",
                i64::MAX
            )
        ]
    );
    assert_eq!(sync_all(&engine).await, (0, 0, 0));
    let search = "SELECT id FROM vector_search('kinds', 'p', [1.0, 2.0], 1)";
    assert_eq!(ask(&engine, search).await, ["9007199254740993"]);
}

/// Each kind of clock: four times, as in the test of SQLite.
async fn clocks(server: &Server) {
    let clocks = [
        (
            "timestamptz",
            [
                "'2024-05-05 10:00:00.000001+02'",
                "'2024-05-05 08:00:00.000002Z'",
                "'2024-05-05 08:00:01Z'",
                "'2024-05-06Z'",
            ],
        ),
        (
            "timestamp(3)",
            ["'2024-05-05 10:00:00'", "'2024-05-05 10:00:00.001'", "'2024-05-05 10:00:01'", "'2024-05-06'"],
        ),
        ("date", ["'2024-05-05'", "'2024-05-05'", "'2024-05-05'", "'2024-05-06'"]),
        ("bigint", ["1700000000", "1700000001", "1700000002", "1700009000"]),
        ("float8", ["1700000000.25", "1700000000.5", "1700000001.1", "1700009000"]),
        ("numeric", ["1700000000.123456", "1700000000.123457", "1700000001", "1700009000"]),
        (
            "text",
            ["'2024-05-05T10:00:00Z'", "'2024-05-05T10:00:01Z'", "'2024-05-05T10:00:01.5Z'", "'2024-05-06T00:00:00Z'"],
        ),
    ];
    for (at, (clock, [first, second, third, last])) in clocks.into_iter().enumerate() {
        let name = format!("clock{at}");
        server.run(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, body text, created_at {clock}, updated_at {clock});
             INSERT INTO {name} VALUES (1, 'a', {first}, {first}), (2, 'b', {first}, {third})"
        ));
        let config = SidecarConfig { poll_batch_size: 2, ..SidecarConfig::new(server.address(), vec![table(&name)]) };
        let engine = open_with(config).await;
        let is_new_too = u64::from(first == third);
        assert_eq!(sync_all(&engine).await, (1 + is_new_too, 1 - is_new_too, 0), "{clock}");
        server.run(&format!(
            "INSERT INTO {name} VALUES (3, 'late', {second}, {second}); UPDATE {name} SET body = 'tick' WHERE id = 2"
        ));
        assert_eq!(sync_all(&engine).await, (1, 1, 0), "{clock}");
        server.run(&format!("INSERT INTO {name} VALUES (4, 'new', {last}, {last})"));
        assert_eq!(engine.sync_status().await.unwrap().lag, 1, "{clock}");
        assert_eq!(sync_all(&engine).await, (1, 0, 0), "{clock}");
        assert_eq!(sync_all(&engine).await, (0, 0, 0), "{clock}");
        let found = ask(&engine, &format!("SELECT id, body FROM {name} ORDER BY id")).await;
        assert_eq!(found, ["1|a", "2|tick", "3|late", "4|new"], "{clock}");
    }
}

/// Keys of many types, with one time for all rows: each batch continues after the last key of the
/// one before.
async fn keys(server: &Server) {
    server.run("CREATE SCHEMA sales");
    for (at, (key, value)) in [
        ("int2", "i"),
        ("text", "chr(96 + i) || '''\"\\'"),
        ("char(8)", "'k' || i"),
        ("uuid", "('00000000-0000-0000-0000-00000000000' || i)::uuid"),
        ("numeric", "i / 7.0"),
        ("timestamptz", "'2024-05-05'::timestamptz + i * interval '1 us'"),
        ("date", "'2024-05-05'::date + i"),
        ("bytea", "decode('0' || i, 'hex')"),
        ("bool", "i = 1"),
    ]
    .into_iter()
    .enumerate()
    {
        let count = if key == "bool" { 2 } else { 7 };
        server.run(&format!(
            "CREATE TABLE sales.key{at} (id {key}, part int, created_at timestamptz, updated_at timestamptz, PRIMARY KEY (id, part));
             INSERT INTO sales.key{at} SELECT {value}, 5, '{AT}', '{AT}' FROM generate_series(1, {count}) AS i"
        ));
        let config = TimestampTableConfig {
            primary_key: vec!["id".into(), "part".into()],
            columns: vec!["part".into()],
            ..table(&format!("sales.key{at}"))
        };
        let config = SidecarConfig { poll_batch_size: 2, ..SidecarConfig::new(server.address(), vec![config]) };
        let engine = open_with(config).await;
        assert_eq!(sync_all(&engine).await, (count, 0, 0), "{key}");
        assert_eq!(sync_all(&engine).await, (0, 0, 0), "{key}");
        let found = ask(&engine, &format!("SELECT count(DISTINCT id), count(*) FROM key{at}")).await;
        assert_eq!(found, [format!("{count}|{count}")], "{key}");
    }
}

async fn late_commits_and_deletes(server: &Server) {
    server.run(&format!(
        "CREATE TABLE feed (id int PRIMARY KEY, body text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
         INSERT INTO feed VALUES (1, 'a', '{AT}', '{AT}'), (2, 'b', '{AT}', '{AT}')"
    ));
    let detection = DeleteDetection::SoftDelete("deleted_at".into());
    let config =
        SidecarConfig { delete_detection: detection, ..SidecarConfig::new(server.address(), vec![table("feed")]) };
    let engine = open_with(config).await;
    assert_eq!(sync(&engine).await, (2, 0, 0));
    server.run("INSERT INTO feed VALUES (3, 'late', '2024-05-05 09:59:10', '2024-05-05 09:59:10')");
    server.run("UPDATE feed SET deleted_at = '2024-05-05 10:00:05', updated_at = '2024-05-05 10:00:05' WHERE id = 1");
    assert_eq!(sync(&engine).await, (1, 0, 1));
    assert_eq!(sync(&engine).await, (0, 0, 0));
    server.run("UPDATE feed SET deleted_at = NULL, updated_at = '2024-05-05 10:00:06' WHERE id = 1");
    assert_eq!(sync(&engine).await, (0, 1, 0));
    assert_eq!(ask(&engine, "SELECT id, body FROM feed ORDER BY id").await, ["1|a", "2|b", "3|late"]);
    server.run("DELETE FROM feed WHERE id = 2");
    assert_eq!(engine.initial_sync("feed").await.unwrap(), 2);
}

async fn failures(server: &Server) {
    server.run(&format!(
        "CREATE TABLE good (id int PRIMARY KEY, created_at timestamptz, updated_at timestamptz);
         INSERT INTO good VALUES (1, '{AT}', '{AT}');
         CREATE TABLE ragged (id int PRIMARY KEY, v real[], created_at timestamptz, updated_at timestamptz);
         INSERT INTO ragged VALUES (1, '{{1}}', '{AT}', '{AT}'), (2, '{{1,2}}', '{AT}', '{AT}')"
    ));
    let engine = open(server, vec![table("absent"), table("ragged"), table("good")]).await;
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
    for (sql, expected) in [
        ("SELECT x FROM absent", "no such table in the source: absent"),
        ("SELECT v FROM ragged", "column \"v\" (real[]): expected arrays of one length, got several lengths"),
    ] {
        let error = engine.query(sql, &[]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    server.run("UPDATE ragged SET v = '{3,4}' WHERE id = 1");
    assert_eq!(sync_all(&engine).await, (2, 0, 0));
    assert_eq!(ask(&engine, "SELECT v FROM ragged ORDER BY id").await, ["[3.0, 4.0]", "[1.0, 2.0]"]);
    // A table that has lost a followed column is inspected again.
    server.run("ALTER TABLE ragged DROP COLUMN v");
    sync_all(&engine).await;
    assert_eq!(ask(&engine, "SELECT * FROM ragged WHERE id = 2").await.len(), 1);
}

async fn logins(server: &Server) {
    let tables = vec![table("good")];
    let engine = open_with(SidecarConfig::new(server.socket_address(), tables.clone())).await;
    assert_eq!(sync(&engine).await, (1, 0, 0));
    server.run(
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'word'; CREATE ROLE plain LOGIN PASSWORD 'word';
         GRANT SELECT ON good TO old, plain",
    );
    for user in ["old", "plain"] {
        let address = server.address().replace("postgres:pass%20word@", &format!("{user}:word@"));
        let engine = open_with(SidecarConfig::new(address, tables.clone())).await;
        assert_eq!(sync(&engine).await, (1, 0, 0), "{user}");
    }
    for (user, expected) in [
        ("postgres:wrong@", "password authentication failed"),
        ("old:wrong@", "password authentication failed"),
        ("postgres@", "password missing"),
    ] {
        let error = refusal(server.address().replace("postgres:pass%20word@", user)).await;
        assert!(error.contains(expected) && !error.contains("wrong"), "{error}");
    }
}

/// Returns the error for an address that cannot be followed.
async fn refusal(address: String) -> String {
    let sidecar = Some(SidecarConfig::new(address, vec![table("good")]));
    HtapEngine::open(HtapConfig { sidecar, ..HtapConfig::default() }).await.unwrap_err().to_string()
}

/// The types of pgvector, on a server of the programs in `VEXACT_PGVECTOR_BIN` where that is set.
async fn vectors(server: &Server) {
    let own = std::env::var_os("VEXACT_PGVECTOR_BIN").and_then(|bin| Server::start_from(bin.into()));
    let server = own.as_ref().unwrap_or(server);
    if !server.try_run("CREATE EXTENSION vector") {
        report_missing("pgvector", "the server does not have the extension");
        return;
    }
    server.run(&format!(
        "CREATE TABLE embedded (id int PRIMARY KEY, v vector(2), w vector, h halfvec(2), created_at timestamptz, updated_at timestamptz);
         INSERT INTO embedded VALUES (1, '[1,0.1]', '[1,2,3]', '[1,0.1]', '{AT}', '{AT}'), (2, NULL, '[4,5,6]', NULL, '{AT}', '{AT}')"
    ));
    let engine = open(server, vec![table("embedded")]).await;
    assert_eq!(sync_all(&engine).await, (2, 0, 0));
    let found = ask(&engine, "SELECT v, w, h FROM embedded ORDER BY id").await;
    assert_eq!(found, ["[1.0, 0.1]|[1.0, 2.0, 3.0]|[1, 0.099975586]", "NULL|[4.0, 5.0, 6.0]|NULL"]);
    assert_eq!(ask(&engine, "SELECT id FROM vector_search('embedded', 'w', [4.0, 5.0, 6.0], 1)").await, ["2"]);
}

/// Each mode of TLS: to a server without it, with it, and with a certificate that is not valid.
async fn encrypted(server: &Server) {
    server.run("CREATE ROLE guarded LOGIN PASSWORD 'word'; GRANT SELECT ON good TO guarded");
    let by = |host: &str, query: &str| {
        let address = server.address().replace("postgres:pass%20word@127.0.0.1", &format!("guarded:word@{host}"));
        format!("{address}?{query}")
    };
    let error = refusal(by("127.0.0.1", "sslmode=require")).await;
    assert!(error.contains("server does not support TLS"), "{error}");
    let Some(certificates) = server.encrypt() else { return };
    let (ours, other) = (&certificates.authority, &certificates.stranger);
    for (host, query) in [
        ("127.0.0.1", String::new()),
        ("127.0.0.1", "sslmode=require".into()),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ours}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ours}")),
    ] {
        let engine = open_with(SidecarConfig::new(by(host, &query), vec![table("good")])).await;
        assert_eq!(sync(&engine).await, (1, 0, 0), "{host} {query}");
    }
    for (host, query, expected) in [
        ("127.0.0.1", "sslmode=disable".into(), "rejects connection"),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            "certificate not valid for name \"127.0.0.1\"",
        ),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), "invalid peer certificate: UnknownIssuer"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), "invalid peer certificate: UnknownIssuer"),
        ("localhost", format!("sslmode=require&sslrootcert={other}"), "invalid peer certificate: UnknownIssuer"),
        ("localhost", "sslmode=verify-full&sslrootcert=/absent.pem".into(), "file not found: /absent.pem"),
        ("localhost", "sslmode=verify-full&sslrootcert=/etc/hostname".into(), "in PEM form, got none"),
        ("localhost", "sslmode=verify-full".into(), "certificate"),
    ] {
        let error = refusal(by(host, &query)).await;
        assert!(error.contains(expected) && !error.contains("word@"), "{host} {query}: {error}");
    }
    server.certify("authority");
    let error = refusal(by("localhost", &format!("sslmode=verify-full&sslrootcert={ours}"))).await;
    assert!(error.contains("CA:TRUE"), "{error}");
}

/// Runs last: it stops the server.
async fn outages(server: &Server) {
    let engine = open(server, vec![table("good")]).await;
    assert_eq!(sync(&engine).await, (1, 0, 0));
    server.stop();
    let error = engine.sync_now().await.unwrap_err().to_string();
    assert!(error.contains("postgres://postgres@127.0.0.1") && !error.contains("pass"), "{error}");
    assert_eq!(engine.sync_status().await.unwrap().last_error, Some(error));
    assert_eq!(ask(&engine, "SELECT count(*) FROM good").await, ["1"]);
    server.restart();
    server.run("INSERT INTO good VALUES (2, '2024-05-06', '2024-05-06')");
    assert_eq!(sync(&engine).await, (1, 0, 0));
    // A connection that broke between two cycles is no error.
    server.stop();
    server.restart();
    assert_eq!(sync(&engine).await, (0, 0, 0));
    assert_eq!(engine.sync_status().await.unwrap().last_error, None);
}
