//! The API as its clients see it: documents, problems, entity tags, roles, TLS, events, and what survives a restart.

#[path = "../api_support/mod.rs"]
mod api_support;
mod entity_tags;

use api_support::{Api, Kind, MEMBER, Prometheus, REST, TOKENS, judge_queries, problem, unknown_to_grafana};
use cvsw_controller::{
    api::{
        desired::{MemberDocument, NetworkDocument},
        flows::FlowsDocument,
    },
    client::http::Parts,
    config::Listen,
    status::Status,
};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn body(value: &Value) -> Parts<'static> {
    Parts::json(value).unwrap()
}

fn matching(tag: &str, value: &Value) -> Parts<'static> {
    Parts { if_match: Some(tag.to_owned()), ..body(value) }
}

#[test]
fn desired_state_is_changed_checked_and_kept() {
    let mut api = Api::start(Kind::Stored);
    let networks: Vec<NetworkDocument> = api.get("/v1/networks").read().unwrap();
    assert_eq!(
        (networks.len(), networks[0].name.as_str(), networks[0].members),
        (1, "n", 1),
        "the file's were taken"
    );

    let red = json!({"vni": 7, "group": "239.0.0.7"});
    let created = api.ask(Method::PUT, "/v1/networks/red", body(&red));
    assert_eq!(created.status, 201, "{created:?}");
    let tag = created.etag.unwrap();
    let again =
        api.ask(Method::PUT, "/v1/networks/red", Parts { if_none_match: Some("*".to_owned()), ..body(&red) });
    assert_eq!((again.status.as_u16(), problem(&again).kind.as_str()), (412, "urn:cvsw:problem:changed"));
    let changed =
        api.ask(Method::PUT, "/v1/networks/red", matching(&tag, &json!({"vni": 8, "group": "239.0.0.7"})));
    assert_eq!(changed.status, 200);
    let stale = api.ask(Method::PUT, "/v1/networks/red", matching(&tag, &red));
    assert!(stale.status == 412 && problem(&stale).detail.contains("its revision is "), "{stale:?}");
    let same = api.ask(Method::GET, "/v1/networks/red", Parts::default());
    assert_eq!(same.etag, changed.etag, "a refused change changes nothing");

    let mut wrong = MEMBER.clone();
    wrong["mac"] = json!("03:00:00:00:00:09");
    wrong["ip"] = json!("10.0.0");
    let refused = problem(&api.ask(Method::PUT, "/v1/networks/red/members/b", body(&wrong)));
    let fields: Vec<_> = refused.errors.iter().map(|error| error.field.as_str()).collect();
    // Its underlay addresses are those of the other member.
    assert_eq!((refused.status, fields.len()), (422, 4), "{refused:?}");
    assert_eq!(fields[..2], ["networks/red/members/b/mac", "networks/red/members/b/ip"]);
    let twice = problem(&api.ask(Method::PUT, "/v1/networks/red/members/b", body(&MEMBER)));
    assert!(twice.errors[0].help.contains("networks/n/members/vm/mac"), "{twice:?}");
    let nowhere = api.ask(Method::PUT, "/v1/networks/blue/members/b", body(&MEMBER));
    assert_eq!(nowhere.status, 404);
    let typo = api.ask(Method::PUT, "/v1/networks/red", body(&json!({"vni": 8, "colour": 1})));
    assert!(typo.status == 422 && problem(&typo).detail.contains("unknown field `colour`"), "{typo:?}");
    let ethertype = api.ask(Method::PUT, "/v1/parameters", body(&json!({"ethertype": 0x88b5})));
    assert!(ethertype.status == 409 && problem(&ethertype).detail.contains("ethertype cannot change"));
    let full = api.ask(Method::DELETE, "/v1/networks/n", Parts::default());
    assert!(full.status == 409 && problem(&full).detail.contains("has 1 members"));

    let text = String::from_utf8(api.get("/v1/config").body.to_vec()).unwrap();
    api.restart();
    assert_eq!(String::from_utf8(api.get("/v1/config").body.to_vec()).unwrap(), text);
    assert_eq!(api.ask(Method::GET, "/v1/networks/red", Parts::default()).etag, changed.etag);
    let gone = api.ask(Method::DELETE, "/v1/networks/n?members=true", Parts::default());
    assert_eq!(gone.status, 204);
    let import = Parts { body: Some(("application/toml", text.clone().into_bytes())), ..Parts::default() };
    assert_eq!(api.ask(Method::PUT, "/v1/config", import).status, 204);
    assert_eq!(String::from_utf8(api.get("/v1/config").body.to_vec()).unwrap(), text);
    let bad = Parts { body: Some(("application/toml", b"vni = 1".to_vec())), ..Parts::default() };
    assert!(problem(&api.ask(Method::PUT, "/v1/config", bad)).detail.contains("request body:1:1"));
}

