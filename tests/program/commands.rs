//! Commands that need no rights.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn wrong_use_ends_with_64_and_help_with_0() {
    for arguments in [&["run"][..], &["rum"], &["status", "-o", "xml"], &["--log", "info,[", "version"], &[]] {
        let (code, out, error) = ended(&mut linkspan(arguments));
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}: {error}");
        assert!(!error.is_empty(), "{arguments:?}");
    }
    let (code, out, _) = ended(&mut linkspan(["--help"]));
    assert_eq!(code, Some(0));
    assert!(out.contains("Exit codes:") && out.contains("Examples:"), "{out}");
    assert_eq!(ended(&mut linkspan(["version"])), (Some(0), "linkspan 0.1.0\n".to_owned(), String::new()));
}

#[test]
fn check_tells_every_mistake_with_file_line_and_column() {
    let folder = Folder::new(&site("").replace("cluster: paris", "cluster: Paris").replace("10.43.0.10", "10.99.0.1"));
    let path = folder.site();
    let (code, out, error) = ended(linkspan(["check", "--node", "gw", "--config"]).arg(&path));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].contains("site.yaml:1:10: cluster: \"Paris\" is not an RFC 1123 label"), "{error}");
    assert!(lines[1].contains("site.yaml:10:64: exports[0].ips[0]: 10.99.0.1 is in none of"), "{error}");
}

#[test]
fn check_prints_the_plan_of_each_node_and_never_the_key() {
    let folder = Folder::new(&site(""));
    let (code, out, error) = ended(linkspan(["check", "--node", "gw"]).arg(folder.site()));
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("Node      paris/gw (gateway), 192.0.2.1"), "{out}");
    assert!(out.contains(&format!("Key       public key {PUBLIC}")), "{out}");
    assert!(!out.contains(PRIVATE), "{out}");
    let (code, out, error) = ended(linkspan(["check"]).arg(folder.site()).env("NODE_NAME", "w1"));
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("Node      paris/w1 (worker), 192.0.2.2"), "{out}");
    assert!(out.contains("Routes    1 prefixes through gw"), "{out}");
}

#[test]
fn a_node_that_the_file_does_not_have_is_told_with_those_it_has() {
    let folder = Folder::new(&site(""));
    for command in ["check", "run"] {
        let (code, _, error) = ended(linkspan([command, "--node", "rome", "--config"]).arg(folder.site()));
        assert_eq!(code, Some(1), "{error}");
        assert!(
            error.contains("has no node \"rome\" (it has gw, w1); name this node with --node or NODE_NAME"),
            "{error}"
        );
    }
}

#[test]
fn keys_are_made_for_their_owner_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("private.key");
    let (code, public, error) = ended(linkspan(["genkey"]).arg(&path));
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let before = std::fs::read_to_string(&path).unwrap();
    let (code, _, error) = ended(linkspan(["genkey"]).arg(&path));
    assert_eq!((code, std::fs::read_to_string(&path).unwrap()), (Some(1), before), "{error}");
    assert_eq!(ended(linkspan(["pubkey"]).arg(&path)), (Some(0), public, String::new()));
    let (_, first, _) = ended(&mut linkspan(["genkey"]));
    let (_, second, _) = ended(&mut linkspan(["genkey"]));
    assert_ne!(first, second);
    assert_eq!(first.trim_end().len(), 44);
}

#[test]
fn a_public_key_is_the_one_that_wg_prints() {
    let folder = Folder::new("");
    let key = std::fs::File::open(folder.path().join("private.key")).unwrap();
    let Output { stdout, .. } = linkspan(["pubkey"]).stdin(key).output().unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("{PUBLIC}\n"));
}

#[test]
fn a_status_that_nobody_serves_says_what_to_do() {
    let (code, _, error) = ended(&mut linkspan(["status", "--socket", "/nonexistent/linkspan.sock"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("is `linkspan run` running here?"), "{error}");
}

#[test]
fn an_address_is_translated_by_a_site_file_in_both_directions() {
    let network = "serviceCIDRs: [10.43.0.0/16], virtual: [{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }]";
    let text = site("").replace("serviceCIDRs: [10.43.0.0/16]", network);
    assert!(text.contains("100.64.0.0/16"), "{text}");
    let folder = Folder::new(&text);
    let translate = |address: &str, output: &str| {
        ended(linkspan(["translate", address, "-o", output, "--config"]).arg(folder.site()))
    };
    for address in ["10.42.0.5", "100.64.0.5"] {
        let (code, out, error) = translate(address, "table");
        let expected = "Cluster  paris\nNative   10.42.0.5\nVirtual  100.64.0.5\nKnown    to berlin as 100.64.0.5\n";
        assert_eq!((code, out.as_str()), (Some(0), expected), "{error}");
    }
    let (_, out, _) = translate("100.64.0.5", "json");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["native"], &found["virtual"]), (&"10.42.0.5".into(), &"100.64.0.5".into()));
    assert_eq!(found["knownAs"][0]["cluster"], "berlin");
    let (code, _, error) = translate("192.0.2.77", "table");
    assert_eq!(code, Some(1));
    assert!(error.contains("192.0.2.77 is in no prefix of paris, nor of a cluster that it is joined with"), "{error}");
    let (_, out, error) = ended(linkspan(["check", "--node", "gw"]).arg(folder.site()));
    assert!(out.contains("Virtual   10.42.0.0/16 is known as 100.64.0.0/16"), "{out}{error}");
    assert!(out.contains(", knows this cluster by virtual addresses"), "{out}");
}

#[test]
fn the_schema_is_json_with_every_section() {
    let (code, out, _) = ended(&mut linkspan(["schema"]));
    assert_eq!(code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sections: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["cluster", "dns", "exports", "network", "nodes", "peers", "privateKeyFile", "status", "tunnel"];
    assert_eq!(sections, expected);
}
