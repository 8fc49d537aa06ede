//! krew: the archives of the plugin, and the manifest that names them. They are packed around a small program here, but where
//! krew itself installs the plugin.

use super::*;

/// An archive's name at a release; e_machine of a program for it (ELF, as Linux's `elf.h` has it).
const AMD64: (&str, u8) = ("kubectl-linkspan-linux-amd64.tar.gz", 0x3e);
const ARM64: (&str, u8) = ("kubectl-linkspan-linux-arm64.tar.gz", 0xb7);

/// A program that says of itself that it is for this machine, in a file.
fn program(folder: &Path, machine: u8) -> PathBuf {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    bytes[18] = machine;
    let path = folder.join(format!("program-{machine}"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Packs a program into a folder, as somebody with this umask and time zone.
fn pack(folder: &Path, program: &Path, umask: &str, zone: &str) -> Result<String, String> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")]);
    command.arg(tree().join("deploy/krew/pack.sh")).args([folder, program]);
    ran(command.env("TZ", zone).env("SOURCE_DATE_EPOCH", "1700000000"))
}

#[test]
fn an_archive_has_the_plugin_and_the_licence_whoever_packs_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path(), AMD64.1);
    let [one, other] = ["one", "deep/er"].map(|name| folder.path().join(name));
    pack(&one, &program, "022", "UTC").unwrap();
    pack(&other, &program, "077", "Asia/Tokyo").unwrap();
    let archive = one.join(AMD64.0);
    assert!(std::fs::read(&archive).unwrap() == std::fs::read(other.join(AMD64.0)).unwrap(), "two packings differ");
    let list = ran(Command::new("tar").arg("-tvzf").arg(&archive).env("TZ", "UTC")).unwrap();
    let list: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    let found: Vec<_> = list.iter().map(|fields| (fields[0], fields[1], fields[3], fields[5])).collect();
    let wanted =
        [("-rw-r--r--", "0/0", "2023-11-14", "LICENSE"), ("-rwxr-xr-x", "0/0", "2023-11-14", "kubectl-linkspan")];
    assert_eq!(found, wanted);
    ran(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&one)).unwrap();
    assert!(std::fs::read(one.join("kubectl-linkspan")).unwrap() == std::fs::read(&program).unwrap());
}

#[test]
fn an_archive_is_named_after_the_machine_that_its_program_is_for() {
    let folder = tempfile::tempdir().unwrap();
    for (name, machine) in [AMD64, ARM64] {
        let to = folder.path().join(name.replace('.', "-"));
        pack(&to, &program(folder.path(), machine), "022", "UTC").unwrap();
        let packed: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(packed, [name]);
    }
    let riscv = program(folder.path(), 0xf3);
    let error = pack(folder.path(), &riscv, "022", "UTC").unwrap_err();
    assert!(error.contains("neither for amd64 nor for arm64"), "{error}");
    let error = pack(folder.path(), &tree().join("LICENSE"), "022", "UTC").unwrap_err();
    assert!(error.contains("no program for Linux"), "{error}");
}

#[test]
fn the_manifest_of_a_release_names_its_archives_and_their_digests() {
    let folder = tempfile::tempdir().unwrap();
    let [amd64, arm64] = [AMD64.0, ARM64.0].map(|name| folder.path().join(name));
    std::fs::write(&amd64, "abc").unwrap();
    std::fs::write(&arm64, "").unwrap();
    let text = ran(Command::new(tree().join("deploy/krew/render.sh")).args([&amd64, &arm64])).unwrap();
    assert!(!text.contains('@'), "{text}");
    let manifest = &documents(&text)[0];
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    // SHA-256 of "abc" (FIPS 180-2, B.1) and of nothing.
    let wanted = [
        ("amd64", AMD64.0, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("arm64", ARM64.0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ];
    assert_eq!(platforms.len(), wanted.len());
    for (platform, (architecture, name, digest)) in platforms.iter().zip(wanted) {
        let labels = &platform["selector"]["matchLabels"];
        assert_eq!((&labels["os"], &labels["arch"]), (&"linux".into(), &architecture.into()));
        let uri = platform["uri"].as_str().unwrap();
        assert!(uri.ends_with(&format!("/v{}/{name}", env!("CARGO_PKG_VERSION"))), "{uri}");
        assert_eq!((&platform["sha256"], &platform["bin"]), (&digest.into(), &"kubectl-linkspan".into()));
    }
}

/// As from krew's index, but for the download.
#[test]
fn krew_installs_the_plugin_and_refuses_what_the_manifest_does_not_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    pack(folder.path(), Path::new(env!("CARGO_BIN_EXE_linkspan")), "022", "UTC").unwrap();
    let machine = if cfg!(target_arch = "x86_64") { AMD64.0 } else { ARM64.0 };
    let other = if machine == AMD64.0 { ARM64.0 } else { AMD64.0 };
    std::fs::write(at(other), "").unwrap();
    let manifest = ran(Command::new(tree().join("deploy/krew/render.sh")).args([AMD64.0, ARM64.0].map(at))).unwrap();
    std::fs::write(at("linkspan.yaml"), manifest).unwrap();
    let install = |archive: &str, root: &str| {
        let mut krew = Command::new(peer("krew"));
        krew.args(["install", "--manifest"]).arg(at("linkspan.yaml")).arg("--archive").arg(at(archive));
        ran(krew.env("KREW_ROOT", at(root)).env("HOME", folder.path()))
    };
    install(machine, "krew").unwrap();
    let path = format!("{}:{}", at("krew/bin").display(), std::env::var("PATH").unwrap());
    let said = ran(Command::new(peer("kubectl")).args(["linkspan", "--version"]).env("PATH", path)).unwrap();
    assert_eq!(said, concat!("linkspan ", env!("CARGO_PKG_VERSION"), "\n"));
    // What is not that of the manifest is refused.
    std::fs::write(at("other.tar.gz"), "x").unwrap();
    let error = install("other.tar.gz", "another").unwrap_err();
    assert!(error.contains("checksum does not match"), "{error}");
}
