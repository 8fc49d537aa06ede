//! Commands inside pods, by `pods/exec`. Linkspan's image has no shell: the program itself is run.

use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::task::JoinHandle;

use super::errors::explain;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of standard input on their way.
const STDIN_BUFFER: usize = 65_536;
/// Largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// What a command in a container writes to standard output, or a sentence why it does not.
///
/// # Errors
/// The API server refuses, the command fails, or it takes more than 20 s.
pub async fn output(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
    patiently(pod, run(pods, pod, container, command)).await
}

/// As [`output`], of a command that reads one line from standard input. A URL, which bears the command, has room for 64 KiB
/// (`http::Uri`); a line has room for everything.
///
/// # Errors
/// As those of [`output`].
pub async fn reply(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    command: &[&str],
    line: &str,
) -> Result<String, String> {
    patiently(pod, attach(pods, pod, container, command, Some(line))).await
}

async fn patiently(pod: &str, said: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    match tokio::time::timeout(PATIENCE, said).await {
        Ok(said) => said,
        Err(_) => Err(format!("pod {pod} did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// As [`output`], however long it takes.
///
/// # Errors
/// The API server refuses, or the command fails.
pub async fn run(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
    attach(pods, pod, container, command, None).await
}

async fn attach(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    command: &[&str],
    line: Option<&str>,
) -> Result<String, String> {
    let how = AttachParams::default().stdin(line.is_some()).stdout(true).stderr(true).container(container);
    let how = AttachParams { max_stdin_buf_size: Some(STDIN_BUFFER), ..how };
    let command = command.iter().map(|word| (*word).to_owned());
    let mut process = pods.exec(pod, command, &how).await.map_err(|error| explain(&error))?;
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let status = process.take_status();
    let (said, told) = talk(stdin.zip(line), stdout, stderr).await;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status.map(|status| status.status) {
        Some(Some(status)) if status == "Success" => {}
        Some(_) => return Err(format!("pod {pod}: {}", told.trim())),
        // Whatever it said may have been cut off.
        None => return Err(format!("the connection to pod {pod} was lost before the command had ended")),
    }
    if said.len() as u64 >= ANSWER_MAX {
        return Err(format!("pod {pod} says more than {} MiB, which is not read", ANSWER_MAX >> 20));
    }
    Ok(said)
}

/// Writes a line while both outputs are read. Standard input stays open until all was said, since not every API server
/// passes its end on; and a process that ends before it has read the line is not waited for.
async fn talk(
    input: Option<(impl AsyncWrite + Unpin, &str)>,
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
) -> (String, String) {
    let writing = async {
        let (mut stdin, line) = input?;
        // Who does not take it tells why on standard error.
        let _ = stdin.write_all(format!("{line}\n").as_bytes()).await;
        Some(stdin)
    };
    let mut reading = pin!(async { tokio::join!(read(stdout), read(stderr)) });
    tokio::select! {
        read = &mut reading => read,
        _stdin = writing => reading.await,
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{empty, simplex};

    use super::*;

    /// Longer than what is on its way.
    fn line() -> String {
        "x".repeat(5000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_without_reading_is_not_waited_for() {
        // As `kube` has it: nobody is told that the other half is gone.
        let (_gone, stdin) = simplex(1024);
        let line = line();
        let talk = talk(Some((stdin, line.as_str())), Some(empty()), Some(&b"unknown option"[..]));
        let told = tokio::time::timeout(Duration::from_secs(60), talk).await;
        assert_eq!(told.expect("it ends"), (String::new(), "unknown option".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_line_is_written_and_the_stream_stays_open_until_all_is_said() {
        let (mut taken, stdin) = simplex(1024);
        let (stdout, mut says) = simplex(1024);
        let process = async {
            let mut read = vec![0; 5001];
            taken.read_exact(&mut read).await.expect("a line comes");
            assert_eq!(read.iter().position(|byte| *byte == b'\n'), Some(5000));
            let end = tokio::time::timeout(Duration::from_secs(60), taken.read_u8()).await;
            assert!(end.is_err(), "it is not closed: {end:?}");
            says.write_all(b"done").await.expect("somebody listens");
            says.shutdown().await.expect("it ends");
        };
        let line = line();
        let (said, ()) = tokio::join!(talk(Some((stdin, line.as_str())), Some(stdout), Some(empty())), process);
        assert_eq!(said, ("done".to_owned(), String::new()));
    }
}
