//! Real programs resolve and reach what their policy names, as they do without a fence; and get a
//! quick no for all else, which nobody outside hears of.

use std::time::{Duration, Instant};

use lab::binary::Scratch;

use super::scene::{Scene, World, ask, text};

/// How quickly a refused name must be refused.
const QUICK: Duration = Duration::from_secs(1);

/// A program, its arguments (`{}` is the name), and what it prints where all is well.
struct Case {
    tool: &'static str,
    arguments: &'static [&'static str],
    prints: &'static str,
}

const fn case(
    tool: &'static str,
    arguments: &'static [&'static str],
    prints: &'static str,
) -> Case {
    Case {
        tool,
        arguments,
        prints,
    }
}

const PYTHON_TLS: &str = "import socket,ssl,sys
c=ssl.create_default_context(cafile='{ca}')
s=c.wrap_socket(socket.create_connection(('{}',443),timeout=5),server_hostname='{}')
s.sendall(b'GET / HTTP/1.1\\r\\nHost: {}\\r\\n\\r\\n')
d=b''
while b'hello' not in d: d+=s.recv(4096)
print(d.decode())";
const PYTHON_ADDRESSES: &str = "import socket
for f,t,p,c,a in sorted(socket.getaddrinfo('{}',443,type=socket.SOCK_STREAM)): print(a[0])";
const NODE_HTTPS: &str = "require('https').get('https://{}/',r=>{r.on('data',d=>process.stdout.write(d))\
                          ;r.on('end',()=>process.exit(0))}).on('error',e=>{console.log(e.code);process.exit(1)})";
const NODE_LOOKUP: &str = "require('dns').lookup('{}',{all:true},(e,a)=>{console.log(e?e.code:a.map(x=>x.address).join());process.exit(e?1:0)})";
const NODE_CARES: &str =
    "require('dns').resolve4('{}',(e,a)=>{console.log(e?e.code:a.join());process.exit(e?1:0)})";
const NODE_CARES6: &str =
    "require('dns').resolve6('{}',(e,a)=>{console.log(e?e.code:a.join());process.exit(e?1:0)})";

/// What `promtool` makes of the page of a server that is no Prometheus.
const PROMTOOL_HEARD: &str = "malformed HTTP status code";

/// Everything that asks for one name and reaches it.
const CASES: &[Case] = &[
    case("curl", &["-4", "https://{}/"], "hello from {}"),
    case("curl", &["-6", "https://{}/"], "hello from {}"),
    case("curl", &["https://{}/"], "hello from {}"),
    case("strict-curl", &["https://{}/"], "hello from {}"),
    case("promtool", &["https://{}", "up"], PROMTOOL_HEARD),
    case("python", &[PYTHON_TLS], "hello from {}"),
    case("python", &[PYTHON_ADDRESSES], "93.184.216.34"),
    case("python", &[PYTHON_ADDRESSES], "2606:2800:220:1::34"),
    case("node", &[NODE_HTTPS], "hello from {}"),
    case("node", &[NODE_LOOKUP], "93.184.216.34"),
    case("node", &[NODE_CARES], "93.184.216.34"),
    case("node", &[NODE_CARES6], "2606:2800:220:1::34"),
    case(
        "openssl",
        &["-connect", "{}:443", "-servername", "{}"],
        "Verification: OK",
    ),
    case(
        "openssl",
        &["-4", "-tls1_2", "-connect", "{}:443", "-servername", "{}"],
        "Verification: OK",
    ),
    case(
        "openssl",
        &["-6", "-connect", "{}:443", "-servername", "{}"],
        "Verification: OK",
    ),
    case("dig", &["{}", "A"], "93.184.216.34"),
    case("dig", &["{}", "AAAA"], "2606:2800:220:1::34"),
    case("dig", &["@8.8.8.8", "{}", "A"], "93.184.216.34"),
    case(
        "dig",
        &["@2001:4860:4860::8888", "{}", "AAAA"],
        "2606:2800:220:1::34",
    ),
    case("dig", &["+tcp", "{}", "A"], "93.184.216.34"),
    case(
        "dig",
        &["+tcp", "@1.1.1.1", "{}", "AAAA"],
        "2606:2800:220:1::34",
    ),
    case(
        "dig",
        &["+tcp", "@2001:4860:4860::8888", "{}", "A"],
        "93.184.216.34",
    ),
];