#[test]
fn flows_and_traces() {
    let api = Api::start(Kind::Stored);
    let path = "/v1/vnics/02:00:00:00:00:01/flows";
    let before: FlowsDocument = api.get(path).read().unwrap();
    assert_eq!(before.extra, Vec::<String>::new());
    let drop_nine = "priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop";
    let added = api.ask(Method::POST, path, body(&json!({"flows": [drop_nine]})));
    let document: FlowsDocument = added.read().unwrap();
    assert_eq!(
        (document.flows.len(), document.extra.as_slice()),
        (before.flows.len() + 1, &[drop_nine.to_owned()][..])
    );
    let twice = api.ask(Method::POST, path, body(&json!({"flows": [drop_nine]})));
    assert!(twice.status == 422 && problem(&twice).detail.contains("same priority and match"), "{twice:?}");
    let wrong =
        problem(&api.ask(Method::POST, path, body(&json!({"flows": ["in_port=HOST,udp,tp_dst=x,actions=drop"]}))));
    assert_eq!(wrong.errors[0].field, "networks/n/members/vm/flows/1");
    let text = Parts { accept: Some("text/plain"), ..Parts::default() };
    let text = String::from_utf8(api.ask(Method::GET, path, text).body.to_vec()).unwrap();
    assert!(text.lines().count() == document.flows.len() && text.contains("tp_dst=9"), "{text}");

    let frame = "02 00 00 00 00 02  02 00 00 00 00 01  08 00  45 00 00 1d 00 00 00 00 40 11 00 00  0a 00 00 01 \
                 0a 00 00 02  00 07 00 09 00 09 00 00 00";
    let trace = |direction: &str| {
        let request = body(&json!({"direction": direction, "frame": frame}));
        api.ask(Method::POST, "/v1/vnics/02:00:00:00:00:01/trace", request)
    };
    let verdict = |direction: &str| {
        let trace: Value = trace(direction).read().unwrap();
        trace["steps"].as_array().unwrap().last().unwrap()["drop_reason"].clone()
    };
    assert_eq!(verdict("tx"), json!("policy"));
    assert_eq!(trace("up").status, 400);
    let long = format!("{}{}", &frame[..frame.find("45 00").unwrap()], "45 00 05 dc 00 00 40 00 40 11 00 00")
        + &"00".repeat(1488);
    let request = body(&json!({"direction": "tx", "frame": long}));
    let text = Parts { accept: Some("text/plain"), ..request };
    let traced = api.ask(Method::POST, "/v1/vnics/02:00:00:00:00:01/trace", text);
    let traced = String::from_utf8(traced.body.to_vec()).unwrap();
    assert!(traced.contains("verdict: drop (packet_too_big)"), "the MTU holds, too: {traced}");
    let removed = api.ask(
        Method::DELETE,
        &format!("{path}?flow=priority%3D50000,in_port%3DHOST,udp,tp_dst%3D9"),
        Parts::default(),
    );
    assert_eq!(removed.status, 200, "{removed:?}");
    assert_eq!(verdict("tx"), Value::Null, "it goes into the tunnel");
    let from = |direction: &str, from: &str| {
        let request = body(&json!({"direction": direction, "frame": frame, "from": from}));
        api.ask(Method::POST, "/v1/vnics/02:00:00:00:00:02/trace", request)
    };
    assert_eq!(from("rx", "02:00:00:00:00:01").status, 404, "there is no such vNIC");
    let second = json!({"mac": "02:00:00:00:00:02", "ip": "10.0.0.2", "underlay_mac": "02:00:00:00:01:02",
                        "underlay_ip": "192.0.2.2"});
    assert_eq!(api.ask(Method::PUT, "/v1/networks/n/members/second", body(&second)).status, 201);
    let arrived: Value = from("rx", "02:00:00:00:00:01").read().unwrap();
    assert_eq!(arrived["steps"].as_array().unwrap().last().unwrap()["verdict"], "forward", "{arrived}");
    assert_eq!(arrived["output"], frame.replace(' ', ""), "out of the tunnel again");
    assert_eq!(from("rx", "02:00:00:00:00:99").status, 404);
    let sent = problem(&from("tx", "02:00:00:00:00:01"));
    assert!(sent.status == 400 && sent.detail.contains("only what is received"), "{sent:?}");
    assert_eq!(api.ask(Method::GET, "/v1/vnics/02:00:00:00:00:99/flows", Parts::default()).status, 404);
    assert_eq!(api.ask(Method::GET, "/v1/vnics/nobody", Parts::default()).status, 400);
}

