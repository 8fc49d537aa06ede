//! How long after its export a service of one cluster is resolvable in the other, and what that costs: two real API
//! servers, one of them the broker too, both clusters' controllers, and the second one's name server.
//!
//! The last line is `RESULT` and `key=value` pairs; the same goes to `target/bench/control.json`. It fails where the goal is
//! missed: a p99 under 1 s with 64 MiB for each controller.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use controller::api::{Member, ServiceExport};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use testbed::{ApiServer, Run};
use tokio::net::UdpSocket;

const NAMESPACE: &str = "bench";
const DNS_PORT: u16 = 5399;
const LINKSPAN: &str = env!("CARGO_BIN_EXE_linkspan");
/// How long anything may take before the benchmark gives up.
const LIMIT: Duration = Duration::from_secs(120);
/// What 99 of 100 exports may take to be resolvable, and what each controller may take of memory.
const GOAL_MS: f64 = 1000.0;
const GOAL_MIB: f64 = 64.0;
/// Between two questions for a name.
const PAUSE: Duration = Duration::from_millis(5);

/// Time from export to name, with two API servers and two controllers.
#[derive(Debug, Parser)]
struct Options {
    /// Services that are exported.
    #[arg(long, default_value_t = 1000)]
    exports: usize,
    /// Endpoints of each.
    #[arg(long, default_value_t = 20)]
    endpoints: usize,
    /// Exports per second. Each is some twenty writes to the two API servers, which have to share the machine.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    println!("{} exports of {} endpoints, {} each second", options.exports, options.endpoints, options.rate);
    let broker = Side::start("a", "10.43.0.0/16", "10.42.0.0/16").await?;
    let other = Side::start("b", "10.53.0.0/16", "10.52.0.0/16").await?;
    broker.api.kubectl(["apply", "-k", &deploy("broker")])?.done()?;
    for side in [&broker, &other] {
        side.join(&broker)?;
    }
    for (side, sees) in [(&broker, "b"), (&other, "a")] {
        side.wait_for_member(sees).await?;
    }
    let names = other.run(&["dns", "--cluster-id", "b", "--address", "127.0.0.1", "--listen-port", "5399"])?;
    prepare(&broker.client, &options).await?;
    println!("the clusters are joined, and the services are there");

    let mut times = export(&broker.client, &options).await?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let figures = json!({
        "exports": options.exports,
        "endpoints": options.exports * options.endpoints,
        "p50_ms": round(at(0.5)),
        "p99_ms": round(at(0.99)),
        "max_ms": round(at(1.0)),
        "exporting_controller_mib": round(broker.rss()?),
        "importing_controller_mib": round(other.rss()?),
        "dns_mib": round(rss(&names)?),
    });
    save(&figures)?;
    let goals = [("p99_ms", GOAL_MS), ("exporting_controller_mib", GOAL_MIB), ("importing_controller_mib", GOAL_MIB)];
    for (key, goal) in goals {
        ensure!(figures[key].as_f64().is_some_and(|figure| figure < goal), "{key} is not under {goal}");
    }
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn save(figures: &serde_json::Value) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder).context("failed to make the folder for results")?;
    std::fs::write(folder.join("control.json"), format!("{figures:#}\n")).context("failed to write the result")?;
    let pairs = figures.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    println!("RESULT {}", pairs.collect::<Vec<_>>().join(" "));
    Ok(())
}

