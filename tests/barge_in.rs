//! A cough into a reply, through the whole program and its simulator, which takes a short turn for one.

use std::io::Write;
use std::process::{Command, Stdio};

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

/// Asks, and coughs once the reply is heard. Returns what the client was told of the cough.
fn cough_into_reply(settings: &[(&str, &str)], query: &str) -> (Client, Vec<Value>) {
    let service = coughing();
    let daemon = Daemon::run(service.address, settings);
    let mut client = Client::join(daemon.address, query, "");
    client.wait_until_active();
    client.speak(&question(), 4);
    client.wait_for_audio(48_000);
    let before = client.messages.len();
    client.speak(&cough(), 1);
    let is_end = |m: &Value| m["type"] == "resume_playback" || m["type"] == "speech_stopped";
    client.wait_for("the end of the cough", is_end);
    let told = client.messages[before..].to_vec();
    if query.contains("hold") && settings.contains(&ON) {
        client.wait_for_audio(REPLY_SECONDS * 48_000);
        client.speak(&question(), 1);
        client.wait_for_next("speech_stopped");
    }
    (client, told)
}

fn has(told: &[Value], kind: &str) -> bool {
    told.iter().any(|message| message["type"] == kind)
}

#[test]
fn a_cough_lets_the_reply_go_on_and_a_turn_ends_it() {
    let (mut client, told) = cough_into_reply(&[ON], "barge_in=hold");
    assert!(has(&told, "hold") && has(&told, "resume_playback"), "{told:?}");
    assert!(!has(&told, "speech_started"), "{told:?}");
    assert_eq!(client.audio.len(), REPLY_SECONDS * 48_000, "all of it came, and once");
    let kinds: Vec<&str> = client.messages.iter().filter_map(|m| m["type"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "hold").count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == "speech_started").count(), 2);
    client.wait_for_next("response_started");
    client.wait_for_next("response_done");
    assert_eq!(client.of_type("error"), Vec::<&Value>::new());
}

#[test]
fn a_client_that_does_not_ask_or_may_not_is_told_what_it_always_was() {
    for (settings, query) in [(&[ON][..], "resume"), (&[][..], "barge_in=hold")] {
        let (_, told) = cough_into_reply(settings, query);
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
