//! Runs programs, and tells which one failed with which words.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    input: Input,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    Nothing,
    Text(String),
    File(PathBuf),
}

impl Run {
    /// A program with arguments.
    pub fn new<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { program: program.as_ref().to_owned(), args, input: Input::Nothing }
    }

    /// The same program, run by another one that ends its own arguments with a command: `nsenter`, `setpriv`.
    #[must_use]
    pub fn by<S: AsRef<OsStr>>(self, program: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut outer = Self::new(program, args);
        outer.args.push(self.program);
        outer.args.extend(self.args);
        Self { input: self.input, ..outer }
    }

    /// The same program in a network namespace of this machine.
    #[must_use]
    pub fn in_netns(self, netns: &str) -> Self {
        self.by("nsenter", [format!("--net=/run/netns/{netns}"), "--".to_owned()])
    }

    /// What the program reads from its standard input; nothing otherwise.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Input::Text(text.into());
        self
    }

    /// The file that the program reads as its standard input.
    #[must_use]
    pub fn input_file(mut self, file: &Path) -> Self {
        self.input = Input::File(file.to_owned());
        self
    }

    /// The command, for a caller that starts it in its own way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// The program cannot be started or waited for.
    pub fn output(&self) -> Result<Output> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match &self.input {
            Input::Nothing => {}
            Input::Text(_) => drop(command.stdin(Stdio::piped())),
            Input::File(path) => {
                let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
                command.stdin(file);
            }
        }
        let mut child = command.spawn().with_context(|| format!("failed to start `{self}`"))?;
        if let (Input::Text(text), Some(mut pipe)) = (&self.input, child.stdin.take()) {
            // A program that stops reading early says why on its standard error, which is reported by the caller.
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
            bail!("failed to run `{self}` ({}): {}", output.status, said.trim());
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
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let run = Run::new("sh", ["-c", "cat >/dev/null; echo no >&2; exit 1"]).input("text");
        let error = run.done().expect_err("exits with 1").to_string();
        assert_eq!(error, "failed to run `sh -c cat >/dev/null; echo no >&2; exit 1` (exit status: 1): no");
        let error = Run::new("no-such-program", [""; 0]).done().expect_err("does not exist");
        assert!(error.to_string().contains("failed to start `no-such-program`"));
    }

    #[test]
    fn a_program_in_a_namespace_keeps_its_input() {
        let run = Run::new("kubectl", ["get", "pods"]).input("x").in_netns("ltb-paris-1");
        assert_eq!(run.to_string(), "nsenter --net=/run/netns/ltb-paris-1 -- kubectl get pods");
        assert_eq!(run.input, Input::Text("x".to_owned()));
    }
}
