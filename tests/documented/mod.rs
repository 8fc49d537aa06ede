//! The commands of README.md, docs/ and deploy/: each is run by a test, or stands in the list with the reason why not.
//!
//! [`pages`] finds them, [`list`] says which test runs them, [`Shell`] runs them. `tests/reference.rs` compares the first two.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod list;
pub mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use list::{Documented, Test};

/// Longest time that a command may take, in seconds; those that wait for clusters give up before.
const PATIENCE: &str = "900";
/// How long those may wait that are patient, in seconds.
const WAIT: u32 = 300;

/// Commands that go on until they are told to end, by one SIGTERM. `says TEXT COMMAND` waits for a text, `stays COMMAND` looks
/// whether it still runs a second later.
const FUNCTIONS: &str = r#"
ends() { kill $1; local code=0; wait $1 || code=$?; cat begun; [[ $code == 0 || $code == 143 ]]; }
says() {
  local text=$1; shift
  # What an earlier one has said is not said by this one.
  : > begun
  "$@" > begun 2>&1 &
  until grep -qF -- "$text" begun; do kill -0 $! || { cat begun; return 1; }; sleep 0.1; done
  ends $!
}
stays() { "$@" > begun 2>&1 & sleep 1; kill -0 $! || { cat begun; return 1; }; ends $!; }
"#;

/// A shell in which people would type: `linkspan`, `kubectl linkspan`, `kubectl` and `helm` are on its PATH, and `deploy/` is
/// in its folder, which is a new one.
pub struct Shell {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// What starts the shell, in another namespace, say.
    within: Vec<String>,
}

/// The commands of a test in the order of the list, of which there are some.
pub fn commands(test: Test) -> Vec<&'static Documented> {
    let commands = list::of(test);
    assert!(!commands.is_empty(), "no command is left for {test:?}");
    commands
}

impl Shell {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs).expect("the folder is new");
        let link = |to: &Path, name: PathBuf| std::os::unix::fs::symlink(to, name).expect("the folder is new");
        for name in ["linkspan", "kubectl-linkspan"] {
            link(Path::new(env!("CARGO_BIN_EXE_linkspan")), programs.join(name));
        }
        for name in ["kubectl", "helm"] {
            link(&tree.join("target/peers").join(name), programs.join(name));
        }
        link(&tree.join("deploy"), folder.path().join("deploy"));
        let path = std::env::var("PATH").unwrap_or_default();
        let shell = Self { folder, variables: Vec::new(), within: Vec::new() };
        shell
            .with("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs.display()))
            .with("PROGRAM", env!("CARGO_BIN_EXE_linkspan"))
    }

    /// The same with a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The same, started by a program with arguments that runs another one.
    #[must_use]
    pub fn within(mut self, program: &[&str]) -> Self {
        self.within = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Where its commands run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command, to be started in the way of the caller.
    pub fn command(&self, line: &str) -> Command {
        let script = format!("{FUNCTIONS}{line}");
        let shell = ["timeout", PATIENCE, "bash", "-euo", "pipefail", "-c", &script];
        let mut words = self.within.iter().map(String::as_str).chain(shell);
        let mut command = Command::new(words.next().expect("a shell is started at least"));
        command.args(words).current_dir(self.folder());
        for variable in ["KUBECONFIG", "HOME", "LINKSPAN_LOG", "LINKSPAN_SOCKET", "NODE_NAME"] {
            command.env_remove(variable);
        }
        // Helm keeps caches there.
        command.env("HOME", self.folder()).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs all commands of a test in the order of the list.
    ///
    /// # Errors
    /// One fails, or does not say what it shall.
    pub fn run_all(&self, test: Test) -> Result<(), String> {
        commands(test).iter().try_for_each(|command| self.run(command).map(drop))
    }

    /// Runs a command, and gives back what it prints.
    ///
    /// # Errors
    /// It fails, or does not say what it shall.
    pub fn run(&self, command: &Documented) -> Result<String, String> {
        let (line, says) = command.run().ok_or_else(|| format!("`{}` is not to be run", command.text))?;
        let line = if command.is_patient { format!("{line} --wait {WAIT}") } else { line.to_owned() };
        let Output { status, stdout, stderr } = self.command(&line).output().map_err(|error| error.to_string())?;
        let (out, error) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let told = || format!("`{}` of the documentation, run as `{line}` ({status}): {out}{error}", command.text);
        match status.success() && out.contains(says) {
            true => Ok(out.into_owned()),
            false if status.success() => Err(format!("{}\nit does not say {says:?}", told())),
            false => Err(told()),
        }
    }
}
