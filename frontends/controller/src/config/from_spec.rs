//! Between the shape of a file and desired state, both ways. Desired state that did not come from a file is checked as
//! if it had: by writing a list of its fields, one a line, to which the values' places refer.

use std::{fmt::Display, ops::Range, sync::Arc};

use toml::Spanned;

use super::{Config, ConfigErrors, Diagnostic, check, diagnostic::Report, raw};
use crate::spec::{
    MemberSettings, MtuSetting, NetworkSettings, NetworkSpec, Parameters, Spec, TimerSettings, Versioned,
};

/// Networks and parameters of a file, as they were written.
pub(super) fn spec(raw: &raw::File) -> Spec {
    let timers = &raw.timers;
    let parameters = Parameters {
        ethertype: inner(&raw.ethertype),
        underlay_mtu: inner(&raw.underlay_mtu),
        forwarding: inner(&raw.forwarding),
        control_rate: inner(&raw.control_rate),
        keys_in_clear: raw.keys_in_clear,
        timers: TimerSettings {
            hello: inner(&timers.hello),
            keepalive: inner(&timers.keepalive),
            answer: inner(&timers.answer),
            echo: inner(&timers.echo),
        },
    };
    let networks =
        raw.network.iter().map(|network| (network.name.get_ref().clone(), Arc::new(network_spec(network))));
    Spec { revision: 0, parameters: fresh(parameters), networks: networks.collect() }
}

/// Checks desired state; the process's own settings are those of `process`.
pub(super) fn check(process: &Config, spec: &Spec) -> Result<(Config, Vec<Diagnostic>), ConfigErrors> {
    let mut fields = Fields(String::new());
    let raw = file(&mut fields, spec);
    let mut report = Report::of_fields(&fields.0);
    let checked = check::config(raw, Some(&process.control), &mut report);
    let warnings = report.finish()?;
    let config = Config {
        listen: process.listen.clone(),
        tls: process.tls.clone(),
        api: process.api.clone(),
        store: process.store.clone(),
        ..checked
    };
    Ok((config, warnings))
}

fn inner<T: Clone>(value: &Option<Spanned<T>>) -> Option<T> {
    value.as_ref().map(|value| value.get_ref().clone())
}

fn all<T: for<'a> From<&'a str>>(values: &[Spanned<String>]) -> Vec<T> {
    values.iter().map(|value| value.get_ref().as_str().into()).collect()
}

const fn fresh<T>(value: T) -> Versioned<T> {
    Versioned { revision: 0, value }
}

fn network_spec(raw: &raw::Network) -> NetworkSpec {
    let settings = NetworkSettings {
        vni: *raw.vni.get_ref(),
        mtu: raw.mtu.as_ref().map(|mtu| match mtu.get_ref() {
            raw::Mtu::Number(number) => MtuSetting::Number(*number),
            raw::Mtu::Text(text) => MtuSetting::Text(text.clone()),
        }),
        group: raw.group.get_ref().clone(),
        cipher: inner(&raw.cipher),
        rotate: inner(&raw.rotate),
    };
    let members = raw.member.iter().map(|member| {
        let settings = MemberSettings {
            mac: member.mac.get_ref().into(),
            ip: member.ip.get_ref().into(),
            underlay_mac: member.underlay_mac.get_ref().into(),
            underlay_ip: member.underlay_ip.get_ref().into(),
            offloads: all(&member.offloads),
            flows: all(&member.flows),
        };
        (member.name.get_ref().into(), Box::new(fresh(settings)))
    });
    NetworkSpec { settings: fresh(settings), members: members.collect() }
}

/// The list of fields, as it grows.
struct Fields(String);

impl Fields {
    /// A value in a line of its own; its place is that of the value.
    fn field<T: Display + Clone>(&mut self, path: &str, value: &T) -> Spanned<T> {
        let span = self.line(path, &value.to_string());
        Spanned::new(span, value.clone())
    }

