//! What the verbs say of rules by name.

use expect_test::expect;

use super::{answer, check, json};
use crate::exit::Code;

#[test]
fn explain_answers_of_names_without_looking_them_up() {
    check(
        "explain @/names.toml https://api.github.com/zen",
        Code::Ok,
        &expect![[r"
            allow  api.github.com:443/tcp  rule
              why     a rule of the policy allows it
              rule    domain api.github.com tcp 443 (line 12)
              records A, AAAA
              tls     require: the first data must be a TLS handshake for a name that a rule opens on this port
              policy  names ac406a2a1293cd3b7e7cb011b2a3228913fe07983a47a3023bf58a61299582ef
        "]],
    );
    check(
        "explain @/names.toml github.com:22",
        Code::Ok,
        &expect![[r"
            allow  github.com:22/tcp  rule
              why     a rule of the policy allows it
              rule    domain github.com tcp 22 tls=off (line 22)
              reason  git over ssh
              covers  domain github.com tcp 443 (line 16)
                      domain github.com records=MX,TXT (line 29)
              records A, AAAA, MX, TXT
              tls     off: any name on that address is reachable on this port
              policy  names ac406a2a1293cd3b7e7cb011b2a3228913fe07983a47a3023bf58a61299582ef
        "]],
    );
    check(
        "explain @/wildcard.toml files.pythonhosted.org:80",
        Code::Finding,
        &expect![[r#"
            deny  files.pythonhosted.org:80/tcp  not_allowed
              why     no rule of the policy names the destination, protocol and port
              covers  domain *.pythonhosted.org tcp 443 (line 16)
              records A, AAAA
              hint    [[egress.allow]]
                      domain = "files.pythonhosted.org"
                      ports = [80]
                      tls = "off"
              policy  wildcard ee78b9d87afdf4e835df44416a3b4bf7e73956b528f38725959d0e68ba3004f3
        "#]],
    );
}

#[test]
fn explain_says_what_names_could_change() {
    check(
        "explain @/observe.toml https://elsewhere.example/",
        Code::Ok,
        &expect![[r#"
            observe  elsewhere.example:443/tcp  name_not_allowed
              why     no rule of the policy covers the name
              records any: `observe` answers every name and reports it
              mode    observe: it passes and is reported; enforce would refuse it
              hint    [[egress.allow]]
                      domain = "elsewhere.example"
                      ports = [443]
              policy  observe 2e1421582a39d72544bd43126efc05ad1380086822cf7aad3cbf295f91d7dcb9
        "#]],
    );
    check(
        "explain @/names.toml 8.8.8.8:443",
        Code::Finding,
        &expect![[r#"
            deny  8.8.8.8:443/tcp  not_allowed
              why     no rule of the policy names the destination, protocol and port
              names   it passes while a name of one of these resolves there:
                      domain api.github.com tcp 443 (line 12)
                      domain github.com tcp 443 (line 16)
              hint    [[egress.allow]]
                      cidr = "8.8.8.8/32"
                      ports = [443]
              policy  names ac406a2a1293cd3b7e7cb011b2a3228913fe07983a47a3023bf58a61299582ef
        "#]],
    );
    let answer = json("explain --json @/names.toml github.com:22", Code::Ok);
    assert_eq!(answer["tls"]["demand"], "off");
    assert_eq!(answer["records"][1], "AAAA");
    let answer = json("explain --json @/names.toml 8.8.8.8:53/udp", Code::Ok);
    assert_eq!(answer["reason"], "resolver");
}

#[test]
fn what_guarantees_less_is_warned_of_and_shown() {
    check(
        "check @/names.toml",
        Code::Ok,
        &expect![[r"
            ok  names  4 rules, enforce, no lock
                warn  line 22: `domain github.com tcp 22 tls=off`: no name is checked: any name on that address is reachable on port 22
            1 policy, nothing wrong
        "]],
    );
    let all = json("check --json @/names.toml", Code::Ok);
    assert_eq!(all["policies"][0]["warnings"][0]["line"], 22);
    let show = answer("show @/names.toml").out;
    let rules = show.split("\nrules\n").nth(1).unwrap();
    expect![[r"
          e03289204453d231  line 12    domain api.github.com tcp 443
          1d06fb757c2a26bb  line 16    domain github.com tcp 443
          1b0bc283c9c68b48  line 22    domain github.com tcp 22 tls=off  # git over ssh
          4f422da8a798d1b1  line 29    domain github.com records=MX,TXT

        table (covering blocks united)

        names of TLS handshakes (covering wildcards united)
          api.github.com               tcp 443 tls
          github.com                   tcp 22, tcp 443 tls
    "]]
    .assert_eq(rules);
    let show = json("show --json @/names.toml", Code::Ok);
    assert_eq!(show["egress"]["names"][0]["pattern"], "api.github.com");
    assert_eq!(show["egress"]["rules"][0]["domain"]["tls"], "require");
}
