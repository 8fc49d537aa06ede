//! The program by its other name.

use std::process::Command;

use crate::{ended, linkspan};

#[test]
fn kubectl_finds_it_and_help_says_what_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_linkspan"), folder.path().join("kubectl-linkspan")).unwrap();
    let kubectl = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/kubectl");
    let plugin = |arguments: &[&str]| {
        ended(Command::new(&kubectl).arg("linkspan").args(arguments).env("PATH", folder.path())).done()
    };
    let help = plugin(&["--help"]);
    assert!(help.contains("Usage: kubectl linkspan"), "{help}");
    assert!(help.contains("\n    kubectl linkspan deploy-broker --context paris\n"), "{help}");
    assert!(!help.contains("genkey"), "what is for nodes is not listed: {help}");
    let help = plugin(&["export", "--help"]);
    assert!(help.contains("Usage: kubectl linkspan export"), "{help}");
    assert!(help.contains("\n  kubectl linkspan export web\n"), "{help}");
    assert_eq!(plugin(&["version", "--client"]), "linkspan 0.1.0\n");

    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_linkspan"), folder.path().join("kubectl_complete-linkspan"))
        .unwrap();
    let tab =
        |words: &[&str]| ended(Command::new(&kubectl).arg("__complete").args(words).env("PATH", folder.path())).done();
    assert_eq!(tab(&["linkspan", "show", "conn"]), "connections\n:4\n");
}

#[test]
fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(linkspan(["completion", shell]).done().contains("deploy-broker"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("share/man/man1");
    linkspan(["man", man.to_str().unwrap()]).done();
    let pages: Vec<String> =
        std::fs::read_dir(&man).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    // All that is in the reference has a page, and what is not for nodes only has one of the plugin.
    let reference = std::fs::read_to_string("docs/reference/cli.md").unwrap();
    let commands: Vec<&str> = reference.lines().filter_map(|line| line.strip_prefix("## linkspan ")).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let page = format!("linkspan-{}.1", command.replace(' ', "-"));
        assert!(pages.contains(&page), "no {page} in {pages:?}");
    }
    for (page, there) in [("join", true), ("token-create", true), ("genkey", false)] {
        let page = format!("kubectl-linkspan-{page}.1");
        assert_eq!(pages.contains(&page), there, "{page}");
    }
    for page in &pages {
        let groff = ["-man", "-k", "-Tutf8", "-P-cbou", "-ww", "-rLL=100n", page];
        let drawn = std::process::Command::new("groff").args(groff).current_dir(&man).output().unwrap();
        let warned = String::from_utf8_lossy(&drawn.stderr);
        assert!(drawn.status.success() && warned.is_empty(), "{page}: {warned}");
        let text = String::from_utf8_lossy(&drawn.stdout);
        assert!(text.contains("NAME") && text.contains("SYNOPSIS"), "{page}: {text}");
    }
    let page = std::fs::read_to_string(man.join("kubectl-linkspan-join.1")).unwrap();
    assert!(page.contains("broker\\-context") && page.contains(".SH EXAMPLES"), "{page}");
    assert!(page.contains("  kubectl linkspan join berlin \\-\\-kubeconfig berlin.yaml"), "{page}");
}

#[test]
fn without_a_kubeconfig_it_says_what_to_give() {
    let said = linkspan(["token", "list"]).failed();
    assert_eq!(said, "linkspan: no API server is named: give --kubeconfig, or set KUBECONFIG\n");
    let said = linkspan(["export", "web", "--kubeconfig", "/nonexistent"]).failed();
    assert!(said.starts_with("linkspan: failed to read /nonexistent: "), "{said}");
}
