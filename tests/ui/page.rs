//! The page in Chromium. Pictures stay in target/tmp, to be looked at.

use std::path::{Path, PathBuf};

use linkspan::kubectl::diagnose::{Check, Finding, State};
use linkspan::kubectl::ui::data::{Cluster, End, Gateway, Link, Shown, Sight};
use serde_json::json;

use crate::browser::Browser;
use crate::{Served, three};

/// A desktop's window.
const WINDOW: (u32, u32) = (1300, 800);
/// A blank page has one colour; letters with smooth edges have many.
const COLOURS: u64 = 50;

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ui-{name}.png"))
}

fn open(served: &Served, hash: &str, window: (u32, u32)) -> Browser {
    let mut browser = Browser::open(&format!("{}#{hash}", served.url), window);
    browser.wait("!!document.querySelector('#view .node, #view table')");
    browser
}

/// What is focused: its label, or else its text.
const FOCUSED: &str = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent";

#[test]
fn three_clusters_are_drawn_with_their_states_in_shape_text_and_colour() {
    let served = Served::new(&three());
    let mut browser = open(&served, "", WINDOW);
    let nodes = browser.value("[...document.querySelectorAll('.node')].map((node) => node.getAttribute('aria-label'))");
    assert_eq!(
        nodes,
        json!([
            "Cluster berlin: failed, gateway berlin-1 (+1), tunnels: 0 of 1 up, 2 exports, the active gateway berlin-1 does not work",
            "Cluster paris: ok, gateway paris-1, tunnels: 1 of 2 up, 1 export",
            "Cluster rome: unknown, known from others, gateway rome-1, tunnels: 1 of 1 up, 0 exports, no context of it was named",
        ])
    );
    let signs = browser.value("[...document.querySelectorAll('.node .sign')].map((sign) => sign.textContent)");
    assert_eq!(signs, json!(["✕", "✓", "?"]));
    let words = browser.value("[...document.querySelectorAll('.tie .word')].map((word) => word.textContent)");
    assert_eq!(words, json!(["✕ down", "✓ up · 21 ms · 1.2 % loss"]));
    let dashes = browser.value("[...document.querySelectorAll('#view > div > svg .drawn')].map((line) => getComputedStyle(line).strokeDasharray)");
    assert_eq!(dashes, json!(["2px, 6px", "none"]));
    assert_eq!(
        browser.text("document.getElementById('summary').textContent"),
        "3 clusters (1 failed, 1 unknown); 2 tunnels (1 failed); 3 exports (1 warning)"
    );
    assert!(browser.picture(&picture("three-light")) > COLOURS);
    let light = browser.text("getComputedStyle(document.body).backgroundColor");
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.call("Emulation.setEmulatedMedia", dark);
    assert_eq!(light, "rgb(255, 255, 255)");
    assert_eq!(browser.text("getComputedStyle(document.body).backgroundColor"), "rgb(18, 21, 26)");
    browser.click(".node.failed");
    assert!(browser.picture(&picture("three-dark")) > COLOURS);
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
fn a_click_tells_why_something_is_red() {
    let served = Served::new(&three());
    let mut browser = open(&served, "", WINDOW);
    browser.click(".node.failed .card");
    let told = browser.text("document.getElementById('details').innerText");
    for part in [
        "Cluster berlin",
        "GatewayPodDead",
        "the active gateway berlin-1 does not work",
        "CrashLoopBackOff",
        "--previous",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    browser.click(".tie.failed .word");
    let told = browser.text("document.getElementById('details').innerText");
    for part in ["Tunnel berlin – paris", "GatewayPodDead", "no answer for 40 s", "198.51.100.7:51820"] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    // What comes from clusters is text, whatever is in it.
    browser.click("#tab-exports");
    browser.click("tr:first-child .choose");
    let told = browser.text("document.getElementById('details').innerText");
    assert!(told.contains("Service shop/db") && told.contains("<b>the ports differ</b>"), "{told}");
    assert_eq!(browser.value("document.querySelectorAll('b').length"), 0);
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
fn the_keyboard_reaches_everything() {
    let served = Served::new(&three());
    let mut browser = open(&served, "", WINDOW);
    let mut stops = Vec::new();
    for _ in 0..4 {
        browser.press("Tab");
        stops.push(browser.text(&format!("document.activeElement.id || ({FOCUSED})")));
    }
    assert_eq!(stops[..3], ["tab-map", "filter", "bad"]);
    assert!(stops[3].starts_with("Cluster berlin"), "{stops:?}");
    browser.press("ArrowRight");
    assert!(browser.text(FOCUSED).starts_with("Cluster paris"));
    browser.press("ArrowDown");
    assert!(browser.text(FOCUSED).starts_with("Tunnel berlin – paris: down"), "{}", browser.text(FOCUSED));
    browser.press("Enter");
    assert!(browser.text("document.getElementById('details').innerText").contains("GatewayPodDead"));
    assert!(browser.text(FOCUSED).starts_with("Tunnel berlin – paris"), "focus stays where it was");
    browser.press("Escape");
    assert_eq!(browser.value("document.getElementById('details').hidden"), true);
    browser.value("document.getElementById('tab-map').focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.text(FOCUSED), "Clusters");
    for _ in 0..3 {
        browser.press("Tab");
    }
    assert_eq!(browser.text(FOCUSED), "berlin");
    browser.press("Enter");
    assert!(browser.text("document.getElementById('details').innerText").contains("Cluster berlin"));
}

#[test]
fn everything_that_takes_focus_has_a_name_for_screen_readers() {
    let served = Served::new(&three());
    let mut browser = open(&served, "chosen=cluster%2Fberlin", WINDOW);
    browser.call("Accessibility.enable", json!({}));
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let takes = |node: &&serde_json::Value| {
        let mut properties = node["properties"].as_array().into_iter().flatten();
        properties.any(|property| property["name"] == "focusable" && property["value"]["value"] == true)
    };
    let named: Vec<(String, String)> = nodes
        .filter(takes)
        .map(|node| {
            (
                node["role"]["value"].as_str().unwrap().to_owned(),
                node["name"]["value"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    assert!(named.iter().all(|(_, name)| !name.is_empty()), "{named:#?}");
    // Five views, filter and box, three clusters and two tunnels, and in the details: close, a tunnel, two exports.
    assert_eq!(named.iter().filter(|(role, _)| role != "RootWebArea").count(), 5 + 2 + 5 + 4, "{named:#?}");
}

#[test]
fn news_come_without_taking_focus_or_choice_away_and_silence_is_told() {
    let mut shown = three();
    let served = Served::new(&shown);
    let mut browser = open(&served, "chosen=cluster%2Fberlin", WINDOW);
    browser.value("document.querySelector('.node.failed').focus()");
    shown.round = 4;
    let berlin = &mut shown.topology.clusters[0];
    (berlin.state, berlin.note, berlin.findings) = (State::Ok, String::new(), Vec::new());
    served.show(&shown);
    browser.wait("document.getElementById('summary').textContent.startsWith('3 clusters (1 unknown)')");
    assert!(browser.text(FOCUSED).starts_with("Cluster berlin: ok"), "{}", browser.text(FOCUSED));
    assert!(browser.text("document.getElementById('details').innerText").contains("ok Cluster berlin"));
    browser.wait("document.getElementById('lost').hidden");
    drop(served);
    browser.wait("!document.getElementById('lost').hidden");
    assert!(browser.text("document.getElementById('lost').textContent").contains("does not answer"));
    assert_eq!(browser.value("document.querySelectorAll('.node').length"), 3, "what was seen stays");
}

// === Many clusters ===

/// 200 clusters, each with a tunnel to each other. The gateway of edge-017 is dead, and one further tunnel has a warning.
fn many() -> Shown {
    const COUNT: usize = 200;
    let name = |at: usize| format!("edge-{at:03}");
    let finding = Finding {
        check: Check::Nodes,
        cluster: name(17),
        object: "node/edge-017-1".to_owned(),
        state: State::Failed,
        reason: "GatewayPodDead".to_owned(),
        evidence: "pod linkspan-node-x is Pending".to_owned(),
        cause: "the active gateway edge-017-1 does not work".to_owned(),
        fix: "see its log".to_owned(),
    };
    let narrow = Finding {
        check: Check::Mtu,
        cluster: name(3),
        object: "cluster/edge-150".to_owned(),
        state: State::Warning,
        reason: "MtuBlackHole".to_owned(),
        ..finding.clone()
    };
    let cluster = |at: usize| Cluster {
        name: name(at),
        context: Some(name(at)),
        sight: Sight::Asked,
        state: if at == 17 { State::Failed } else { State::Ok },
        note: String::new(),
        kubernetes: "v1.34.4".to_owned(),
        version: "0.1.0".to_owned(),
        nodes: Some(3),
        exports: 0,
        imports: Some(0),
        pod_cidrs: vec![format!("10.{at}.0.0/16")],
        gateways: vec![Gateway {
            node: format!("{}-1", name(at)),
            active: true,
            state: State::Ok,
            endpoints: Vec::new(),
            lanes: 2,
        }],
        findings: if at == 17 { vec![0] } else { Vec::new() },
    };
    let link = |a: usize, b: usize| {
        let (state, word, findings) = match (a, b) {
            (17, _) | (_, 17) => (State::Failed, "down", vec![0]),
            (3, 150) => (State::Warning, "up", vec![1]),
            _ => (State::Ok, "up", Vec::new()),
        };
        let end = End {
            cluster: name(a),
            far: name(b),
            state: word.to_owned(),
            rtt_milliseconds: Some(20.0),
            mtu: 1420,
            ..End::default()
        };
        Link { a: name(a), b: name(b), state, word: word.to_owned(), ends: vec![end], findings }
    };
    let mut shown = Shown { round: 1, ..Shown::default() };
    shown.topology.clusters = (0..COUNT).map(cluster).collect();
    shown.topology.links = (0..COUNT).flat_map(|a| (a + 1..COUNT).map(move |b| link(a, b))).collect();
    shown.topology.findings = vec![finding, narrow];
    shown
}

#[test]
fn of_200_clusters_all_are_drawn_and_of_their_tunnels_those_that_tell_something() {
    let served = Served::new(&many());
    let mut browser = open(&served, "", (1300, 1300));
    assert_eq!(browser.value("document.querySelectorAll('.node').length"), 200);
    assert_eq!(
        browser.text("document.getElementById('summary').textContent"),
        "200 clusters (1 failed); 19,900 tunnels (199 failed, 1 warning); 0 exports"
    );
    let ties = "[...document.querySelectorAll('#view .tie[data-choose]')].map((tie) => decodeURIComponent(tie.dataset.choose))";
    assert_eq!(browser.value(ties), json!(["link/edge-003/edge-150"]));
    let keys = browser.text("document.getElementById('keys').textContent");
    assert!(keys.contains("19,899 tunnels are not drawn"), "{keys}");
    // No name is cut off at the edge.
    let outside = "(() => { const all = document.querySelector('svg.map').getBoundingClientRect(); \
         return [...document.querySelectorAll('svg.map text')].map((text) => text.getBoundingClientRect()) \
           .filter((box) => box.left < all.left || box.right > all.right || box.top < all.top || box.bottom > all.bottom).length; })()";
    assert_eq!(browser.value(outside), 0);
    assert!(browser.picture(&picture("many")) > COLOURS);
    browser.click(".node.failed .mark");
    assert_eq!(browser.value("document.querySelectorAll('#view .tie[data-choose]').length"), 200);
    assert!(browser.text("document.getElementById('details').innerText").contains("GatewayPodDead"));
    assert!(browser.picture(&picture("many-chosen")) > COLOURS);
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
fn tables_of_200_clusters_are_filtered_and_grow_on_demand() {
    let served = Served::new(&many());
    let mut browser = open(&served, "view=links&bad=1", WINDOW);
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length"), 200);
    assert_eq!(
        browser.text("document.querySelector('tbody tr').innerText.split('\\t').slice(0, 2).join(' ')"),
        "edge-000 – edge-017 ✕ down"
    );
    assert!(browser.picture(&picture("many-table")) > COLOURS);
    browser.click("#bad");
    assert!(browser.text("document.getElementById('view').innerText").contains("200 of 19,900 rows are shown"));
    browser.value("document.querySelector('[data-more]').click()");
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length"), 700);
    browser.value("document.getElementById('filter').focus()");
    browser.call("Input.insertText", json!({ "text": "edge-150" }));
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length"), 199);
    browser.click("#tab-map");
    assert_eq!(browser.value("document.querySelectorAll('.node').length"), 1);
    browser.click("#tab-clusters");
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length"), 1);
    assert_eq!(browser.errors, Vec::<String>::new());
}
