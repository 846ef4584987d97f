//! A cough into a reply, through the whole program and its simulator, which takes a short turn for one.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support;
use serde_json::Value;
use support::client::{Client, speech};
use support::daemon::Daemon;

const ON: (&str, &str) = ("VOICELIVED_REVERSIBLE_BARGE_IN", "on");
const REPLY_SECONDS: usize = 8;

fn coughing() -> Daemon {
    let reply = format!("reply-seconds={REPLY_SECONDS}");
    Daemon::simulate(&["no-welcome", &reply, "cough=1200"])
}

fn silence(ms: usize) -> Vec<u8> {
    vec![0; ms * 48]
}

/// A quarter of a second, loud from its first sample to its last, and the silence behind it.
fn cough() -> Vec<u8> {
    let loud = (0..6_000_u32).flat_map(|at| (((at * 7_919) % 16_000) as i16 - 8_000).to_le_bytes());
    loud.chain(silence(1_000)).collect()
}

fn question() -> Vec<u8> {
    [speech("weather"), silence(1_000)].concat()
}

fn since(client: &Client, before: usize) -> Vec<Value> {
    client.messages[before..].iter().map(|(_, message)| message.clone()).collect()
}

/// Waits in silence until a message of one of these types has come after so many.
fn until(client: &mut Client, before: usize, kinds: &[&str]) {
    for _ in 0..300 {
        if kinds.iter().any(|kind| has(&since(client, before), kind)) {
            return;
        }
        client.speak(&silence(100), 1);
        client.read_one_within(Duration::from_millis(10));
    }
    panic!("none of {kinds:?} came: {}", client.told());
}

/// Asks, and coughs once the reply is heard. Returns what the client was told of the cough.
fn cough_into_reply(settings: &[(&str, &str)], query: &str) -> (Client, Vec<Value>, [Daemon; 2]) {
    let service = coughing();
    let daemon = Daemon::run(service.address, settings);
    let mut client = Client::join(daemon.address, query, "");
    client.wait_until_active();
    client.speak(&question(), 4);
    client.wait_for_audio(48_000);
    let before = client.messages.len();
    client.speak(&cough(), 1);
    until(&mut client, before, &["resume_playback", "speech_stopped"]);
    let told = since(&client, before);
    (client, told, [daemon, service])
}

fn has(told: &[Value], kind: &str) -> bool {
    told.iter().any(|message| message["type"] == kind)
}

#[test]
fn a_cough_lets_the_reply_go_on_and_a_turn_ends_it() {
    let (mut client, told, _servers) = cough_into_reply(&[ON], "barge_in=hold");
    assert!(has(&told, "hold") && has(&told, "resume_playback"), "{told:?}");
    assert!(!has(&told, "speech_started"), "{told:?}");
    client.wait_for_audio(REPLY_SECONDS * 48_000);
    let before = client.messages.len();
    client.speak(&question(), 1);
    until(&mut client, before, &["response_started"]);
    let told = since(&client, before);
    assert!(has(&told, "hold") && has(&told, "speech_started"), "{told:?}");
    assert!(!has(&told, "resume_playback"), "{told:?}");
    assert_eq!(client.of_type("speech_started").len(), 2, "of three stretches of speech");
    assert_eq!(client.of_type("error"), Vec::<&Value>::new());
}

#[test]
fn a_client_that_does_not_ask_or_may_not_is_told_what_it_always_was() {
    for (settings, query) in [(&[ON][..], "resume"), (&[][..], "barge_in=hold")] {
        let (_client, told, _servers) = cough_into_reply(settings, query);
        assert!(has(&told, "speech_started"), "{query}: {told:?}");
        assert!(!has(&told, "hold") && !has(&told, "resume_playback"), "{query}: {told:?}");
    }
}

/// The file has what a listener has heard: all of the answer, and what was repeated after the cough.
#[test]
fn the_command_line_client_goes_on_after_a_cough() {
    let service = coughing();
    let daemon = Daemon::run(service.address, &[ON]);
    let out = std::env::temp_dir().join(format!("voicelived-cough-{}.wav", std::process::id()));
    let url = format!("ws://{}/ws", daemon.address);
    let mut call = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(["call", "--url", &url, "--in", "-", "--out", out.to_str().expect("UTF-8")])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut pipe = call.stdin.take().expect("piped");
    let said = [question(), silence(2_500), cough(), silence(500)].concat();
    pipe.write_all(&said).expect("it reads");
    drop(pipe);
    let output = call.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let heard = std::fs::read(&out).expect("an answer").len() - 44;
    std::fs::remove_file(&out).expect("it is ours");
    let repeated = heard - REPLY_SECONDS * 48_000;
    assert_eq!(repeated, 9_600, "200 ms");
}
