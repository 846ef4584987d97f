//! How long things may take and how much may wait, by a clock that the test moves: each limit holds to
//! the millisecond, and no test waits for it.

use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{kernel, scene};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::Socket;
use scene::{Scene, settings, target};
use voicelived::call::CallSettings;
use voicelived::net::dial::{Dial, DialError, Progress};
use voicelived::net::ws::{Message, Sizes};

const TICK: Duration = Duration::from_millis(1);

/// How long the next address waits for the one before it.
const QUARTER: Duration = Duration::from_millis(250);

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

/// What neither client nor blocks take stays with the service; a barge-in clears all of it.
#[test]
fn a_reply_that_finds_no_block_waits_at_the_service_until_it_is_interrupted() {
    let mut scene = Scene::active(settings(), 4 * 1024);
    scene.say(br#"{"type":"response.created","response":{"id":"r"}}"#);
    scene.client_listens = false;
    // Half the pool is 500 blocks, 10 s; 12 come.
    for _ in 0..12 {
        scene.say(&delta(48_000));
    }
    assert!(scene.counted("reply_stalls_total") > 0, "it was never backed up");
    assert!(scene.counted("reply_bytes_total") < 2 * 48_000);
    // The rest is read when there is room, to the last byte.
    scene.client_listens = true;
    for _ in 0..4_000 {
        scene.turn();
    }
    assert_eq!(scene.audio.len(), 12 * 48_000);
    assert_eq!(scene.counted("reply_bytes_total"), 12 * 48_000);

    scene.client_listens = false;
    for _ in 0..9 {
        scene.say(&delta(48_000));
    }
    scene.say(br#"{"type":"input_audio_buffer.speech_started"}"#);
    scene.client_listens = true;
    for _ in 0..1_000 {
        scene.turn();
    }
    let after = scene.audio.len() - 12 * 48_000;
    // What the WebSocket had taken: 16 KiB and a frame, and the kernel's 4 KiB.
    assert!(after <= 16 * 1024 + 15_360 + 4 * 1024, "{after} bytes of an interrupted reply");
}

#[test]
fn a_call_gives_all_its_blocks_back() {
    let mut scene = Scene::active(settings(), 4 * 1024);
    scene.client_listens = false;
    for _ in 0..3 {
        scene.say(&delta(48_000));
    }
    scene.client().send(Message::Binary(&[0; 960])).expect("there is room");
    let (free, all) = scene.release();
    assert_eq!(free, all, "in the middle of a reply");

    let mut scene = Scene::opened(settings(), usize::MAX);
    scene.client().send(Message::Binary(&[0; 9600])).expect("there is room");
    scene.client().flush().expect("memory");
    scene.turn();
    let (free, all) = scene.release();
    assert_eq!(free, all, "with speech that waits for the service");
}

/// Speech is counted as it comes, and what makes way for newer speech too.
#[test]
fn speech_is_counted_and_what_of_it_is_dropped() {
    let mut scene = Scene::opened(settings(), usize::MAX);
    for _ in 0..150 {
        scene.client().send(Message::Binary(&[0; 960])).expect("there is room");
        scene.client().flush().expect("memory");
        scene.turn();
    }
    assert_eq!(scene.counted("microphone_bytes_total"), 150 * 960);
    assert_eq!(scene.counted("microphone_dropped_bytes_total"), 50 * 960);
}

// ---- too much of it ----

#[test]
fn two_hundred_messages_a_second_are_borne_and_one_more_is_a_flood() {
    let chat = |scene: &mut Scene, count: usize| {
        for _ in 0..count {
            scene.client().send(Message::Text(r#"{"type":"ping","id":1}"#)).expect("room");
            scene.client().flush().expect("memory");
            scene.turn();
        }
    };
    let mut scene = Scene::new();
    for _ in 0..3 {
        chat(&mut scene, 200);
        scene.pass(seconds(1));
    }
    chat(&mut scene, 200);
    scene.pass(seconds(1) - TICK);
    assert!(scene.session_is_talking(), "{}", scene.texts);
    chat(&mut scene, 1);
    assert!(!scene.session_is_talking());
    assert!(ended(&scene, "refused"), "{}", scene.texts);
    assert_eq!(scene.counted(r#"calls_ended_total{reason="flood"}"#), 1);
}

#[test]
fn eight_texts_in_a_row_that_are_no_messages_end_the_call() {
    let mut scene = Scene::new();
    for _ in 0..8 {
        assert!(scene.session_is_talking(), "{}", scene.texts);
        scene.client().send(Message::Text("no JSON")).expect("there is room");
        scene.client().flush().expect("memory");
        scene.turn();
    }
    assert!(ended(&scene, "bad_text"), "{}", scene.texts);
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
    Dial::new(Rc::new(target()), (0..addresses).map(address).collect(), String::new(), SIZES, start)
}

/// The next address begins beside it after a quarter of a second, whether or not it accepts later.
#[test]
fn an_address_has_three_seconds_to_accept() {
    kernel::accept_nobody();
    let start = Instant::now();
    let mut dial = dial(2, start);
    assert!(matches!(dial.advance(start), Progress::NewSocket));
    let second = start + QUARTER;
    assert_eq!(dial.deadline(), second);
    assert!(matches!(dial.advance(second - TICK), Progress::Pending));
    assert!(matches!(dial.advance(second), Progress::NewSocket));
    let told = dial.take_setback().expect("it is told once").to_string();
    assert!(told.contains("127.0.0.1:1") && told.contains("the TCP handshake"), "{told}");
    assert_eq!(dial.address().map(|address| address.port()), Some(1), "it began first");
    assert_eq!(dial.deadline(), start + seconds(3));
    assert!(matches!(dial.advance(start + seconds(3) - TICK), Progress::Pending));
    assert!(matches!(dial.advance(start + seconds(3)), Progress::Pending));
    assert_eq!(dial.address().map(|address| address.port()), Some(2));
    assert!(dial.take_setback().is_none(), "it was told");
    assert!(matches!(dial.advance(second + seconds(3) - TICK), Progress::Pending));
    match dial.advance(second + seconds(3)) {
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

/// Each address gets its turn, and enough of the 15 s in which a call must reach the service. Three are
/// open at once.
#[test]
fn an_address_that_stalls_after_it_has_accepted_gets_rivals() {
    for addresses in [2, 3, 5, 16] {
        let start = Instant::now();
        let mut dial = dial(addresses, start);
        let (mut now, mut stalled, mut begun) = (start, Vec::new(), Vec::new());
        let end = loop {
            match dial.advance(now) {
                Progress::NewSocket => {
                    stalled.push(kernel::called().expect("it connects"));
                    begun.push(now - start);
                }
                Progress::Pending => {
                    let deadline = dial.deadline();
                    assert!(deadline > now && deadline <= start + seconds(13), "{begun:?}");
                    assert!(matches!(dial.advance(deadline - TICK), Progress::Pending));
                    now = deadline;
                }
                end => break end,
            }
        };
        assert_eq!(begun.len(), addresses, "each has its turn: {begun:?}");
        assert_eq!(begun[..2], [Duration::ZERO, QUARTER]);
        assert!(begun.get(2).is_none_or(|third| *third == 2 * QUARTER), "{begun:?}");
        assert!(
            begun.get(3).is_none_or(|fourth| *fourth > 3 * QUARTER),
            "three are open: {begun:?}"
        );
        assert!(now - start > seconds(10), "the last one has the rest: {:?}", now - start);
        match end {
            Progress::Failed(DialError::Timeout(step)) => assert_eq!(step, "the WebSocket upgrade"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_of_two_addresses_has_four_seconds_for_the_upgrade() {
    let start = Instant::now();
    let mut dial = dial(2, start);
    assert!(matches!(dial.advance(start), Progress::NewSocket));
    let _stalled = kernel::called().expect("it connects");
    assert!(matches!(dial.advance(start), Progress::Pending));
    assert_eq!(dial.deadline(), start + QUARTER);
    let setback = |dial: &mut Dial<Socket>| dial.take_setback().map(|it| it.to_string());
    assert_eq!(setback(&mut dial), None);
    assert!(matches!(dial.advance(start + QUARTER), Progress::NewSocket));
    let told = setback(&mut dial).expect("it is told once");
    assert!(told.contains("127.0.0.1:1") && told.contains("the WebSocket upgrade"), "{told}");
    assert_eq!(setback(&mut dial), None);
    let mut service = kernel::called().expect("it connects");
    assert!(matches!(dial.advance(start + QUARTER), Progress::Pending));
    assert_eq!(dial.deadline(), start + seconds(4));
    assert!(matches!(dial.advance(start + seconds(4)), Progress::Pending));
    assert_eq!(setback(&mut dial), None, "it was told");
    assert_eq!(dial.deadline(), start + QUARTER + seconds(10));
    // A refusal is the service's own word: no other address is asked.
    service.write_all(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n").expect("memory");
    service.carry(usize::MAX);
    dial.mark(true, true, false);
    assert!(matches!(dial.advance(start + seconds(5)), Progress::Failed(DialError::Refused(..))));
}

/// Whenever it began. If both answer in the same moment, one connection is kept and the other closed.
#[test]
fn the_first_to_answer_wins_and_no_other_connection_is_kept() {
    for (answers, winner) in [(vec![0], 1), (vec![1], 2), (vec![0, 1], 1)] {
        let start = Instant::now();
        let mut dial = dial(3, start);
        let mut ends = Vec::new();
        for begun in [start, start + QUARTER] {
            assert!(matches!(dial.advance(begun), Progress::NewSocket));
            let mut end = kernel::called().expect("it connects");
            assert!(matches!(dial.advance(begun), Progress::Pending));
            dial.socket().expect("the newest").carry(usize::MAX);
            let key = scene::key_of(&mut end);
            ends.push((end, scene::upgraded(&key)));
        }
        for at in &answers {
            let (end, answer) = &mut ends[*at];
            end.write_all(answer.as_bytes()).expect("memory");
            end.carry(usize::MAX);
        }
        dial.mark(true, true, false);
        let opened = dial.advance(start + QUARTER);
        assert!(matches!(opened, Progress::Open(_)), "{opened:?}");
        assert_eq!(dial.address().map(|address| address.port()), Some(winner), "{answers:?}");
        for (at, (end, _)) in ends.iter().enumerate() {
            assert_eq!(end.is_alone(), at + 1 != usize::from(winner), "{answers:?}: {at}");
        }
        assert!(dial.socket().is_none());
    }
}

/// A refusal that says how long it is, and one that ends, are not waited for.
#[test]
fn the_whole_words_of_a_refusal_are_taken_at_once() {
    let start = Instant::now();
    for (fields, ends) in [("Content-Length: 5\r\n", false), ("", true)] {
        let (mut dial, mut service) = asking(start);
        let answer = format!("HTTP/1.1 401 Unauthorized\r\n{fields}\r\nWro");
        service.write_all(answer.as_bytes()).expect("memory");
        service.carry(usize::MAX);
        dial.mark(true, true, false);
        assert!(matches!(dial.advance(start), Progress::Pending), "there is more of it");
        service.write_all(b"ng").expect("memory");
        service.carry(usize::MAX);
        if ends {
            service.end();
        }
        dial.mark(true, true, ends);
        match dial.advance(start) {
            Progress::Failed(DialError::Refused(refusal, words)) => {
                assert_eq!((refusal.status, words.as_str()), (401, "Wrong"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_service_that_goes_without_an_answer_has_broken_off() {
    let start = Instant::now();
    let (mut dial, service) = asking(start);
    service.end();
    dial.mark(true, true, true);
    match dial.advance(start) {
        Progress::Failed(error @ DialError::Broken(_)) => assert!(error.is_absence()),
        other => panic!("{other:?}"),
    }
}

/// Whether the address is to blame: only then another one is tried first the next time.
#[test]
fn a_refusal_is_the_services_own_and_no_absence() {
    let absent = [
        DialError::Connect(ErrorKind::TimedOut.into()),
        DialError::Timeout("the WebSocket upgrade"),
        DialError::Broken(ErrorKind::UnexpectedEof.into()),
    ];
    assert!(absent.iter().all(DialError::is_absence));
    let present = [
        DialError::Refused(Default::default(), String::new()),
        DialError::Invalid("no HTTP"),
        DialError::Internal(String::new()),
    ];
    assert!(!present.iter().any(DialError::is_absence));
}

#[test]
fn a_credential_is_concealed_wherever_it_comes_back() {
    let mut target = target();
    assert_eq!(target.conceal("anything"), None);
    target.credential = "api-key: 0123456789abcdef".to_owned();
    assert_eq!(target.conceal("nothing of it"), None);
    let told = target.conceal("your key 0123456789abcdef, 0123456789abcdef");
    assert_eq!(told.as_deref(), Some("your key ***, ***"));
    // What is short is a word, and no secret.
    target.credential = "api-key: 0123456789abcde".to_owned();
    assert_eq!(target.conceal("0123456789abcde"), None);
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
