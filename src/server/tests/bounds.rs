//! What one turn and one second may cost, and that nobody is forgotten for it.

use super::*;

fn requests(scene: &Scene, path: &str, count: usize) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", scene.address).repeat(count)
}

#[test]
fn more_connections_than_a_turn_takes_are_taken_in_the_next_one() {
    let mut scene = Scene::new(|_| ());
    let all = scene.server.free.len();
    let waiting: Vec<_> =
        (0..40).map(|_| TcpStream::connect(scene.address).expect("the kernel accepts")).collect();
    for (left, wait) in [(8, true), (0, false)] {
        assert!(scene.turn());
        let taken = all - scene.server.free.len();
        assert_eq!(waiting.len() - taken, left);
        assert_eq!(scene.server.can_accept(scene.now), wait, "no event tells of the others");
    }
}

/// Each signature takes the loop's time, so they have a number. The plain listener has none.
#[test]
fn a_flood_of_handshakes_waits_for_the_next_second() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = crate::net::tls::server_config(chain.as_bytes(), key.as_bytes());
    let mut scene = Scene::with(false, Some(config.expect("they fit")), |_| ());
    let paused = "accept_pauses_total{reason=\"handshake_limit\"} ";
    let _first = scene.visit();
    assert!(scene.metrics().contains(&format!("{paused}0\n")));
    // All that the next second has.
    scene.now += Duration::from_secs(2);
    while !scene.server.limiter.count_handshake(scene.now) {}
    let start = scene.now;
    let free = scene.server.free.len();
    let _waits = TcpStream::connect(scene.address).expect("the kernel accepts");
    scene.settle();
    assert_eq!(scene.server.free.len(), free, "it waits in the kernel");
    let wait = scene.server.timeout(scene.now);
    assert_eq!(wait, Some(Duration::from_secs(1)), "the loop comes back for it");
    assert_eq!(scene.server.accept_deadline(), Some(start + Duration::from_secs(1)));
    let service = scene.server.listeners[1].socket.local_addr().expect("bound");
    let _plain = TcpStream::connect(service).expect("the kernel accepts");
    scene.settle();
    assert_eq!(scene.server.free.len(), free - 1, "it costs no signature");
    scene.now += Duration::from_secs(1);
    scene.settle();
    assert_eq!(scene.server.free.len(), free - 2);
    assert_eq!(scene.server.accept_deadline(), None, "nobody waits");
}

#[test]
fn visitors_that_a_turn_passes_over_come_first_in_the_next() {
    let mut scene = Scene::new(|_| ());
    let sockets: Vec<_> = (0..20).map(|_| scene.visit()).collect();
    scene.settle();
    let slots = scene.server.slots.iter().enumerate();
    let mut visitors: Vec<usize> = slots
        .filter(|(_, slot)| matches!(slot.conn, Conn::Visitor { .. }))
        .map(|it| it.0)
        .collect();
    assert_eq!(visitors.len(), sockets.len());
    for at in &visitors {
        scene.server.want_pump(*at);
    }
    for _ in 0..2 {
        scene.server.pump_slots(scene.now);
        visitors.drain(..8);
        assert_eq!(scene.server.marked, visitors);
        // One that comes new is behind them.
        assert!(visitors.iter().all(|at| scene.server.slots[*at].marked));
    }
    scene.server.pump_slots(scene.now);
    assert!(scene.server.marked.is_empty());
}

/// A client that does not read stops its answers. The room that it makes later is an event.
#[test]
fn answers_go_on_when_the_client_reads_again() {
    let mut scene = Scene::new(|_| ());
    let mut visitor = scene.visit();
    let asked = 40;
    visitor.write_all(requests(&scene, "/app.js", asked).as_bytes()).expect("there is room");
    scene.settle();
    let (mut text, mut buffer) = (Vec::new(), [0; 65_536]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let answered =
        |text: &[u8]| text.windows(12).filter(|window| window == b"HTTP/1.1 200").count();
    while answered(&text) < asked {
        assert!(Instant::now() < deadline, "{} answers", answered(&text));
        scene.turn();
        while let Ok(count @ 1..) = visitor.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
    }
}
