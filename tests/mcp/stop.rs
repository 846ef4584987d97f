//! Nobody waits for a tool any more: the user has stopped it, or the call is over. What stands behind it is told.

use std::path::PathBuf;

use serde_json::{Map, json};

use super::{entry, file, good_answer};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::tools::Folder;

/// Types a turn that makes the model call the tool; returns when it runs, and nothing is being said.
fn begin(client: &mut Client, tool: &str) {
    client.tell(&json!({ "type": "text", "text": format!("{tool} {{\"text\":\"x\"}}") }));
    client.wait_for_next("tool");
    client.wait_for_next("response_done");
}

#[test]
fn a_tool_that_nobody_waits_for_is_cancelled_where_it_runs() {
    let folder = Folder::new("stop").with(
        "sleeper.json",
        r#"{"name": "sleeper", "description": "d", "command": ["sh", "-c", "echo $$ >pid; exec sleep 60"], "timeout_seconds": 60}"#,
    );
    let notes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mcp-stop-notes");
    let _ = std::fs::remove_file(&notes);
    let mut slow = entry("answers only the word");
    slow["timeout_seconds"] = json!(60);
    slow["env"]["NOTE"] = json!(notes);
    let servers = Map::from_iter([("s".to_owned(), slow)]);
    let path = file("stop", &servers);
    // A welcome that is still heard would be what is stopped.
    let daemon = Daemon::start(
        &["demo", "--listen", "127.0.0.1:0", "--fault", "no-welcome"],
        &[
            ("VOICELIVED_MCP_FILE", path.to_str().expect("text")),
            ("VOICELIVED_TOOLS_DIR", folder.path()),
        ],
    );
    daemon.wait_for_log("1 tools are offered");
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for tool in ["s_echo", "sleeper"] {
        begin(&mut client, tool);
        let pid = || std::fs::read_to_string(folder.0.join("pid")).unwrap_or_default();
        daemon.wait_until("it runs", |_| tool != "sleeper" || pid().ends_with('\n'));
        let answers = client.of_type("response_started").len();
        client.tell(&json!({ "type": "interrupt" }));
        assert_eq!(client.wait_for_next("tool")["state"], "failed", "{tool}");
        client.tell(&json!({ "type": "ping", "id": "settled" }));
        client.wait_for_next("pong");
        assert_eq!(client.of_type("response_started").len(), answers, "{tool}: nobody speaks");
    }
    let noted = || std::fs::read_to_string(&notes).unwrap_or_default();
    daemon.wait_until("the server is told", |_| {
        noted().contains("cancelled \"the user stopped it\"")
    });
    let pid = std::fs::read_to_string(folder.0.join("pid")).expect("it ran");
    let process = PathBuf::from("/proc").join(pid.trim());
    daemon.wait_until("its process has ended", |_| !process.exists());
    daemon.assert_counted("tool_runs_total", "abandoned", 2);
    // The call goes on, and the server was not started anew.
    good_answer(&mut client, "s", "word");
    begin(&mut client, "s_echo");
    client.tell(&json!({ "type": "hang_up" }));
    client.assert_ends("hanging up", 1000, "hang_up");
    daemon.wait_until("the server is told", |_| noted().contains("cancelled \"its call ended\""));
    daemon.assert_counted("tool_runs_total", "abandoned", 3);
    assert_eq!(daemon.log().matches("mcp s: it is ready").count(), 1);
    // It is asked to end before it is told to.
    assert_eq!(daemon.stop("TERM"), Some(0));
    assert!(noted().ends_with("ends \"with its input\"\n"), "{}", noted());
}
