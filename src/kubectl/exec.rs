//! Commands inside pods, by `pods/exec`. Linkspan's image has no shell: the program itself is run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

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
