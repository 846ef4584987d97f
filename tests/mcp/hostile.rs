//! What a model may be talked into, through a server's tool; and tools that change while the service is away.

use serde_json::{Map, Value, json};

use super::reread::{assert_unknown, reread};
use super::web::Web;
use super::{call, demo, entry, file, good_answer, web_entry};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::hostile::TEXTS;
use crate::support::switch::Switch;

/// Sixty texts, to a server on a pipe and to one behind HTTP: each gets the text as one argument, on one line or
/// in one body. The requests' own fields are what they were.
#[test]
fn hostile_arguments_stay_arguments() {
    let web = Web::serve("none");
    let notes = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mcp-hostile-notes");
    let _ = std::fs::remove_file(&notes);
    let mut pipe = entry("");
    pipe["env"]["NOTE"] = json!(notes);
    let servers = [("s".to_owned(), pipe), ("w".to_owned(), web_entry(&web))];
    let daemon = demo("hostile", &Map::from_iter(servers));
    daemon.wait_for_log("3 tools are offered");
    let mut client = call(&daemon);
    for (at, text) in TEXTS.iter().enumerate() {
        let arguments = json!({ "text": text, "number": at });
        for tool in ["s_echo", "w_echo"] {
            let before = client.of_type("tool").len();
            client.tell(&json!({ "type": "text", "text": format!("{tool} {arguments}") }));
            // The next turn interrupts what is said of this one.
            while client.of_type("tool").len() < before + 2 {
                client.wait_for_next("tool");
            }
            assert_eq!(client.of_type("tool")[before + 1]["state"], "done", "{text:?}");
        }
        let notes = std::fs::read_to_string(&notes).expect("it has run");
        assert_eq!(notes.lines().count(), at + 1, "{text:?}");
        let told = notes.lines().last().and_then(|line| line.strip_prefix("echo "));
        let told: Value = serde_json::from_str(told.expect("its name")).expect("one line of JSON");
        assert_eq!(told, arguments, "{text:?}");
        let asked = web.asked("tools/call");
        assert_eq!(asked.len(), at + 1, "{text:?}");
        assert_eq!(asked[at].body["params"]["arguments"], arguments, "{text:?}");
        assert_eq!(asked[at].fields.len(), asked[0].fields.len(), "{text:?}");
        assert_eq!(asked[at].field("host"), asked[0].field("host"), "{text:?}");
    }
    assert_eq!(daemon.log().matches("mcp s: it is ready").count(), 1);
    assert!(!daemon.log().contains('\u{1b}'));
}

fn states(client: &Client) -> Vec<&str> {
    client.of_type("call_state").iter().filter_map(|it| it["state"].as_str()).collect()
}

/// The service is away, the owner changes the file, and the service is back: the new session is told the tools as
/// they are now.
#[test]
fn tools_that_change_while_the_service_is_away_are_told_to_its_next_session() {
    let service = Daemon::simulate(&["no-welcome"]);
    let switch = Switch::to(service.address);
    let name = "outage";
    let list = [("goes".to_owned(), entry("")), ("stays".to_owned(), entry(""))];
    let path = file(name, &Map::from_iter(list));
    let path = path.to_str().expect("text");
    let settings = [("VOICELIVED_MCP_FILE", path), ("VOICELIVED_LOG", "debug")];
    let daemon = Daemon::run(switch.address, &settings);
    daemon.wait_for_log("2 tools are offered");
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    good_answer(&mut client, "goes", "before");
    // Nobody listens there, nor can another test get this port.
    switch.turn_to(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    switch.cut();
    client.wait_for("the outage", |message| message["state"] == "reconnecting");
    reread(&daemon, name, &[("comes", entry("")), ("stays", entry(""))], 2);
    assert_eq!(states(&client).last(), Some(&"reconnecting"), "the change came in the outage");
    switch.turn_to(service.address);
    while states(&client).last() != Some(&"active") {
        client.wait_for_next("call_state");
    }
    for server in ["comes", "stays"] {
        good_answer(&mut client, server, "after");
    }
    assert_unknown(&mut client, "goes_echo");
    assert_eq!(daemon.stop("TERM"), Some(0));
}
