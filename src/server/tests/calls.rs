//! The two sides of a call in the loop: how they end, and that one connection's bytes never reach another.

use super::*;

/// A text frame, unmasked: its key is zero.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short one");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// The service's side stands still: its connection stays, and nothing is read from it or said.
fn freeze_service(scene: &mut Scene) -> Vec<Conn> {
    let slots = scene.server.slots.iter_mut();
    let simulated = slots.filter(|slot| matches!(slot.conn, Conn::Simulated(_)));
    simulated.map(|slot| std::mem::replace(&mut slot.conn, Conn::Free)).collect()
}

fn is_talking(scene: &Scene) -> bool {
    let slots = scene.server.slots.iter();
    slots.filter(|slot| matches!(&slot.conn, Conn::Call(call) if call.is_talking())).count() > 0
}

#[test]
fn a_client_that_is_silent_for_25_seconds_is_lost() {
    let mut scene = Scene::new(|_| ());
    let all = scene.server.free.len();
    let start = scene.now;
    let mut client = scene.call();
    let mut buffer = [0; 65_536];
    for second in 1..25 {
        scene.now = start + Duration::from_secs(second);
        scene.settle();
        // It takes what comes, and answers no ping.
        while matches!(client.get_mut().read(&mut buffer), Ok(1..)) {}
        assert!(is_talking(&scene), "after {second} s");
        let wait = scene.server.timeout(scene.now).expect("there is a deadline");
        assert!(wait <= Duration::from_secs(25 - second), "it waits {wait:?} after {second} s");
    }
    scene.now = start + Duration::from_secs(25);
    scene.settle();
    assert!(!is_talking(&scene));
    let shown = scene.metrics();
    assert!(shown.contains("calls_ended_total{reason=\"client_lost\"} 1\n"), "{shown}");
    scene.now += Duration::from_secs(2);
    scene.settle();
    assert_eq!(scene.server.free.len(), all);
}

/// Each side has two seconds to answer the close.
#[test]
fn neither_side_can_keep_a_call_from_ending() {
    for frozen in [true, false] {
        let mut scene = Scene::new(|_| ());
        let all = scene.server.free.len();
        let mut client = scene.call();
        let service = if frozen { freeze_service(&mut scene) } else { Vec::new() };
        client.send(r#"{"type":"hang_up"}"#.into()).expect("there is room");
        scene.hears(&mut client, "ended");
        if frozen {
            let _ = client.read();
            drop(client);
        } else {
            std::mem::forget(client);
        }
        let ended = scene.now;
        scene.now = ended + Duration::from_secs(2) - TICK;
        scene.settle();
        assert_eq!(scene.server.running_calls(), 1, "it may still close in order; {frozen}");
        let wait = scene.server.timeout(scene.now).expect("there is a deadline");
        assert!(wait <= TICK, "{wait:?}");
        scene.now += TICK;
        scene.settle();
        assert_eq!(scene.server.running_calls(), 0, "{frozen}");
        assert_eq!(scene.server.free.len() + service.len(), all);
        let pool = &scene.server.resources.pool;
        assert_eq!(pool.spare_blocks(), pool.total_blocks());
    }
}

#[test]
fn a_client_whose_call_has_moved_on_has_two_seconds_to_close() {
    let listener = std::net::TcpListener::bind(ANY).expect("a port");
    let other = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    other.set_nonblocking(true).expect("a socket");
    let transport = crate::net::transport::Transport::plain(mio::net::TcpStream::from_std(other));
    let sizes = crate::session::CLIENT_SIZES;
    let peer = crate::net::ws::WsPeer::new(transport, Role::Server, sizes, &[]);
    let now = Instant::now();
    let Conn::TurnedAway { deadline, .. } = slot::part(peer, now) else { panic!("it stays") };
    assert_eq!(deadline, now + Duration::from_secs(2));
}

/// All connections are read into the same memory.
#[test]
fn half_a_message_of_one_client_does_not_reach_another() {
    let mut scene = Scene::new(|_| ());
    let (mut one, mut other) = (scene.call(), scene.call());
    let text = r#"{"type":"hang_up"}"#;
    let whole = frame(text);
    let (first, rest) = whole.split_at(9);
    one.get_mut().write_all(first).expect("there is room");
    scene.settle();
    other.get_mut().write_all(&whole).expect("there is room");
    assert_eq!(scene.hears(&mut other, "ended")["reason"], "hang_up");
    assert!(is_talking(&scene), "the first call goes on");
    one.get_mut().write_all(rest).expect("there is room");
    assert_eq!(scene.hears(&mut one, "ended")["reason"], "hang_up");
}

/// Loud, and then silence: the simulated service hears both.
#[test]
fn what_the_microphone_hears_reaches_the_service_and_its_reply_the_client() {
    let mut scene = Scene::new(|_| ());
    let mut client = scene.call();
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let (loud, silent) = ([0x40_u8; 960], [0_u8; 960]);
    for at in 0.. {
        assert!(Instant::now() < deadline, "no reply: {heard:?}");
        let frame = if (20..80).contains(&at) { loud } else { silent };
        client.send(tungstenite::Message::binary(frame.to_vec())).expect("there is room");
        scene.now += Duration::from_millis(20);
        scene.turn();
        let mut audio = 0;
        while let Ok(message) = client.read() {
            match message {
                tungstenite::Message::Text(text) => heard.push(text.to_string()),
                tungstenite::Message::Binary(pcm) => audio += pcm.len(),
                _ => {}
            }
        }
        let said =
            |who: &str| heard.iter().any(|text| text.contains("transcript") && text.contains(who));
        if audio > 0 && said("\"user\"") {
            break;
        }
    }
    let shown = scene.metrics();
    assert!(
        shown.contains("microphone_bytes_dropped_total 0\n")
            || !shown.contains("microphone_bytes_dropped"),
        "{shown}"
    );
}
