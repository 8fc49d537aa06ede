//! Commands in Markdown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a line in backquotes begins with if it is a command.
const PROGRAMS: [&str; 13] = [
    "cargo",
    "curl",
    "deploy/image/pack.sh",
    "helm",
    "kubectl",
    "linkspan",
    "make",
    "ssh",
    "subctl",
    "sudo",
    "sysctl",
    "systemctl",
    "tests/run.sh",
];

/// README.md, docs/ and what is to be read in deploy/.
pub fn all() -> Vec<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![tree.join("README.md")];
    collect(&tree.join("docs"), &mut pages);
    collect(&tree.join("deploy"), &mut pages);
    pages
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of this tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// All commands, as they are written but for spaces and comments, each with the pages that have it.
pub fn commands() -> BTreeMap<String, Vec<String>> {
    let mut commands = BTreeMap::<String, Vec<String>>::new();
    for page in all() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let examples = if page.ends_with("reference/cli.md") { examples(&text) } else { Vec::new() };
        for command in shell_lines(&text).into_iter().chain(inline(&text)).chain(examples) {
            commands.entry(command).or_default().push(page.display().to_string());
        }
    }
    commands
}

/// Lines of blocks of shell, continued ones as one.
pub fn shell_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    let mut open = String::new();
    for line in page.lines() {
        match line.trim() {
            "```sh" | "```bash" => inside = true,
            text if text.starts_with("```") => inside = false,
            text if inside => match text.strip_suffix('\\') {
                Some(begun) => open.push_str(begun),
                None => lines.extend(command(&(std::mem::take(&mut open) + text))),
            },
            _ => {}
        }
    }
    lines
}

/// A line without its comment; none if nothing is left.
fn command(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Manifests of that kind in blocks of YAML, each with its page.
pub fn manifests(kind: &str) -> Vec<(String, String)> {
    let mut manifests = Vec::new();
    for page in all() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let blocks = text.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        let of_kind = blocks.filter(|block| block.lines().any(|line| line == format!("kind: {kind}")));
        manifests.extend(of_kind.map(|block| (page.display().to_string(), block.to_owned())));
    }
    manifests
}

/// What stands in backquotes in the text and begins with the name of a program, if more follows.
pub fn inline(page: &str) -> Vec<String> {
    let mut inside = false;
    let prose: Vec<&str> = page
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect();
    let prose = prose.join("\n");
    let code = prose.split('`').skip(1).step_by(2).filter_map(command);
    code.filter(|code| code.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))).collect()
}

/// Lines with the program in the examples of `docs/reference/cli.md`, which are those of its own help, continued ones as one.
pub fn examples(page: &str) -> Vec<String> {
    let mut examples = false;
    let lines = page.lines().filter(|line| {
        match line.trim_end() {
            "Examples:" => examples = true,
            // Sections of help begin at the left.
            other if !other.is_empty() && !other.starts_with(' ') => examples = false,
            _ => {}
        }
        examples && line.starts_with(' ')
    });
    let lines = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let called = |line: &String| line.contains("linkspan ") && !line.ends_with(':');
    lines.lines().filter_map(command).filter(called).collect()
}
