//! The status socket: whoever connects is sent the report as JSON, and the connection is closed.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::report::Report;

/// Makes a report of now.
pub type Reporter = Arc<dyn Fn() -> Report + Send + Sync>;

/// Readers that are served at a time; more wait in the kernel's queue.
const READERS: usize = 16;
/// How long a reader may take, and how long `linkspan status` waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a process that was killed may still have the socket.
const HELD_MAX: Duration = Duration::from_secs(3);
/// Between looks whether it is gone.
const HELD_RETRY: Duration = Duration::from_millis(20);
/// How long a process that lives may take to answer: it needs microseconds.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Largest report that is read, in bytes: 65 536 peers at 16 lanes take less.
const REPORT_MAX: u64 = 1 << 30;

/// A bound socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    /// Binds the socket for its owner alone (0600) and makes its folder. A file that a dead process left is replaced.
    ///
    /// # Errors
    /// When another process serves it, or it cannot be made.
    pub async fn bind(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let shown = folder.display();
            std::fs::create_dir_all(folder)
                .with_context(|| format!("failed to make {shown}, the status socket's folder"))?;
        }
        let free = tokio::time::timeout(HELD_MAX, is_free(path)).await.unwrap_or(Ok(false));
        if !free.with_context(|| format!("failed to make the status socket {name}"))? {
            bail!("another process serves the status socket {name}; stop it, or set status.socket");
        }
        // Bound under another name and moved, so that at no moment anybody else can connect.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let _ = std::fs::remove_file(&new);
        let made = UnixListener::bind(&new).and_then(|listener| {
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&new, path)?;
            Ok(listener)
        });
        let listener = made.with_context(|| format!("failed to make the status socket {name}"))?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Serves reports until it is cancelled.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn serve(self, source: Reporter) -> anyhow::Result<()> {
        let permits = Arc::new(Semaphore::new(READERS));
        let mut readers = JoinSet::new();
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.context("the semaphore is never closed")?;
            let (stream, _) = self.listener.accept().await.context("the status socket failed")?;
            while readers.try_join_next().is_some() {}
            let source = Arc::clone(&source);
            readers.spawn(async move {
                let _permit = permit;
                if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, send(stream, &source)).await {
                    tracing::debug!(%error, "a status reader went away");
                }
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether nobody serves a socket; false when somebody answers on it. A process that was killed answers nobody, and its
/// end is waited for.
async fn is_free(path: &Path) -> std::io::Result<bool> {
    loop {
        match UnixStream::connect(path).await {
            Ok(mut stream) => {
                let answer = tokio::time::timeout(ANSWER_MAX, stream.read_u8()).await;
                if matches!(answer, Ok(Ok(_))) {
                    return Ok(false);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(true);
            }
            // It ends at this very moment.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(HELD_RETRY).await;
    }
}

async fn send(mut stream: UnixStream, source: &Reporter) -> std::io::Result<()> {
    let json = serde_json::to_vec(&source())?;
    stream.write_all(&json).await?;
    stream.shutdown().await
}

/// Asks the process behind a socket for its report.
///
/// # Errors
/// When nothing serves the socket, with the likely reason.
pub fn read(path: &Path) -> anyhow::Result<Report> {
    let name = path.display();
    let stream = std::os::unix::net::UnixStream::connect(path).map_err(|error| {
        let likely = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "is `linkspan run` running here? name its socket with --socket or its site file with --config"
            }
            ErrorKind::PermissionDenied => "run as the user that runs `linkspan run`, usually root",
            _ => "is the path right?",
        };
        anyhow::anyhow!("failed to connect to the status socket {name}: {error}; {likely}")
    })?;
    stream.set_read_timeout(Some(PATIENCE)).context("a timeout can be set")?;
    let mut text = String::new();
    stream
        .take(REPORT_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("failed to read the status from {name}"))?;
    serde_json::from_str(&text).with_context(|| format!("{name} sent something else than a Linkspan report"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Reporter {
        Arc::new(|| Report { cluster: "paris".to_owned(), ..Default::default() })
    }

    #[tokio::test]
    async fn a_report_is_read_through_a_socket_that_is_the_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/linkspan.sock");
        let socket = Socket::bind(&path).await.expect("bound");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let server = tokio::spawn(socket.serve(source()));
        let reader = path.clone();
        let report = tokio::task::spawn_blocking(move || read(&reader)).await.expect("joined").expect("read");
        assert_eq!(report.cluster, "paris");
        let second = Socket::bind(&path).await.expect_err("one server for each socket").to_string();
        assert!(second.contains("another process serves the status socket"), "{second}");
        server.abort();
        let _ = server.await;
        assert!(!path.exists(), "removed at the end");
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("linkspan.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let error = read(&path).expect_err("nobody serves it").to_string();
        assert!(error.contains("is `linkspan run` running here?"), "{error}");
        assert!(Socket::bind(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_dying_process_is_waited_for_and_one_that_hangs_is_not_pushed_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("linkspan.sock");
        let dying = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let (socket, ()) = tokio::join!(Socket::bind(&path), async {
            tokio::time::sleep(HELD_RETRY * 5).await;
            drop(dying);
        });
        drop(socket.expect("taken over"));
        let hanging = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let error = Socket::bind(&path).await.expect_err("held").to_string();
        assert!(error.contains("another process serves the status socket"), "{error}");
        drop(hanging);
    }
}
