//! Who has read something is told whether it has changed, and changes nothing that others have changed.

use cvsw_controller::client::http::Parts;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    api_support::{Api, Kind, MEMBER, REST, problem},
    body,
};

fn unless(tag: &str) -> Parts<'static> {
    Parts { if_none_match: Some(tag.to_owned()), ..Parts::default() }
}

/// Who has read something is told whether it has changed, by any change of what is shown.
#[test]
fn everything_that_is_wanted_has_a_strong_entity_tag() {
    let mut api = Api::start(Kind::Stored);
    let document: Value = api.get("/v1/openapi.json").read().unwrap();
    let real =
        |path: &str| path.replace("{network}", "n").replace("{member}", "vm").replace("{mac}", "02:00:00:00:00:01");
    let is_wanted = |item: &&Value| item["get"]["tags"] == json!(["desired"]);
    let items = document["paths"].as_object().unwrap();
    let paths: Vec<_> = items.iter().filter(|(_, item)| is_wanted(item)).map(|(path, _)| real(path)).collect();
    assert_eq!(paths.len(), 7, "{paths:?}");
    for (path, item) in items.iter().filter(|(_, item)| is_wanted(item)) {
        let answers = &item["get"]["responses"];
        let tagged = ["200", "304"].iter().all(|status| answers[status]["headers"]["ETag"].is_object());
        assert!(tagged && answers["412"].is_object(), "what is documented of {path}: {answers}");
    }
    let tag_of = |api: &Api, path: &str| api.get(path).etag.unwrap();
    let read = |api: &Api| paths.iter().map(|path| tag_of(api, path)).collect::<Vec<_>>();
    let tags = read(&api);
    for (path, tag) in paths.iter().zip(&tags) {
        let whole = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).expect("strong");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"1\", {tag}"), "*".to_owned()] {
            let answer = api.ask(Method::GET, path, unless(&known));
            assert_eq!((answer.status.as_u16(), answer.etag.as_ref()), (304, Some(tag)), "{path} {known}");
            assert!(answer.body.is_empty(), "{path}");
        }
        let part = whole.split_once('-').map_or(&whole[1..], |(revision, _)| revision);
        assert_eq!(api.ask(Method::GET, path, unless(&format!("\"{part}\""))).status, 200, "{path}");
        for (wanted, status) in [(tag.clone(), 200), (format!("W/{tag}"), 412), ("\"0-0\"".to_owned(), 412)] {
            let parts = Parts { if_match: Some(wanted), ..Parts::default() };
            assert_eq!(api.ask(Method::GET, path, parts).status, status, "{path}");
        }
    }
    // Another representation has another tag.
    let flows = "/v1/vnics/02:00:00:00:00:01/flows";
    let text = || Parts { accept: Some("text/plain"), ..Parts::default() };
    let tag = api.ask(Method::GET, flows, text()).etag.unwrap();
    assert_ne!(tag, tag_of(&api, flows));
    assert_eq!(api.ask(Method::GET, flows, Parts { accept: Some("text/plain"), ..unless(&tag) }).status, 304);
    assert_eq!(api.ask(Method::GET, flows, unless(&tag)).status, 200);

    // A second member is seen in everything but the parameters and the first member.
    let second = json!({"mac": "02:00:00:00:00:02", "ip": "10.0.0.2", "underlay_mac": "02:00:00:00:01:02",
                        "underlay_ip": "192.0.2.2"});
    assert_eq!(api.ask(Method::PUT, "/v1/networks/n/members/second", body(&second)).status, 201);
    let same = |one: &[String], other: &[String]| {
        let pairs = paths.iter().zip(one.iter().zip(other));
        pairs.filter(|(_, (one, other))| one == other).map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    let with_two = read(&api);
    assert_eq!(same(&tags, &with_two), ["/v1/networks/n/members/vm", "/v1/parameters"]);
    api.restart();
    assert_eq!(same(&with_two, &read(&api)), paths, "tags outlive the process");
}