#[test]
fn the_file_is_the_desired_state_where_there_is_no_store() {
    let api = Api::start(Kind::File);
    let refused =
        problem(&api.ask(Method::PUT, "/v1/networks/red", body(&json!({"vni": 7, "group": "239.0.0.7"}))));
    assert!(refused.status == 409 && refused.detail.contains("--store"), "{refused:?}");
    let member: MemberDocument = api.get("/v1/networks/n/members/vm").read().unwrap();
    assert_eq!(json!(member.settings), *MEMBER);
    let status: Status = api.get("/v1/status").read().unwrap();
    assert_eq!(status.vnics[0].state, "absent");
    let pairs: Value = api.get("/v1/networks/n/pairs").read().unwrap();
    assert_eq!(pairs, json!([{"sender": "vm", "receiver": null, "state": "clear", "suite": null}]));
    api.write_config(&format!("{REST}[[network]]\nname = \"other\"\nvni = 3\ngroup = \"239.0.0.3\"\n"));
    api.wait("the file's change", |api| api.ask(Method::GET, "/v1/networks/other", Parts::default()).status == 200);
    assert_eq!(api.ask(Method::GET, "/v1/networks/n", Parts::default()).status, 404);
}

/// A list in pages of `limit`, each from behind the last entry of the one before, as `after` names it.
fn in_pages(api: &Api, path: &str, limit: usize, after: impl Fn(&Value) -> String) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let behind = all.last().map(|last| format!("&after={}", after(last))).unwrap_or_default();
        let page: Vec<Value> = api.get(&format!("{path}?limit={limit}{behind}")).read().unwrap();
        assert!(page.len() <= limit);
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return all;
        }
    }
}

