use super::*;

/// Proposals, where each question that others have to answer is answered with what was asked.
fn proposed(words: &[&str]) -> (Vec<String>, &'static str) {
    let mut command = hinted(plugin::dress(Cli::command()));
    command.build();
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    propose(&command, &words, |question| match question.wanted {
        Wanted::Contexts | Wanted::BrokerContexts => vec!["paris".to_owned(), "berlin".to_owned()],
        wanted => {
            let namespace = question.namespace.clone().unwrap_or_default();
            vec![format!("{wanted:?} {namespace} {}", question.contexts.join(" ")).trim().to_owned()]
        }
    })
}

fn names(words: &[&str]) -> Vec<String> {
    let (names, directive) = proposed(words);
    assert_eq!(directive, NO_FILES, "{words:?}");
    names
}

#[test]
fn commands_values_and_contexts_are_proposed() {
    assert_eq!(names(&["deploy"]), ["deploy-broker"]);
    assert_eq!(names(&["token", "c"]), ["create"]);
    assert_eq!(names(&["show", "ex"]), ["exports"]);
    assert_eq!(names(&["show", "-o", "j"]), ["json"]);
    assert_eq!(names(&["show", "--output=n"]), ["--output=name"]);
    assert_eq!(names(&["join", "rome", "--broker-context", "p"]), ["paris"]);
    assert_eq!(names(&["leave", "--all"]), ["--all-contexts"]);
    assert_eq!(proposed(&["leave", "--kubeconfig", ""]), (Vec::new(), FILES));
    assert_eq!(proposed(&["gather", "-f", ""]), (Vec::new(), FILES));
    assert_eq!(names(&["genk"]), [""; 0], "what is for nodes is not proposed");
}

#[test]
fn of_a_list_the_last_one_is_completed_and_none_is_proposed_twice() {
    assert_eq!(names(&["show", "--context", "paris,"]), ["paris,berlin"]);
    assert_eq!(names(&["show", "--context", "paris,b"]), ["paris,berlin"]);
    assert_eq!(names(&["show", "--context=paris,b"]), ["--context=paris,berlin"]);
    assert_eq!(names(&["show", "--context=b"]), ["--context=berlin"]);
    assert_eq!(names(&["show", "--context", "paris,berlin,"]), [""; 0]);
}

#[test]
fn an_argument_that_may_be_repeated_is_proposed_again() {
    assert_eq!(names(&["diagnose", "d"]), ["dns"]);
    assert_eq!(names(&["diagnose", "cni", "d"]), ["dns"]);
    assert_eq!(names(&["diagnose", "cni", "dns", "mt"]), ["mtu"]);
    assert_eq!(names(&["show", "exports", ""]), [""; 0], "one topic");
}

#[test]
fn a_value_that_has_to_be_attached_is_not_proposed_behind_a_blank() {
    assert_eq!(names(&["leave", "--dry-run", ""]), [""; 0]);
    assert_eq!(names(&["leave", "--dry-run=c"]), ["--dry-run=client"]);
    assert_eq!(names(&["export", "--dry-run", ""]), ["Services"], "the service is still to come");
}

#[test]
fn clusters_are_asked_for_what_they_alone_know() {
    assert_eq!(names(&["export", ""]), ["Services"]);
    assert_eq!(names(&["export", "-n", ""]), ["Namespaces"]);
    assert_eq!(names(&["export", "-n", "shop", "--context", "paris", ""]), ["Services shop --context=paris"]);
    assert_eq!(names(&["export", "-nshop", ""]), ["Services shop"]);
    assert_eq!(names(&["unexport", "--namespace=shop", ""]), ["Exports shop"]);
    assert_eq!(names(&["unexport", "web", ""]), [""; 0]);
    assert_eq!(names(&["show", "-n", "",]), ["Namespaces"]);
    assert_eq!(names(&["why", ""]), ["Pods"]);
    assert_eq!(names(&["why", "a", ""]), ["PodsAndImports"]);
    assert_eq!(names(&["why", "a", "->", ""]), ["PodsAndImports"]);
    assert_eq!(names(&["trace", "a", "to", ""]), ["PodsAndImports"]);
    assert_eq!(names(&["trace", "a", "to", "b", "--", ""]), [""; 0]);
    assert_eq!(names(&["token", "revoke", "--all-contexts", ""]), ["Tokens  --all-contexts"]);
    assert_eq!(names(&["token", "create", ""]), [""; 0], "a new name is nobody else's");
    assert_eq!(names(&["member", "remove", ""]), ["Members"]);
}

#[test]
fn options_of_contexts_may_stand_before_the_command() {
    assert_eq!(names(&["--context", "p"]), ["paris"]);
    assert_eq!(names(&["--context=paris,b"]), ["--context=paris,berlin"]);
    assert_eq!(names(&["--context", "paris", "sho"]), ["show"]);
    assert_eq!(names(&["-n", "shop", "--context", "paris", "export", ""]), ["Services shop --context=paris"]);
}

#[test]
fn scripts_propose_files_for_files_alone() {
    let command = hinted(Cli::command());
    let hint = |name: &str, id: &str| {
        let sub = command.find_subcommand(name).expect("a command");
        sub.get_arguments().find(|arg| arg.get_id() == id).expect("an argument").get_value_hint()
    };
    assert_eq!(hint("show", "contexts"), ValueHint::Other);
    assert_eq!(hint("show", "kubeconfig"), ValueHint::FilePath);
    assert_eq!(hint("man", "folder"), ValueHint::DirPath);
}
