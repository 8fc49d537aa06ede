//! Virtual blocks: prefixes of the clusterset's pool that stand for a cluster's own pod prefixes where these are not
//! unique. Pure: everybody chooses for itself, from what all others claim; who is older keeps what two have chosen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};
use tunnel::config::Translation;

use super::id::ClusterId;
use super::prefixes::{Holders, overlap};

/// Bits of a prefix that its block keeps if it can: a stock K3s pod `10.42.7.9` becomes `100.x.7.9`.
const KEPT_BITS: u8 = 8;
/// Slots of the pool that are looked at before it counts as exhausted.
const LOOKS: u128 = 1 << 20;

/// Why a prefix has no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBlock {
    /// No pool of its family. Others then do not know those pods: who is virtual is so in both families.
    #[error(
        "the pool has nothing of the family of {native}, and pods that are known by virtual addresses have them in both \
         families: add a prefix of at most /{length} to LINKSPAN_VIRTUAL_POOL"
    )]
    NoFamily {
        /// The prefix.
        native: IpNet,
        /// Its length.
        length: u8,
    },
    /// All pools of its family are smaller than the prefix.
    #[error("the pool {pool} has no room for {native}: add a prefix of at most /{length} to LINKSPAN_VIRTUAL_POOL")]
    TooSmall {
        /// The prefix.
        native: IpNet,
        /// The pool, as text.
        pool: String,
        /// Its length.
        length: u8,
    },
    /// Others have all of it.
    #[error("the pool {pool} is used up, and nothing is left for {native}: add a prefix to LINKSPAN_VIRTUAL_POOL")]
    Exhausted {
        /// The prefix.
        native: IpNet,
        /// The pool, as text.
        pool: String,
    },
}

