//! How cluster DNS comes to forward `clusterset.local`: which text belongs into CoreDNS's ConfigMaps. Pure.
//!
//! Where CoreDNS imports `*.server` files, as on K3s, they come from ConfigMap `coredns-custom`, which upgrades leave
//! alone: two keys of it are ours. Elsewhere two marked regions in the Corefile of ConfigMap `coredns` are. Nothing
//! else is ever changed, and taking the regions out gives back what was there, byte for byte.
//!
//! Pods have `ndots:5` and search lists, so a resolver asks for `web.default.svc.clusterset.local.` with each domain of
//! the list behind it first. Those of the cluster's own zone end in CoreDNS; those of the host's domain would go to the
//! name servers of the site. A `template` answers all of them with NXDOMAIN. It asks for two labels before
//! `svc.clusterset.local`, which no name of a service or pod in the cluster's own zone can have.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Key of `coredns-custom` that becomes a server of its own.
pub const KEY_SERVER: &str = "linkspan.server";
/// Key of `coredns-custom` that becomes part of the server for everything.
pub const KEY_OVERRIDE: &str = "linkspan.override";

const BEGIN: &str = "# linkspan begin: kept by linkspan-controller, goes with it; edit outside of it";
const END: &str = "# linkspan end";
/// How the server of ours begins.
const SERVER: &str = "clusterset.local:53 {";

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// `Corefile` of ConfigMap `coredns`; none without one.
    pub corefile: Option<String>,
    /// ConfigMap `coredns-custom`; none without one.
    pub custom: Option<Custom>,
    /// Addresses of Service `linkspan-dns`; none while names shall not be forwarded.
    pub forward_to: Vec<IpAddr>,
}

/// ConfigMap `coredns-custom`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Custom {
    /// Its data.
    pub data: BTreeMap<String, String>,
    /// Whether Linkspan has made the object, and not only keys in it.
    pub made_by_us: bool,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Puts our keys into `coredns-custom`, and makes it if need be.
    ApplyCustom {
        /// Our keys, whole.
        data: BTreeMap<String, String>,
        /// Whether the object is ours.
        made_by_us: bool,
    },
    /// Takes our keys out of `coredns-custom`.
    ClearCustom,
    /// Removes `coredns-custom`, which we have made and nobody else uses.
    DeleteCustom,
    /// Replaces the Corefile of ConfigMap `coredns`.
    ReplaceCorefile(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApplyCustom { .. } => write!(f, "forward clusterset.local in ConfigMap coredns-custom"),
            Self::ClearCustom => write!(f, "stop forwarding clusterset.local in ConfigMap coredns-custom"),
            Self::DeleteCustom => write!(f, "delete ConfigMap coredns-custom"),
            Self::ReplaceCorefile(text) if text.contains(BEGIN) && !text.contains(&format!("{BEGIN}\n{SERVER}")) => {
                write!(f, "end search lists in the Corefile of ConfigMap coredns")
            }
            Self::ReplaceCorefile(text) if text.contains(BEGIN) => {
                write!(f, "forward clusterset.local in the Corefile of ConfigMap coredns")
            }
            Self::ReplaceCorefile(_) => write!(f, "stop forwarding clusterset.local in ConfigMap coredns"),
        }
    }
}

/// Why cluster DNS cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorefileError {
    /// Somebody has edited our region.
    #[error(
        "the Corefile of ConfigMap coredns has a line {BEGIN:?} without its line {END:?}: remove what is left of it"
    )]
    Torn,
    /// Not a CoreDNS that we know.
    #[error(
        "there is no ConfigMap coredns with a Corefile in kube-system: forward clusterset.local to Service linkspan-dns \
         in the DNS server that the cluster has"
    )]
    NoCorefile,
    /// A second server for the same zone would keep CoreDNS from reading its configuration, and from starting.
    #[error(
        "{place} has a server for clusterset.local already, and CoreDNS takes no second one: remove it, and Linkspan puts \
         its own there; Submariner's goes with `subctl uninstall`"
    )]
    Taken {
        /// Where it is.
        place: String,
        /// Takes out what is there of ours.
        removal: Vec<Action>,
    },
}

