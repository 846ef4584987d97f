//! How long things may take and how much may wait, by a clock that the test moves: each limit holds to
//! the millisecond, and no test waits for it.

#[path = "support/kernel.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod kernel;
#[path = "support/random.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod random;
#[path = "support/scene.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod scene;

use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::Socket;
use scene::{Scene, settings, target};
use voicelived::call::CallSettings;
use voicelived::net::dial::{Dial, DialError, Progress};
use voicelived::net::ws::{Message, Sizes};

const TICK: Duration = Duration::from_millis(1);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ended(scene: &Scene, reason: &str) -> bool {
    scene.texts.contains(&format!(r#""reason":"{reason}""#))
}

// ---- a side that is silent, or takes nothing ----

#[test]
fn a_silent_service_is_asked_after_25_seconds_and_given_up_after_60() {
    let mut scene = Scene::new();
    scene.service_listens = false;
    scene.pass(seconds(60) - TICK);
    assert!(!scene.texts.contains("closed"), "{}", scene.texts);
    scene.pass(TICK);
    assert!(ended(&scene, "service_lost"), "{}", scene.texts);

    let mut scene = Scene::new();
    scene.pass(seconds(25) - TICK);
    assert_eq!(scene.service_controls, 0, "it was heard lately");
    scene.pass(TICK);
    assert_eq!(scene.service_controls, 1);
    // It answers, so it lives.
    scene.pass(seconds(3600));
    assert!(!scene.texts.contains("closed"), "{}", scene.texts);
    assert!(scene.service_controls > 10, "{}", scene.service_controls);
}

#[test]
fn a_silent_client_is_asked_after_10_seconds_and_given_up_after_25() {
    let mut scene = Scene::new();
    scene.pass(seconds(10) - TICK);
    assert_eq!(scene.client_controls, 0);
    scene.pass(TICK);
    assert_eq!(scene.client_controls, 1);

    let mut scene = Scene::new();
    scene.client_listens = false;
    scene.pass(seconds(25) - TICK);
    assert!(scene.session_is_talking());
    scene.pass(TICK);
    assert!(!scene.session_is_talking());
    assert!(!scene.closed);
    // It hears nothing, so its closing handshake is not waited for beyond two seconds.
    scene.pass(seconds(2) - TICK);
    assert!(!scene.closed);
    scene.pass(TICK);
    assert!(scene.closed);
}

#[test]
fn a_client_that_takes_nothing_is_given_up_after_15_seconds() {
    let mut scene = Scene::active(settings(), 4 * 1024);
    scene.client_listens = false;
    scene.say(&delta(48_000));
    // It says something all the time, but hears nothing.
    for _ in 0..14 {
        scene.pass(seconds(1));
        scene.client().send(Message::Binary(&[0; 2])).expect("there is room");
        scene.client().flush().expect("memory");
        scene.turn();
    }
    scene.pass(seconds(1) - TICK);
    assert!(scene.session_is_talking());
    scene.pass(TICK);
    assert!(!scene.session_is_talking());
}

#[test]
fn a_closing_handshake_that_is_answered_takes_no_time() {
    let mut scene = Scene::new();
    scene.client().send(Message::Text(r#"{"type":"hang_up"}"#)).expect("there is room");
    scene.client().flush().expect("memory");
    for _ in 0..5 {
        scene.turn();
    }
    assert!(scene.texts.contains("closed Some(1000)"), "{}", scene.texts);
    assert!(scene.closed, "it waits for its deadline");
}

// ---- audio that waits ----

fn delta(bytes: usize) -> Vec<u8> {
    let pcm: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
    let base64 = STANDARD.encode(pcm);
    format!(
        r#"{{"type":"response.audio.delta","response_id":"r","item_id":"i","delta":"{base64}"}}"#
    )
    .into_bytes()
}

/// What the WebSocket has taken can no longer be cleared: a client that is behind gets little at once.
#[test]
fn a_client_that_is_behind_gets_80_ms_at_a_time() {
    let mut scene = Scene::active(settings(), 4 * 1024);
    scene.client_listens = false;
    for _ in 0..4 {
        scene.say(&delta(48_000));
    }
    scene.client_listens = true;
    for _ in 0..1_000 {
        scene.turn();
    }
    assert_eq!(scene.audio.len(), 4 * 48_000);
    let most = scene.frames.iter().position(|bytes| *bytes <= 3840).expect("some are behind");
    let behind = &scene.frames[most..];
    assert!(behind.len() > 30, "{:?}", scene.frames);
    assert!(behind.iter().all(|bytes| *bytes <= 3840), "{:?}", scene.frames);
    assert!(behind.iter().filter(|bytes| **bytes == 3840).count() > 30, "{:?}", scene.frames);
}

#[test]
fn two_seconds_of_speech_are_kept_for_a_service_that_is_not_ready() {
    let mut scene = Scene::opened(settings(), usize::MAX);
    // 3 s, of which each 20 ms are told apart.
    for at in 0..150_u8 {
        scene.client().send(Message::Binary(&[at; 960])).expect("there is room");
        scene.client().flush().expect("memory");
        scene.turn();
    }
    scene.say(br#"{"type":"session.created","session":{"id":"s"}}"#);
    assert!(!scene.told.iter().any(|text| text.contains("append")), "too early");
    scene.say(br#"{"type":"session.updated","session":{"id":"s"}}"#);
    scene.turn();
    let pieces = scene.told.iter().filter_map(|text| {
        let event: serde_json::Value = serde_json::from_str(text).expect("the daemon writes JSON");
        STANDARD.decode(event["audio"].as_str()?).ok()
    });
    let heard: Vec<u8> = pieces.flatten().collect();
    let kept: Vec<u8> = (50..150).flat_map(|at| [at; 960]).collect();
    assert!(heard == kept, "{} bytes, from {:?} on", heard.len(), heard.first());
}

// ---- the call's own clock ----

#[test]
fn a_service_that_never_gets_ready_is_given_up_after_15_seconds() {
    let mut scene = Scene::opened(settings(), usize::MAX);
    scene.pass(seconds(15) - TICK);
    assert!(!scene.texts.contains("closed"));
    scene.pass(TICK);
    assert!(ended(&scene, "service_timeout"), "{}", scene.texts);
}

#[test]
fn the_service_is_told_with_a_close_frame_that_the_call_has_ended() {
    let mut scene = Scene::new();
    let hang_up = Message::Text(r#"{"type":"hang_up"}"#);
    scene.client().send(hang_up).expect("it is open");
    scene.client().flush().expect("memory");
    scene.turn();
    assert!(ended(&scene, "hang_up"), "{}", scene.texts);
    assert_eq!(scene.service_closed, Some(1000), "its session is billed until it knows");
}

#[test]
fn limits_of_the_settings_hold() {
    let limits =
        |idle, max| CallSettings { idle: seconds(idle), max_duration: seconds(max), ..settings() };
    for (idle, max, reason) in [(100, 1_000, "idle"), (1_000, 300, "time_limit")] {
        let mut scene = Scene::active(limits(idle, max), usize::MAX);
        scene.pass(seconds(idle.min(max)) - TICK);
        assert!(!scene.texts.contains("closed"), "{}", scene.texts);
        scene.pass(TICK);
        assert!(ended(&scene, reason), "{}", scene.texts);
        assert!(scene.texts.contains(if reason == "idle" { "idle_soon" } else { "time_soon" }));
    }
}

/// The service's session, which it says will end in so many seconds by the calendar.
fn expiring(left: i64) -> Scene {
    let mut scene = Scene::opened(settings(), usize::MAX);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let at = today.checked_add_signed(left).expect("in this age");
    let session = format!(r#""session":{{"id":"s","expires_at":{at}}}"#);
    scene.say(format!(r#"{{"type":"session.created",{session}}}"#).as_bytes());
    scene.say(format!(r#"{{"type":"session.updated",{session}}}"#).as_bytes());
    assert!(scene.texts.contains(r#""active""#), "{}", scene.texts);
    scene
}

#[test]
fn a_call_ends_when_the_services_session_expires() {
    let mut scene = expiring(100);
    scene.pass(seconds(98));
    assert!(!scene.texts.contains("closed"), "{}", scene.texts);
    // The calendar told whole seconds.
    scene.pass(seconds(2));
    assert!(ended(&scene, "session_expired"), "{}", scene.texts);
}

#[test]
fn an_expiry_that_makes_no_sense_is_not_believed() {
    for left in [-1, -1_000_000, 24 * 3600 + 10] {
        let mut scene = expiring(left);
        scene.pass(seconds(26 * 3600));
        assert!(!scene.texts.contains("closed"), "{left}: {}", scene.texts);
    }
}

// ---- the way to the service ----

const SIZES: Sizes = Sizes { message: 1 << 20, waiting: 1 << 20 };

fn dial(addresses: usize, start: Instant) -> Dial<Socket> {
    let address = |at: usize| ([127, 0, 0, 1], u16::try_from(at + 1).expect("few")).into();
    Dial::new(Rc::new(target()), (0..addresses).map(address).collect(), SIZES, start)
}

#[test]
fn an_address_has_three_seconds_to_accept() {
    kernel::accept_nobody();
    let start = Instant::now();
    let mut dial = dial(2, start);
    assert!(matches!(dial.advance(start), Progress::NewSocket));
    assert_eq!(dial.deadline(), start + seconds(3));
    assert!(matches!(dial.advance(start + seconds(3) - TICK), Progress::Pending));
    assert_eq!(dial.address().map(|address| address.port()), Some(1));
    assert!(matches!(dial.advance(start + seconds(3)), Progress::NewSocket));
    assert_eq!(dial.address().map(|address| address.port()), Some(2));
    assert!(matches!(dial.advance(start + seconds(6) - TICK), Progress::Pending));
    match dial.advance(start + seconds(6)) {
        Progress::Failed(DialError::Connect(error)) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        other => panic!("{other:?}"),
    }
}

/// A dial that has connected and asked; the other end.
fn asking(start: Instant) -> (Dial<Socket>, Socket) {
    let mut dial = dial(1, start);
    assert!(matches!(dial.advance(start), Progress::NewSocket));
    let service = kernel::called().expect("it connects");
    assert!(matches!(dial.advance(start), Progress::Pending));
    (dial, service)
}

#[test]
fn an_upgrade_has_ten_seconds() {
    let start = Instant::now();
    let (mut dial, _service) = asking(start);
    assert_eq!(dial.deadline(), start + seconds(10));
    assert!(matches!(dial.advance(start + seconds(10) - TICK), Progress::Pending));
    match dial.advance(start + seconds(10)) {
        Progress::Failed(DialError::Timeout(step)) => assert_eq!(step, "the WebSocket upgrade"),
        other => panic!("{other:?}"),
    }
}

/// A refusal that does not say how long it is and does not end.
#[test]
fn the_words_of_a_refusal_are_waited_for_a_second() {
    let start = Instant::now();
    let (mut dial, mut service) = asking(start);
    service.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\nWrong").expect("memory");
    service.carry(usize::MAX);
    dial.mark(true, true, false);
    let now = start + seconds(5);
    assert!(matches!(dial.advance(now), Progress::Pending));
    assert_eq!(dial.deadline(), now + seconds(1));
    match dial.advance(now + seconds(1)) {
        Progress::Failed(DialError::Refused(refusal, words)) => {
            assert_eq!((refusal.status, words.as_str()), (401, "Wrong"));
        }
        other => panic!("{other:?}"),
    }
}
