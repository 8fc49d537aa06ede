//! The laws of a pass, over a world in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod inputs;
mod world;

use std::collections::BTreeSet;

use controller::node::state::{Path, Table};
use controller::node::{Action, Desired, Obstacle, mark, plan};
use ipnet::IpNet;
use proptest::prelude::*;

use inputs::{any_desired, any_world, shuffled};
use world::World;

fn settle(world: &mut World, desired: &Desired) {
    plan(desired, &world.observed()).actions.iter().for_each(|action| world.apply(action));
}

fn remote(desired: &Desired) -> BTreeSet<IpNet> {
    desired.remote.values().flatten().map(IpNet::trunc).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fixpoint(desired in any_desired(), mut world in any_world()) {
        settle(&mut world, &desired);
        let again = plan(&desired, &world.observed());
        prop_assert!(again.is_empty(), "still to do:\n{again}");
    }

    #[test]
    fn a_crash_after_any_action_converges_to_the_same_end(
        desired in any_desired(), mut world in any_world(), cut in any::<prop::sample::Index>(),
    ) {
        let mut undisturbed = world.clone();
        settle(&mut undisturbed, &desired);

        let actions = plan(&desired, &world.observed()).actions;
        let cut = cut.index(actions.len() + 1);
        actions[..cut].iter().for_each(|action| world.apply(action));
        settle(&mut world, &desired);

        prop_assert_eq!(world, undisturbed);
    }

    #[test]
    fn a_changed_mind_in_the_middle_converges_too(
        first in any_desired(), then in any_desired(), mut world in any_world(), cut in any::<prop::sample::Index>(),
    ) {
        let actions = plan(&first, &world.observed()).actions;
        actions[..cut.index(actions.len() + 1)].iter().for_each(|action| world.apply(action));
        settle(&mut world, &then);
        prop_assert!(plan(&then, &world.observed()).is_empty());
    }

    #[test]
    fn the_order_of_inputs_does_not_matter(desired in any_desired(), world in any_world(), seed in any::<u64>()) {
        let (other, observed) = shuffled(&desired, &world.observed(), seed);
        prop_assert_eq!(plan(&desired, &world.observed()), plan(&other, &observed));
    }

    #[test]
    fn only_our_own_objects_are_written(desired in any_desired(), mut world in any_world()) {
        let foreign = world.foreign(&desired);
        for action in plan(&desired, &world.observed()).actions {
            world.apply(&action);
            prop_assert_eq!(&world.foreign(&desired), &foreign, "changed by: {}", action);
        }
    }

    #[test]
    fn no_route_leads_into_a_black_hole(desired in any_desired(), mut world in any_world()) {
        for action in plan(&desired, &world.observed()).actions {
            world.apply(&action);
            for route in world.routes() {
                if let Some(link) = route.path.link() {
                    prop_assert!(world.is_up(link), "{route} leaves by a link that is not up, after: {action}");
                }
            }
        }
        let wanted = remote(&desired);
        for route in world.routes().filter(|route| route.table == Table::Remote) {
            let refused = route.path == Path::Unreachable && desired.own_virtual.contains(&route.to);
            prop_assert!(refused || wanted.contains(&route.to), "no Member accepts {route}");
        }
    }

    #[test]
    fn a_covered_prefix_never_leaves_by_another_way(
        before in any_desired(), after in any_desired(), mut world in any_world(),
    ) {
        settle(&mut world, &before);
        let covered: BTreeSet<_> = remote(&before).intersection(&remote(&after)).copied().collect();
        for action in plan(&after, &world.observed()).actions {
            world.apply(&action);
            for prefix in &covered {
                prop_assert!(world.looks_up_our_table(prefix), "{prefix} leaves by the main table after: {action}");
            }
        }
    }

    #[test]
    fn a_new_route_finds_its_source_translation_in_place(desired in any_desired(), mut world in any_world()) {
        for action in plan(&desired, &world.observed()).actions {
            world.apply(&action);
            if let Action::ReplaceRoute(route) = &action && route.path != Path::Unreachable {
                prop_assert!(world.nft().is_some(), "{action} before the packet filter");
            }
        }
    }

    #[test]
    fn own_virtual_prefixes_never_leave_by_the_main_table(desired in any_desired(), mut world in any_world()) {
        settle(&mut world, &desired);
        let wanted = remote(&desired);
        for prefix in desired.own_virtual.iter().filter(|prefix| wanted.iter().any(|net| net.addr().is_ipv4() == prefix.addr().is_ipv4())) {
            prop_assert!(world.looks_up_our_table(prefix), "{prefix} leaves by the main table");
        }
    }

    #[test]
    fn every_prefix_of_a_member_is_routed_or_refused(desired in any_desired(), mut world in any_world()) {
        let obstacles = plan(&desired, &world.observed()).obstacles;
        settle(&mut world, &desired);
        for prefix in remote(&desired) {
            let metrics: Vec<_> = world.routes().filter(|route| route.table == Table::Remote && route.to == prefix)
                .map(|route| route.metric).collect();
            prop_assert!(metrics.contains(&mark::METRIC_FALLBACK), "{prefix} has no fallback");
            let excused = desired.active_gateway.is_none() || obstacles.iter().any(|obstacle| {
                matches!(obstacle, Obstacle::NoTunnelLink(_) | Obstacle::ForeignLink(_) | Obstacle::PortTaken { .. } | Obstacle::MixedFamilies { .. })
            });
            let idle = desired.tunnel.is_none() && desired.active_gateway.as_ref() == Some(&desired.node);
            prop_assert!(metrics.contains(&mark::METRIC_ROUTE) || excused || idle, "{prefix} has no way out");
        }
    }

    #[test]
    fn nothing_leaves_nothing(desired in any_desired(), mut world in any_world()) {
        settle(&mut world, &desired);
        let gone = Desired::nothing();
        settle(&mut world, &gone);
        prop_assert_eq!(world.ours(&gone.vxlan), Vec::<String>::new());
    }

    #[test]
    fn a_crash_after_any_action_leaves_nothing_that_removal_does_not_take(
        desired in any_desired(), mut world in any_world(), cut in any::<prop::sample::Index>(),
    ) {
        let foreign = world.foreign(&desired);
        let actions = plan(&desired, &world.observed()).actions;
        actions[..cut.index(actions.len() + 1)].iter().for_each(|action| world.apply(action));
        let gone = Desired { vxlan: desired.vxlan.clone(), ..Desired::nothing() };
        settle(&mut world, &gone);
        prop_assert_eq!(world.ours(&gone.vxlan), Vec::<String>::new());
        prop_assert_eq!(world.foreign(&desired), foreign);
        prop_assert!(plan(&gone, &world.observed()).is_empty());
    }

    #[test]
    fn removal_takes_an_unmarked_vxlan_link_of_ours_and_spares_all_others(mut world in any_world()) {
        let gone = Desired::nothing();
        let foreign = world.foreign(&gone);
        let left_over = world.left_over(&gone.vxlan);
        let deleted: BTreeSet<_> = plan(&gone, &world.observed()).actions.into_iter().filter_map(|action| match action {
            Action::DeleteLink { link } => Some(link),
            _ => None,
        }).collect();
        settle(&mut world, &gone);
        prop_assert!(left_over.iter().all(|link| deleted.contains(link)), "{left_over:?} not in {deleted:?}");
        prop_assert_eq!(world.foreign(&gone), foreign);
    }
}