impl CorefileError {
    /// What is to be written all the same.
    pub fn removal(&self) -> &[Action] {
        match self {
            Self::Taken { removal, .. } => removal,
            Self::Torn | Self::NoCorefile => &[],
        }
    }
}

/// Decides. An empty plan means that all is as it should be.
///
/// # Errors
/// [`CorefileError`]; nothing but [`CorefileError::removal`] is to be written then.
pub fn plan(observed: &Observed) -> Result<Vec<Action>, CorefileError> {
    let wanted = !observed.forward_to.is_empty();
    let corefile = match (&observed.corefile, wanted) {
        (Some(corefile), _) => corefile.as_str(),
        (None, false) => "",
        (None, true) => return Err(CorefileError::NoCorefile),
    };
    let bare = without(corefile)?;
    let imports = Imports::of(&bare);
    if wanted && let Some(place) = taken(observed, &bare, imports) {
        let removal = plan(&Observed { forward_to: Vec::new(), ..observed.clone() })?;
        return Err(CorefileError::Taken { place, removal });
    }
    let mut actions = plan_custom(observed, wanted && imports.server, imports);
    let text = if wanted { with(&bare, imports, &observed.forward_to) } else { bare };
    if text != corefile {
        actions.push(Action::ReplaceCorefile(text));
    }
    Ok(actions)
}

/// Where somebody else's server for `clusterset.local` is. `bare` is the Corefile without our regions.
fn taken(observed: &Observed, bare: &str, imports: Imports) -> Option<String> {
    if has_server(bare) {
        return Some("the Corefile of ConfigMap coredns".to_owned());
    }
    let keys = observed.custom.iter().flat_map(|custom| &custom.data).filter(|_| imports.server);
    let mut servers = keys.filter(|(key, _)| key.ends_with(".server") && *key != KEY_SERVER);
    servers.find(|(_, text)| has_server(text)).map(|(key, _)| format!("key {key} of ConfigMap coredns-custom"))
}

