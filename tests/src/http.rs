//! Requests to a gateway, signed as an SDK signs them, and a connection that costs the machine as little as possible.

use anyhow::{Context as _, bail};
use hearth_aws_api::sigv4::{SecretKey, Signer, sign};
use hearth_node::Seams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Ready;

/// A request as bytes, to be sent any number of times within the signature's five minutes.
pub fn signed(ready: &Ready, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let host = ready.endpoint.trim_start_matches("http://");
    let (mut parts, ()) = ::http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("content-type", "application/json")
        .body(())
        .context("building a request")?
        .into_parts();
    let secret = SecretKey::new(&*ready.secret_access_key);
    let signer = Signer {
        access_key_id: &ready.access_key_id,
        secret: &secret,
        session_token: None,
        region: &ready.region,
        service: "lambda",
    };
    let now = i128::from(Seams::system().clock.unix_ms()) * 1_000_000;
    let now = time::OffsetDateTime::from_unix_timestamp_nanos(now).context("reading the clock")?;
    sign(&mut parts, body, signer, now).context("signing")?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in &parts.headers {
        head.push_str(&format!(
            "{name}: {}\r\n",
            value.to_str().context("a header of ours is text")?
        ));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    Ok(request)
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// The head as it came.
    pub head: String,
}

impl Connection {
    /// Connects to `addr` (`host:port` or a URL of it).
    pub async fn open(addr: &str) -> anyhow::Result<Self> {
        let addr = addr.trim_start_matches("http://");
        let stream = TcpStream::connect(addr)
            .await
            .with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16_384),
        })
    }

    /// Sends a request and reads its answer. Only answers with `content-length` are understood.
    pub async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await.context("sending")?;
        self.buffer.clear();
        let head_end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .context("an answer without a status")?;
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |(_, value)| value.trim().parse())
            .context("reading content-length")?;
        while self.buffer.len() < head_end + length {
            self.fill().await?;
        }
        Ok(Answer {
            status,
            body: self.buffer[head_end..head_end + length].to_vec(),
            head,
        })
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .context("reading")?
            == 0
        {
            bail!("the connection was closed");
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
