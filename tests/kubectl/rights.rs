//! `why` and `trace` for somebody who may view one namespace.

use testbed::ApiServer;

use crate::show::JOINED;
use crate::{PATIENCE, apply_soon, kubeconfig, kubectl, linkspan};

/// A pod as kubelet would tell of it.
fn running(server: &ApiServer, name: &str, address: &str) {
    let pod = format!(
        "{{ apiVersion: v1, kind: Pod, metadata: {{ name: {name}, namespace: default }}, \
         spec: {{ containers: [{{ name: c, image: tools }}] }} }}"
    );
    // It needs the service account of its namespace, which kube-controller-manager makes.
    apply_soon(server, &pod);
    let status = format!(
        "{{\"status\":{{\"phase\":\"Running\",\"podIP\":\"{address}\",\"podIPs\":[{{\"ip\":\"{address}\"}}]}}}}"
    );
    kubectl(server, &["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status]);
}

#[test]
fn who_views_one_namespace_is_told_what_is_there_and_what_could_not_be_seen() {
    running(&JOINED, "client", "10.42.0.6");
    kubectl(&JOINED, &["create", "rolebinding", "uma-views", "-n", "default", "--clusterrole=view", "--user=uma"]);
    let file = kubeconfig(&[("home", &JOINED.kubeconfig_of("uma", None).unwrap())]).display().to_string();
    // kube-controller-manager adds up roles some time after they were written.
    let code = testbed::wait::retry(PATIENCE, || {
        let ended = linkspan(["why", "client", "10.52.0.7:80", "--kubeconfig", &file]);
        for told in [
            "✔ home  pod default/client: 10.42.0.6 on no node",
            "? home  address: whose 10.52.0.7 is could not be seen: missing permission: ",
            "Nothing that was seen is broken; what is marked with ? could not be seen.",
        ] {
            anyhow::ensure!(ended.out.contains(told), "{}{}", ended.out, ended.error);
        }
        Ok(ended.code)
    });
    assert_eq!(code.unwrap(), Some(3));

    let code = |arguments: &[&str]| {
        let ended = linkspan([arguments, &["--kubeconfig", &file]].concat());
        (ended.code, ended.error)
    };
    let (why, trace) = (code(&["why", "nobody", "client"]), code(&["trace", "nobody", "client"]));
    assert_eq!((why.0, trace.0), (Some(3), Some(2)));
    for said in [why.1, trace.1] {
        assert!(
            said.contains("nobody was not seen in namespace default of home: missing permission: list nodes"),
            "{said}"
        );
    }
    let (ended, said) = code(&["why", "pod/nobody", "client"]);
    assert_eq!((ended, said.as_str()), (Some(1), "linkspan: there is no pod nobody in namespace default of home\n"));
    let (ended, said) = code(&["why", "kube-system/pod/nobody", "client"]);
    assert_eq!(ended, Some(3), "{said}");
    assert!(said.contains("missing permission: list pods in the whole cluster"), "{said}");
    let (ended, said) = code(&["why", "paris/default/client", "client"]);
    assert_eq!(ended, Some(2), "the ID is not seen, so that this may be an end: {said}");
}