/// Where the file is the desired state no revisions are stored, and its changes are seen all the same.
#[test]
fn a_change_of_the_file_changes_entity_tags() {
    let api = Api::start(Kind::File);
    let path = "/v1/networks/n";
    let tag = api.get(path).etag.unwrap();
    assert_eq!(api.ask(Method::GET, path, unless(&tag)).status, 304);
    api.write_config(&format!("{REST}[[network]]\nname = \"n\"\nvni = 3\ngroup = \"239.0.0.3\"\n"));
    api.wait("the file's change", |api| api.ask(Method::GET, path, unless(&tag)).status == 200);
}

/// Every change is refused to who knows an older state, and to who knows none where there is one.
#[test]
fn every_change_heeds_preconditions() {
    let api = Api::start(Kind::Stored);
    let (network, member, flows) =
        ("/v1/networks/n", "/v1/networks/n/members/vm", "/v1/vnics/02:00:00:00:00:01/flows");
    let flow = "priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop";
    let one = json!({"flows": [flow]});
    let toml = String::from_utf8(api.get("/v1/config").body.to_vec()).unwrap();
    let config = || Parts { body: Some(("application/toml", toml.clone().into_bytes())), ..Parts::default() };
    let flow_path = format!("{flows}?flow=priority%3D50000,in_port%3DHOST,udp,tp_dst%3D9");
    // What is changed, the tag of what is changed, and the change, in an order in which each changes something.
    type Change<'a> = (Method, &'a str, &'a str, Box<dyn Fn() -> Parts<'static> + 'a>);
    let changes: Vec<Change<'_>> = vec![
        (Method::PUT, "/v1/parameters", "/v1/parameters", Box::new(|| body(&json!({"underlay_mtu": 1600})))),
        (Method::PUT, "/v1/config", "/v1/config", Box::new(config)),
        (Method::PUT, flows, flows, Box::new(|| body(&one))),
        (Method::DELETE, &flow_path, flows, Box::new(Parts::default)),
        (Method::POST, flows, flows, Box::new(|| body(&one))),
        (Method::PUT, member, member, Box::new(|| body(&MEMBER))),
        (Method::PUT, network, network, Box::new(|| body(&json!({"vni": 9, "group": "239.0.0.9"})))),
        (Method::DELETE, member, member, Box::new(Parts::default)),
        (Method::DELETE, network, network, Box::new(Parts::default)),
    ];
    let document: Value = api.get("/v1/openapi.json").read().unwrap();
    let conditional = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
    let conditional = conditional
        .filter(|(method, operation)| *method != "get" && operation.to_string().contains("\"name\":\"If-Match\""));
    assert_eq!(conditional.count(), changes.len(), "every change that the document calls conditional is here");
    for (method, path, read, parts) in &changes {
        let tag = api.get(read).etag.unwrap();
        let ask = |if_match: Option<String>, if_none_match: Option<String>| {
            api.ask(method.clone(), path, Parts { if_match, if_none_match, ..parts() })
        };
        let digest = tag.split(['-', '"']).rfind(|part| !part.is_empty()).unwrap();
        for stale in ["\"0\"".to_owned(), format!("\"0-{digest}\""), format!("W/{tag}"), "\"x\"".to_owned()] {
            let answer = ask(Some(stale.clone()), None);
            assert_eq!(problem(&answer).kind, "urn:cvsw:problem:changed", "{method} {path} {stale}");
        }
        for known in ["*".to_owned(), tag.clone(), format!("W/{tag}")] {
            assert_eq!(ask(None, Some(known.clone())).status, 412, "{method} {path} {known}");
        }
        assert_eq!(api.get(read).etag.as_ref(), Some(&tag), "{method} {path}: nothing was changed");
        let answer = ask(Some(tag.clone()), None);
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        let now = api.ask(Method::GET, read, Parts::default());
        if now.status == 200 {
            assert!(answer.etag.is_some() && answer.etag == now.etag, "{method} {path}: {answer:?} {now:?}");
        }
        assert_ne!(now.etag.as_ref(), Some(&tag), "{method} {path}: changed");
    }
}
