//! Servers of the model context protocol, as they come from their registries: started, greeted, asked
//! for their tools and to run some.

use agent::launcher::Exit;

use crate::fence::room::{policy, with_room};

/// Speaks to the server that its arguments start, then lets it end. Prints its tools' names, and what
/// the calls in its first argument gave.
const CLIENT: &str = r"
import json, subprocess, sys
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
def say(message):
    print(json.dumps({'jsonrpc': '2.0', **message}), file=server.stdin, flush=True)
def ask(number, method, parameters):
    say({'id': number, 'method': method, 'params': parameters})
    for line in server.stdout:
        answer = json.loads(line)
        if answer.get('id') == number and 'method' not in answer:
            return answer['result']
    raise SystemExit('no answer to ' + method)
ask(1, 'initialize', {'protocolVersion': '2025-06-18', 'capabilities': {},
                      'clientInfo': {'name': 'client', 'version': '1'}})
say({'method': 'notifications/initialized'})
print(*sorted(tool['name'] for tool in ask(2, 'tools/list', {})['tools']))
for number, (name, arguments) in enumerate(json.loads(sys.argv[1]), 3):
    result = ask(number, 'tools/call', {'name': name, 'arguments': arguments})
    print(json.dumps(json.loads(result['content'][0]['text'])))
server.stdin.close()
sys.exit(server.wait())
";

/// Runs a server under a profile and gives what the client printed.
fn asked(profile: &str, folder: &str, calls: &str, command: &[&str]) -> String {
    let servers = lab::binary::servers(folder).expect("it is installed");
    let servers = servers.display().to_string();
    let policy = policy(&format!(
        r#"
version = 1
tool = "server"
[worker]
environment = {{ HOME = "/workdir", PYTHONPATH = "{servers}", MEMORY_FILE_PATH = "/workdir/graph" }}
[filesystem]
read = ["/usr", "/etc/ssl", "{servers}"]
execute = ["/usr", "{servers}"]
[syscalls]
profile = "{profile}"
[limits]
memory = "1GiB"
processes = 64
open_files = 1024
"#
    ));
    let command: Vec<_> = command
        .iter()
        .map(|word| word.replace("{servers}", &servers))
        .collect();
    let mut client = vec!["/usr/bin/python3", "-c", CLIENT, calls];
    client.extend(command.iter().map(String::as_str));
    let ended = with_room(async |room| room.run(&policy, &client).await);
    assert_eq!(ended.exit, Exit::Code(0), "{profile}: {ended:?}");
    ended.stdout
}

#[test]
fn a_server_from_pypi_runs_under_default() {
    let calls = r#"[["convert_time", {"source_timezone": "UTC", "time": "12:00",
        "target_timezone": "Asia/Tokyo"}]]"#;
    let command = ["/usr/bin/python3", "-m", "mcp_server_time"];
    let said = asked("default", "pypi", calls, &command);
    assert!(
        said.starts_with("convert_time get_current_time\n"),
        "{said}"
    );
    assert!(said.contains("\"time_difference\": \"+9.0h\""), "{said}");
}

#[test]
fn a_server_from_npm_runs_under_interpreter() {
    let calls = r#"[["create_entities", {"entities": [{"name": "fence", "entityType": "thing",
        "observations": ["it stands"]}]}], ["read_graph", {}]]"#;
    let program = "{servers}/node_modules/@modelcontextprotocol/server-memory/dist/index.js";
    let said = asked("interpreter", "npm", calls, &["/usr/bin/node", program]);
    assert!(
        said.starts_with("add_observations create_entities "),
        "{said}"
    );
    let graph = said.lines().last().unwrap_or_default();
    assert!(
        graph.contains("\"observations\": [\"it stands\"]"),
        "{said}"
    );
}
