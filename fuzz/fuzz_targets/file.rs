//! Files of every form, which the first byte chooses: each is read or refused, and none panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vexact::error::ErrorKind;
use vexact::sources::json::JsonFormat;
use vexact::{Session, SessionOptions};

fuzz_target!(|data: &[u8]| {
    let Some((form, content)) = data.split_first() else { return };
    let (Ok(runtime), Ok(folder)) =
        (tokio::runtime::Builder::new_current_thread().enable_all().build(), tempfile::tempdir())
    else {
        return;
    };
    let path = folder.path().join("input");
    if std::fs::write(&path, content).is_err() {
        return;
    }
    let options = SessionOptions { memory_limit_bytes: Some(256 << 20), ..SessionOptions::default() };
    let Ok(session) = Session::with_options(&options) else { return };
    let read = runtime.block_on(async {
        let frame = match form % 5 {
            0 => session.read_csv(&path, ',').await,
            1 => session.read_json(&path, None, JsonFormat::Lines).await,
            2 => session.read_parquet(&path).await,
            3 => session.read_arrow_file(&path).await,
            _ => session.read(&path).await,
        };
        frame?.collect().await
    });
    if let Err(error) = read {
        assert!(error.kind() != ErrorKind::Internal, "{error}");
    }
});
