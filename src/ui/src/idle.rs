//! Closes connections that send nothing: a connection that was opened and left alone would hold a
//! descriptor for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// Maximum time for which a connection may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Accepts connections that are closed after a silence.
pub(super) struct Impatient {
    pub listener: TcpListener,
    pub silence: Duration,
}

impl Listener for Impatient {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, silence: self.silence, over: Box::pin(sleep(self.silence)) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    silence: Duration,
    /// When the silence has lasted too long.
    over: Pin<Box<Sleep>>,
}

impl Connection {
    /// Passes on the result of reading or writing; returns an error once the connection has been
    /// silent for too long.
    fn heard<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => {
                self.over.as_mut().reset(Instant::now() + self.silence);
                Poll::Ready(result)
            }
            Poll::Pending => self.over.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        self.heard(context, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heard(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silence = Duration::from_millis(50);
        let served = async move { axum::serve(Impatient { listener, silence }, Router::new()).await };
        tokio::spawn(served);
        for half in ["", "GET / HTTP/1.1\r\nHost: loc"] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(half.as_bytes()).await.unwrap();
            // Ends, or this test never does.
            let mut rest = Vec::new();
            let _ = connection.read_to_end(&mut rest).await;
        }
    }
}
