//! The web page in a real browser, with a real switch and real engines behind it.

use std::os::unix::fs::PermissionsExt as _;

use cvsw_controller::config::Listen;

use crate::support::{
    browser::Browser,
    controller::{Running, TIMERS},
    ovs::Ovs,
    vnic::Vnic,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn config(tokens: &str) -> String {
    let member = |number: u8, extra: &str| {
        format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"02:00:00:00:01:0{number}\"\nip = \"10.0.0.{number}\"\n\
             underlay_mac = \"02:00:00:01:00:0{number}\"\nunderlay_ip = \"192.0.2.{number}\"\n{extra}"
        )
    };
    let flow = "flows = [\"priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop\"]\n";
    format!(
        "keys_in_clear = true\n{TIMERS}[api]\nlisten = [\"tcp:127.0.0.1:0\"]\ntokens = \"{tokens}\"\n\
         [[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n{}{}\
         [[network]]\nname = \"red\"\nvni = 43\ngroup = \"239.1.1.43\"\ncipher = \"aes-128-gcm\"\n{}{}",
        member(1, flow),
        member(2, ""),
        member(3, ""),
        member(4, ""),
    )
}

/// Presses Tab until what has the focus matches.
fn tab_to(browser: &mut Browser, selector: &str) {
    for _ in 0..30 {
        browser.press("Tab");
        if browser.eval(&format!("document.activeElement.matches({selector:?})")) == true {
            return;
        }
    }
    panic!("the keyboard does not reach {selector}");
}

