//! Statements of a session: each is answered or refused, and none panics.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vexact::error::ErrorKind;
use vexact::{Session, SessionOptions};

fuzz_target!(|sql: &str| {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let options = SessionOptions {
        memory_limit_bytes: Some(256 << 20),
        target_partitions: Some(1),
        timeout: Some(Duration::from_secs(2)),
    };
    let Ok(session) = Session::with_options(&options) else { return };
    let answered = runtime.block_on(async {
        let _ = session.sql("CREATE TABLE t AS SELECT 1 AS id, 'a' AS s, [1.0, 2.0] AS v", None).await;
        // Files are the user's own.
        match ["COPY", "EXTERNAL", "USING"].iter().any(|word| sql.to_ascii_uppercase().contains(word)) {
            true => Ok(Vec::new()),
            false => session.sql(sql, None).await?.collect().await,
        }
    });
    if let Err(error) = answered {
        assert!(error.kind() != ErrorKind::Internal, "{error}");
    }
});