#[test]
fn pairs_and_keys_come_in_pages() {
    let api = Api::start(Kind::Stored);
    assert_eq!(api.ask(Method::PUT, "/v1/parameters", body(&json!({"keys_in_clear": true}))).status, 200);
    let pair = |pair: &Value| {
        format!("{},{}", pair["sender"].as_str().unwrap(), pair["receiver"].as_str().unwrap_or_default())
    };
    let key = |key: &Value| {
        format!("{},{},{}", key["vni"], key["sender"].as_str().unwrap(), key["destination"].as_str().unwrap())
    };
    for (vni, network, cipher) in [(7, "red", None), (8, "blue", Some("aes-128-gcm"))] {
        let settings = json!({"vni": vni, "group": format!("239.0.0.{vni}"), "cipher": cipher});
        assert_eq!(api.ask(Method::PUT, &format!("/v1/networks/{network}"), body(&settings)).status, 201);
        for number in 1..=4 {
            let member = json!({
                "mac": format!("02:00:00:00:{vni:02}:{number:02}"), "ip": format!("10.{vni}.0.{number}"),
                "underlay_mac": format!("02:00:00:01:{vni:02}:{number:02}"), "underlay_ip": format!("192.0.2.{vni}{number}"),
            });
            let path = format!("/v1/networks/{network}/members/m{number}");
            let made = api.ask(Method::PUT, &path, body(&member));
            assert_eq!(made.status, 201, "{made:?}");
        }
        let path = format!("/v1/networks/{network}/pairs");
        let all: Vec<Value> = api.get(&path).read().unwrap();
        assert_eq!(all.len(), 16, "four senders, three receivers and the group each");
        for limit in [1, 3, 16, 17] {
            assert_eq!(in_pages(&api, &path, limit, pair), all, "{network}, {limit} at a time");
        }
        let of_one: Vec<_> = all.iter().filter(|pair| pair["sender"] == "m3").cloned().collect();
        let behind = format!("{path}?sender=m3&after={}", pair(&of_one[1]));
        assert_eq!(api.get(&behind).read::<Vec<Value>>().unwrap(), of_one[2..]);
        assert_eq!(api.get(&format!("{path}?sender=nobody")).read::<Vec<Value>>().unwrap(), Vec::<Value>::new());
        let wrong = problem(&api.ask(Method::GET, &format!("{path}?after=m3"), Parts::default()));
        assert!(wrong.status == 400 && wrong.detail.contains("SENDER,RECEIVER"), "{wrong:?}");
    }
    let all: Vec<Value> = api.get("/v1/keys").read().unwrap();
    assert_eq!(all.len(), 16);
    for limit in [1, 5, 16] {
        assert_eq!(in_pages(&api, "/v1/keys", limit, key), all);
    }
    for after in ["8", "8,02:00:00:00:08:01", "8,x,192.0.2.81", "8,02:00:00:00:08:01,192.0.2.81,9"] {
        let wrong = api.ask(Method::GET, &format!("/v1/keys?after={after}"), Parts::default());
        assert_eq!(problem(&wrong).status, 400, "{after}");
    }
    let gone = api.ask(Method::GET, "/v1/networks/blue/pairs?after=m1,m9", Parts::default());
    assert!(problem(&gone).detail.contains("first page"), "{gone:?}");
}

#[test]
fn everything_that_is_documented_is_served_and_nothing_else() {
    let api = Api::start(Kind::Stored);
    let document: Value = api.get("/v1/openapi.json").read().unwrap();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path.replace("{network}", "n").replace("{member}", "vm").replace("{mac}", "02:00:00:00:00:01");
        if path != "/v1/events" && item.get("get").is_some() {
            assert_eq!(api.ask(Method::GET, &real, Parts::default()).status, 200, "{path}");
        }
        assert_eq!(api.ask(Method::PATCH, &real, Parts::default()).status, 405, "{path}");
    }
    let nowhere = api.ask(Method::GET, "/v1/nonsense", Parts::default());
    assert_eq!((nowhere.status.as_u16(), problem(&nowhere).kind.as_str()), (404, "urn:cvsw:problem:not-found"));
    // Every reference inside the document leads somewhere.
    let text = document.to_string();
    for name in text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"].get(name).is_some(), "no schema {name}");
    }
}

