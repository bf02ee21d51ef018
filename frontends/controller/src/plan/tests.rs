use super::*;
use cvsw_core::flow::{Action, ActionList, Field, Match};
use proptest::prelude::*;
use smol_str::SmolStr;
use std::collections::HashMap;

fn flow(port: u16, priority: u16, action: Option<u16>) -> FlowMod {
    let mut actions = ActionList::new();
    if let Some(port) = action {
        actions.push(Action::SetTpDst(port)).unwrap();
    }
    let matching = Match::ANY.with(Field::InPort, port.into());
    FlowMod { matching, priority, actions, ..FlowMod::default() }
}

fn desired(flows: Vec<FlowMod>, mtu: u16) -> Desired {
    Desired {
        network: None,
        name: SmolStr::default(),
        mtu: IpMtu::new(mtu),
        offloads: Some(OffloadFlags(1)),
        flows: flows.into_iter().collect(),
    }
}

fn learn(belief: &mut Belief, flows: Vec<FlowMod>, wanted: &Desired) -> bool {
    let mut listing = Listing::default();
    flows.iter().for_each(|flow| listing.add(belief, flow));
    belief.learn(listing, wanted)
}

fn carry_out(belief: &mut Belief, commands: &[Command], wanted: &Desired) {
    commands.iter().for_each(|command| belief.sent(command, wanted));
}

#[test]
fn an_entry_whose_time_is_up_is_not_sent_again() {
    let timed = FlowMod { hard_timeout: 5, ..flow(1, 6, Some(80)) };
    let rest = || flow(2, 6, None);
    let wanted = desired(vec![timed.clone(), rest()], 1450);
    let full = || {
        let mut belief = Belief::default();
        let commands = belief.plan(&wanted);
        carry_out(&mut belief, &commands, &wanted);
        assert!(learn(&mut belief, vec![timed.clone(), rest()], &wanted));
        belief
    };
    let mut belief = full();
    belief.expire(EntryId::of(&timed), &wanted);
    assert_eq!((belief.plan(&wanted), belief.expired(&wanted)), (Vec::new(), 1));

    // The report of it was lost, and a listing shows that it is gone.
    let mut other = full();
    assert!(learn(&mut other, vec![rest()], &wanted), "that is no reason to ask again");
    assert_eq!((other.plan(&wanted), other.expired(&wanted)), (Vec::new(), 1));

    // Another entry in its place is sent; and so is the same one, when it was not wanted for a while.
    let changed = desired(vec![FlowMod { hard_timeout: 6, ..timed.clone() }, rest()], 1450);
    assert_eq!(belief.plan(&changed).len(), 1);
    let without = desired(vec![rest()], 1450);
    belief.replaced(&wanted, &without);
    belief.replaced(&without, &wanted);
    assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(timed))]);
}

#[test]
fn only_differences_and_make_before_break() {
    let mut belief = Belief::default();
    let old = desired(vec![flow(1, 5, None), flow(1, 6, Some(80)), flow(2, 6, Some(80))], 1450);
    let all = belief.plan(&old);
    assert_eq!(all.len(), 5);
    assert!(matches!(all[..2], [Command::SetMtu(_), Command::SetOffload(_)]));
    carry_out(&mut belief, &all, &old);
    assert_eq!(belief.plan(&old), []);

    let new = desired(vec![flow(1, 6, Some(81)), flow(3, 6, None), flow(2, 6, Some(80))], 1400);
    belief.replaced(&old, &new);
    let gone = Arc::new(flow(1, 5, None));
    let expected = [
        Command::SetMtu(IpMtu::new(1400).unwrap()),
        Command::Set(Arc::new(flow(3, 6, None))),
        Command::Set(Arc::new(flow(1, 6, Some(81)))),
        Command::Delete(gone),
    ];
    assert_eq!(belief.plan(&new), expected);
}

#[test]
fn one_listing_that_lacks_a_confirmed_entry_is_not_believed() {
    let mut belief = Belief::default();
    let wanted = desired(vec![flow(1, 5, None), flow(2, 5, None)], 1450);
    let commands = belief.plan(&wanted);
    carry_out(&mut belief, &commands, &wanted);
    assert_eq!(belief.confirmed(&wanted), 0);
    assert!(learn(&mut belief, vec![flow(1, 5, None)], &wanted), "the other one was never confirmed");
    assert_eq!((belief.confirmed(&wanted), belief.plan(&wanted).len()), (1, 1));
    let commands = belief.plan(&wanted);
    carry_out(&mut belief, &commands, &wanted);
    assert!(learn(&mut belief, vec![flow(1, 5, None), flow(2, 5, None)], &wanted));
    assert_eq!(belief.confirmed(&wanted), 2);

    assert!(!learn(&mut belief, vec![flow(1, 5, None)], &wanted), "perhaps only the answer was lost");
    assert_eq!(belief.plan(&wanted), []);
    assert!(learn(&mut belief, vec![flow(1, 5, None)], &wanted));
    assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(flow(2, 5, None)))]);
}