/// Questions as resolvers of many makes ask them, and what each gets.
const ASKED: &[(&str, &[&str])] = &[
    (
        "ask udp 8.8.8.8:53 site.example A",
        &["NOERROR", "93.184.216.34"],
    ),
    (
        "ask udp [2001:4860:4860::8888]:53 site.example AAAA",
        &["NOERROR", "2606:2800:220:1::34"],
    ),
    (
        "ask udp [::ffff:8.8.8.8]:53 site.example A",
        &["NOERROR", "93.184.216.34"],
    ),
    (
        "ask tcp 8.8.8.8:53 site.example AAAA",
        &["NOERROR", "2606:2800:220:1::34"],
    ),
    (
        "ask tcp [2001:4860:4860::8888]:53 site.example A",
        &["NOERROR", "93.184.216.34"],
    ),
    (
        "ask tcp [::ffff:8.8.8.8]:53 site.example A",
        &["NOERROR", "93.184.216.34"],
    ),
    // One socket, two servers: both answers come from whom they were asked of.
    (
        "askall site.example A 8.8.8.8:53 1.1.1.1:53",
        &["NOERROR", "93.184.216.34", "NOERROR", "93.184.216.34"],
    ),
    (
        "askall site.example AAAA [2001:4860:4860::8888]:53 [2620:fe::fe]:53",
        &[
            "NOERROR",
            "2606:2800:220:1::34",
            "NOERROR",
            "2606:2800:220:1::34",
        ],
    ),
    (
        "askall site.example A [::ffff:8.8.8.8]:53 [2620:fe::fe]:53",
        &["NOERROR", "93.184.216.34", "NOERROR", "93.184.216.34"],
    ),
    (
        "ask udp 8.8.8.8:53 SiTe.ExAmPlE. A",
        &["NOERROR", "93.184.216.34"],
    ),
    (
        "ask udp 8.8.8.8:53 xn--bcher-kva.example A",
        &["NOERROR", "93.184.216.34"],
    ),
    (
        "ask udp 8.8.8.8:53 texts.example MX",
        &["NOERROR", "TYPE15"],
    ),
    (
        "ask udp 8.8.8.8:53 texts.example TXT",
        &["NOERROR", "TYPE16"],
    ),
];

impl Case {
    fn arguments(&self, world: &World, name: &str) -> Vec<String> {
        let authority = world.tls.authority().display().to_string();
        self.arguments
            .iter()
            .map(|word| word.replace("{}", name).replace("{ca}", &authority))
            .collect()
    }

    fn prints(&self, name: &str) -> String {
        self.prints.replace("{}", name)
    }
}

#[test]
fn every_program_works_without_a_fence() {
    let scratch = Scratch::new().expect("a folder");
    let world = World::new(&scratch);
    let mut prober = world.bare_prober();
    for (script, values) in ASKED {
        let control = ask(&mut prober, script);
        assert_eq!(control.values, *values, "{script}: {control:?}");
    }
    for case in CASES {
        let arguments = case.arguments(&world, "site.example");
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let seen = text(&world.bare(case.tool, &arguments));
        let wanted = case.prints("site.example");
        assert!(
            seen.contains(&wanted),
            "{} {arguments:?}: {seen}",
            case.tool
        );
    }
}

