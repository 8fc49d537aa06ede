//! What a token of the controller may write of cluster DNS, by the roles and policies of `deploy/member`: what
//! `controller::coredns` plans, and nothing else.

use controller::coredns::{Action, Custom, Observed, plan};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::ApiServer;

use super::support::{client, installed, pod, until};

/// As kubeadm lays it out, shortened.
const KUBEADM: &str = ".:53 {\n    errors\n    forward . /etc/resolv.conf\n}\n";
/// As K3s does.
const K3S: &str =
    ".:53 {\n    errors\n    import /etc/coredns/custom/*.override\n}\nimport /etc/coredns/custom/*.server\n";
/// Servers of whoever has stolen the token.
const EVIL: &str = "evil.example:53 {\n    forward . 10.9.9.9\n}\n";

/// The ConfigMaps of cluster DNS, as somebody may write them.
struct Dns(Api<ConfigMap>);

impl Dns {
    fn of(client: &Client) -> Self {
        Self(Api::namespaced(client.clone(), "kube-system"))
    }

    async fn make(&self, name: &str, data: Value) {
        let map = serde_json::from_value(json!({ "metadata": { "name": name }, "data": data })).unwrap();
        self.0.create(&PostParams::default(), &map).await.unwrap();
    }

    /// Replaces a key of `coredns`, in the way in which the controller does it.
    async fn replace(&self, key: &str, text: &str, dry_run: bool) -> kube::Result<ConfigMap> {
        let mut map = self.0.get("coredns").await?;
        map.data.get_or_insert_default().insert(key.to_owned(), text.to_owned());
        self.0.replace("coredns", &PostParams { dry_run, ..PostParams::default() }, &map).await
    }

    /// Writes fields of `coredns-custom`, in the way in which the controller does it.
    async fn apply(&self, fields: Value) -> kube::Result<ConfigMap> {
        let mut map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "coredns-custom" } });
        map.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.0.patch("coredns-custom", &PatchParams::apply("linkspan").force(), &Patch::Apply(map)).await
    }

    async fn clear(&self) -> kube::Result<ConfigMap> {
        let none = Patch::Merge(json!({ "data": { "linkspan.server": null, "linkspan.override": null } }));
        self.0.patch("coredns-custom", &PatchParams::default(), &none).await
    }
}

/// An API server with those two ConfigMaps of a cluster, and who may write them: an administrator, and the thief.
async fn cluster_dns(corefile: &str) -> (ApiServer, Dns, Dns) {
    let server = installed().await;
    let (admin, thief) = (client(server.kubeconfig()).await, pod(&server, "linkspan-controller", "a").await);
    let (admin, thief) = (Dns::of(&admin), Dns::of(&thief));
    admin.make("coredns", json!({ "Corefile": corefile, "NodeHosts": "10.0.0.1 a" })).await;
    until("policies are in force", async || {
        let error = thief.replace("NodeHosts", "", true).await.err()?;
        error.to_string().contains("keys of its own only").then_some(())
    })
    .await;
    (server, admin, thief)
}

/// What the controller writes when names are to be forwarded, or are not any more.
fn planned(corefile: &str, forward: bool) -> Action {
    let forward_to = if forward { vec!["10.43.0.9".parse().unwrap(), "fd43::9".parse().unwrap()] } else { Vec::new() };
    let custom = Some(Custom::default()).filter(|_| forward);
    let mut actions = plan(&Observed { corefile: Some(corefile.to_owned()), custom, forward_to }).unwrap();
    assert_eq!(actions.len(), 1, "{actions:?}");
    actions.remove(0)
}