/// Whatever part of a request cannot be read, the answer is a problem that says so.
#[test]
fn every_refusal_is_a_problem() {
    let api = Api::start(Kind::Stored);
    let with = |kind, content: &[u8]| Parts { body: Some((kind, content.to_vec())), ..Parts::default() };
    let (network, trace) = ("/v1/networks/red", "/v1/vnics/02:00:00:00:00:01/trace");
    let tag = |tag: &str| Parts { if_match: Some(tag.to_owned()), ..body(&json!({})) };
    let cases = [
        (Method::GET, "/v1/networks/%FF", Parts::default(), 400, "UTF-8"),
        (Method::GET, "/v1/vnics?limit=many", Parts::default(), 400, "limit"),
        (Method::DELETE, "/v1/networks/n?members=perhaps", Parts::default(), 400, "members"),
        (Method::PUT, "/v1/config", with("application/toml", b"\xff\xfe"), 400, "UTF-8"),
        (Method::PUT, network, with("text/plain", b"{}"), 415, "application/json"),
        (Method::PUT, network, with("application/json", b"{\"vni\""), 400, "EOF"),
        (Method::PUT, network, with("application/json", b"[]"), 422, "struct NetworkSettings"),
        (Method::PUT, network, tag("17"), 400, "quotation marks"),
        (Method::POST, trace, body(&json!({"direction": "tx", "frame": "0x"})), 400, "frame: "),
        (Method::DELETE, "/v1/vnics/02:00:00:00:00:01/flows?flow=no", Parts::default(), 400, "not a flow"),
        (Method::PATCH, network, Parts::default(), 405, "openapi.json"),
        (Method::GET, "/v2/networks", Parts::default(), 404, "openapi.json"),
    ];
    for (method, path, parts, status, detail) in cases {
        let answer = api.ask(method, path, parts);
        assert_eq!(
            (answer.status.as_u16(), answer.kind.as_deref()),
            (status, Some("application/problem+json")),
            "{path}"
        );
        let problem = problem(&answer);
        assert!(
            problem.detail.contains(detail) && problem.kind.starts_with("urn:cvsw:problem:"),
            "{path}: {problem:?}"
        );
    }
}

#[test]
fn roles_by_token_and_by_certificate() {
    let api = Api::start(Kind::Guarded);
    let network = || body(&json!({"vni": 7, "group": "239.0.0.7"}));
    let status = |client: &api_support::Caller| {
        let reads = client.ask(Method::GET, "/v1/networks", Parts::default());
        let writes = client.ask(Method::PUT, "/v1/networks/red", network());
        let traces = client.ask(Method::POST, "/v1/vnics/02:00:00:00:00:01/trace", body(&json!({})));
        [reads, writes, traces].map(|answer| answer.status.as_u16())
    };
    assert_eq!(status(&api.plain(None)), [401, 401, 401]);
    assert_eq!(status(&api.plain(Some("x"))), [401, 401, 401]);
    assert_eq!(status(&api.plain(Some(TOKENS[1]))), [200, 403, 422], "the reader");
    assert_eq!(status(&api.plain(Some(TOKENS[0]))), [200, 201, 422], "the admin");
    assert_eq!(status(&api.tls(None, None)), [401, 401, 401]);
    assert_eq!(status(&api.tls(Some("reader.example"), None)), [200, 403, 422]);
    assert_eq!(status(&api.tls(Some("ops.example"), None)), [200, 200, 422]);
    assert_eq!(status(&api.tls(Some("ops.example"), Some(TOKENS[1]))), [200, 403, 422], "the token wins");
    assert!(api.tls_of_a_stranger().contains("cannot reach"), "its certificate is signed by nobody we know");
    for path in ["/", "/healthz", "/page/app.js", "/v1/openapi.json"] {
        assert_eq!(api.plain(None).ask(Method::GET, path, Parts::default()).status, 200, "{path}");
    }
    assert_eq!(api.plain(None).ask(Method::GET, "/metrics", Parts::default()).status, 401);
}

