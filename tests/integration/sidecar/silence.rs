//! Servers that accept connections and do not answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::server::Server;
use super::*;

/// Maximum time of a call: less than that of a call which waits for the server without a limit.
const PROMPT: Duration = Duration::from_secs(8);

async fn open(address: String) -> vexact::Result<HtapEngine> {
    let sidecar = SidecarConfig::new(address, vec![table("good")]);
    HtapEngine::open(HtapConfig { sidecar: Some(sidecar), ..HtapConfig::default() }).await
}

#[tokio::test]
async fn a_server_that_never_answers_is_an_error_in_the_time_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for mode in ["disable", "require"] {
        let started = Instant::now();
        let address = format!("postgres://me:secret@127.0.0.1:{port}/d?sslmode={mode}&connect_timeout=1");
        let error = open(address).await.unwrap_err().to_string();
        assert!(error.contains("expected an answer within 1 seconds, got none"), "{error}");
        assert!(error.contains(&format!("postgres://me@127.0.0.1:{port}/d")), "{error}");
        assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    }
}

/// A proxy that forwards bytes to a server, or holds them back.
struct Proxy {
    port: u16,
    is_silent: Arc<AtomicBool>,
    is_ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    fn to(server: &Server) -> Self {
        let (listener, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port());
        let port = listener.local_addr().unwrap().port();
        let (is_silent, is_ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (silent, ended) = (Arc::clone(&is_silent), Arc::clone(&is_ended));
        let accept = move || {
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let silent = Arc::clone(&silent);
                    std::thread::spawn(move || pass_on(from, to, &silent));
                }
            }
        };
        Self { port, is_silent, is_ended, accepting: Some(std::thread::spawn(accept)) }
    }

    fn address(&self, server: &Server) -> String {
        server.address().replace(&format!(":{}/", server.port()), &format!(":{}/", self.port)) + "?connect_timeout=1"
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.accepting.take().unwrap().join().unwrap();
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !is_silent.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A server that stops answering fails the sync within the connect timeout, and the next sync
/// detects its return. Neither the status nor the shutdown waits for a cycle that waits for the
/// server.
pub async fn silence(server: &Server) {
    let proxy = Proxy::to(server);
    let engine = Arc::new(open(proxy.address(server)).await.unwrap());
    sync(&engine).await;
    proxy.is_silent.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let error = engine.sync_now().await.unwrap_err().to_string();
    assert!(error.contains("expected an answer within 1 seconds, got none"), "{error}");
    assert_eq!(engine.sync_status().await.unwrap().last_error.as_deref(), Some(&*error));
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    proxy.is_silent.store(false, Ordering::SeqCst);
    sync(&engine).await;
    assert_eq!(engine.sync_status().await.unwrap().last_error, None);

    // A cycle waits for a lock, as long as the server holds it.
    let lock = server.lock("good");
    let cycle = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.sync_now().await }
    });
    while !server.has_waiters("good") {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    assert_eq!(engine.sync_status().await.unwrap().tables[0].name, "good");
    engine.shutdown().await;
    let error = cycle.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("shut down"), "{error}");
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    drop(lock);
}