fn refused(result: kube::Result<ConfigMap>, why: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_token_of_the_controller_changes_no_other_name_in_the_corefile() {
    let (_server, admin, thief) = cluster_dns(KUBEADM).await;
    let Action::ReplaceCorefile(ours) = planned(KUBEADM, true) else { panic!("no Corefile") };
    thief.replace("Corefile", &ours, false).await.unwrap();
    let moved = ours.replace("10.43.0.9", "10.43.0.10");
    thief.replace("Corefile", &moved, false).await.unwrap();

    refused(thief.replace("NodeHosts", "10.9.9.9 a", false).await, "keys of its own only");
    refused(thief.replace("other", "", false).await, "keys of its own only");
    let region = "# linkspan begin: x\n";
    for text in [
        moved.replace("/etc/resolv.conf", "10.9.9.9"),
        format!("{EVIL}{moved}"),
        format!("{region}{EVIL}# linkspan end\n{moved}"),
        moved.replacen("# linkspan end\n", &format!("{EVIL}# linkspan end\n"), 1),
        moved.replacen("    errors\n", "    errors\n}\nevil.example {\n", 1),
        moved.replace("svc[.]clusterset[.]local[.][^.]", "."),
        moved.replace("rcode NXDOMAIN", "answer \"{{ .Name }} 60 IN A 10.9.9.9\""),
        moved.replace("clusterset.local:53", "clusterset.local:53 .:53"),
    ] {
        assert_ne!(text, moved);
        refused(thief.replace("Corefile", &text, false).await, "regions of its own in the Corefile only");
    }

    // Whoever else edits it does so as before, and keeps it when the cluster leaves.
    let edited = moved.replace("/etc/resolv.conf", "10.0.0.53");
    admin.replace("Corefile", &edited, false).await.unwrap();
    let Action::ReplaceCorefile(bare) = planned(&edited, false) else { panic!("no Corefile") };
    assert_eq!(bare, KUBEADM.replace("/etc/resolv.conf", "10.0.0.53"));
    thief.replace("Corefile", &bare, false).await.unwrap();

    // Where servers are imported, search lists alone are ended there.
    let Action::ReplaceCorefile(both) = planned(&bare, true) else { panic!("no Corefile") };
    let searches = &both[both.find(".:53 {").unwrap()..];
    assert_eq!(searches.matches("# linkspan begin").count(), 1);
    thief.replace("Corefile", searches, false).await.unwrap();
    thief.replace("Corefile", &bare, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_token_of_the_controller_forwards_clusterset_local_alone_by_coredns_custom() {
    let (_server, admin, thief) = cluster_dns(K3S).await;
    let Action::ApplyCustom { data: ours, .. } = planned(K3S, true) else { panic!("no keys") };
    let labels = json!({ "name": "coredns-custom", "labels": { "app.kubernetes.io/managed-by": "linkspan.dev" } });
    thief.apply(json!({ "metadata": labels, "data": ours })).await.unwrap();
    thief.0.delete("coredns-custom", &DeleteParams::default()).await.unwrap();
    admin.make("coredns-custom", json!({ "corp.server": "corp.example:53 {\n}\n" })).await;
    thief.apply(json!({ "data": ours })).await.unwrap();

    let with = |key: &str, value: &str| {
        let mut data = json!(ours);
        data[key] = json!(value);
        json!({ "data": data })
    };
    refused(thief.apply(with("corp.server", EVIL)).await, "keys of its own only");
    refused(thief.apply(with("evil.server", EVIL)).await, "keys of its own only");
    refused(
        thief.apply(json!({ "data": ours, "binaryData": { "evil.server": "Cg==" } })).await,
        "keys of its own only",
    );
    let deleted = thief.0.delete("coredns-custom", &DeleteParams::default()).await;
    refused(deleted.map(|_| ConfigMap::default()), "keys of its own only");
    let server = &ours["linkspan.server"];
    for (key, text) in [
        ("linkspan.server", format!("{server}{EVIL}")),
        ("linkspan.server", server.replace("    errors\n", "    import /x\n")),
        ("linkspan.override", "forward . 10.9.9.9\n".to_owned()),
        ("linkspan.override", ours["linkspan.override"].replace("svc[.]clusterset[.]local[.]", "")),
    ] {
        refused(thief.apply(with(key, &text)).await, "forward clusterset.local and end search lists only");
    }
    thief.clear().await.unwrap();
    let left = admin.0.get("coredns-custom").await.unwrap().data.unwrap();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["corp.server"]);
}