#[test]
fn certificates_and_tokens_are_exchanged_while_it_runs() {
    let api = Api::start(Kind::Guarded);
    let reads = |client: &api_support::Caller| client.ask(Method::GET, "/v1/networks", Parts::default()).status;
    let new = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
    assert_eq!(reads(&api.plain(Some(TOKENS[0]))), 200);
    assert_eq!(reads(&api.plain(Some(new))), 401);
    assert_eq!(reads(&api.tls(Some("ops.example"), None)), 200);

    // What cannot be used changes nothing, not even what could be: the other files are new as well.
    let before = api.keep_authority();
    api.replace_secrets("admin short\n");
    api.hang_up();
    assert!(before.ask(&api).is_ok(), "the old certificate is shown");
    assert_eq!(reads(&api.plain(Some(TOKENS[0]))), 200);

    api.replace_secrets(&format!("reader {new}\n"));
    api.hang_up();
    api.wait("the new token", |api| reads(&api.plain(Some(new))) == 200);
    assert_eq!(reads(&api.plain(Some(TOKENS[0]))), 401);
    assert!(before.ask(&api).unwrap_err().contains("cannot reach"), "another authority has signed the certificate");
    assert_eq!(reads(&api.tls(Some("ops.example"), None)), 200);
}

#[test]
fn events_come_as_they_happen_and_again_for_who_missed_them() {
    let api = Api::start(Kind::Stored);
    let listener = api.listen("/v1/events?after=0");
    api.ask(Method::PUT, "/v1/networks/red", body(&json!({"vni": 7, "group": "239.0.0.7"})));
    let both = listener.take(2);
    assert!(both[0].contains("event: desired_state") && both[0].contains("\"generation\":1"), "{both:?}");
    assert!(both[1].starts_with("id: 2\n") && both[1].contains("\"generation\":2"), "{both:?}");
    assert_eq!(api.listen("/v1/events?after=1").take(1), both[1..]);
}

#[test]
fn metrics_follow_the_conventions() {
    let api = Api::start(Kind::Stored);
    let text = String::from_utf8(api.get("/metrics").body.to_vec()).unwrap();
    for line in [
        "cvsw_build_info{version=\"0.1.0\"} 1",
        "# TYPE cvsw_vnics gauge",
        "cvsw_vnics{state=\"absent\"} 1",
        "cvsw_vnics{state=\"ready\"} 0",
        "cvsw_networks 1",
        "cvsw_converged 0",
        "# TYPE cvsw_port_traffic_bytes counter",
        "cvsw_port_traffic_bytes_total{direction=\"tx\"} 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    api.judge_metrics(&text);
}

fn dashboard() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/grafana/cvsw.json")).unwrap()
}

/// Every query of the dashboard, with Grafana's variables filled in.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let filled = |text: &str| text.replace("$__rate_interval", "10s").replace("$instance", ".*");
    targets.map(|target| filled(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn the_dashboard_is_what_grafana_and_prometheus_know() {
    let text = dashboard();
    assert_eq!(unknown_to_grafana(&text), "");
    let odd = text.replace("\"gridPos\"", "\"position\"").replace("\"bps\"", "5");
    let complaints = unknown_to_grafana(&odd);
    assert!(complaints.contains("/panels/0/position"), "{complaints}");
    judge_queries(&queries());
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has its own id");
}

/// A real Prometheus scrapes a controller, and every panel gets data from it.
#[test]
fn every_query_of_the_dashboard_finds_data() {
    let api = Api::start(Kind::Guarded);
    let prometheus = Prometheus::of(api.address(), TOKENS[1]);
    let queries = queries();
    assert!(queries.len() > 10, "{queries:?}");
    for query in &queries {
        // A panel that shows what is above zero shows nothing where nothing has happened.
        let query = query.trim_end_matches(" > 0");
        api.wait(query, |_| !prometheus.query(query).is_empty());
    }
    let instances = || prometheus.ask("/api/v1/label/instance/values?match%5B%5D=cvsw_build_info");
    let Listen::Tcp(address) = api.address() else { panic!("{}", api.address()) };
    assert_eq!(instances(), Some(json!([address.to_string()])), "what the variable `instance` offers");
    let targets = prometheus.ask("/api/v1/targets").unwrap();
    assert_eq!(targets["activeTargets"][0]["lastError"], "");
    assert_eq!(prometheus.query("cvsw_vnics{state=\"absent\"}")[0]["value"][1], "1");
    assert_eq!(prometheus.query("cvsw_no_such_metric"), Vec::<Value>::new());
}
