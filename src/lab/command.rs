//! Runs programs, and tells which one failed with which words.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    input: Option<String>,
}

impl Run {
    /// A program with arguments.
    pub fn new<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { program: program.into(), args, input: None }
    }

    /// A program in the network namespace `netns`, in the mount namespace of the caller.
    pub fn in_netns<S: AsRef<OsStr>>(
        netns: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut all = vec![OsString::from(format!("--net=/run/netns/{netns}")), "--".into()];
        all.push(program.as_ref().to_owned());
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Self { program: "nsenter".into(), args: all, input: None }
    }

    /// A program as a pod runs it: in its network namespace and with its own `/etc/resolv.conf`.
    pub fn in_pod<S: AsRef<OsStr>>(netns: &str, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Self {
        let mut all: Vec<OsString> = vec!["netns".into(), "exec".into(), netns.into(), program.as_ref().to_owned()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Self { program: "ip".into(), args: all, input: None }
    }

    /// What the program reads from its standard input; nothing otherwise.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// The command, for a caller that starts it in its own way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command
    }

    /// Starts it with its output piped, and its input if there is any.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self) -> Result<Child> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.input.is_some() {
            command.stdin(Stdio::piped());
        }
        command.spawn().with_context(|| format!("failed to start `{self}`"))
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// The program cannot be started or waited for.
    pub fn output(&self) -> Result<Output> {
        let mut child = self.spawn()?;
        if let (Some(text), Some(mut pipe)) = (&self.input, child.stdin.take()) {
            // A program that stops reading early says why on its standard error, which is reported below.
            let _ = pipe.write_all(text.as_bytes());
        }
        child.wait_with_output().with_context(|| format!("failed to wait for `{self}`"))
    }

    /// Runs it, and gives back what it printed.
    ///
    /// # Errors
    /// The program cannot be started, or it fails: the error holds the command and what it said.
    pub fn stdout(&self) -> Result<String> {
        let output = self.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
            bail!("failed to run `{self}` ({}): {}{}", output.status, said.trim(), self.culprit(&said));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it for its effect.
    ///
    /// # Errors
    /// As [`Run::stdout`].
    pub fn done(&self) -> Result<()> {
        self.stdout().map(drop)
    }

    /// `ip -batch` names a failed line by its number only; this adds the line.
    fn culprit(&self, said: &str) -> String {
        let number = said.lines().find_map(|line| line.strip_prefix("Command failed -:")?.parse::<usize>().ok());
        let line = number.and_then(|number| self.input.as_deref()?.lines().nth(number.checked_sub(1)?));
        line.map(|line| format!(" (`{line}`)")).unwrap_or_default()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// How many items [`each`] works on at the same time.
const AT_ONCE: usize = 32;

/// Runs `work` over `items`, up to 32 at the same time, and gives back the results in the order of the items.
///
/// # Errors
/// The first error in that order; the others run to their end.
pub fn each<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let items: Vec<_> = items.into_iter().collect();
    let workers = items.len().min(AT_ONCE);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || std::iter::from_fn(next).map(|(at, item)| (at, work(item))).collect::<Vec<_>>();
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the lab's work does not panic")).collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_its_words_and_the_line_of_a_batch() {
        let run = Run::new("sh", ["-c", "cat >/dev/null; echo 'Command failed -:2' >&2; exit 1"]).input("one\ntwo\n");
        let error = run.done().expect_err("exits with 1").to_string();
        assert!(error.starts_with("failed to run `sh -c "), "{error}");
        assert!(error.ends_with("(exit status: 1): Command failed -:2 (`two`)"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = Run::new("no-such-program", [""; 0]).done().expect_err("does not exist");
        assert!(error.to_string().contains("failed to start `no-such-program`"));
    }

    #[test]
    fn results_keep_the_order_of_their_items() {
        let results = each([30_u64, 0], |delay| {
            std::thread::sleep(std::time::Duration::from_millis(delay));
            Ok(delay)
        });
        assert_eq!(results.expect("no failure"), [30, 0]);
        assert!(each([1, 2], |n| if n == 2 { bail!("two") } else { Ok(n) }).is_err());
    }
}
