//! The script's faults as a client meets them.

use super::*;

fn conversation(words: &[&str]) -> Client {
    let mut client = Client::configured(words, usual_session());
    client.say("Hello there, how are you today?");
    client.wait(5000);
    client
}

#[test]
fn endings_come_at_their_moment() {
    let closed = |client: &Client, code| matches!(client.others.last(), Some(Action::Close { code: got, .. }) if *got == code);
    let client = Client::scripted(&["close-after-upgrade"]);
    assert!(closed(&client, None) && client.events.is_empty());
    let client = Client::configured(&["close=1011:busy@update"], json!({}));
    assert!(closed(&client, Some(1011)) && client.events.is_empty());
    let client = conversation(&["close=1000:bye@reply"]);
    assert!(closed(&client, Some(1000)));
    assert_eq!(all(&client.events, "response.audio.delta").len(), 2);
    let client = conversation(&["reset@reply"]);
    assert_eq!(client.others, [Action::Reset]);
    let client = conversation(&["stall@reply"]);
    assert!(client.others.is_empty() && all(&client.events, "response.done").is_empty());
    assert_eq!(client.simulation.deadline(), None);
}

#[test]
fn refused_and_missing_sessions() {
    let client = Client::scripted(&["no-session-created"]);
    assert!(client.events.is_empty());
    let mut client = Client::scripted(&["refuse-session"]);
    client.take();
    client.send(json!({"type": "session.update", "event_id": "cfg", "session": {}}));
    assert_eq!(client.events[0]["error"]["event_id"], "cfg");
}

#[test]
fn replies_that_go_wrong() {
    let status = |client: &Client| find(&client.events, "response.done")["response"].clone();
    let failed = status(&conversation(&["fail-response"]));
    assert_eq!(failed["status_details"]["error"]["type"], "server_error");
    let incomplete = status(&conversation(&["incomplete-response"]));
    assert_eq!(incomplete["status_details"]["reason"], "max_output_tokens");
    assert_eq!(incomplete["output"][0]["status"], "incomplete");
    let client = conversation(&["no-reply"]);
    assert_eq!(kinds(&client.events), ["conversation.item.created"]);
}

#[test]
fn noise_surrounds_a_reply_that_is_whole() {
    let words = ["garbage", "unknown-events", "error-event=server_error", "big-message=100000"];
    let mut words = words.to_vec();
    words.extend(["pings", "nulls", "type-last", "whitespace", "odd-pcm", "binary"]);
    let client = conversation(&words);
    let whole = audio(&conversation(&[]).events);
    assert_eq!(audio(&client.events), whole);
    assert!(client.others.contains(&Action::Ping));
    assert_eq!(find(&client.events, "simulator.big")["padding"].as_str().unwrap().len(), 100_000);
    assert_eq!(find(&client.events, "error")["error"]["type"], "server_error");
    find(&client.events, "simulator.unheard_of");
    let odd = all(&client.events, "response.audio.delta")
        .into_iter()
        .filter(|event| STANDARD.decode(event["delta"].as_str().unwrap()).unwrap().len() % 2 == 1);
    assert!(odd.count() >= 2);
    let binary = client.others.iter().filter(|action| matches!(action, Action::SendBinary(_)));
    assert!(binary.count() > 10);
}

#[test]
fn bad_base64_is_one_delta_among_good_ones() {
    let client = conversation(&["bad-base64"]);
    let deltas = all(&client.events, "response.audio.delta");
    let bad = deltas.iter().filter(|e| STANDARD.decode(e["delta"].as_str().unwrap()).is_err());
    assert_eq!(bad.count(), 1);
    find(&client.events, "response.done");
}

#[test]
fn bad_arguments_are_no_json() {
    let mut client = Client::configured(&["bad-arguments", "tools=1"], usual_session());
    client.speak(&speech("greeting"));
    client.speak(&speech("silence-1s"));
    let done = find(&client.events, "response.function_call_arguments.done");
    let arguments = done["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).is_err(), "{arguments}");
}

#[test]
fn latency_delays_the_whole_reply() {
    let mut client = Client::configured(&["latency=400"], usual_session());
    client.say("Hello");
    client.wait(399);
    assert_eq!(kinds(&client.take()), ["conversation.item.created"]);
    client.wait(1);
    find(&client.take(), "response.created");
}
