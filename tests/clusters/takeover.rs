//! The node of a gateway is lost, and another one takes over.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::joined::{Joined, SYSTEM, eventually};
use crate::pods;

/// How long traffic may be away when a gateway's node is lost, and how often it is tried: a busy machine takes longer.
const TAKEOVER: Duration = Duration::from_secs(5);
const TRIES: usize = 5;

/// Calls `$URL` again and again, until it is answered once more after /tmp/stop has come, for at most ten minutes.
/// Tells of each answer when it came, in seconds since the machine was started.
const CALLS: &str = r#"
read up idle < /proc/uptime
last=$((${up%.*} + 600))
while [ "${up%.*}" -lt "$last" ]; do
  [ -e /tmp/stop ] && ends=yes
  curl -sS --fail --max-time 1 "$URL" > /dev/null 2>&1 && answered=yes || answered=
  read up idle < /proc/uptime
  if [ "$answered" ]; then
    echo "$up" >> /tmp/answers
    [ "$ends" ] && exec cat /tmp/answers
  fi
  sleep 0.1
done
exit 1
"#;

/// Again and again until it takes less than [`TAKEOVER`], as often as [`TRIES`] says.
pub fn gateways_take_over(joined: &mut Joined) -> Result<()> {
    let mut times = Vec::new();
    while times.len() < TRIES {
        berlin_2_is_the_gateway(joined)?;
        let time = without_traffic(joined)?;
        eprintln!("clusters: traffic was away for {:.1} s when the gateway node was lost", time.as_secs_f32());
        joined.bed.cluster_mut("berlin")?.start_node("berlin-2")?;
        if time < TAKEOVER {
            return Ok(());
        }
        times.push(time);
    }
    bail!("traffic was away for {times:?}, and never for less than {TAKEOVER:?}")
}

/// berlin's gateway becomes its second node, and its first one the standby.
fn berlin_2_is_the_gateway(joined: &Joined) -> Result<()> {
    let berlin = joined.cluster("berlin")?;
    // It has this from an earlier takeover.
    berlin.kubectl(["label", "node", "berlin-1", "linkspan.dev/gateway-"])?.done()?;
    berlin.kubectl(["label", "node", "berlin-2", "linkspan.dev/gateway=true", "--overwrite"])?.done()?;
    eventually(|| {
        let found = joined.gateway("berlin")?;
        ensure!(found == "berlin-2", "the gateway is {found:?}");
        Ok(())
    })?;
    berlin.kubectl(["label", "node", "berlin-1", "linkspan.dev/gateway=true"])?.done()?;
    // The standby has to be there before it can take over.
    eventually(|| berlin.kubectl(["get", "gatewaynode", "berlin-1", "-n", SYSTEM])?.done())
}

/// How long a pod of paris has no answer from one of berlin when the power of berlin's gateway fails.
fn without_traffic(joined: &mut Joined) -> Result<Duration> {
    let pod = pods::name("paris-1");
    let on_pod = |joined: &Joined, command: &[&str]| joined.cluster("paris")?.exec("default", &pod, command);
    let url = format!("http://{}/", pods::address(joined.cluster("berlin")?, "berlin-1")?);
    eventually(|| pods::read(joined.cluster("paris")?, "paris-1", &url))?;
    on_pod(joined, &["rm", "-f", "/tmp/stop", "/tmp/answers"])?;
    let script = format!("URL={url}\n{CALLS}");
    let calls = joined.cluster("paris")?.kubectl(["exec", "-n", "default", &pod, "--", "/bin/sh", "-c", &script])?;
    let answers = std::thread::scope(|scope| {
        let calling = scope.spawn(|| calls.stdout());
        eventually(|| on_pod(joined, &["test", "-s", "/tmp/answers"]))?;
        joined.bed.cluster_mut("berlin")?.kill_node("berlin-2")?;
        eventually(|| on_pod(joined, &["touch", "/tmp/stop"]))?;
        let answers = calling.join().unwrap();
        answers.with_context(|| {
            format!("berlin-1 has not taken over; the Lease is held by {:?}", joined.gateway("berlin"))
        })
    })?;
    longest_gap(&answers)
}

/// The longest time between two answers.
fn longest_gap(answers: &str) -> Result<Duration> {
    let times: Vec<f64> = answers.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(times.len() > 1, "there were no answers before and after: {times:?}");
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    Ok(Duration::from_secs_f64(gaps.fold(0.0, f64::max)))
}