#[test]
fn programs_reach_a_listed_name_as_they_do_without_a_fence() {
    let scene = Scene::new();
    let mut complaints = Vec::new();
    for case in CASES {
        let arguments = case.arguments(&scene.world, "site.example");
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let control = text(&scene.world.bare(case.tool, &arguments));
        let wanted = case.prints("site.example");
        assert!(
            control.contains(&wanted),
            "control: {} {arguments:?}: {control}",
            case.tool
        );
        let seen = text(&scene.fenced(case.tool, &arguments));
        if !seen.contains(&wanted) {
            complaints.push(format!("{} {arguments:?}: {seen}", case.tool));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    scene.end();
}

#[test]
fn a_name_that_no_rule_covers_is_refused_quickly_and_never_leaves_the_host() {
    let scene = Scene::new();
    let events = scene.events();
    let mut complaints = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        // A name of its own for each: what was asked bare says nothing about the fence.
        let name = format!("x{number}.strange.example");
        let arguments = case.arguments(&scene.world, &name);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let began = Instant::now();
        let output = scene.fenced(case.tool, &arguments);
        let took = began.elapsed();
        let seen = text(&output);
        if seen.contains("93.184.216") || seen.contains("hello from") {
            complaints.push(format!("{} {arguments:?} answered: {seen}", case.tool));
        }
        // Programs themselves take their time to start.
        if took > QUICK + Duration::from_secs(3) {
            complaints.push(format!("{} {arguments:?} took {took:?}", case.tool));
        }
        if scene.world.names.knows_of(&name) {
            complaints.push(format!(
                "{} {arguments:?}: the name left the host",
                case.tool
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let event = events.await_reason("name_not_allowed");
    let told = event["name"].as_str().expect("a name");
    assert!(told.ends_with(".strange.example"), "{event}");
    // The control: without a fence the same question is heard of.
    scene.world.bare("dig", &["x0.strange.example"]);
    assert!(scene.world.names.knows_of("x0.strange.example"));
    scene.end();
}

#[test]
fn a_refusal_takes_no_second() {
    let scene = Scene::new();
    let mut prober = scene.prober();
    for script in [
        "ask udp 8.8.8.8:53 strange.example A",
        "ask udp 8.8.8.8:53 strange.example AAAA",
        "ask udp [2001:4860:4860::8888]:53 strange.example A",
        "ask tcp 8.8.8.8:53 strange.example A",
        "ask tcp [2001:4860:4860::8888]:53 strange.example AAAA",
        "askall strange.example A 8.8.8.8:53 1.1.1.1:53",
    ] {
        let began = Instant::now();
        let answer = ask(&mut prober, script);
        assert!(began.elapsed() < QUICK, "{script}: {:?}", began.elapsed());
        let code = answer.values.first().map(String::as_str);
        assert!(
            matches!(code, Some("NXDOMAIN" | "REFUSED")),
            "{script}: {answer:?}"
        );
    }
    assert!(!scene.world.names.knows_of("strange.example"));
    let mut bare = scene.world.bare_prober();
    let control = ask(&mut bare, "ask udp 8.8.8.8:53 strange.example A");
    assert_eq!(control.values, ["NOERROR", "93.184.216.66"], "control");
}

#[test]
fn resolvers_of_every_make_are_answered() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for (script, values) in ASKED {
        let control = ask(&mut bare, script);
        assert_eq!(control.values, *values, "control: {script}: {control:?}");
        let answer = ask(&mut fenced, script);
        assert_eq!(answer.values, *values, "{script}: {answer:?}");
    }
    // The one upstream was asked, whatever server the worker named.
    let elsewhere = scene
        .world
        .names
        .asked()
        .into_iter()
        .filter(|asked| asked.source.ip().is_ipv4() && asked.server.to_string() == "9.9.9.9")
        .count();
    assert!(elsewhere > 0);
    scene.end();
}

#[test]
fn record_types_that_no_rule_lists_are_not_asked_for() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for record in ["TXT", "MX", "SRV", "ANY", "NS", "10"] {
        let script = format!("ask udp 8.8.8.8:53 site.example {record}");
        let answer = ask(&mut fenced, &script);
        assert!(
            !answer.values.iter().any(|value| value.starts_with("TYPE")),
            "{script}: {answer:?}"
        );
    }
    for record in ["HTTPS", "SVCB"] {
        let control = ask(
            &mut bare,
            &format!("ask udp 8.8.8.8:53 texts.example {record}"),
        );
        if record == "HTTPS" {
            assert_eq!(control.values, ["NOERROR", "TYPE65"], "control");
        }
        for name in ["site.example", "texts.example"] {
            let script = format!("ask udp 8.8.8.8:53 {name} {record}");
            let answer = ask(&mut fenced, &script);
            assert_eq!(answer.values, ["NOERROR"], "{script}: {answer:?}");
        }
    }
    let leaked: Vec<_> = scene
        .world
        .names
        .asked()
        .into_iter()
        .filter(|asked| asked.server.to_string() == "9.9.9.9")
        .filter(|asked| !matches!(asked.record.to_string().as_str(), "A" | "AAAA"))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn a_wildcard_covers_any_depth_and_not_its_apex() {
    let scene = Scene::new();
    for name in ["a.wild.example", "deep.down.wild.example"] {
        let url = format!("https://{name}/");
        let seen = text(&scene.fenced("curl", &[&url]));
        assert!(seen.contains(&format!("hello from {name}")), "{seen}");
    }
    let control = text(&scene.world.bare("curl", &["https://wild.example/"]));
    assert!(
        control.contains("hello from wild.example"),
        "control: {control}"
    );
    let seen = scene.fenced("curl", &["https://wild.example/"]);
    assert_eq!(
        seen.status.code(),
        Some(6),
        "could not resolve: {}",
        text(&seen)
    );
    for name in [
        "notwild.example",
        "wild.example.org",
        "a.wild.example.strange.example",
    ] {
        let seen = scene.fenced("curl", &[&format!("https://{name}/")]);
        assert_eq!(seen.status.code(), Some(6), "{name}: {}", text(&seen));
        assert!(!scene.world.names.knows_of(name), "{name} left the host");
    }
}
