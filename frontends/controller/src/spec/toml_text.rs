//! Desired state as the text of a configuration file, for copies and for `--config`.

use serde::Serialize;

use super::{MemberSettings, NetworkSettings, Parameters, Spec};

#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    parameters: &'a Parameters,
    network: Vec<Network<'a>>,
}

#[derive(Serialize)]
struct Network<'a> {
    name: &'a str,
    #[serde(flatten)]
    settings: &'a NetworkSettings,
    member: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    name: &'a str,
    #[serde(flatten)]
    settings: &'a MemberSettings,
}

impl Spec {
    /// The text of a configuration file with this content.
    ///
    /// # Errors
    /// A text, if a value has no form in TOML; no checked one is such.
    pub fn to_toml(&self) -> Result<String, String> {
        let network = self.networks.iter().map(|(name, network)| Network {
            name,
            settings: &network.settings.value,
            member: network.members.iter().map(|(name, member)| Member { name, settings: &member.value }).collect(),
        });
        let network = network.collect();
        toml::to_string(&File { parameters: &self.parameters.value, network }).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const TEXT: &str = r#"ethertype = 35000
underlay_mtu = 9000
forwarding = "none"
control_rate = 500
[timers]
hello = "500ms"
[[network]]
name = "blue"
vni = 42
mtu = 1400
group = "239.1.1.42"
[[network.member]]
name = "vm1"
mac = "02:00:00:00:01:01"
ip = "10.0.0.1"
underlay_mac = "02:00:00:01:00:01"
underlay_ip = "192.0.2.1"
offloads = ["csum", "gro"]
flows = ["in_port=HOST,udp,tp_dst=9,actions=drop"]
[[network]]
name = "red"
vni = 43
mtu = "auto"
group = "239.1.1.43"
"#;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let first = Config::parse("a.toml", TEXT).unwrap();
        let text = first.spec.to_toml().unwrap();
        let again = Config::parse("b.toml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!((again.config, again.spec), (first.config, first.spec));
    }
}
