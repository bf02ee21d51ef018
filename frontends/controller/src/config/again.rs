//! Checking desired state once more after a change. A change reaches a network or two of thousands, and checking all of
//! them takes most of a second where there are fifty thousand vNICs.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::Ipv4Addr,
    sync::Arc,
};

use super::{Config, ConfigErrors, Diagnostic, Network, from_spec};
use crate::{mac::Mac, spec::Spec};

/// Desired state that was found good.
#[derive(Clone, Debug)]
pub struct Checked {
    /// As it was written.
    pub spec: Arc<Spec>,
    /// What it means.
    pub config: Config,
    /// What is odd about it.
    pub warnings: Vec<Diagnostic>,
}

/// Checks `spec`; networks that are those of `before` are not looked into again if nothing can be wrong with them now.
pub(super) fn check(
    process: &Config,
    spec: &Spec,
    before: &Checked,
) -> Result<(Config, Vec<Diagnostic>), ConfigErrors> {
    match check_changes(process, spec, before) {
        Some(config) => Ok((config, Vec::new())),
        // So that messages name every place, and all that is wrong.
        None => from_spec::check(process, spec),
    }
}

/// `None`: something is odd, or could be.
fn check_changes(process: &Config, spec: &Spec, before: &Checked) -> Option<Config> {
    if !before.warnings.is_empty() || spec.parameters.value != before.spec.parameters.value {
        return None;
    }
    let mut old: HashMap<&str, &Arc<Network>> =
        before.config.networks.iter().map(|network| (network.name.as_str(), network)).collect();
    let mut changed = Spec { parameters: spec.parameters.clone(), ..Spec::default() };
    for (name, network) in &spec.networks {
        if before.spec.networks.get(name).is_none_or(|same| !Arc::ptr_eq(same, network)) {
            old.remove(name.as_str());
            changed.networks.insert(name.clone(), Arc::clone(network));
        }
    }
    let (checked, warnings) = from_spec::check(process, &changed).ok()?;
    if !warnings.is_empty() {
        return None;
    }
    let mut new: HashMap<&str, &Arc<Network>> =
        checked.networks.iter().map(|network| (network.name.as_str(), network)).collect();
    let taken = Taken::by(&checked.networks);
    let mut networks = Vec::with_capacity(spec.networks.len());
    for name in spec.networks.keys() {
        let network = match new.remove(name.as_str()) {
            Some(network) => network,
            None => old.remove(name.as_str()).filter(|network| !taken.has_some_of(network))?,
        };
        networks.push(Arc::clone(network));
    }
    Some(Config { networks, ..checked.clone() })
}

/// What nobody else may have.
struct Taken {
    vnis: HashSet<u32>,
    groups: HashSet<Ipv4Addr>,
    macs: HashSet<Mac>,
    underlay_macs: HashSet<Mac>,
    underlay_ips: HashSet<Ipv4Addr>,
}

impl Taken {
    fn by(networks: &[Arc<Network>]) -> Self {
        fn all<T: Eq + Hash>(values: impl Iterator<Item = T>) -> HashSet<T> {
            values.collect()
        }
        let members = || networks.iter().flat_map(|network| &network.members);
        Self {
            vnis: all(networks.iter().map(|network| network.vni)),
            groups: all(networks.iter().map(|network| network.group)),
            macs: all(members().map(|member| member.mac)),
            underlay_macs: all(members().map(|member| member.underlay_mac)),
            underlay_ips: all(members().map(|member| member.underlay_ip)),
        }
    }

    fn has_some_of(&self, network: &Network) -> bool {
        self.vnis.contains(&network.vni)
            || self.groups.contains(&network.group)
            || network.members.iter().any(|member| {
                self.macs.contains(&member.mac)
                    || self.underlay_macs.contains(&member.underlay_mac)
                    || self.underlay_ips.contains(&member.underlay_ip)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MemberSettings, NetworkSettings, NetworkSpec, Versioned};
    use proptest::prelude::*;
    use smol_str::format_smolstr;

    /// Numbers of a network's VNI and group, and of its members' addresses; few, so that some are used twice.
    type Numbers = (u8, u8, Vec<u8>);

    fn spec(networks: &[Option<Numbers>]) -> Spec {
        let mut spec = Spec::default();
        for (name, (vni, group, members)) in ('a'..).zip(networks).filter_map(|(name, n)| Some((name, n.as_ref()?)))
        {
            let mut network = NetworkSpec::default();
            let group = format!("239.0.0.{group}");
            network.settings.value = NetworkSettings { vni: (*vni).into(), group, ..NetworkSettings::default() };
            for number in members {
                let value = MemberSettings {
                    mac: format_smolstr!("02:00:00:00:00:{number:02x}"),
                    ip: format_smolstr!("10.0.0.{number}"),
                    underlay_mac: format_smolstr!("02:00:00:00:01:{number:02x}"),
                    underlay_ip: format_smolstr!("192.0.2.{number}"),
                    ..MemberSettings::default()
                };
                network.members.insert(format_smolstr!("m{number}"), Box::new(Versioned { revision: 0, value }));
            }
            spec.networks.insert(name.to_string(), Arc::new(network));
        }
        spec
    }

    fn numbers() -> impl Strategy<Value = Option<Numbers>> {
        let of_network = (0..12u8, 1..12u8, prop::collection::vec(1..24u8, 0..3));
        prop::option::weighted(0.8, of_network)
    }

    proptest! {
        /// Whatever changes, the answer is that of a whole check.
        #[test]
        fn the_result_is_that_of_a_whole_check(
            mut networks in prop::collection::vec(numbers(), 3),
            changes in prop::collection::vec((0..3usize, numbers()), 1..8),
        ) {
            let process = Config::parse("c.toml", "").unwrap().config;
            let mut before = Checked { spec: Arc::default(), config: process.clone(), warnings: vec![] };
            networks.push(Some((20, 20, vec![30, 31])));
            for (index, numbers) in changes {
                networks[index] = numbers;
                let mut next = Spec::clone(&before.spec);
                next.replace(spec(&networks));
                // A network that is what it was is not a new one.
                for (name, network) in &mut next.networks {
                    if let Some(old) = before.spec.networks.get(name).filter(|old| *old == network) {
                        *network = Arc::clone(old);
                    }
                }
                let (quick, whole) = (check(&process, &next, &before), from_spec::check(&process, &next));
                match (quick, whole) {
                    (Ok((config, warnings)), Ok(whole)) => {
                        prop_assert_eq!((&config.networks, &warnings), (&whole.0.networks, &whole.1));
                        before = Checked { spec: Arc::new(next), config, warnings };
                    }
                    (quick, whole) => prop_assert_eq!(quick.map(|_| ()), whole.map(|_| ())),
                }
            }
        }
    }

    #[test]
    fn what_did_not_change_is_not_made_anew() {
        let process = Config::parse("c.toml", "").unwrap().config;
        let first = spec(&[Some((1, 1, vec![1, 2])), Some((2, 2, vec![3]))]);
        let (config, warnings) = from_spec::check(&process, &first).unwrap();
        let before = Checked { spec: Arc::new(first.clone()), config, warnings };
        let mut second = first;
        let changed = Arc::make_mut(second.networks.get_mut("b").unwrap());
        changed.settings.value.group = "239.0.0.9".to_owned();
        let (config, _) = check(&process, &second, &before).unwrap();
        let same: Vec<_> =
            config.networks.iter().zip(&before.config.networks).map(|(new, old)| Arc::ptr_eq(new, old)).collect();
        assert_eq!(same, [true, false]);
    }
}