#[test]
fn an_operator_sees_and_reaches_everything_with_the_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, format!("reader {TOKEN}\n")).unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ovs = Ovs::start("00000000000000c1");
    for number in 1..=4 {
        ovs.add_port(&format!("p{number}"), number);
    }
    let controller = Running::start(&config(&tokens.display().to_string()), &[&ovs]);
    ovs.connect();
    let mac = |number| format!("02:00:00:00:01:0{number}").parse().unwrap();
    let nics: Vec<_> =
        (1..=3).map(|number| Vnic::start(&ovs.port_socket(&format!("p{number}")), mac(number), true)).collect();
    // Nobody knows it.
    let _stranger = Vnic::start(&ovs.port_socket("p4"), mac(9), true);
    controller.wait("two vNICs", |status| status.vnics.iter().filter(|vnic| vnic.state == "ready").count() == 3);

    let [Listen::Tcp(address)] = controller.api() else { panic!("{:?}", controller.api()) };
    let mut browser = Browser::open(&format!("http://{address}/"));
    browser.wait("the question for a token", "document.getElementById('login')?.open");
    let refused = browser.complaints();
    assert!(refused.iter().all(|one| one.contains("401")), "{refused:?}");
    browser.judge_access("the question for a token");
    browser.insert(TOKEN);
    browser.press("Enter");
    browser.wait("the health", "document.getElementById('health').textContent === 'not converged'");
    browser.wait("the topology", "document.querySelectorAll('main svg a').length === 4");
    let texts = browser
        .eval("[...document.querySelectorAll('main svg a')].map((a) => a.getAttribute('aria-label')).sort()");
    assert_eq!(texts[0], "vNIC vm1 in blue: ready");
    assert_eq!(texts[3], "vNIC vm4 in red: absent");

    let stranger = "document.querySelector('table[aria-label=Refusals] tbody tr')?.textContent";
    browser.wait("the stranger", &format!("/02:00:00:00:01:09.*not_in_configuration/.test({stranger})"));

    // Frames from a VM show up as throughput, as its switch counts them.
    for length in [600, 1200, 900] {
        let mut frame = vec![0xff; length];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        nics[0].fault(|faults| faults.inject.extend(vec![frame; 50]));
    }
    browser.wait("throughput", "/from vNICs [1-9]/.test(document.querySelector('.legend .tx').textContent)");
    assert_eq!(browser.eval("document.querySelectorAll('main svg rect').length"), 3, "a switch and two networks");
    browser.wait("a curve", "document.querySelector('polyline.tx').points.length > 2");
    browser.picture("page-overview-light.png");
    let light = browser.eval("getComputedStyle(document.body).backgroundColor");
    browser.scheme("dark");
    assert_ne!(browser.eval("getComputedStyle(document.body).backgroundColor"), light);
    browser.judge_access("the overview in the dark");
    browser.picture("page-overview-dark.png");
    browser.scheme("light");
    browser.judge_access("the overview");

    tab_to(&mut browser, "main svg a");
    browser.press("Enter");
    browser.wait("a vNIC's page", "location.hash.startsWith('#/vnic/02:00')");
    browser.eval("location.hash = '#/vnic/02:00:00:00:01:01'");
    let wanted = controller.status().vnics[0].flows;
    browser.wait(
        "the flows",
        &format!("document.querySelectorAll('table[aria-label=Flows] tbody tr').length === {wanted}"),
    );
    tab_to(&mut browser, "main textarea");
    browser.insert("020000000102 020000000101 0800 4500001d00000000401100000a0000010a000002 0007000900090000 00");
    browser.press("Tab");
    browser.press("Enter");
    browser.wait(
        "the trace",
        "document.getElementById('trace-result').textContent.includes('verdict: drop (policy)')",
    );
    // The page looks again every two seconds, and leaves what was typed and found alone.
    let seen = browser.eval("performance.now()");
    browser.wait("another look", &format!("performance.now() > {seen} + 4500"));
    assert_eq!(browser.eval("document.getElementById('trace-result').textContent.includes('verdict')"), true);
    browser.judge_access("a vNIC");
    browser.scheme("dark");
    browser.judge_access("a vNIC in the dark");
    browser.scheme("light");
    browser.picture("page-vnic.png");
    let offloads = "document.querySelector('dl').textContent.includes('offloadsnone, in force unknown (protocol version 2 has')";
    assert_eq!(browser.eval(offloads), true, "version 2 does not tell");
    assert_eq!(browser.eval("document.body.innerText.includes('[object')"), false);
    // From here to the neighbour, out of the tunnel again.
    browser.eval("location.hash = '#/vnic/02:00:00:00:01:02'");
    browser.wait(
        "the neighbour's page",
        "document.querySelector('main h2').textContent.includes('02:00:00:00:01:02')",
    );
    browser.eval("document.querySelector('main select[name=direction]').value = 'rx'");
    browser.eval("document.querySelector('main input[name=from]').value = '02:00:00:00:01:01'");
    tab_to(&mut browser, "main textarea");
    browser.insert("020000000102 020000000101 0806");
    browser.press("Tab");
    browser.press("Enter");
    browser
        .wait("what arrives", "document.getElementById('trace-result').textContent.includes('verdict: forward')");
    browser.eval("location.hash = '#/vnic/02:00:00:00:01:01'");
    browser.wait("its page", "document.querySelector('main h2').textContent.includes('02:00:00:00:01:01')");
    a_late_answer_does_not_bring_an_earlier_view_back(&mut browser);
    a_late_refusal_does_not_ask_again(&mut browser);

    browser.eval("location.hash = '#/network/red'");
    browser.wait("the pairs", "document.querySelectorAll('table[aria-label=Pairs] tbody tr').length === 4");
    browser.judge_access("a network");
    browser.eval("location.hash = '#/network/blue'");
    browser.wait("clear pairs", "document.querySelector('table[aria-label=Pairs]')?.textContent.includes('clear')");
    browser.eval("location.hash = '#/events'");
    browser.wait(
        "events",
        "document.querySelector('table[aria-label=Events]')?.textContent.includes('switch_connected')",
    );
    browser.judge_access("events");
    for (view, table) in [("vnics", "vNICs"), ("networks", "Networks")] {
        browser.eval(&format!("location.hash = '#/{view}'"));
        browser.wait(view, &format!("document.querySelector('table[aria-label={table}]')"));
        let text = browser.eval(&format!("document.querySelector('table[aria-label={table}]').textContent"));
        assert!(view != "vnics" || text.as_str().unwrap().contains("encrypted 0/2"), "{text}");
        browser.judge_access(view);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// While vm1 is looked at: answers about vm2, which was asked for before, come when nobody waits for them any more.
fn a_late_answer_does_not_bring_an_earlier_view_back(browser: &mut Browser) {
    browser.eval(
        "window.held = []; window.really = fetch; \
         window.fetch = (path, options) => path.includes('/02:00:00:00:01:02') \
           ? new Promise((go) => held.push(() => go(really(path, options)))) : really(path, options); \
         location.hash = '#/vnic/02:00:00:00:01:02'",
    );
    browser.wait("two questions that wait", "held.length === 2");
    browser.eval("location.hash = '#/vnic/02:00:00:00:01:01'");
    browser.eval("document.querySelector('main textarea').value = 'kept'");
    browser.eval("window.fetch = really; held.forEach((go) => go())");
    let seen = browser.eval("performance.now()");
    browser.wait("another look", &format!("performance.now() > {seen} + 4500"));
    assert_eq!(browser.eval("document.querySelector('main textarea').value"), "kept");
    assert_eq!(browser.eval("document.querySelector('h2').textContent.startsWith('vm1 ')"), true);
}

/// A request that was sent with an earlier token is refused when there is a better one already.
fn a_late_refusal_does_not_ask_again(browser: &mut Browser) {
    browser.eval(
        "window.late = null; sessionStorage.setItem('token', 'an earlier one'); \
         window.fetch = (path, options) => path === '/v1/summary' && !late \
           ? new Promise((go) => { late = () => go(new Response('{\"detail\": \"late\"}', { status: 401 })); }) \
           : really(path, options); 0",
    );
    browser.wait("a question that waits", "late");
    browser.eval(&format!("sessionStorage.setItem('token', '{TOKEN}'); late(); window.fetch = really; 0"));
    let seen = browser.eval("performance.now()");
    browser.wait("another look", &format!("performance.now() > {seen} + 4500"));
    assert_eq!(browser.eval("document.getElementById('login').open"), false);
    assert_eq!(browser.eval("document.getElementById('health').textContent"), "not converged");
}

#[test]
fn many_vnics_are_turned_over_and_searched() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, format!("reader {TOKEN}\n")).unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let member = |number: usize| {
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"02:00:00:00:{high:02x}:{low:02x}\"\nip = \"10.0.{high}.{low}\"\n\
             underlay_mac = \"02:00:00:01:{high:02x}:{low:02x}\"\nunderlay_ip = \"192.0.{high}.{low}\"\n"
        )
    };
    let members: String = (1..=250).map(member).collect();
    let config = format!(
        "{TIMERS}[api]\nlisten = [\"tcp:127.0.0.1:0\"]\ntokens = \"{}\"\n\
         [[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n{members}",
        tokens.display()
    );
    let controller = Running::listening(&config, vec!["tcp:127.0.0.1:0".parse().unwrap()]);
    let [Listen::Tcp(address)] = controller.api() else { panic!("{:?}", controller.api()) };
    let mut browser = Browser::open(&format!("http://{address}/#/vnics"));
    browser.wait("the question for a token", "document.getElementById('login')?.open");
    browser.complaints();
    browser.insert(TOKEN);
    browser.press("Enter");
    let rows = |browser: &mut Browser, page: &str, count: usize| {
        let there = "document.querySelectorAll('table[aria-label=vNICs] tbody tr').length";
        let shown = "document.querySelector('p.turn')?.dataset.page";
        browser.wait(&format!("page {page}"), &format!("{there} === {count} && {shown} === '{page}'"));
    };
    rows(&mut browser, "0", 100);
    tab_to_end(&mut browser, "More");
    browser.press("Enter");
    rows(&mut browser, "1", 100);
    browser
        .eval("[...document.querySelectorAll('p.turn button')].find((one) => one.textContent === 'More').click()");
    rows(&mut browser, "2", 50);
    assert_eq!(browser.eval("document.querySelectorAll('p.turn button').length"), 1, "there is no more");
    browser.eval("document.querySelector('p.turn button').click()");
    rows(&mut browser, "1", 100);

    browser.eval("document.querySelector('input[name=search]').focus()");
    browser.insert("VM24");
    browser.press("Enter");
    rows(&mut browser, "0", 11);
    // What was typed stays when the page looks again.
    assert_eq!(browser.eval("document.querySelector('input[name=search]').value"), "VM24");
    browser.eval("location.hash = '#/network/blue'");
    let members = "document.querySelectorAll('table[aria-label=Members] tbody tr').length";
    browser.wait("the first members", &format!("{members} === 100"));
    browser.eval("location.hash = '#/overview'");
    browser.wait("a drawing of the first ones", "document.querySelectorAll('main svg a').length === 200");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Puts the focus on the button with this text; over a hundred links, the keyboard's way to it is long.
fn tab_to_end(browser: &mut Browser, text: &str) {
    browser.eval("[...document.querySelectorAll('table[aria-label=vNICs] a')].at(-1).focus()");
    browser.press("Tab");
    assert_eq!(browser.eval("document.activeElement.textContent"), text);
}
