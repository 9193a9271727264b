//! A double of AWS that answers what a test says: well-formed and empty, or wrong in some way.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a call asks for.
pub(crate) struct Call {
    /// From the signature.
    pub(crate) service: String,
    pub(crate) operation: String,
}

/// What the double does.
pub(crate) enum Answer {
    /// An empty list, one account, two regions.
    Default,
    Json(u16, &'static str),
    Xml(u16, &'static str),
    /// A gigabyte of blanks, without a length.
    Endless,
    /// Nothing, and the connection stays open.
    Hang,
}

pub(crate) struct Double {
    pub(crate) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Double {
    pub(crate) async fn start(behaviour: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(behaviour);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let behaviour = Arc::clone(&behaviour);
                connections.spawn(async move {
                    let _ = serve(stream, &*behaviour).await;
                });
            }
        });
        Self { url, task }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, behaviour: &(dyn Fn(&Call) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let header = |name: &str| {
            text.lines()
                .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
                .map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8_lossy(&buffer[head..head + length]).into_owned();
        buffer.drain(..head + length);
        let authorization = header("authorization").unwrap_or_default();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential="), "unsigned: {text}");
        let service = authorization.split('/').nth(3).unwrap_or_default().to_owned();
        let target = header("x-amz-target");
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
        let operation = target.as_deref().and_then(|t| t.rsplit('.').next()).or(action).unwrap_or_default().to_owned();
        let json = target.is_some();
        let (status, body) = match behaviour(&Call { service, operation: operation.clone() }) {
            Answer::Default => (200, default(&operation, json)),
            Answer::Json(status, body) | Answer::Xml(status, body) => (status, body.to_owned()),
            Answer::Hang => std::future::pending().await,
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await?;
                let chunk = vec![b' '; 1024 * 1024];
                for _ in 0..1024 {
                    stream.write_all(&chunk).await?;
                }
                return Ok(());
            }
        };
        let reply = format!(
            "HTTP/1.1 {status} X\r\nx-amzn-requestid: double-1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(reply.as_bytes()).await?;
    }
}

fn default(operation: &str, json: bool) -> String {
    match operation {
        "GetCallerIdentity" => "<R><GetCallerIdentityResult><Account>111122223333</Account></GetCallerIdentityResult></R>".to_owned(),
        "DescribeRegions" => {
            "<R><regionInfo><item><regionName>us-east-1</regionName></item><item><regionName>eu-west-1</regionName></item></regionInfo></R>".to_owned()
        }
        "" => "{}".to_owned(),
        _ if json => "{}".to_owned(),
        _ => "<R/>".to_owned(),
    }
}