    /// As `field`, in quotation marks, as a text of a file has them.
    fn text(&mut self, path: &str, value: &str) -> Spanned<String> {
        let shown = value.replace(['\n', '\r'], " ");
        let span = self.line(path, &format!("\"{shown}\""));
        Spanned::new(span, value.to_owned())
    }

    fn option(&mut self, path: &str, value: &Option<String>) -> Option<Spanned<String>> {
        value.as_ref().map(|value| self.text(path, value))
    }

    fn texts(&mut self, path: &str, values: &[impl AsRef<str>]) -> Vec<Spanned<String>> {
        values
            .iter()
            .enumerate()
            .map(|(index, value)| self.text(&format!("{path}/{index}"), value.as_ref()))
            .collect()
    }

    fn line(&mut self, path: &str, value: &str) -> Range<usize> {
        self.0.push_str(path);
        self.0.push_str(" = ");
        let start = self.0.len();
        self.0.push_str(value);
        let end = self.0.len();
        self.0.push('\n');
        start..end
    }
}

fn file(fields: &mut Fields, spec: &Spec) -> raw::File {
    let parameters = &spec.parameters.value;
    let timers = &parameters.timers;
    raw::File {
        listen: Vec::new(),
        ethertype: parameters.ethertype.map(|value| fields.field("parameters/ethertype", &value)),
        underlay_mtu: parameters.underlay_mtu.map(|value| fields.field("parameters/underlay_mtu", &value)),
        forwarding: fields.option("parameters/forwarding", &parameters.forwarding),
        control_rate: parameters.control_rate.map(|value| fields.field("parameters/control_rate", &value)),
        keys_in_clear: parameters.keys_in_clear,
        control_keys: None,
        version_3: None,
        timers: raw::Timers {
            hello: fields.option("parameters/timers/hello", &timers.hello),
            keepalive: fields.option("parameters/timers/keepalive", &timers.keepalive),
            answer: fields.option("parameters/timers/answer", &timers.answer),
            echo: fields.option("parameters/timers/echo", &timers.echo),
        },
        store: None,
        tls: None,
        api: None,
        network: spec.networks.iter().map(|(name, network)| raw_network(fields, name, network)).collect(),
    }
}

fn raw_network(fields: &mut Fields, name: &str, network: &NetworkSpec) -> raw::Network {
    let path = |field: &str| format!("networks/{name}/{field}");
    let settings = &network.settings.value;
    raw::Network {
        name: fields.text(&path("name"), name),
        vni: fields.field(&path("vni"), &settings.vni),
        mtu: settings.mtu.as_ref().map(|mtu| match mtu {
            MtuSetting::Number(number) => {
                Spanned::new(fields.line(&path("mtu"), &number.to_string()), raw::Mtu::Number(*number))
            }
            MtuSetting::Text(text) => {
                Spanned::new(fields.text(&path("mtu"), text).span(), raw::Mtu::Text(text.clone()))
            }
        }),
        group: fields.text(&path("group"), &settings.group),
        cipher: fields.option(&path("cipher"), &settings.cipher),
        rotate: fields.option(&path("rotate"), &settings.rotate),
        member: network
            .members
            .iter()
            .map(|(member, settings)| {
                raw_member(fields, &path(&format!("members/{member}")), member, &settings.value)
            })
            .collect(),
    }
}

fn raw_member(fields: &mut Fields, path: &str, name: &str, settings: &MemberSettings) -> raw::Member {
    let of = |field: &str| format!("{path}/{field}");
    raw::Member {
        name: fields.text(&of("name"), name),
        mac: fields.text(&of("mac"), &settings.mac),
        ip: fields.text(&of("ip"), &settings.ip),
        underlay_mac: fields.text(&of("underlay_mac"), &settings.underlay_mac),
        underlay_ip: fields.text(&of("underlay_ip"), &settings.underlay_ip),
        offloads: fields.texts(&of("offloads"), &settings.offloads),
        flows: fields.texts(&of("flows"), &settings.flows),
    }
}