/// Blocks for all of `natives` that can have one, sorted, and why others cannot: one failure for all of a length.
///
/// `held` are the blocks that this cluster has now: they stay as long as their prefix is in use, they are in the pool, and
/// nothing of `taken` overlaps them. One that is no longer in the pool gives way to one that is, if there is room. `taken`
/// is what no block may overlap: own prefixes and nodes, and what older Members have. `avoided` is what new ones keep out
/// of as well: what younger Members have. Which slot is looked at first depends on the cluster ID, so that clusters that
/// choose at the same time, and one that follows another that has left, hardly ever choose the same.
pub fn allocate(
    cluster: &ClusterId,
    natives: &[IpNet],
    held: &[Translation],
    taken: &[IpNet],
    avoided: &[IpNet],
    pool: &[IpNet],
) -> (Vec<Translation>, Vec<NoBlock>) {
    let natives = widest(natives);
    let firm = union(taken);
    let mut blocks: BTreeSet<Translation> = BTreeSet::new();
    for block in held.iter().filter(|block| natives.contains(&block.native)) {
        let twice = blocks.iter().any(|kept| kept.native == block.native || overlap(kept.r#virtual, block.r#virtual));
        let in_pool = pool.iter().any(|pool| pool.contains(&block.r#virtual));
        let fits = in_pool && block.is_one_to_one() && !twice;
        if fits && firm.overlapping(block.r#virtual).is_none() {
            blocks.insert(*block);
        }
    }
    let kept: Vec<IpNet> = blocks.iter().map(|block| block.r#virtual).collect();
    let mut used = union(&[taken, avoided, &kept].concat());
    let mut failures = Vec::new();
    let has: BTreeSet<IpNet> = blocks.iter().map(|block| block.native).collect();
    // What has no room for one prefix has none for its equals: a search through all of a pool is long.
    let mut hopeless = BTreeSet::new();
    for native in natives.difference(&has).copied() {
        let kind = (native.addr().is_ipv4(), native.prefix_len());
        let mut found = None;
        if !hopeless.contains(&kind) {
            match choose(cluster, native, &used, pool) {
                Ok(r#virtual) => found = Some(r#virtual),
                Err(failure) => {
                    hopeless.insert(kind);
                    failures.push(failure);
                }
            }
        }
        // One outside of the pool is better than none.
        let fits = |old: &&Translation| {
            old.native == native && old.is_one_to_one() && used.overlapping(old.r#virtual).is_none()
        };
        let r#virtual = found.or_else(|| Some(held.iter().find(fits)?.r#virtual));
        if let Some(r#virtual) = r#virtual {
            used.insert(r#virtual, ());
            blocks.insert(Translation { native, r#virtual });
        }
    }
    (blocks.into_iter().collect(), failures)
}

/// The prefixes that are inside no other one. Neighbours are not joined: each keeps its block whatever comes beside it.
fn widest(nets: &[IpNet]) -> BTreeSet<IpNet> {
    let inside = |net: &IpNet| nets.iter().any(|other| other != net && other.contains(net));
    nets.iter().filter(|net| !inside(net)).copied().collect()
}

/// The first free slot for `native`: those that keep its last bits first, then all.
fn choose(cluster: &ClusterId, native: IpNet, used: &Holders<()>, pool: &[IpNet]) -> Result<IpNet, NoBlock> {
    let length = native.prefix_len();
    let same_family = |pool: &&IpNet| pool.addr().is_ipv4() == native.addr().is_ipv4();
    let pools: Vec<IpNet> =
        pool.iter().filter(same_family).filter(|pool| pool.prefix_len() <= length).copied().collect();
    let text = || pool.iter().filter(same_family).map(IpNet::to_string).collect::<Vec<_>>().join(" ");
    if !pool.iter().any(|pool| same_family(&pool)) {
        return Err(NoBlock::NoFamily { native, length });
    }
    if pools.is_empty() {
        return Err(NoBlock::TooSmall { native, pool: text(), length });
    }
    let free = |net: &IpNet| used.overlapping(*net).is_none();
    // Where somebody has all of it there is nothing to look for.
    let pools: Vec<IpNet> = pools
        .into_iter()
        .filter(|pool| !used.overlapping(*pool).is_some_and(|(held, ())| held.contains(pool)))
        .collect();
    let kept = pools.iter().flat_map(|pool| Slots::new(cluster, native, *pool).keeping());
    let all = pools.iter().flat_map(|pool| Slots::new(cluster, native, *pool).all());
    kept.chain(all).find(free).ok_or_else(|| NoBlock::Exhausted { native, pool: text() })
}

/// The slots of one pool for a prefix: all its parts of the same length.
struct Slots {
    pool: IpNet,
    length: u8,
    /// How many slots there are.
    count: u128,
    /// How many of them are alike but for the bits that are kept.
    window: u128,
    /// Which of a window keeps the bits.
    place: u128,
    /// The first window to look at.
    first: u128,
}

impl Slots {
    fn new(cluster: &ClusterId, native: IpNet, pool: IpNet) -> Self {
        let length = native.prefix_len();
        let bits = length - pool.prefix_len();
        let kept = bits.min(KEPT_BITS);
        let count = 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
        let window = 1_u128 << kept;
        let place = (number(native.network()) >> (width(native) - length).min(127)) & (window - 1);
        let hash = Sha256::digest(cluster.as_str());
        let seed = hash.iter().take(8).fold(0_u128, |seed, byte| seed << 8 | u128::from(*byte));
        Self { pool, length, count, window, place, first: seed % (count / window) }
    }

    fn keeping(self) -> impl Iterator<Item = IpNet> {
        let windows = self.count / self.window;
        (0..windows.min(LOOKS)).filter_map(move |i| self.slot((self.first + i) % windows * self.window + self.place))
    }

    fn all(self) -> impl Iterator<Item = IpNet> {
        let start = self.first * self.window;
        (0..self.count.min(LOOKS)).filter_map(move |i| self.slot((start + i) % self.count))
    }

    /// The slot with this number.
    fn slot(&self, number_of: u128) -> Option<IpNet> {
        let address = number(self.pool.network()) | number_of << (width(self.pool) - self.length).min(127);
        match self.pool {
            IpNet::V4(_) => Ipv4Net::new(u32::try_from(address).ok()?.into(), self.length).ok().map(IpNet::V4),
            IpNet::V6(_) => Ipv6Net::new(address.into(), self.length).ok().map(IpNet::V6),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn width(net: IpNet) -> u8 {
    net.max_prefix_len()
}

/// All of `nets` as disjoint prefixes.
fn union(nets: &[IpNet]) -> Holders<()> {
    IpNet::aggregate(&nets.to_vec()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn id(name: &str) -> ClusterId {
        name.parse().unwrap()
    }

    fn block(native: &str, r#virtual: &str) -> Translation {
        Translation { native: native.parse().unwrap(), r#virtual: r#virtual.parse().unwrap() }
    }

    const POOL: [&str; 2] = ["100.64.0.0/10", "fd64:6c73::/40"];

    #[test]
    fn a_block_keeps_the_last_bits_and_depends_on_the_cluster() {
        let of = |cluster: &str| {
            let natives = nets(&["10.42.0.0/24", "10.42.7.0/24", "fd42:0:0:9::/64"]);
            let (blocks, failures) = allocate(&id(cluster), &natives, &[], &[], &[], &nets(&POOL));
            assert_eq!(failures, []);
            blocks
        };
        let paris = of("paris");
        let texts: Vec<String> = paris.iter().map(|block| block.r#virtual.to_string()).collect();
        assert!(texts[0].starts_with("100.") && texts[0].ends_with(".0.0/24"), "{texts:?}");
        assert!(texts[1].ends_with(".7.0/24"), "{texts:?}");
        assert_eq!(texts[0].split('.').nth(1), texts[1].split('.').nth(1), "one window: {texts:?}");
        assert!(texts[2].starts_with("fd64:6c73:") && texts[2].ends_with("09::/64"), "{texts:?}");
        assert_ne!(paris, of("berlin"));
        assert_eq!(paris, of("paris"));
    }

    #[test]
    fn a_block_stays_when_nodes_come_and_goes_with_its_node() {
        let held = [block("10.42.0.0/24", "100.99.3.0/24"), block("10.42.9.0/24", "100.99.4.0/24")];
        let natives = nets(&["10.42.0.0/24", "10.42.1.0/24"]);
        let (blocks, _) = allocate(&id("paris"), &natives, &held, &[], &[], &nets(&POOL));
        assert_eq!((blocks.len(), blocks[0]), (2, held[0]));
        assert_eq!(blocks[1].native, natives[1]);
    }

    #[test]
    fn a_block_that_somebody_else_has_is_given_up() {
        let held = [block("10.42.0.0/24", "100.99.3.0/24")];
        let (blocks, _) =
            allocate(&id("paris"), &nets(&["10.42.0.0/24"]), &held, &nets(&["100.99.0.0/16"]), &[], &nets(&POOL));
        assert!(!nets(&["100.99.0.0/16"])[0].contains(&blocks[0].r#virtual), "{blocks:?}");
    }

    #[test]
    fn the_last_slot_is_found_and_then_the_pool_is_used_up() {
        let pool = nets(&["100.64.0.0/22"]);
        let natives = nets(&["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
        let (blocks, failures) =
            allocate(&id("paris"), &natives, &[], &nets(&["100.64.1.0/24"]), &nets(&["100.64.2.7/32"]), &pool);
        let found: Vec<String> = blocks.iter().map(|block| block.r#virtual.to_string()).collect();
        assert_eq!(found, ["100.64.0.0/24", "100.64.3.0/24"]);
        assert_eq!(
            failures[0].to_string(),
            "the pool 100.64.0.0/22 is used up, and nothing is left for 10.42.2.0/24: add a prefix to \
             LINKSPAN_VIRTUAL_POOL"
        );
    }

    #[test]
    fn a_pool_that_is_smaller_than_a_prefix_is_told() {
        for (native, pool, told) in [
            (
                "10.42.0.0/16",
                "100.64.0.0/20",
                "the pool 100.64.0.0/20 has no room for 10.42.0.0/16: add a prefix of at most /16",
            ),
            ("fd42::/64", "100.64.0.0/10", "in both families: add a prefix of at most /64 to LINKSPAN_VIRTUAL_POOL"),
        ] {
            let (blocks, failures) = allocate(&id("paris"), &nets(&[native]), &[], &[], &[], &nets(&[pool]));
            assert_eq!(blocks, []);
            assert!(failures.len() == 1 && failures[0].to_string().contains(told), "{failures:?}");
        }
    }

    #[test]
    fn odd_lengths_do_no_harm() {
        for (native, pool) in
            [("10.42.7.9/32", "100.64.0.0/32"), ("fd42::1/128", "fd64::/16"), ("fd42::/16", "fd00::/16")]
        {
            let (blocks, failures) = allocate(&id("paris"), &nets(&[native]), &[], &[], &[], &nets(&[pool]));
            assert_eq!((blocks.len(), failures.len()), (1, 0), "{native}");
            assert!(nets(&[pool])[0].contains(&blocks[0].r#virtual));
        }
    }

    proptest! {
        #[test]
        fn blocks_are_disjoint_in_the_pool_and_stay(
            nodes in proptest::collection::btree_set(0_u8..40, 1..30),
            taken in proptest::collection::vec((64_u8..128, any::<u8>(), 14_u8..30), 0..20),
            more in proptest::collection::btree_set(0_u8..40, 0..10),
        ) {
            let natives = |nodes: &BTreeSet<u8>| -> Vec<IpNet> {
                nodes.iter().map(|n| format!("10.42.{n}.0/24").parse().unwrap()).collect()
            };
            let taken: Vec<IpNet> = taken.iter().map(|(a, b, length)| {
                IpNet::new(std::net::Ipv4Addr::new(100, *a, *b, 0).into(), *length).unwrap().trunc()
            }).collect();
            let pool = nets(&POOL);
            let (blocks, failures) = allocate(&id("paris"), &natives(&nodes), &[], &taken, &[], &pool);
            prop_assert_eq!(blocks.len() < nodes.len(), !failures.is_empty());
            for (i, block) in blocks.iter().enumerate() {
                prop_assert!(pool[0].contains(&block.r#virtual));
                let overlaps = |net: &IpNet| net.contains(&block.r#virtual) || block.r#virtual.contains(net);
                prop_assert!(!taken.iter().any(overlaps));
                prop_assert!(!blocks[i + 1..].iter().any(|other| overlaps(&other.r#virtual)));
            }
            let grown = nodes.union(&more).copied().collect();
            let (later, _) = allocate(&id("paris"), &natives(&grown), &blocks, &taken, &[], &pool);
            prop_assert!(blocks.iter().all(|block| later.contains(block)));
        }
    }
}
