//! The image: the same bytes whoever packs it, and nothing in it that runs but Linkspan and nft. It is packed around a small
//! program here; that the real one fits, `deploy/image/pack.sh` sees to itself.

use std::collections::BTreeSet;

use super::*;

/// Packs an image around `/bin/true` as somebody with this umask and time zone.
fn pack(output: &Path, umask: &str, zone: &str) {
    let script = format!("umask {umask} && exec \"$0\" \"$1\" /bin/true");
    let pack = tree().join("deploy/image/pack.sh");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(pack).arg(output).env("TZ", zone).env("SOURCE_DATE_EPOCH", "1700000000");
    ran(&mut command).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_same_program_makes_the_same_image_whoever_packs_it() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one.tar", "deep/er/other.tar"].map(|name| folder.path().join(name));
    pack(&one, "022", "UTC");
    pack(&other, "077", "Asia/Tokyo");
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap(), "two packings differ");
}

#[test]
fn the_image_has_no_shell_and_runs_nothing_but_linkspan_and_nft() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar");
    pack(&image, "022", "UTC");
    ran(Command::new("tar").arg("-xf").arg(&image).arg("-C").arg(folder.path())).unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.path().join("manifest.json")).unwrap()).unwrap();
    let file = |name: &Value| folder.path().join(name.as_str().unwrap());
    let config: Value = serde_json::from_slice(&std::fs::read(file(&manifest[0]["Config"])).unwrap()).unwrap();
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/linkspan"]));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let layer = file(&manifest[0]["Layers"][0]);
    let list = ran(Command::new("tar").arg("-tzf").arg(&layer)).unwrap();
    // Commands are in these folders; libraries are the only other files that may be run.
    let is_command = |name: &&str| ["./usr/bin/", "./usr/sbin/"].iter().any(|folder| name.starts_with(folder));
    let commands: BTreeSet<_> = list.lines().filter(is_command).filter(|name| !name.ends_with('/')).collect();
    assert_eq!(commands, BTreeSet::from(["./usr/bin/kubectl-linkspan", "./usr/bin/linkspan", "./usr/sbin/nft"]));
    for name in list.lines() {
        let base = name.rsplit('/').next().unwrap();
        assert!(!["sh", "bash", "dash", "ash", "busybox", "env", "perl", "python3"].contains(&base), "{name}");
    }
    let verbose = ran(Command::new("tar").arg("-tvzf").arg(&layer)).unwrap();
    for line in verbose.lines().filter(|line| line.starts_with('-')) {
        let mode = &line[..10];
        assert!(!mode.contains('s'), "set-user-ID: {line}");
        let library = line.contains("/lib/") || line.contains("/lib64/");
        assert!(library || commands.iter().any(|command| line.ends_with(command)) || !mode.contains('x'), "{line}");
    }
}

#[test]
fn the_bill_of_materials_names_every_crate_and_no_folder_of_the_machine() {
    let tool = peer("cargo-cyclonedx");
    assert!(tool.exists());
    let bill =
        || ran(Command::new(tree().join("deploy/image/sbom.sh")).env("SOURCE_DATE_EPOCH", "1700000000")).unwrap();
    let text = bill();
    assert!(text == bill(), "two bills differ");
    assert!(!text.contains(tree().to_str().unwrap()), "the bill names the folder of this tree");
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<_> = components.iter().filter_map(|one| one["name"].as_str()).collect();
    for name in ["boringtun", "kube", "hickory-server", "ring", "linkspan-tunnel"] {
        assert!(names.contains(name), "{name} is not named");
    }
    for component in components {
        assert!(component["licenses"][0].is_object(), "without a licence: {component}");
    }
}
