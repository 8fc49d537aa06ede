//! Commands inside pods, by `pods/exec`. Linkspan's image has no shell: the program itself is run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinHandle;

use super::errors::explain;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// What a command in a container writes to standard output, or a sentence why it does not.
///
/// # Errors
/// The API server refuses, the command fails, or it takes more than 20 s.
pub async fn output(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
    match tokio::time::timeout(PATIENCE, run(pods, pod, container, command)).await {
        Ok(said) => said,
        Err(_) => Err(format!("pod {pod} did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// As [`output`], however long it takes.
///
/// # Errors
/// The API server refuses, or the command fails.
pub async fn run(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
    let how = AttachParams::default().stdin(false).stdout(true).stderr(true).container(container);
    let command = command.iter().map(|word| (*word).to_owned());
    let mut process = pods.exec(pod, command, &how).await.map_err(|error| explain(&error))?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let (said, told) = tokio::join!(read(stdout), read(stderr));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    if status.is_some_and(|status| status.status.as_deref() != Some("Success")) {
        return Err(format!("pod {pod}: {}", told.trim()));
    }
    Ok(said)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut said = Vec::new();
    if let Some(stream) = stream {
        // What was read until it broke is told.
        let _ = stream.take(ANSWER_MAX).read_to_end(&mut said).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// A command that says by a first line that it has begun, and goes on until it is told to end.
pub struct Session {
    pod: String,
    process: AttachedProcess,
    stdout: BufReader<Box<dyn AsyncRead + Unpin + Send>>,
    stderr: JoinHandle<String>,
}

impl Session {
    /// Starts it, and waits until it has begun.
    ///
    /// # Errors
    /// The API server refuses, the command ends without having begun, or it takes more than 20 s.
    pub async fn start(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<Self, String> {
        let how = AttachParams::default().stdin(true).stdout(true).stderr(true).container(container);
        let command = command.iter().map(|word| (*word).to_owned());
        let mut process = pods.exec(pod, command, &how).await.map_err(|error| explain(&error))?;
        let Some(stdout) = process.stdout() else { return Err(format!("pod {pod} has no standard output")) };
        let stderr = tokio::spawn(read(process.stderr()));
        let mut session = Self { pod: pod.to_owned(), process, stdout: BufReader::new(Box::new(stdout)), stderr };
        let mut line = String::new();
        match tokio::time::timeout(PATIENCE, session.stdout.read_line(&mut line)).await {
            Ok(Ok(length)) if length > 0 => Ok(session),
            Ok(_) => Err(session.failure().await),
            Err(_) => Err(format!("pod {pod} did not begin within {} s", PATIENCE.as_secs())),
        }
    }

    /// Tells it to end, and reads what it says.
    ///
    /// # Errors
    /// The connection was lost, it fails, or it takes more than 20 s.
    pub async fn finish(mut self) -> Result<String, String> {
        if let Some(mut stdin) = self.process.stdin() {
            stdin.write_all(b"\n").await.map_err(|error| format!("pod {} went away: {error}", self.pod))?;
        }
        match tokio::time::timeout(PATIENCE, self.wait()).await {
            Ok(said) => said,
            Err(_) => Err(format!("it did not end within {} s", PATIENCE.as_secs())),
        }
    }

    /// Waits until it ends by itself, and reads what it says.
    ///
    /// # Errors
    /// The connection was lost, or it fails.
    pub async fn wait(mut self) -> Result<String, String> {
        let said = read(Some(&mut self.stdout)).await;
        let status = match self.process.take_status() {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(said),
            _ => Err(self.failure().await),
        }
    }

    async fn failure(self) -> String {
        let told = self.stderr.await.unwrap_or_default();
        format!("pod {}: {}", self.pod, told.trim())
    }
}
