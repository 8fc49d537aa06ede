//! The program by its other name.

use std::process::Command;

use testbed::{ApiServer, wait};

use crate::{PATIENCE, apply_soon, ended, kubeconfig, linkspan, wait_served};

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
    assert!(plugin(&["completion", "bash"]).contains(" kubectl-linkspan\n"), "a script for its own name");
    let token = folder.path().join("token");
    std::fs::write(&token, "no token").unwrap();
    let join = ["linkspan", "join", "--token-file", token.to_str().unwrap()];
    let said = ended(Command::new(&kubectl).args(join).env("PATH", folder.path())).failed();
    assert!(said.contains("`kubectl linkspan token create"), "{said}");

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

#[test]
fn options_of_contexts_may_stand_before_the_command_as_kubectl_takes_them() {
    let server = ApiServer::start().unwrap();
    let file = kubeconfig(&[("paris", server.kubeconfig()), ("berlin", server.kubeconfig())]);
    let file = file.to_str().unwrap();
    linkspan(["--kubeconfig", file, "--context", "berlin", "deploy-broker"]).done();
    wait_served(&server, "serviceexports");
    crate::kubectl(&server, &["create", "service", "clusterip", "web", "--tcp=80", "-n", "kube-system"]);
    let said = linkspan(["--kubeconfig", file, "-n", "kube-system", "--all-contexts", "export", "web"]).done();
    let exported = |context: &str| said.contains(&format!("{context}: exported kube-system/web;"));
    assert!(exported("paris") && exported("berlin"), "{said}");
    let ended = linkspan(["--context", "paris", "genkey"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""), "a command without clusters takes no context");
    let ended = linkspan(["--context", "paris"]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.error.contains("Usage: linkspan"), "{}", ended.error);
}

#[test]
fn what_clusters_alone_know_is_proposed_and_a_silent_one_says_nothing() {
    let server = ApiServer::start().unwrap();
    let file = kubeconfig(&[("paris", server.kubeconfig()), ("berlin", server.kubeconfig())]);
    let file = file.to_str().unwrap();
    linkspan(["deploy-broker", "--kubeconfig", file]).done();
    wait_served(&server, "members,serviceexports,serviceimports");
    linkspan(["token", "create", "oslo", "--server", &server.url(), "--kubeconfig", file]).done();
    crate::kubectl(&server, &["create", "namespace", "shop"]);
    crate::kubectl(&server, &["create", "service", "clusterip", "web", "--tcp=80", "-n", "shop"]);
    linkspan(["export", "web", "-n", "shop", "--kubeconfig", file]).done();
    let import = "{ apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: { name: db, namespace: shop }, \
                  spec: { type: Headless, ports: [] } }";
    apply_soon(&server, import);
    let member = "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: { name: rome, namespace: linkspan-broker, \
                  labels: { linkspan.dev/cluster: rome } }, spec: { clusterID: rome, clusterUID: x } }";
    apply_soon(&server, member);
    crate::kubectl(&server, &["create", "serviceaccount", "default", "-n", "shop"]);
    crate::kubectl(&server, &["run", "client", "--image=x", "-n", "shop"]);

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kubectl_complete-linkspan");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_linkspan"), &program).unwrap();
    let tab = |file: &str, words: &[&str]| {
        let ended = ended(Command::new(&program).args(["--kubeconfig", file]).args(words));
        assert_eq!(ended.error, "", "{words:?}");
        ended.done()
    };
    for (words, expected) in [
        (&["show", "--context", "b"][..], "berlin\n:4\n"),
        (&["export", "-n", "sho"], "shop\n:4\n"),
        (&["export", "-n", "shop", "--context", "berlin", ""], "web\n:4\n"),
        (&["unexport", "-n", "shop", ""], "web\n:4\n"),
        (&["why", "-n", "shop", ""], "client\n:4\n"),
        (&["why", "-n", "shop", "client", "->", ""], "client\ndb\n:4\n"),
        (&["token", "revoke", ""], "oslo\n:4\n"),
        (&["member", "remove", ""], "rome\n:4\n"),
        (&["export", "-n", "nowhere", ""], ":4\n"),
    ] {
        // A cluster has one second to answer, which is little on a busy machine.
        let told = wait::retry(PATIENCE, || {
            let told = tab(file, words);
            anyhow::ensure!(told == expected, "{words:?}: {told:?} and not {expected:?}");
            Ok(())
        });
        told.unwrap();
    }
    // Nobody listens on port 1, and the last one cannot be read at all.
    let lost = crate::kubeconfig(&[("lost", &server.kubeconfig().replace(&server.url(), "https://127.0.0.1:1"))]);
    for file in [lost.to_str().unwrap(), "/nonexistent"] {
        assert_eq!(tab(file, &["export", ""]), ":4\n");
    }
}