/// One cluster: its API server and its controller, which ends first.
struct Side {
    id: &'static str,
    controller: Running,
    api: ApiServer,
    client: Client,
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Side {
    async fn start(id: &'static str, services: &str, pods: &str) -> Result<Self> {
        let api = ApiServer::options().service_cidrs(services).start()?;
        let kubeconfig = Kubeconfig::from_yaml(api.kubeconfig()).context("failed to read a kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        for base in ["crds", "member"] {
            api.kubectl(["apply", "-k", &deploy(base)])?.done()?;
        }
        let mut command = Command::new(LINKSPAN);
        command.args(["controller", "--cluster-id", id, "--name", id]).env("LINKSPAN_POD_CIDRS", pods);
        let controller = spawn(command, &api)?;
        Ok(Self { id, controller, api, client: Client::try_from(config)? })
    }

    fn run(&self, args: &[&str]) -> Result<Running> {
        let mut command = Command::new(LINKSPAN);
        command.args(args);
        spawn(command, &self.api)
    }

    fn join(&self, broker: &Self) -> Result<()> {
        let kubeconfig = |side: &Self| side.api.kubeconfig_path().display().to_string();
        let create = ["token", "create", self.id, "--server", &broker.api.url(), "--kubeconfig"].map(str::to_owned);
        let token = Run::new(LINKSPAN, create.into_iter().chain([kubeconfig(broker)])).stdout()?;
        let join = ["join", "--wait", "0", "--kubeconfig"].map(str::to_owned);
        Run::new(LINKSPAN, join.into_iter().chain([kubeconfig(self)])).input(&token).done()
    }

    async fn wait_for_member(&self, other: &str) -> Result<()> {
        let members: Api<Member> = Api::namespaced(self.client.clone(), controller::api::names::SYSTEM_NAMESPACE);
        let start = Instant::now();
        while members.get_opt(other).await?.is_none() {
            if start.elapsed() > LIMIT {
                bail!("{} has not heard of {other}", self.id);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
        namespaces.create(&PostParams::default(), &namespace).await.context("failed to make the namespace")?;
        Ok(())
    }

    fn rss(&self) -> Result<f64> {
        rss(&self.controller)
    }
}

fn spawn(mut command: Command, api: &ApiServer) -> Result<Running> {
    command.env("KUBECONFIG", api.kubeconfig_path()).env("LINKSPAN_LOG", "warn").stdout(Stdio::null());
    Ok(Running(command.spawn().context("failed to start linkspan")?))
}

/// Resident memory in MiB.
fn rss(process: &Running) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has ended")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")?;
    Ok(kib / 1024.0)
}

fn deploy(base: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(base).display().to_string()
}

fn service(number: usize) -> String {
    format!("service-{number}")
}

/// Makes services and their endpoints, unexported.
async fn prepare(client: &Client, options: &Options) -> Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let make = async |number: usize| -> Result<()> {
        let name = service(number);
        let object = json!({
            "metadata": { "name": name }, "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        });
        services.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        let first = u32::from(Ipv4Addr::new(10, 42, 0, 0)) + u32::try_from(number * options.endpoints)?;
        let endpoint = |index: usize| json!({ "addresses": [Ipv4Addr::from(first + index as u32).to_string()] });
        let object = json!({
            "metadata": { "name": format!("{name}-x"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": (1..=options.endpoints).map(endpoint).collect::<Vec<_>>(),
        });
        slices.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    };
    stream::iter((0..options.exports).map(make)).buffer_unordered(16).try_collect().await
}

/// Exports all, each at its time, and tells after how many milliseconds each was resolvable.
async fn export(client: &Client, options: &Options) -> Result<Vec<f64>> {
    let exports: Api<ServiceExport> = Api::namespaced(client.clone(), NAMESPACE);
    let start = tokio::time::Instant::now();
    let waiting = AtomicU32::new(0);
    let one = async |number: usize| -> Result<f64> {
        tokio::time::sleep_until(start + Duration::from_secs_f64(number as f64 / options.rate)).await;
        let name = service(number);
        let object = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        let from = Instant::now();
        exports.create(&PostParams::default(), &object).await?;
        waiting.fetch_add(1, Ordering::Relaxed);
        resolved(&name, &waiting).await?;
        waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(from.elapsed().as_secs_f64() * 1e3)
    };
    stream::iter((0..options.exports).map(one)).buffer_unordered(options.exports).try_collect().await
}

/// Asks every 5 ms until there is an address; less often where many wait, so that asking is not what takes the time.
async fn resolved(name: &str, waiting: &AtomicU32) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect((Ipv4Addr::LOCALHOST, DNS_PORT)).await?;
    let mut question = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // one question (RFC 1035, section 4.1.1)
    for label in [name, NAMESPACE, "svc", "clusterset", "local", ""] {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 1, 0, 1]); // A, IN
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        let mut answer = [0; 512];
        // Before the name server has started, the kernel refuses.
        let asked = async {
            socket.send(&question).await?;
            socket.recv(&mut answer).await
        };
        let length = tokio::time::timeout(Duration::from_secs(1), asked).await;
        if matches!(length, Ok(Ok(12..))) && answer[3] & 15 == 0 && answer[7] > 0 {
            return Ok(());
        }
        tokio::time::sleep(PAUSE.max(PAUSE / 10 * waiting.load(Ordering::Relaxed))).await;
    }
    bail!("{name} was not resolvable after {} s", LIMIT.as_secs())
}
