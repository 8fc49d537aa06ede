//! What becomes of each command of the documentation.

use Fate::{Name, Never, Run};
use Test::{Helm, LabUp, Pack, Plugin, Servers, Site, ThreeJoin, ThreeLeave, ThreeUse, ThreeVerify};
use Test::{TwoBench, TwoJoin, TwoUse, TwoVerify};

/// A command of the documentation.
#[derive(Debug)]
pub struct Documented {
    /// As pages have it.
    pub text: &'static str,
    fate: Fate,
    /// Whether it waits for clusters: with `--wait`, so long as a busy machine may need.
    pub is_patient: bool,
}

#[derive(Debug)]
enum Fate {
    /// Run by a test: the line, which differs in names, paths, limits and tries at most, and a part of what it says.
    Run(Test, &'static str, &'static str),
    /// No command but the name of one, which the program must know.
    Name,
    /// Run by no test, for this reason.
    Never(&'static str),
}

/// The tests that run them. Commands of one run in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Programs are put where the README puts them.
    Plugin,
    /// API servers without nodes: broker, paris and berlin.
    Servers,
    /// An API server that Helm installs into.
    Helm,
    /// A host without Kubernetes.
    Site,
    /// The lab.
    LabUp,
    /// The image of whole clusters.
    Pack,
    /// Two whole clusters are joined.
    TwoJoin,
    /// They are joined and export services.
    TwoUse,
    TwoVerify,
    TwoBench,
    /// Three whole clusters with the same prefixes, of which paris and berlin are joined.
    ThreeJoin,
    /// All three are joined.
    ThreeUse,
    ThreeVerify,
    /// They leave.
    ThreeLeave,
}

impl Test {
    /// Where its function is, and what it is called.
    pub fn function(self) -> (&'static str, &'static str) {
        match self {
            Plugin => ("tests/kubectl/documented.rs", "programs_are_installed_as_the_readme_says"),
            Servers => ("tests/kubectl/documented.rs", "documented_commands_do_on_api_servers_what_pages_say"),
            Helm => ("tests/kubectl/documented.rs", "charts_are_installed_and_upgraded_as_pages_say"),
            Site => ("tests/program/documented.rs", "documented_commands_run_on_a_host_without_kubernetes"),
            LabUp => ("tests/lab/command.rs", "a_lab_that_stays_up_is_shown_used_proven_and_removed"),
            Pack => ("tests/clusters/joined.rs", "pack"),
            TwoJoin => ("tests/clusters/documented.rs", "two_join"),
            TwoUse => ("tests/clusters/documented.rs", "two_are_used"),
            TwoVerify => ("tests/clusters/commands.rs", "verify_restarts_gateways"),
            TwoBench => ("tests/clusters/commands.rs", "bench_measures"),
            ThreeJoin => ("tests/clusters/documented.rs", "three_join"),
            ThreeUse => ("tests/clusters/documented.rs", "three_are_used"),
            ThreeVerify => ("tests/clusters/commands.rs", "verify_proves_it"),
            ThreeLeave => ("tests/clusters/documented.rs", "three_leave"),
        }
    }
}

impl Documented {
    /// What is run, and a part of what it says.
    pub fn run(&self) -> Option<(&'static str, &'static str)> {
        match self.fate {
            Run(_, line, says) => Some((line, says)),
            Name | Never(_) => None,
        }
    }

    /// The test that runs it.
    pub fn test(&self) -> Option<Test> {
        match self.fate {
            Run(test, ..) => Some(test),
            Name | Never(_) => None,
        }
    }

    pub fn is_name(&self) -> bool {
        matches!(self.fate, Name)
    }

    /// Why it is not run.
    pub fn reason(&self) -> Option<&'static str> {
        match self.fate {
            Never(reason) => Some(reason),
            Run(..) | Name => None,
        }
    }
}

/// The commands that a test runs, each once, however often pages have it in other words.
pub fn of(test: Test) -> Vec<&'static Documented> {
    let mut lines = std::collections::BTreeSet::new();
    let of_test = LIST.iter().filter(|command| command.test() == Some(test));
    of_test.filter(|command| command.run().is_some_and(|(line, _)| lines.insert(line))).collect()
}

/// The one command that a test runs.
pub fn only(test: Test) -> &'static Documented {
    let [only] = of(test)[..] else { panic!("{test:?} has other than one command") };
    only
}

/// Commands of a product that is left behind: `docs/migrate-from-submariner.md`.
pub const FOREIGN: &str = "subctl ";

/// As it stands.
const fn run(test: Test, text: &'static str, says: &'static str) -> Documented {
    run_as(test, text, text, says)
}

/// With other names, paths, limits or tries.
const fn run_as(test: Test, text: &'static str, line: &'static str, says: &'static str) -> Documented {
    Documented { text, fate: Run(test, line, says), is_patient: false }
}

/// The same, with patience.
const fn patient(command: Documented) -> Documented {
    Documented { is_patient: true, ..command }
}

const fn name(text: &'static str) -> Documented {
    Documented { text, fate: Name, is_patient: false }
}

const fn never(text: &'static str, reason: &'static str) -> Documented {
    Documented { text, fate: Never(reason), is_patient: false }
}

const MAKE: &str = "it builds a release, or runs all tests, or measures for minutes; that make knows it is tested";
const BENCH: &str = "it measures for minutes; `cargo test` builds it";
const K3S: &str = "K3s is not to be had as a Go module; whole clusters import the same file by containerd's ctr";
const ELSEWHERE: &str = "it needs another machine";
const LOST: &str = "it is for who has lost a broker: controller/tests/broker/leaving.rs takes one away";
const KUBECTL: &str = "the name of one of kubectl's commands";