#[test]
fn what_is_acknowledged_or_told_is_confirmed() {
    let mut belief = Belief::default();
    let wanted = desired(vec![flow(1, 5, None), flow(2, 5, None)], 1450);
    belief.plan(&wanted).iter().for_each(|command| belief.acknowledged(command, &wanted));
    assert_eq!((belief.plan(&wanted), belief.confirmed(&wanted)), (vec![], 2));
    let mut listing = Listing::default();
    [flow(2, 5, None), flow(9, 5, None)].iter().for_each(|flow| listing.add(&belief, flow));
    belief.replace(listing, &wanted);
    belief.parameters(None, Some(OffloadFlags(1)));
    let expected = [
        Command::SetMtu(IpMtu::new(1450).unwrap()),
        Command::Set(Arc::new(flow(1, 5, None))),
        Command::Delete(Arc::new(flow(9, 5, None))),
    ];
    assert_eq!(belief.plan(&wanted), expected);
}

/// The fingerprints are not kept, and come back when they are needed.
#[test]
fn whoever_has_what_is_wanted_is_as_if_everything_were_listed() {
    let timed = FlowMod { hard_timeout: 5, ..flow(1, 6, Some(80)) };
    let wanted = desired(vec![timed.clone(), flow(2, 6, None), flow(3, 6, None)], 1450);
    let as_wanted = || {
        let mut belief = Belief::default();
        learn(&mut belief, vec![flow(9, 6, None)], &wanted);
        assert_eq!(belief.surplus(&wanted).len(), 1);
        belief.parameters(wanted.mtu, wanted.offloads);
        belief.replace_with_wanted();
        assert!(belief.held.is_none() && belief.exceptions.is_none());
        belief
    };
    let mut belief = as_wanted();
    let all = |belief: &Belief| (belief.plan(&wanted).len(), belief.len(&wanted), belief.confirmed(&wanted));
    assert_eq!(all(&belief), (0, 3, 3));
    belief.expire(EntryId::of(&timed), &wanted);
    assert_eq!(all(&belief), (0, 2, 2));
    belief.replace_with_wanted();
    assert!(belief.held.is_none());
    assert_eq!((all(&belief), belief.expired(&wanted)), ((0, 2, 2), 1), "all but what has expired");
    belief.forget(EntryId::of(&flow(2, 6, None)), &wanted);
    assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(flow(2, 6, None)))]);

    let mut belief = as_wanted();
    let lower = Desired { mtu: IpMtu::new(1400), ..wanted.clone() };
    belief.replaced(&wanted, &lower);
    assert!(belief.held.is_none(), "its entries are still those that are wanted");
    assert_eq!(belief.plan(&lower), [Command::SetMtu(IpMtu::new(1400).unwrap())]);
    let fewer = desired(vec![flow(2, 6, None), flow(3, 6, Some(81))], 1450);
    belief.replaced(&lower, &fewer);
    let expected = [Command::Set(Arc::new(flow(3, 6, Some(81)))), Command::Delete(Arc::new(timed))];
    assert_eq!(belief.plan(&fewer), expected);
}

#[test]
fn ways_to_say_drop_are_one() {
    let mut output_none = flow(1, 5, None);
    output_none.actions.push(Action::Output { port: cvsw_core::flow::OFPP_NONE, max_len: 0 }).unwrap();
    let mut belief = Belief::default();
    let wanted = Desired { mtu: None, offloads: None, ..desired(vec![flow(1, 5, None)], 1450) };
    learn(&mut belief, vec![output_none], &wanted);
    assert_eq!(belief.plan(&wanted), []);
}

fn flows() -> impl Strategy<Value = Vec<FlowMod>> {
    let one = (1..4u16, 1..4u16, prop::option::of(1..3u16));
    prop::collection::vec(one, 0..8).prop_map(|list| {
        // One entry per identity, as in any table.
        let map: HashMap<_, _> =
            list.into_iter().map(|(port, priority, action)| ((port, priority), action)).collect();
        map.into_iter().map(|((port, priority), action)| flow(port, priority, action)).collect()
    })
}

proptest! {
    /// From any state to any other: the plan leads there, and nothing is left to plan.
    #[test]
    fn the_plan_leads_to_the_wanted_state(before in flows(), wanted in flows()) {
        let mut belief = Belief::default();
        let wanted = desired(wanted, 1450);
        learn(&mut belief, before.clone(), &wanted);
        let commands = belief.plan(&wanted);
        let mut table: HashMap<EntryId, FlowMod> = before.iter().map(|flow| (EntryId::of(flow), flow.clone())).collect();
        for command in &commands {
            match command {
                Command::Set(flow) => drop(table.insert(EntryId::of(flow), FlowMod::clone(flow))),
                Command::Delete(flow) => prop_assert!(table.remove(&EntryId::of(flow)).is_some()),
                Command::SetMtu(_) | Command::SetOffload(_) => {}
            }
        }
        let expected: HashMap<EntryId, FlowMod> =
            wanted.flows.iter().map(|flow| (EntryId::of(&flow), FlowMod::clone(&flow))).collect();
        prop_assert_eq!(table, expected);
        let first_delete = commands.iter().position(|c| matches!(c, Command::Delete(_))).unwrap_or(commands.len());
        prop_assert!(commands[first_delete..].iter().all(|c| matches!(c, Command::Delete(_))));
        carry_out(&mut belief, &commands, &wanted);
        prop_assert_eq!(belief.plan(&wanted), vec![]);
    }
}