fn plan_custom(observed: &Observed, wanted: bool, imports: Imports) -> Vec<Action> {
    let none = Custom::default();
    let custom = observed.custom.as_ref().unwrap_or(&none);
    let ours = |key: &str| key == KEY_SERVER || key == KEY_OVERRIDE;
    let held: BTreeMap<_, _> = custom.data.iter().filter(|(key, _)| ours(key)).map(owned).collect();
    if !wanted {
        return match (held.is_empty(), custom.made_by_us, held.len() == custom.data.len()) {
            (_, true, true) => vec![Action::DeleteCustom],
            (false, _, _) => vec![Action::ClearCustom],
            (true, _, _) => Vec::new(),
        };
    }
    let mut data = BTreeMap::from([(KEY_SERVER.to_owned(), server(&observed.forward_to))]);
    if imports.in_root {
        data.insert(KEY_OVERRIDE.to_owned(), search_lists(""));
    }
    if held == data {
        return Vec::new();
    }
    vec![Action::ApplyCustom { data, made_by_us: observed.custom.is_none() || custom.made_by_us }]
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// The server for `clusterset.local`.
fn server(forward_to: &[IpAddr]) -> String {
    let mut addresses: Vec<String> = forward_to.iter().map(IpAddr::to_string).collect();
    addresses.sort();
    // No cache beyond the answers' own few seconds, and fresh order for each client. The Service is the health check.
    format!(
        "{SERVER}\n    errors\n    cache 5\n    loadbalance\n    forward . {} {{\n        max_fails 0\n    }}\n}}\n",
        addresses.join(" ")
    )
}

/// Ends search lists.
fn search_lists(indent: &str) -> String {
    let lines = [
        "template ANY ANY {",
        r#"    match "(?i)^([^.]+[.]){2,}svc[.]clusterset[.]local[.][^.]""#,
        "    rcode NXDOMAIN",
        "    fallthrough",
        "}",
    ];
    lines.iter().map(|line| format!("{indent}{line}\n")).collect()
}

/// The Corefile with what it does not import of ours, in regions. `bare` has none.
fn with(bare: &str, imports: Imports, forward_to: &[IpAddr]) -> String {
    let mut text = String::new();
    if !imports.server {
        text.push_str(&format!("{BEGIN}\n{}{END}\n", server(forward_to)));
    }
    let root = Line::all(bare).find(|line| line.opens_root());
    let cut = root.map_or(0, |line| line.end);
    text.push_str(&bare[..cut]);
    // A file that ends within the opening line is no Corefile; it is left as it is.
    if cut > 0 && bare[..cut].ends_with('\n') && !(imports.server && imports.in_root) {
        text.push_str(&format!("    {BEGIN}\n{}    {END}\n", search_lists("    ")));
    }
    text.push_str(&bare[cut..]);
    text
}

/// Whether `text` has a server for `clusterset.local` at the port of DNS.
fn has_server(text: &str) -> bool {
    Line::all(text).flat_map(|line| line.outside()).any(is_ours_to_serve)
}

/// Whether one of the zones, separated by commas, that a server is for is `clusterset.local`.
fn is_ours_to_serve(zones: &str) -> bool {
    let is_it = |zone: &str| {
        let zone = zone.trim_matches('"').to_ascii_lowercase();
        let zone = zone.strip_prefix("dns://").unwrap_or(&zone);
        matches!(zone.strip_suffix(":53").unwrap_or(zone), "clusterset.local" | "clusterset.local.")
    };
    zones.split(',').any(is_it)
}

/// The Corefile without our regions.
fn without(corefile: &str) -> Result<String, CorefileError> {
    let mut bare = String::with_capacity(corefile.len());
    let mut inside = false;
    for line in corefile.split_inclusive('\n') {
        match line.trim() {
            BEGIN if inside => return Err(CorefileError::Torn),
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => bare.push_str(line),
        }
    }
    if inside { Err(CorefileError::Torn) } else { Ok(bare) }
}

/// Where a Corefile imports files of `coredns-custom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Imports {
    /// Servers of their own.
    server: bool,
    /// Parts of the server for everything.
    in_root: bool,
}

impl Imports {
    fn of(corefile: &str) -> Self {
        let mut imports = Self { server: false, in_root: false };
        let mut root = false;
        for line in Line::all(corefile) {
            root = if line.depth == 0 { line.opens_root() } else { root };
            if let ["import", files] = line.words.as_slice() {
                imports.server |= line.depth == 0 && files.ends_with("/*.server");
                imports.in_root |= line.depth == 1 && root && files.ends_with("/*.override");
            }
        }
        imports
    }
}

/// A line of a Corefile.
struct Line<'a> {
    words: Vec<&'a str>,
    /// Blocks that are open where it begins.
    depth: usize,
    /// Offset behind it.
    end: usize,
}

impl<'a> Line<'a> {
    fn all(text: &'a str) -> impl Iterator<Item = Self> {
        let (mut depth, mut end) = (0usize, 0);
        text.split_inclusive('\n').map(move |line| {
            end += line.len();
            let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
            let before = depth;
            // A brace opens or closes a block where it is a word of its own (caddyfile).
            depth += words.iter().filter(|word| **word == "{").count();
            depth = depth.saturating_sub(words.iter().filter(|word| **word == "}").count());
            Self { words, depth: before, end }
        })
    }