/// All of them.
#[rustfmt::skip]
pub const LIST: &[Documented] = &[
    // What make and cargo are asked for.
    never("make lab", MAKE),
    never("make test", MAKE),
    never("make bench", MAKE),
    never("make bench-quick", MAKE),
    never("make soak", MAKE),
    never("make bench-control", MAKE),
    never("make bench-dns", MAKE),
    never("make cluster", MAKE),
    never("make cluster-down", MAKE),
    never("make faults", MAKE),
    never("make fuzz TIME=600", MAKE),
    never("make images", MAKE),
    never("make reproducible", MAKE),
    never("make lint", MAKE),
    never("make skew PREVIOUS=COMMIT", MAKE),
    never("make released", MAKE),
    never("make documented", MAKE),
    never("make build && PATH=$PWD/target/release:$PATH", MAKE),
    never("cargo bench --bench throughput -- --only linkspan-2-lanes,linkspan-translated", BENCH),
    never("cargo bench -p linkspan-controller --bench services", BENCH),
    never("tests/run.sh two_clusters", "it is the test of whole clusters"),

    // What cannot be here.
    never("deploy/image/pack.sh linkspan.tar && sudo k3s ctr images import linkspan.tar", K3S),
    never("sudo k3s ctr images import linkspan.tar", K3S),
    never("ssh -L 8900:127.0.0.1:8900 there", ELSEWHERE),
    never("ssh root@192.168.7.11 cat /etc/rancher/k3s/k3s.yaml | sed 's/: default$/: paris/; s/127\\.0\\.0\\.1/192.168.7.11/' > paris.yaml", ELSEWHERE),
    never("ssh root@192.168.8.11 cat /etc/rancher/k3s/k3s.yaml | sed 's/: default$/: berlin/; s/127\\.0\\.0\\.1/192.168.8.11/' > berlin.yaml", ELSEWHERE),
    never("docker load -i linkspan.tar && docker push registry.example/linkspan:0.1.0", "it needs a container engine and a registry"),
    never("git tag v0.1.0 && git push https://git.example/linkspan v0.1.0", "it needs a Git server that takes a release"),
    never("linkspan leave --without-broker", LOST),
    never("kubectl linkspan leave --without-broker", LOST),
    never("kubectl describe", KUBECTL),
    never("kubectl drain", KUBECTL),
    never("kubectl rollout status", KUBECTL),
    never("helm uninstall", "the name of one of Helm's commands"),

    // Names.
    name("kubectl linkspan"),
    name("kubectl linkspan diagnose"),
    name("linkspan call"),
    name("linkspan diagnose"),
    name("linkspan echo"),
    name("linkspan genkey"),
    name("linkspan join"),
    name("linkspan member remove"),
    name("linkspan pubkey"),
    name("linkspan run"),
    name("linkspan token create"),
    name("linkspan trace"),
    name("linkspan verify"),
    name("linkspan why"),

    run_as(Plugin, "make build && sudo install -m 755 target/release/linkspan /usr/local/bin/linkspan",
        "install -m 755 $PROGRAM $LOCAL/bin/linkspan", ""),
    run_as(Plugin, "sudo ln -sf linkspan /usr/local/bin/kubectl-linkspan && sudo ln -sf linkspan /usr/local/bin/kubectl_complete-linkspan",
        "ln -sf linkspan $LOCAL/bin/kubectl-linkspan && ln -sf linkspan $LOCAL/bin/kubectl_complete-linkspan", ""),

    run_as(Plugin, "sudo linkspan man /usr/local/share/man/man1", "linkspan man $LOCAL/share/man/man1", ""),
    run_as(Plugin, "sudo linkspan man /usr/local/share/man/man1 && man linkspan-join",
        "linkspan man $LOCAL/share/man/man1 && MANPATH=$LOCAL/share/man man linkspan-join", "linkspan-join(1)"),
    run_as(Plugin, "linkspan man ~/.local/share/man/man1 && man kubectl-linkspan-why",
        "linkspan man $LOCAL/share/man/man1 && MANPATH=$LOCAL/share/man man kubectl-linkspan-why", "kubectl-linkspan-why(1)"),
    run(Plugin, "source <(linkspan completion bash)", ""),
    run_as(Plugin, "linkspan completion zsh > \"${fpath[1]}/_linkspan\"", "linkspan completion zsh > _linkspan && head -n 1 _linkspan", "#compdef linkspan"),
    run_as(Plugin, "linkspan completion fish > ~/.config/fish/completions/linkspan.fish",
        "mkdir -p ~/.config/fish/completions && linkspan completion fish > ~/.config/fish/completions/linkspan.fish", ""),
    run(Plugin, "linkspan version", "linkspan 0.1.0"),
    run(Plugin, "kubectl linkspan version --client", "linkspan 0.1.0"),
    run_as(Plugin, "linkspan reference cli > docs/reference/cli.md", "linkspan reference cli > cli.md && head -n 1 cli.md", "# "),

    // API servers without nodes. The current context is paris.
    run(Servers, "linkspan crds | kubectl apply --server-side -f -", "members.linkspan.dev serverside-applied"),
    run_as(Servers, "linkspan deploy-broker --dry-run -o yaml > broker.yaml",
        "linkspan deploy-broker --dry-run -o yaml > broker.yaml && grep -c kind: broker.yaml", ""),
    run(Servers, "kubectl linkspan deploy-broker --context broker", "--broker-context broker`"),
    run(Servers, "kubectl linkspan deploy-broker", "--broker-context paris`"),
    run_as(Servers, "kubectl linkspan join ID --context A --broker-context B",
        "kubectl linkspan join paris --broker-context broker --server $BROKER_URL --wait 0", "paris joins https://127.0.0.1:"),
    run(Servers, "kubectl patch configmap linkspan -n linkspan-system --type merge -p '{\"data\":{\"LINKSPAN_PORT\":\"4500\"}}'",
        "configmap/linkspan patched"),
    run(Servers, "kubectl rollout restart -n linkspan-system daemonset/linkspan-node deployment/linkspan-controller deployment/linkspan-dns",
        "deployment.apps/linkspan-dns restarted"),
    run_as(Servers, "kubectl linkspan token create paris --context broker --server https://broker.example:6443 | vault kv put linkspan/paris token=-",
        "kubectl linkspan token create rome --context broker --server https://broker.example:6443 | cat", "lsj1."),
    run_as(Servers, "linkspan member remove berlin --context paris --dry-run",
        "kubectl linkspan member remove rome --context broker --dry-run", "rome would be removed from the clusterset"),
    run_as(Servers, "kubectl linkspan member remove CLUSTER --context BROKER",
        "kubectl linkspan member remove rome --context broker", "rome is removed from the clusterset"),
    run_as(Servers, "linkspan member remove berlin --context paris",
        "kubectl linkspan member remove rome --context broker", "rome is removed from the clusterset"),
    run(Servers, "kubectl label clusters.fleet.cattle.io -n fleet-default c-m-x7k2 linkspan.dev/cluster-id=paris linkspan.dev/ring=early",
        "c-m-x7k2 labeled"),
    run(Servers, "kubectl get members -n linkspan-broker --context broker", "oslo"),
    run_as(Servers, "kubectl linkspan export NAME --context A", "kubectl linkspan export web", "exported default/web"),
    run_as(Servers, "kubectl linkspan unexport NAME --context A", "kubectl linkspan unexport web", "default/web"),
    run(Servers, "linkspan export web", "exported default/web"),
    run(Servers, "linkspan unexport web", "default/web"),
    run_as(Servers, "linkspan export web --context berlin",
        "linkspan export web --namespace shop --context paris,broker", "broker: exported shop/web"),
    run_as(Servers, "linkspan export web --namespace shop --context paris,berlin",
        "linkspan export web --namespace shop --context paris,broker", "broker: exported shop/web"),
    run(Servers, "linkspan unexport web --namespace shop --all-contexts", "broker: "),
    run_as(Servers, "kubectl linkspan ui --all-contexts",
        "says http: kubectl linkspan ui --all-contexts --no-open", "http://127.0.0.1:"),
    run_as(Servers, "kubectl linkspan ui --no-open --port 8900",
        "says http: kubectl linkspan ui --no-open --port $PORT", "http://127.0.0.1:"),
    run_as(Servers, "linkspan ui --all-contexts",
        "says http: kubectl linkspan ui --all-contexts --no-open", "http://127.0.0.1:"),
    run_as(Servers, "linkspan ui --no-open --port 8900",
        "says http: kubectl linkspan ui --no-open --port $PORT", "http://127.0.0.1:"),
    run_as(Servers, "linkspan ui --context paris,berlin --every 30 --no-nodes",
        "says http: linkspan ui --context paris,broker --every 30 --no-nodes --no-open", "http://127.0.0.1:"),

    run(Helm, "helm upgrade --install linkspan-crds deploy/helm/linkspan-crds -n linkspan-system --create-namespace", "STATUS: deployed"),
    run(Helm, "helm upgrade --install linkspan deploy/helm/linkspan -n linkspan-system --set cluster.id=paris", "STATUS: deployed"),
    run(Helm, "helm upgrade --install linkspan-broker deploy/helm/linkspan-broker -n linkspan-broker --create-namespace", "STATUS: deployed"),
    run_as(Helm, "linkspan join --token-file paris.token",
        "linkspan token create paris --server $URL > paris.token && linkspan join --token-file paris.token --wait 0", "paris joins"),
    run(Helm, "kubectl annotate lease -n linkspan-system linkspan-gateway linkspan-controller helm.sh/resource-policy=keep",
        "lease.coordination.k8s.io/linkspan-controller annotated"),
    run(Helm, "helm upgrade linkspan-crds deploy/helm/linkspan-crds -n linkspan-system && helm upgrade linkspan deploy/helm/linkspan -n linkspan-system",
        "REVISION: 2"),
    run(Helm, "kubectl apply -k deploy/observability", "prometheusrule.monitoring.coreos.com/linkspan created"),

    // A host without Kubernetes; its site file is the README's.
    run(Site, "linkspan genkey private.key", "="),
    run(Site, "umask 077", ""),
    run(Site, "linkspan genkey psk.key", ""),
    run(Site, "linkspan genkey | tee private.key | linkspan pubkey", "="),
    run(Site, "linkspan pubkey private.key", "="),
    run(Site, "linkspan pubkey < private.key", "="),
    run(Site, "linkspan schema > site.schema.json", ""),
    run(Site, "linkspan schema", "\"podCIDRs\""),
    run_as(Site, "linkspan check --config site.yaml", "linkspan check --config site.yaml --node paris-gw", "Node      paris/paris-gw (gateway)"),
    run(Site, "linkspan check site.yaml --node paris-w1", "Node      paris/paris-w1 (worker)"),
    run(Site, "linkspan check site.yaml --file-only", ""),
    run_as(Site, "linkspan run --config site.yaml", "echo $$ > pid && exec linkspan run --config site.yaml --node paris-gw", ""),
    run_as(Site, "linkspan run --config /etc/linkspan/site.yaml", "echo $$ > pid && exec linkspan run --config site.yaml --node paris-gw", ""),
    run(Site, "linkspan status", "berlin"),
    run(Site, "linkspan status -o wide", "steering"),
    run(Site, "linkspan inspect", "linkspan0"),
    run_as(Site, "linkspan status -o wide --watch", "says steering linkspan status -o wide --watch", "steering"),
    run(Site, "linkspan status -o json | jq '.tunnel.peers[] | select(.state != \"up\") | .name'", "berlin"),
    run(Site, "linkspan status --config site.yaml", "berlin"),
    run(Site, "linkspan inspect --to 10.52.1.9 --ping 10.52.1.9", "10.52.1.9"),
    run(Site, "linkspan inspect --to 10.42.0.7 --from 10.52.1.9 --by linkspan0", "10.42.0.7"),
    run(Site, "linkspan inspect --tcp 10.43.0.9:80 --service 10.43.0.9:80", "10.43.0.9:80"),
    run(Site, "linkspan inspect --resolve web.default.svc.clusterset.local@10.43.0.10", "web.default.svc.clusterset.local"),
    run_as(Site, "linkspan count --from 10.42.1.7 --to 10.52.0.9",
        "linkspan count --from 10.42.1.7 --to 10.52.0.9 --config site.yaml --node paris-gw --seconds 1", "DIRECTION"),
    run_as(Site, "linkspan count --from 10.42.1.7 --to 10.52.0.9 --seconds 60 -o json",
        "linkspan count --from 10.42.1.7 --to 10.52.0.9 --config site.yaml --node paris-gw --seconds 1 -o json", "counts"),
    run_as(Site, "linkspan count --from 10.42.1.7 --to 10.52.0.9 --config site.yaml",
        "linkspan count --from 10.42.1.7 --to 10.52.0.9 --config site.yaml --node paris-gw --seconds 1", "DIRECTION"),
    run(Site, "linkspan translate 10.42.0.5", "Virtual  100.64.0.5"),
    run(Site, "linkspan translate 100.64.0.5", "Native   10.42.0.5"),
    run(Site, "linkspan translate 10.42.0.5 --config site.yaml", "Virtual  100.64.0.5"),
    run(Site, "sysctl net.ipv4.ip_forward=1", "net.ipv4.ip_forward = 1"),
    // After it has ended.
    run(Site, "linkspan uninstall", "removed "),
    run_as(Site, "systemctl stop linkspan && linkspan uninstall --config /etc/linkspan/site.yaml",
        "linkspan uninstall --config site.yaml", "nothing of Linkspan was there"),
    run_as(Site, "linkspan run --config site.yaml --node paris-w1 --log debug",
        "stays linkspan run --config site.yaml --node paris-w1 --log debug", ""),
    run_as(Site, "NODE_NAME=paris-gw linkspan run --config site.yaml --log-format json",
        "NODE_NAME=paris-gw stays linkspan run --config site.yaml --log-format json", ""),
    // Roles of pods, whose API server does not answer here; whole clusters run them as pods.
    run_as(Site, "LINKSPAN_CLUSTER_ID=paris NODE_NAME=paris-1 linkspan node",
        "LINKSPAN_CLUSTER_ID=paris NODE_NAME=paris-1 stays linkspan node", ""),
    run_as(Site, "linkspan node --cluster-id paris --node paris-1 --http-port 9810",
        "stays linkspan node --cluster-id paris --node paris-1 --http-port 9810", ""),
    run_as(Site, "LINKSPAN_CLUSTER_ID=paris linkspan controller",
        "LINKSPAN_CLUSTER_ID=paris stays linkspan controller", ""),
    run_as(Site, "linkspan controller --cluster-id paris --http-port 9810",
        "stays linkspan controller --cluster-id paris --http-port 9810", ""),
    run_as(Site, "linkspan dns --listen-port 5353", "stays linkspan dns --listen-port 5353", ""),
    run_as(Site, "linkspan dns --address 127.0.0.1 --listen-port 5353 &",
        "stays linkspan dns --address 127.0.0.1 --listen-port 5353", ""),
    run_as(Site, "linkspan echo --port 8080", "stays linkspan echo --port 8080", ""),
    run_as(Site, "linkspan call who web.shop.svc.clusterset.local:8080 --transport udp",
        "linkspan echo --port 8080 & until linkspan call who 127.0.0.1:8080 --transport udp; do sleep 0.1; done; kill $!", "127.0.0.1"),
    run_as(Site, "linkspan call send 10.52.1.9:8080 --seconds 10",
        "linkspan echo --port 8081 & until linkspan call send 127.0.0.1:8081 --seconds 1; do sleep 0.1; done; kill $!", "{"),

    // The lab, under a prefix of its own.
    run_as(LabUp, "linkspan lab up", "linkspan lab up --prefix lstu-", ""),
    run_as(LabUp, "linkspan lab status", "linkspan lab status --prefix lstu-", "paris/gw"),
    run_as(LabUp, "linkspan lab exec paris/pod-1 -- curl -s http://web-berlin.default.svc.clusterset.local",
        "linkspan lab exec --prefix lstu- paris/pod-1 -- curl -s --retry 9 --retry-all-errors http://web-berlin.default.svc.clusterset.local",
        "berlin/pod-"),
    run_as(LabUp, "linkspan lab exec paris/pod-3 -- dig +short db.default.svc.clusterset.local",
        "linkspan lab exec --prefix lstu- paris/pod-3 -- dig +short db.default.svc.clusterset.local", "10.52.1.3"),
    run_as(LabUp, "linkspan lab exec paris/pod-4 -- ping -c 3 10.52.1.3",
        "linkspan lab exec --prefix lstu- paris/pod-4 -- ping -c 3 -w 60 10.52.1.3", "3 received"),
    run_as(LabUp, "linkspan lab exec paris/gw -- linkspan status -o wide --socket linkspan.sock",
        "linkspan lab exec --prefix lstu- paris/gw -- linkspan status -o wide --socket linkspan.sock", "berlin"),
    run_as(LabUp, "linkspan lab exec paris/gw -- nft list table inet linkspan",
        "linkspan lab exec --prefix lstu- paris/gw -- nft list table inet linkspan", "table inet linkspan"),
    // It is proven too how soon traffic is back, for which a busy machine takes longer.
    run_as(LabUp, "linkspan lab prove",
        "for i in 1 2 3; do linkspan lab prove --prefix lstu- -o json > proof && break; done || code=$?; cat proof; exit ${code:-0}",
        "\"passed\":true"),
    run_as(LabUp, "linkspan lab down", "linkspan lab down --prefix lstu-", "The lab is removed."),

    run_as(Pack, "deploy/image/pack.sh linkspan.tar", "cd $TREE && deploy/image/pack.sh $IMAGE_FILE $PROGRAM", ""),
    run_as(Pack, "IMAGE=registry.example/linkspan:0.1.0 deploy/image/pack.sh linkspan.tar", "cd $TREE && deploy/image/pack.sh $IMAGE_FILE $PROGRAM", ""),

    // Two whole clusters, paris and berlin, of which none is joined yet. The current context is paris.
    run(TwoJoin, "kubectl linkspan deploy-broker --context paris", "--broker-context paris`"),
    run_as(TwoJoin, "kubectl linkspan deploy-broker --context B", "kubectl linkspan deploy-broker --context paris", "--broker-context paris`"),
    patient(run(TwoJoin, "kubectl linkspan join paris --context paris --broker-context paris", "paris has joined")),
    run_as(TwoJoin, "linkspan deploy-broker --context paris", "kubectl linkspan deploy-broker --context paris", "--broker-context paris`"),
    patient(run_as(TwoJoin, "linkspan join paris --context paris --broker-context paris",
        "kubectl linkspan join paris --context paris --broker-context paris", "paris has joined")),
    run_as(TwoJoin, "linkspan token create berlin > berlin.token", "linkspan token create berlin > berlin.token && cat berlin.token", "lsj1."),
    run_as(TwoJoin, "kubectl linkspan token create berlin --context paris --server https://192.168.7.11:6443 > berlin.token",
        "kubectl linkspan token create berlin --context paris --server $PARIS_URL > berlin.token && cat berlin.token", "lsj1."),
    run_as(TwoJoin, "kubectl apply -k deploy/crds && kubectl apply -k deploy/member",
        "kubectl config use-context berlin && kubectl apply -k deploy/crds && kubectl apply -k deploy/member && kubectl config use-context paris",
        "daemonset.apps/linkspan-node created"),
    patient(run(TwoJoin, "kubectl linkspan join --context berlin --token-file berlin.token", "berlin has joined")),
    patient(run_as(TwoJoin, "linkspan join --token-file berlin.token",
        "kubectl linkspan join --context berlin --token-file berlin.token", "berlin has joined")),

    patient(run_as(TwoUse, "kubectl linkspan join ID --context A --broker-context B --upgrade",
        "kubectl linkspan join paris --context paris --broker-context paris --upgrade", "paris has joined")),
    patient(run(TwoUse, "kubectl linkspan join paris --context paris --broker-context paris --upgrade", "paris has joined")),
    run(TwoUse, "kubectl get members -n linkspan-system", "berlin"),
    run(TwoUse, "kubectl get members -n linkspan-system -o wide", "10.43.0.0/16"),
    run_as(TwoUse, "kubectl get member CLUSTER -n linkspan-system -o yaml", "kubectl get member paris -n linkspan-system -o yaml", "BrokerReachable"),
    run(TwoUse, "kubectl get members -n linkspan-system -o yaml", "podCIDRs"),
    run(TwoUse, "kubectl get gatewaynodes -n linkspan-system -o yaml", "handshakeAgeSeconds"),
    run(TwoUse, "kubectl get servicerecords -n linkspan-system", "web"),
    run_as(TwoUse, "kubectl get serviceexports -A", "kubectl get serviceexports -A --context berlin", "web"),
    run_as(TwoUse, "kubectl get serviceexports -A -o wide", "kubectl get serviceexports -A -o wide --context berlin", "web"),
    run(TwoUse, "kubectl get pods -n linkspan-system -o wide", "linkspan-node"),
    run(TwoUse, "kubectl get pods -n linkspan-system -l app.kubernetes.io/component=dns", "linkspan-dns"),
    run(TwoUse, "kubectl get lease linkspan-gateway -n linkspan-system -o yaml", "renewTime"),
    run(TwoUse, "kubectl get lease linkspan-controller -n linkspan-system -o yaml", "renewTime"),
    // No node has the label.
    run(TwoUse, "kubectl get nodes -l linkspan.dev/gateway=true", ""),
    run(TwoUse, "kubectl describe deployment linkspan-controller -n linkspan-system", "NewReplicaSet"),
    run(TwoUse, "kubectl logs -n linkspan-system -l app.kubernetes.io/component=node --since=1h", "INFO"),
    run(TwoUse, "kubectl get events -A --field-selector reportingComponent=linkspan-controller", "member/"),
    run(TwoUse, "kubectl get events -n linkspan-system --field-selector involvedObject.kind=Member", "Published"),
    run(TwoUse, "kubectl get events -n linkspan-system --field-selector reason=PeerDown", ""),
    run_as(TwoUse, "kubectl get --raw /api/v1/namespaces/linkspan-system/pods/POD:9810/proxy/readyz",
        "kubectl get --raw /api/v1/namespaces/linkspan-system/pods/$POD:9810/proxy/readyz", "ready"),
    // Of whichever node: it need not be the gateway that has the peers.
    run(TwoUse, "kubectl exec -n linkspan-system ds/linkspan-node -- linkspan status -o wide", "paris/paris-"),
    run_as(TwoUse, "kubectl exec -n linkspan-system POD -- linkspan status -o wide",
        "kubectl exec -n linkspan-system $POD -- linkspan status -o wide", "berlin"),
    run_as(TwoUse, "kubectl exec -n linkspan-system POD -- linkspan status",
        "kubectl exec -n linkspan-system $POD -- linkspan status", "berlin"),
    run_as(TwoUse, "kubectl exec -n linkspan-system linkspan-node-x7k2p -- linkspan inspect -o json",
        "kubectl exec -n linkspan-system $POD -- linkspan inspect -o json", "linkspan0"),
    run_as(TwoUse, "kubectl linkspan token create ID --context B", "kubectl linkspan token create oslo", "lsj1."),
    run_as(TwoUse, "linkspan token create CLUSTER", "linkspan token create oslo", "lsj1."),
    run_as(TwoUse, "linkspan token create paris > paris.token", "linkspan token create oslo", "lsj1."),
    run(TwoUse, "linkspan token list", "oslo"),
    run_as(TwoUse, "linkspan token revoke paris --dry-run", "linkspan token revoke oslo --dry-run", "oslo would be revoked"),
    run_as(TwoUse, "linkspan token revoke paris", "linkspan token revoke oslo", "oslo"),
    run(TwoUse, "linkspan version --context paris,berlin", "berlin"),
    run(TwoUse, "linkspan show", "CONNECTIONS"),
    run_as(TwoUse, "linkspan show connections --all-contexts --watch",
        "says berlin linkspan show connections --all-contexts --watch", "berlin"),
    run_as(TwoUse, "linkspan show exports -n shop", "linkspan show exports -n default --context berlin", "web"),
    // All are ready, and nothing is wrong with any.
    run(TwoUse, "linkspan show members -o json | jq -r '.[] | select(.ready | not) | .cluster,.message'", ""),
    run_as(TwoUse, "kubectl linkspan diagnose -o name --all-contexts | grep ^paris/",
        "kubectl linkspan diagnose -o name --all-contexts > names && ! grep ^paris/ names", ""),
    run(TwoUse, "kubectl linkspan show members", "this cluster"),
    run_as(TwoUse, "kubectl linkspan show all --context A", "kubectl linkspan show all", "CONNECTIONS"),
    run_as(TwoUse, "kubectl linkspan show connections --context A", "kubectl linkspan show connections --context paris", "berlin"),
    run_as(TwoUse, "kubectl linkspan show gateways --context A", "kubectl linkspan show gateways --context paris", "paris-"),
    run_as(TwoUse, "kubectl linkspan show members --context A -o yaml", "kubectl linkspan show members --context paris -o yaml", "cluster: berlin"),
    run_as(TwoUse, "kubectl linkspan show networks --context A", "kubectl linkspan show networks --context paris", "10.43.0.0/16"),
    run_as(TwoUse, "kubectl linkspan show versions --context A", "kubectl linkspan show versions --context paris", "linkspan-node"),
    run(TwoUse, "kubectl linkspan version", "0.1.0"),
    run_as(TwoUse, "export KUBECONFIG=$PWD/paris.yaml:$PWD/berlin.yaml", "export KUBECONFIG=$PARIS:$BERLIN && kubectl config get-contexts -o name", "berlin"),
    run(TwoUse, "kubectl --context paris get nodes && kubectl --context berlin get nodes", "berlin-1"),
    // As if: another address would cut the tunnel.
    run_as(TwoUse, "kubectl --context berlin annotate node berlin-1 linkspan.dev/endpoints=203.0.113.9:51820",
        "kubectl --context berlin annotate node berlin-1 linkspan.dev/endpoints=203.0.113.9:51820 --dry-run=server", "annotated"),
    run(TwoUse, "kubectl linkspan show members --context paris", "berlin"),
    run(TwoUse, "kubectl linkspan show all --context paris,berlin", "CONNECTIONS"),
    run(TwoUse, "kubectl linkspan diagnose --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose all --context A,B", "kubectl linkspan diagnose --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose broker --context A", "kubectl linkspan diagnose broker --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose cni --context A", "kubectl linkspan diagnose cni --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose connections --context A,B", "kubectl linkspan diagnose connections --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose connections firewall --context A,B", "kubectl linkspan diagnose connections firewall --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose firewall --context A", "kubectl linkspan diagnose firewall --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose kube-proxy --context A", "kubectl linkspan diagnose kube-proxy --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose nodes overlap --context A", "kubectl linkspan diagnose nodes overlap --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose services dns --context A,B", "kubectl linkspan diagnose services dns --context paris,berlin", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan diagnose version --context A", "kubectl linkspan diagnose version --context paris,berlin", " 0 failed"),
    run(TwoUse, "kubectl linkspan diagnose firewall mtu --context paris,berlin", " 0 failed"),
    // Nothing has failed.
    run_as(TwoUse, "kubectl linkspan diagnose -o json --context paris | jq '.[] | select(.state == \"failed\")'",
        "kubectl linkspan diagnose -o json --context paris,berlin | jq '.[] | select(.state == \"failed\")'", ""),
    run(TwoUse, "kubectl linkspan diagnose -o wide --all-contexts", " 0 failed"),
    run_as(TwoUse, "kubectl linkspan why paris/default/client '->' web.default.svc.clusterset.local --context paris,berlin",
        "kubectl linkspan why paris/default/on-paris-2 '->' web.default.svc.clusterset.local --context paris,berlin", "Nothing is broken."),
    run_as(TwoUse, "kubectl linkspan why paris/default/client '->' web.default.svc.clusterset.local --all-contexts",
        "kubectl linkspan why paris/default/on-paris-2 '->' web.default.svc.clusterset.local --context paris,berlin", "Nothing is broken."),
    run_as(TwoUse, "kubectl linkspan why client to web --context paris,berlin",
        "kubectl linkspan why on-paris-2 to web --context paris,berlin", "Nothing is broken."),
    run_as(TwoUse, "kubectl linkspan why deployment/shop to berlin/pod/db-0:5432 -n shop --context paris,berlin",
        "kubectl linkspan why pod/on-paris-2 to berlin/pod/on-berlin-2:80 -n default --context paris,berlin", "Nothing is broken."),
    run_as(TwoUse, "kubectl linkspan why node/paris-1 to 10.52.1.9:80 --context paris,berlin -o json",
        "kubectl linkspan why node/paris-1 to $BERLIN_POD:80 --context paris,berlin -o json", "\"ok\""),
    run_as(TwoUse, "kubectl linkspan trace client to web -n shop --context paris,berlin -- curl -sS -m 5 http://web.shop.svc.clusterset.local",
        "kubectl linkspan trace on-paris-2 to web -n default --context paris,berlin -- curl -sS -m 60 http://web.default.svc.clusterset.local",
        "Nothing is lost."),
    run_as(TwoUse, "kubectl linkspan trace node/paris-2 to berlin/pod/db-0 -n shop --context paris,berlin",
        "kubectl linkspan trace node/paris-2 to berlin/pod/on-berlin-2 -n default --context paris,berlin", "20 answered"),
    run_as(TwoUse, "kubectl linkspan trace client to web --context paris,berlin -- curl -sS http://web.default.svc.clusterset.local",
        "kubectl linkspan trace on-paris-2 to web -n default --context paris,berlin -- curl -sS -m 60 http://web.default.svc.clusterset.local",
        "Nothing is lost."),
    run_as(TwoUse, "kubectl linkspan trace client to 10.52.1.9:5432 --seconds 30 --context paris,berlin -o json",
        "kubectl exec on-paris-2 -- sh -c \"for i in 1 2 3 4 5 6 7 8; do curl -sS http://$BERLIN_POD/; sleep 1; done\" > asked &\nkubectl linkspan trace on-paris-2 to $BERLIN_POD:80 --seconds 4 --context paris,berlin -o json && wait $!", "spots"),
    run(TwoUse, "kubectl linkspan gather --context paris,berlin", ".tar.gz has "),
    run_as(TwoUse, "kubectl linkspan gather --context A,B", "kubectl linkspan gather --context paris,berlin", ".tar.gz has "),
    run_as(TwoUse, "linkspan gather --context paris,berlin", "kubectl linkspan gather --context paris,berlin", ".tar.gz has "),
    run_as(TwoUse, "linkspan gather --all-contexts --file case-17.tar.gz",
        "rm -f case-17.tar.gz; linkspan gather --all-contexts --file case-17.tar.gz && tar -tzf case-17.tar.gz", "summary.txt"),
    run(TwoUse, "kubectl linkspan verify --context paris,berlin", "berlin"),
    run_as(TwoUse, "kubectl linkspan verify --context A,B", "kubectl linkspan verify --context paris,berlin", "berlin"),
    run_as(TwoUse, "linkspan verify --context paris,berlin", "kubectl linkspan verify --context paris,berlin", "berlin"),

    run_as(TwoVerify, "kubectl linkspan verify --failover --context A,B", "kubectl linkspan verify --failover --all-contexts -o json", "failover"),
    run_as(TwoVerify, "linkspan verify --all-contexts --failover -o json", "kubectl linkspan verify --failover --all-contexts -o json", "failover"),
    run_as(TwoBench, "linkspan bench --context paris,berlin", "kubectl linkspan bench --context paris,berlin --seconds 2 -o json", "tcpMbps"),
    run_as(TwoBench, "linkspan bench --context paris,berlin --seconds 30 -o json", "kubectl linkspan bench --context paris,berlin --seconds 2 -o json", "tcpMbps"),
    run_as(TwoBench, "kubectl linkspan bench --context paris,berlin", "kubectl linkspan bench --context paris,berlin --seconds 2 -o json", "tcpMbps"),
    run_as(TwoBench, "kubectl linkspan bench --context A,B", "kubectl linkspan bench --context paris,berlin --seconds 2 -o json", "tcpMbps"),

    // Three whole clusters with the same prefixes, of which none is joined yet. The current context is paris.
    run(ThreeJoin, "kubectl linkspan deploy-broker --kubeconfig $PARIS", "--broker-context paris`"),
    patient(run(ThreeJoin, "kubectl linkspan join paris --kubeconfig $PARIS --broker-kubeconfig $PARIS", "paris has joined")),
    patient(run(ThreeJoin, "kubectl linkspan join berlin --kubeconfig $BERLIN --broker-kubeconfig $PARIS", "berlin has joined")),
    patient(run(ThreeJoin, "kubectl linkspan join berlin --context berlin --broker-context paris", "berlin has joined")),
    patient(run_as(ThreeJoin, "linkspan join berlin --context berlin --broker-context paris",
        "kubectl linkspan join berlin --context berlin --broker-context paris", "berlin has joined")),
    patient(run_as(ThreeJoin, "linkspan join berlin --kubeconfig berlin.yaml --broker-kubeconfig paris.yaml",
        "kubectl linkspan join berlin --kubeconfig $BERLIN --broker-kubeconfig $PARIS", "berlin has joined")),
    run(ThreeJoin, "kubectl -n kube-system rollout restart deployment coredns", "restarted"),

    run_as(ThreeUse, "kubectl --kubeconfig $BERLIN create deployment web --image=traefik/whoami --port=80",
        "kubectl --kubeconfig $BERLIN create deployment web --image=$WHOAMI --port=80", "created"),
    run(ThreeUse, "kubectl --kubeconfig $BERLIN expose deployment web --port=80", "exposed"),
    run(ThreeUse, "kubectl linkspan export web -n default --kubeconfig $BERLIN", "exported default/web"),
    run_as(ThreeUse, "kubectl --kubeconfig $PARIS run ask -it --rm --restart=Never --image=curlimages/curl -- curl -s http://web.default.svc.clusterset.local",
        "until kubectl --kubeconfig $PARIS run ask -it --rm --restart=Never --image=$TOOLS --command -- curl -s http://web.default.svc.clusterset.local | grep on-berlin-; do sleep 1; done",
        "on-berlin-"),
    run_as(ThreeUse, "kubectl --context berlin create deployment web --image=traefik/whoami --port=80",
        "kubectl --context berlin create deployment page --image=$WHOAMI --port=80", "created"),
    run_as(ThreeUse, "kubectl --context berlin expose deployment web --port=80", "kubectl --context berlin expose deployment page --port=80", "exposed"),
    run_as(ThreeUse, "kubectl linkspan export web -n default --context berlin", "kubectl linkspan export page -n default --context berlin", "exported default/page"),
    run_as(ThreeUse, "kubectl --context paris run ask -it --rm --restart=Never --image=curlimages/curl -- curl -s http://web.default.svc.clusterset.local",
        "until kubectl --context paris run ask -it --rm --restart=Never --image=$TOOLS --command -- curl -s http://page.default.svc.clusterset.local | grep 'I am page'; do sleep 1; done",
        "I am page"),
    run_as(ThreeUse, "kubectl linkspan translate 100.64.0.5", "kubectl linkspan translate $VIRTUAL", "berlin"),
    run(ThreeUse, "kubectl linkspan translate 10.42.0.5 --context paris", "10.42.0.5"),
    run_as(ThreeUse, "kubectl linkspan translate 100.64.0.5 --context paris,berlin -o json",
        "kubectl linkspan translate $VIRTUAL --context paris,berlin -o json", "\"native\""),

    run_as(ThreeVerify, "kubectl linkspan verify --kubeconfig $PARIS --kubeconfig $BERLIN",
        "kubectl linkspan verify --kubeconfig $PARIS --kubeconfig $BERLIN --kubeconfig $ROME -o json", "proof"),
    run_as(ThreeVerify, "kubectl linkspan verify --all-contexts",
        "kubectl linkspan verify --kubeconfig $PARIS --kubeconfig $BERLIN --kubeconfig $ROME -o json", "proof"),

    run(ThreeLeave, "linkspan leave --context berlin --dry-run", "would remove"),
    patient(run_as(ThreeLeave, "linkspan leave",
        "kubectl config use-context rome && linkspan leave", "this cluster has left the clusterset")),
    run(ThreeLeave, "kubectl delete -k deploy/member", "daemonset.apps \"linkspan-node\" deleted"),
    run(ThreeLeave, "kubectl delete -k deploy/crds", "\"members.linkspan.dev\" deleted"),
    patient(run(ThreeLeave, "kubectl linkspan uninstall --context berlin", "daemonset.apps/linkspan-node deleted")),
    patient(run_as(ThreeLeave, "kubectl linkspan uninstall", "kubectl linkspan uninstall --context berlin", "")),
    patient(run_as(ThreeLeave, "kubectl linkspan uninstall --context A", "kubectl linkspan uninstall --context berlin", "")),
    patient(run(ThreeLeave, "linkspan uninstall --cluster --context berlin --crds", "members.linkspan.dev deleted")),
    patient(run(ThreeLeave, "linkspan uninstall --cluster --broker --crds --context paris", "namespace/linkspan-broker deleted")),
];
