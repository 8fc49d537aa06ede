//! What people ask of joined clusters in every run of the tests: `diagnose`, `why` and `ui` find nothing wrong where all is
//! well, and name what is. All faults that they know are made by `make faults`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::Run;

use crate::commands::everywhere;
use crate::faults;
use crate::joined::{CLUSTERS, Joined, SYSTEM, eventually};

/// Nothing is wrong; a rule that masquerades and a policy that drops are named by both; then nothing is wrong again.
pub fn faults_are_named(joined: &mut Joined) -> Result<()> {
    faults::all_is_well(joined)?;
    let named = faults::each(joined, &faults::QUICK);
    ensure!(named.is_empty(), "{}", named.join("\n"));
    Ok(())
}

/// With the roles that are shipped for it, and no others, a person is told that nothing is wrong; without the one in
/// `linkspan-system`, which right is missing.
pub fn diagnosing_takes_its_roles_and_no_others(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for role in ["linkspan-viewer", "linkspan-diagnose"] {
            let bind = ["create", "clusterrolebinding", &format!("ada-{role}"), "--clusterrole", role, "--user=ada"];
            cluster.kubectl(bind)?.done()?;
        }
    }
    let diagnose = everywhere(joined, &["diagnose", "--as", "ada"]);
    let missing = "missing permission: get pods/exec in namespace linkspan-system";
    // The authorizers of API servers learn of bindings by watches.
    eventually(|| {
        let (code, said) = ended(&diagnose)?;
        ensure!(code == Some(3) && said.contains(missing), "{code:?}: {said}");
        Ok(())
    })?;
    for name in CLUSTERS {
        let bind = ["create", "rolebinding", "ada", "-n", SYSTEM, "--role=linkspan-diagnose", "--user=ada"];
        joined.cluster(name)?.kubectl(bind)?.done()?;
    }
    eventually(|| {
        let (code, said) = ended(&diagnose)?;
        ensure!(code == Some(0), "{code:?}: {said}");
        Ok(())
    })?;
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        cluster.kubectl(["delete", "rolebinding", "ada", "-n", SYSTEM])?.done()?;
        cluster.kubectl(["delete", "clusterrolebinding", "ada-linkspan-viewer", "ada-linkspan-diagnose"])?.done()?;
    }
    Ok(())
}

fn ended(run: &Run) -> Result<(Option<i32>, String)> {
    let output = run.output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The page has each tunnel, up and measured at both ends, and each export.
pub fn the_page_shows_live_links(joined: &mut Joined) -> Result<()> {
    let page = Page::start(joined)?;
    eventually(|| {
        let data = page.data()?;
        let ends = data["links"][0]["ends"].as_array().context("no ends")?;
        let is_live = |end: &Value| {
            let has = |what: &str| end[what].as_f64().is_some_and(|figure| figure >= 0.0);
            end["state"] == "up" && has("rttMilliseconds") && has("rxRate") && has("txRate")
        };
        ensure!(ends.len() == 2 && ends.iter().all(is_live), "not both ends are live: {data:#}");
        let wrong = data["findings"].as_array().context("no findings")?;
        ensure!(wrong.is_empty(), "not all is well: {wrong:#?}");
        let is_shown = |name: &&str| {
            let cluster = data["clusters"].as_array().into_iter().flatten().find(|cluster| cluster["name"] == **name);
            cluster.is_some_and(|cluster| cluster["nodes"] == 2 && cluster["state"] == "ok")
        };
        ensure!(CLUSTERS.iter().all(is_shown), "not both clusters are shown: {data:#}");
        let mut exports = data["exports"].as_array().into_iter().flatten();
        ensure!(exports.any(|export| export["name"] == "web" && export["cluster"] == "berlin"), "no web: {data:#}");
        Ok(())
    })
}

/// `linkspan ui`, which ends with this.
struct Page {
    program: Child,
    url: String,
}

impl Page {
    fn start(joined: &Joined) -> Result<Self> {
        let run = everywhere(joined, &["ui", "--no-open", "--every", "1"]);
        let mut program = run.command().stdout(Stdio::piped()).spawn().with_context(|| format!("`{run}`"))?;
        let mut url = String::new();
        let read = program.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut url));
        let page = Self { program, url: url.trim().to_owned() };
        ensure!(matches!(read, Some(Ok(_))) && page.url.starts_with("http://127.0.0.1:"), "no URL: {:?}", page.url);
        Ok(page)
    }

    fn data(&self) -> Result<Value> {
        let said =
            Run::new("curl", ["-sS", "--fail", "--max-time", "5", &format!("{}data.json", self.url)]).stdout()?;
        serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
