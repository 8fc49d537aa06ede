//! The images that every cluster has: the one that holds a pod's namespaces, CoreDNS, and one with tools for tests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::image::Image;
use crate::programs;

/// An image with a shell, and `nc`, `nslookup`, `httpd` and more of busybox, and `curl`, `dig` and `iperf3`.
pub const TOOLS: &str = "testbed.local/tools:1";

/// Programs of Debian that the image of tools has besides busybox.
const PROGRAMS: &[&str] = &["/usr/bin/curl", "/usr/bin/dig", "/usr/bin/iperf3"];
const BUSYBOX: &str = "/bin/busybox";

/// Makes them in `folder` and gives back their files.
///
/// # Errors
/// A program that goes into one is missing.
pub fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let file = |name: &str| folder.join(format!("{name}.tar"));
    let mut pause = Image::new("testbed.local/pause:1").entrypoint(&["/busybox", "sleep", "2147483647"]);
    pause.program("/busybox", Path::new(BUSYBOX))?;
    pause.write(&file("pause"))?;
    let mut coredns = Image::new("testbed.local/coredns:1").entrypoint(&["/coredns"]);
    coredns.program("/coredns", &programs::built("coredns")?)?;
    coredns.write(&file("coredns"))?;
    tools()?.write(&file("tools"))?;
    Ok(["pause", "coredns", "tools"].map(file).to_vec())
}

fn tools() -> Result<Image> {
    let mut image = Image::new(TOOLS).entrypoint(&["/bin/sh"]);
    image.program(BUSYBOX, Path::new(BUSYBOX))?;
    for program in PROGRAMS {
        image.program_with_libraries(program)?;
    }
    // The one of Debian's static busybox crashes: there is curl.
    for applet in Run::new(BUSYBOX, ["--list"]).stdout()?.lines().filter(|&applet| applet != "wget") {
        image.link(&format!("/bin/{applet}"), "busybox")?;
    }
    image.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    image.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    image.text("/etc/nsswitch.conf", "hosts: files dns\n")?;
    image.open_folder("/tmp")?;
    image.open_folder("/root")?;
    Ok(image)
}