    /// Its words outside of all blocks: what servers are for, unless they import something.
    fn outside(self) -> impl Iterator<Item = &'a str> {
        let mut depth = self.depth;
        let is_import = depth == 0 && self.words.first() == Some(&"import");
        self.words.into_iter().filter(move |word| {
            match *word {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => return depth == 0 && !is_import,
            }
            false
        })
    }

    /// Whether it begins the server for everything.
    fn opens_root(&self) -> bool {
        let Some((last, zones)) = self.words.split_last() else { return false };
        let is_root = |zone: &&str| matches!(zone.trim_end_matches(','), "." | ".:53" | "dns://." | "dns://.:53");
        self.depth == 0 && *last == "{" && zones.iter().any(is_root)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As K3s lays it out, shortened.
    const K3S: &str = "\
.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    hosts /etc/coredns/NodeHosts {
      ttl 60
      reload 15s
      fallthrough
    }
    prometheus :9153
    cache 30
    loop
    reload
    loadbalance
    import /etc/coredns/custom/*.override
    forward . /etc/resolv.conf
}
import /etc/coredns/custom/*.server
";

    /// As kubeadm lays it out, shortened.
    const KUBEADM: &str = "\
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    reload
}
";

    fn observed(corefile: &str, custom: Option<Custom>) -> Observed {
        Observed { corefile: Some(corefile.to_owned()), custom, forward_to: vec!["10.43.0.77".parse().unwrap()] }
    }

    fn custom(entries: &[(&str, &str)], made_by_us: bool) -> Option<Custom> {
        let data = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Some(Custom { data, made_by_us })
    }

    #[test]
    fn on_k3s_two_keys_of_coredns_custom_are_ours() {
        let actions = plan(&observed(K3S, None)).unwrap();
        let [Action::ApplyCustom { data, made_by_us: true }] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(
            data[KEY_SERVER],
            "clusterset.local:53 {\n    errors\n    cache 5\n    loadbalance\n    forward . 10.43.0.77 {\n        max_fails 0\n    }\n}\n"
        );
        assert!(data[KEY_OVERRIDE].starts_with("template ANY ANY {\n"));
        assert_eq!(data.len(), 2);
        let made = Some(Custom { data: data.clone(), made_by_us: true });
        assert_eq!(plan(&observed(K3S, made)), Ok(Vec::new()));
    }

    #[test]
    fn keys_of_others_in_coredns_custom_stay() {
        let theirs = custom(&[("corp.server", "corp.example:53 {}")], false);
        let actions = plan(&observed(K3S, theirs.clone())).unwrap();
        let [Action::ApplyCustom { data, made_by_us: false }] = actions.as_slice() else { panic!("{actions:?}") };
        assert!(!data.contains_key("corp.server"), "only our own keys are written");
        let mut both = theirs.clone().unwrap();
        both.data.extend(data.clone());
        let leave = |custom| plan(&Observed { forward_to: Vec::new(), ..observed(K3S, custom) }).unwrap();
        assert_eq!(leave(Some(both)), [Action::ClearCustom]);
        assert_eq!(leave(theirs), []);
        assert_eq!(leave(custom(&[(KEY_SERVER, "x")], true)), [Action::DeleteCustom]);
        assert_eq!(leave(custom(&[(KEY_SERVER, "x"), ("a", "b")], true)), [Action::ClearCustom]);
        assert_eq!(leave(None), []);
    }

    #[test]
    fn elsewhere_the_corefile_gets_two_regions_that_come_out_again() {
        let actions = plan(&observed(KUBEADM, None)).unwrap();
        let [Action::ReplaceCorefile(text)] = actions.as_slice() else { panic!("{actions:?}") };
        let expected = format!(
            "{BEGIN}\nclusterset.local:53 {{\n    errors\n    cache 5\n    loadbalance\n    forward . 10.43.0.77 {{\n        max_fails 0\n    }}\n}}\n{END}\n\
             .:53 {{\n    {BEGIN}\n    template ANY ANY {{\n        match \"(?i)^([^.]+[.]){{2,}}svc[.]clusterset[.]local[.][^.]\"\n        rcode NXDOMAIN\n        fallthrough\n    }}\n    {END}\n    errors\n"
        );
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(plan(&observed(text, None)), Ok(Vec::new()));
        let leave = Observed { forward_to: Vec::new(), ..observed(text, None) };
        assert_eq!(plan(&leave), Ok(vec![Action::ReplaceCorefile(KUBEADM.to_owned())]));
    }

    #[test]
    fn a_new_address_of_the_service_is_followed() {
        let first = plan(&observed(KUBEADM, None)).unwrap();
        let [Action::ReplaceCorefile(text)] = first.as_slice() else { panic!("{first:?}") };
        let moved = Observed {
            forward_to: vec!["fd43::9".parse().unwrap(), "10.43.0.9".parse().unwrap()],
            ..observed(text, None)
        };
        let second = plan(&moved).unwrap();
        let [Action::ReplaceCorefile(text)] = second.as_slice() else { panic!("{second:?}") };
        assert!(text.contains("forward . 10.43.0.9 fd43::9 {"), "{text}");
        assert!(!text.contains("10.43.0.77"), "{text}");
    }

    #[test]
    fn regions_in_the_corefile_go_when_imports_come() {
        let first = plan(&observed(KUBEADM, None)).unwrap();
        let [Action::ReplaceCorefile(text)] = first.as_slice() else { panic!("{first:?}") };
        let mixed = format!("{text}import /etc/coredns/custom/*.server\n");
        let actions = plan(&observed(&mixed, None)).unwrap();
        let [Action::ApplyCustom { data, .. }, Action::ReplaceCorefile(bare)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert!(!bare.contains("clusterset.local:53"), "{bare}");
        assert!(!data.contains_key(KEY_OVERRIDE), "nothing imports it");
    }

    #[test]
    fn search_lists_end_in_the_corefile_where_it_imports_servers_alone() {
        let text = ".:53 {\n    errors\n}\nimport custom/*.server\n";
        let actions = plan(&observed(text, None)).unwrap();
        let [Action::ApplyCustom { data, .. }, replace @ Action::ReplaceCorefile(ended)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(data.keys().collect::<Vec<_>>(), [KEY_SERVER]);
        let expected = format!(
            ".:53 {{\n    {BEGIN}\n    template ANY ANY {{\n        match \"(?i)^([^.]+[.]){{2,}}svc[.]clusterset[.]local[.][^.]\"\n        rcode NXDOMAIN\n        fallthrough\n    }}\n    {END}\n    errors\n}}\nimport custom/*.server\n"
        );
        assert_eq!(*ended, expected);
        assert_eq!(replace.to_string(), "end search lists in the Corefile of ConfigMap coredns");
        let made = Some(Custom { data: data.clone(), made_by_us: true });
        assert_eq!(plan(&observed(ended, made.clone())), Ok(Vec::new()));
        let leave = Observed { forward_to: Vec::new(), ..observed(ended, made) };
        assert_eq!(plan(&leave), Ok(vec![Action::DeleteCustom, Action::ReplaceCorefile(text.to_owned())]));
    }

    /// As Submariner's operator writes it.
    const LIGHTHOUSE: &str = "\
#lighthouse-start AUTO-GENERATED SECTION. DO NOT EDIT
clusterset.local:53 {
    forward . 10.43.5.5
}
#lighthouse-end
";

    fn taken_in(observed: &Observed) -> (String, Vec<Action>) {
        match plan(observed) {
            Err(CorefileError::Taken { place, removal }) => (place, removal),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_put_beside_a_server_of_others_for_the_same_zone() {
        let (place, removal) = taken_in(&observed(&format!("{LIGHTHOUSE}{KUBEADM}"), None));
        assert_eq!((place.as_str(), removal), ("the Corefile of ConfigMap coredns", vec![]));
        let (place, removal) = taken_in(&observed(K3S, custom(&[("lighthouse.server", LIGHTHOUSE)], false)));
        assert_eq!((place.as_str(), removal), ("key lighthouse.server of ConfigMap coredns-custom", vec![]));
        // Who does not forward does not mind.
        let leave = Observed { forward_to: Vec::new(), ..observed(LIGHTHOUSE, None) };
        assert_eq!(plan(&leave), Ok(Vec::new()));
        // What nobody imports is no server.
        let kept = custom(&[("lighthouse.server", LIGHTHOUSE)], false);
        assert!(matches!(plan(&observed(KUBEADM, kept)).unwrap()[..], [Action::ReplaceCorefile(_)]));
    }

    #[test]
    fn what_is_ours_goes_when_a_server_of_others_comes_so_that_coredns_can_start() {
        let first = plan(&observed(KUBEADM, None)).unwrap();
        let [Action::ReplaceCorefile(text)] = first.as_slice() else { panic!("{first:?}") };
        let (_, removal) = taken_in(&observed(&format!("{LIGHTHOUSE}{text}"), None));
        assert_eq!(removal, [Action::ReplaceCorefile(format!("{LIGHTHOUSE}{KUBEADM}"))]);

        let keys = custom(&[(KEY_SERVER, "x"), (KEY_OVERRIDE, "y"), ("lighthouse.server", LIGHTHOUSE)], true);
        assert_eq!(taken_in(&observed(K3S, keys)).1, [Action::ClearCustom]);
        let error = plan(&observed(&format!("{LIGHTHOUSE}{text}"), None)).unwrap_err();
        assert_eq!(error.removal().len(), 1);
        assert_eq!(
            error.to_string(),
            "the Corefile of ConfigMap coredns has a server for clusterset.local already, and CoreDNS takes no second one: \
             remove it, and Linkspan puts its own there; Submariner's goes with `subctl uninstall`"
        );
    }

    #[test]
    fn servers_for_the_zone_are_known_however_they_are_written() {
        for text in [
            "clusterset.local {\n}\n",
            "dns://clusterset.local:53 {\n}\n",
            "Clusterset.Local. {\n}\n",
            "a.example clusterset.local:53 {\n}\n",
            "a.example,clusterset.local {\n}\n",
            "a.example:53,\nclusterset.local:53 {\n}\n",
            ". {\n    errors\n}\nclusterset.local { # x\n}\n",
            "a.example { errors }\n\"clusterset.local\" { errors }\n",
        ] {
            assert!(has_server(text), "{text}");
        }
        for text in [
            "# clusterset.local:53 {\n",
            "clusterset.local:5353 {\n}\n",
            "tls://clusterset.local {\n}\n",
            "svc.clusterset.local {\n}\n",
            "xclusterset.local {\n}\n",
            ". {\n    kubernetes clusterset.local {\n    }\n    forward clusterset.local 10.0.0.1\n}\n",
            ". { forward clusterset.local 10.0.0.1 }\n",
            "import clusterset.local\n",
        ] {
            assert!(!has_server(text), "{text}");
        }
    }

    #[test]
    fn a_torn_region_and_a_missing_corefile_are_told_and_left_alone() {
        let torn = format!("{BEGIN}\nclusterset.local:53 {{\n}}\n{KUBEADM}");
        assert_eq!(plan(&observed(&torn, None)), Err(CorefileError::Torn));
        let none = Observed { corefile: None, ..observed("", None) };
        assert_eq!(plan(&none), Err(CorefileError::NoCorefile));
        assert_eq!(plan(&Observed::default()), Ok(Vec::new()));
    }

    #[test]
    fn a_commented_import_and_one_inside_a_block_are_none() {
        let text = "# import /etc/coredns/custom/*.server\n.:53 {\n    import /etc/coredns/custom/*.server\n}\n";
        assert_eq!(Imports::of(text), Imports { server: false, in_root: false });
        let text = "example.org {\n    import /x/*.override\n}\n. {\n    errors\n}\nimport /x/*.server\n";
        assert_eq!(Imports::of(text), Imports { server: true, in_root: false });
    }

    proptest! {
        /// Whatever people have in their Corefile stays, byte for byte.
        #[test]
        fn regions_come_out_as_they_went_in(lines in proptest::collection::vec("( {0,4}[a-z.:/*]{0,8}| \\{|\\}|\\.:53 \\{|# x|\r)", 0..20), end in "(\n|)") {
            let text = format!("{}{end}", lines.join("\n"));
            for (server, in_root) in [(false, false), (true, false), (true, true)] {
                let with = |text: &str| with(text, Imports { server, in_root }, &["10.43.0.77".parse().unwrap()]);
                let with_regions = with(&text);
                prop_assert_eq!(without(&with_regions).unwrap(), &*text);
                prop_assert_eq!(with(&without(&with_regions).unwrap()), with_regions);
            }
        }
    }
}
