//! Assistants and the tools of servers: each model is offered what its assistant may use of them, whatever they list.

use serde_json::{Map, json};

use super::reread::assert_unknown;
use super::{entry, file, good_answer, run};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::tools::Folder;

fn call_to(daemon: &Daemon, assistant: &str) -> Client {
    let mut client = Client::join(daemon.address, &format!("assistant={assistant}"), "");
    client.wait_until_active();
    client
}

/// The server lists another tool while calls run. The calls that may use it can call it from then on, and so can new
/// ones; the others never learn of it.
#[test]
fn a_server_that_changes_its_list_changes_nothing_of_what_an_assistant_may_use() {
    let folder = Folder::new("assistant-servers")
        .with("old.json", r#"{"name": "old", "tools": ["s_echo"]}"#)
        .with("new.json", r#"{"name": "new", "tools": ["s_new"]}"#);
    let path = file("assistants", &Map::from_iter([("s".to_owned(), entry("changes its tools"))]));
    let service = Daemon::simulate(&["no-welcome"]);
    let settings = [
        ("VOICELIVED_MCP_FILE", path.to_str().expect("text")),
        ("VOICELIVED_ASSISTANTS_DIR", folder.path()),
        ("VOICELIVED_LOG", "debug"),
    ];
    let daemon = Daemon::run(service.address, &settings);
    daemon.wait_for_log("1 tools are offered");
    let (mut old, mut new) = (call_to(&daemon, "old"), call_to(&daemon, "new"));
    assert_unknown(&mut new, "s_echo");
    good_answer(&mut old, "s", "before");
    daemon.wait_for_log("2 tools are offered");
    let works = |client: &mut Client| {
        let (state, said) = run(client, "s_new", &json!({ "text": "after" }));
        assert!(state == "done" && said.contains("after"), "{state}: {said}");
    };
    for turn in ["running", "begun later", "after a reload"] {
        works(&mut new);
        assert_unknown(&mut new, "s_echo");
        good_answer(&mut old, "s", turn);
        assert_unknown(&mut old, "s_new");
        if turn == "begun later" {
            daemon.signal("HUP");
            daemon.wait_for_log("settings: read again");
        }
        (old, new) = (call_to(&daemon, "old"), call_to(&daemon, "new"));
    }
}
