//! A whole loop on real sockets, by a clock that the test moves. Its service is the simulator, in the
//! same loop.

mod bounds;
mod calls;
mod reload;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tungstenite::protocol::{Role, WebSocket};

use super::manage::words;
use super::*;
use crate::access::Gate;
use crate::call::CallSettings;
use crate::call::service::session::{Dialect, SessionSettings, session_object};
use crate::net::dial::Target;
use crate::session::candidates::{Candidate, Chosen};
use crate::spending::Spending;
use crate::system::systemd::Standing;
use crate::tools::{Backing, Tools};
use crate::web::CallSite;

const TICK: Duration = Duration::from_millis(1);
const DRAIN: Duration = Duration::from_secs(100);
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub(super) struct Scene {
    pub(super) server: Server,
    events: Events,
    address: SocketAddr,
    /// The time.
    pub(super) now: Instant,
}

type Socket = WebSocket<TcpStream>;

impl Scene {
    /// A daemon with these calls; its page's socket is its own.
    pub(super) fn new(change: impl FnOnce(&mut Calls)) -> Self {
        Self::with(false, None, change)
    }

    fn with(
        passed: bool,
        tls: Option<Arc<rustls::ServerConfig>>,
        change: impl FnOnce(&mut Calls),
    ) -> Self {
        let socket = bind(ANY.into()).expect("a port");
        let address = socket.local_addr().expect("bound");
        let service = bind(ANY.into()).expect("a port");
        let mut calls = calls(service.local_addr().expect("bound").port());
        change(&mut calls);
        let gate = Gate::new(tls.is_some(), address, Vec::new());
        let site = Site::Calls(CallSite { gate, simulated: true, https: None, ca_pem: None });
        let listen = vec![
            Listen { socket, site, tls, passed },
            Listen {
                socket: service,
                site: Site::Simulator(Rc::default()),
                tls: None,
                passed: false,
            },
        ];
        let mut server = Server::new(listen, Some(calls)).expect("a loop");
        let now = Instant::now();
        server.manager.ready(now);
        server.refresh_addresses(now);
        let mut scene = Self { server, events: Events::with_capacity(256), address, now };
        scene.until("nobody waits to be accepted", |scene| scene.server.timeout(scene.now) != ZERO);
        scene
    }

    /// One turn; whether the loop goes on.
    fn turn(&mut self) -> bool {
        if let Err(error) = self.server.poll.poll(&mut self.events, Some(TICK)) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
            self.events.clear();
        }
        self.server.turn(&self.events, self.now)
    }

    /// Turns without a moment of time, until that is so.
    fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what}");
            assert!(self.turn(), "{what}: the loop has ended");
        }
    }

    /// A few turns in which everything that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..20 {
            assert!(self.turn());
        }
    }

    /// A connection that has a slot.
    fn visit(&mut self) -> TcpStream {
        let free = self.server.free.len();
        let socket = TcpStream::connect(self.address).expect("the kernel accepts");
        socket.set_nonblocking(true).expect("a socket");
        self.until("it is accepted", |scene| scene.server.free.len() < free);
        socket
    }

    /// A client with a WebSocket. What it is told comes with [`hears`](Self::hears).
    fn client(&mut self) -> Socket {
        let mut socket = self.visit();
        let host = self.address;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("there is room");
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => answer.push(byte[0]),
                Ok(_) => panic!("closed after {}", String::from_utf8_lossy(&answer)),
                Err(_) => assert!(self.turn()),
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        WebSocket::from_raw_socket(socket, Role::Client, None)
    }

    /// A client whose call is active.
    fn call(&mut self) -> Socket {
        let mut client = self.client();
        self.hears(&mut client, "active");
        client
    }

    /// Turns until the client is told a call state; its message.
    fn hears(&mut self, client: &mut Socket, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut last = Value::Null;
        loop {
            assert!(Instant::now() < deadline, "{state}: {last}");
            match client.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    let told: Value = serde_json::from_str(&text).expect("JSON");
                    if told["state"] == state {
                        return told;
                    }
                    last = told;
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.turn();
                }
                Err(error) => panic!("{state}: {error} after {last}"),
            }
        }
    }

    fn metrics(&mut self) -> String {
        self.server.read_gauges();
        self.server.resources.metrics.render()
    }
}

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn settings(tools: &Tools) -> CallSettings {
    let session = SessionSettings {
        model: "m".to_owned(),
        voice: "en-US-AvaNeural".to_owned(),
        instructions: None,
        language: None,
        tools: tools.schemas(),
        overrides: serde_json::Map::new(),
        expected: Dialect::Beta,
    };
    CallSettings {
        assistant: String::new(),
        chosen: None,
        session: session_object(&session),
        greeting: None,
        idle: Duration::from_secs(600),
        max_duration: Duration::from_secs(6000),
        reconnect: Duration::ZERO,
        continue_reply: false,
        reversible_barge_in: false,
        session_time: Duration::ZERO,
        resume: Duration::ZERO,
    }
}

fn target_at(port: u16) -> Target {
    Target {
        host_field: format!("127.0.0.1:{port}"),
        host: "127.0.0.1".to_owned(),
        port,
        request_target: "/voice-live/realtime?api-version=2025-10-01&model=m".to_owned(),
        credential: "api-key: k".to_owned(),
        tls: None,
        proxy: None,
    }
}

fn calls(port: u16) -> Calls {
    // A tool that prints its own name.
    let program = PathBuf::from("/bin/echo");
    let mut tools = Tools::builtin();
    let mut weather = (**tools.find("get_weather").expect("built in")).clone();
    let argv = vec!["/bin/echo".into(), "get_weather".into()];
    weather.backing = Backing::Command { argv, folder: "/".into() };
    tools.remove(|tool| tool.name == weather.name);
    tools.add(weather).expect("its name is free");
    Calls {
        certificates: None,
        spending: None,
        configuration: CallConfiguration {
            access: Access::Open,
            candidate: Chosen::new(Candidate::only(settings(&tools), target_at(port))),
            assistants: Default::default(),
            sign_in: None,
            tools,
            mcp: Mcp::default(),
            unready: None,
        },
        reread: Box::new(|| Err("nothing is read again".to_owned())),
        program,
        max_sessions: 2,
        max_sessions_per_address: 2,
        connects_per_minute: 30,
        pool_blocks: 1000,
        drain: DRAIN,
    }
}

#[test]
fn a_call_takes_its_places_and_gives_all_of_them_back() {
    let mut scene = Scene::new(|_| ());
    let all = scene.server.slots.len();
    assert_eq!(scene.server.free.len(), all);
    let mut client = scene.call();
    // The caller's slot, and the simulator's.
    assert_eq!((scene.server.running_calls(), scene.server.free.len()), (1, all - 2));
    let shown = scene.metrics();
    assert!(shown.contains("\nvoicelived_connections_open 2\n"), "{shown}");
    client.send(r#"{"type":"hang_up"}"#.into()).expect("there is room");
    scene.hears(&mut client, "ended");
    drop(client);
    scene.until("it is freed", |scene| scene.server.free.len() == all);
    assert_eq!(scene.server.running_calls(), 0);
    let pool = &scene.server.resources.pool;
    assert_eq!(pool.spare_blocks(), pool.total_blocks());
    let shown = scene.metrics();
    assert!(shown.contains("\nvoicelived_connections_open 0\n"), "{shown}");
}

/// Each part of the loop that waits for a time has its deadline in the poll's timeout. One that is
/// missing would pass unseen in a daemon that is otherwise idle.
#[test]
fn the_poll_waits_for_the_nearest_of_all_times() {
    let mut scene = Scene::new(|_| ());
    let (now, later) = (scene.now, Duration::from_secs(7));
    let server = &mut scene.server;
    assert_eq!(server.timeout(now), None, "an idle daemon does not wake");
    server.soonest = Some(now + later);
    assert_eq!(server.timeout(now), Some(later), "a slot");
    server.soonest = None;
    for lifecycle in [Lifecycle::Draining(now + later), Lifecycle::Closing(now + later)] {
        server.lifecycle = lifecycle;
        assert_eq!(server.timeout(now), Some(later), "{lifecycle:?}");
        assert_eq!(server.timeout(now + later * 2), ZERO, "{lifecycle:?}");
    }
    server.lifecycle = Lifecycle::Serving;
    server.certificates_due = Some(now + later);
    assert_eq!(server.timeout(now), Some(later), "the certificates");
    server.certificates_due = None;
    let folder = std::env::temp_dir().join(format!("voicelived-loop-{}", std::process::id()));
    let mut ledger =
        Ledger::open(&folder, Duration::from_secs(60), SystemTime::now(), now).expect("a folder");
    ledger.spending.set_running(1, crate::spending::day_of(SystemTime::now()), now);
    server.calls.as_mut().expect("it has some").spending = Some(ledger);
    assert_eq!(server.timeout(now), Some(Duration::from_secs(60)), "the day's minutes");
    server.calls.as_mut().expect("it has some").spending = None;
    std::fs::remove_dir_all(folder).expect("it is there");
    let sleep = ["/bin/sleep", "60"].map(std::ffi::OsString::from);
    let job = children::Job {
        folder: None,
        command: &sleep,
        input: Vec::new(),
        max_output: 1,
        deadline: now + later,
        purpose: children::Purpose::Resolve,
    };
    server.children.spawn(job, server.poll.registry()).expect("a child");
    assert_eq!(server.timeout(now), Some(later), "a child");
    server.want_pump(0);
    assert_eq!(server.timeout(now), ZERO, "a marked slot");
}

/// The first child has the lowest of the children's tokens. Its input is more than a pipe holds, so it
/// ends only if the poll's events reach it.
#[test]
fn events_of_the_first_child_reach_it() {
    let mut scene = Scene::new(|_| ());
    let cat = ["/bin/sh", "-c", "cat >/dev/null"].map(std::ffi::OsString::from);
    let job = children::Job {
        folder: None,
        command: &cat,
        input: vec![b'x'; 300_000],
        max_output: 1,
        deadline: scene.now + Duration::from_secs(10),
        purpose: children::Purpose::Resolve,
    };
    let server = &mut scene.server;
    server.children.spawn(job, server.poll.registry()).expect("a child");
    scene.until("it ends", |scene| scene.server.children.deadline().is_none());
}

/// A name that a script looks up: it prints the addresses in a file.
#[test]
fn calls_wait_for_one_look_up_and_running_ones_are_left_alone() {
    let file = |name: &str| {
        std::env::temp_dir().join(format!("voicelived-loop-{name}-{}", std::process::id()))
    };
    let (script, list) = (file("resolve"), file("addresses"));
    std::fs::write(&list, "").expect("a file");
    let text = format!(
        "#!/bin/sh\n[ $1 = __resolve ] || exit\necho x >>'{0}.asked'; exec cat '{0}'\n",
        list.display()
    );
    std::fs::write(&script, text).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("ours");
    let mut port = 0;
    let mut scene = Scene::new(|calls| {
        let target = calls.configuration.candidate.target();
        port = target.port;
        let target = Target {
            host: "service.test".into(),
            host_field: "service.test".into(),
            ..target_at(port)
        };
        calls.configuration.candidate =
            Chosen::new(Candidate::only(settings(&calls.configuration.tools), target));
        calls.program = script.clone();
        calls.max_sessions = 3;
        calls.max_sessions_per_address = 3;
    });
    let asked =
        || std::fs::read_to_string(list.with_extension("asked")).unwrap_or_default().len() / 2;
    // The look-up of the start found nothing, and so does the next one: the caller learns why.
    scene.until("it is looked up at the start", |scene| scene.server.children.deadline().is_none());
    let mut client = scene.client();
    let told = scene.hears(&mut client, "ended");
    assert_eq!(told["reason"], "unreachable", "{told}");
    assert!(told["message"].as_str().is_some_and(|text| text.contains("service.test")), "{told}");
    assert_eq!(asked(), 2);
    std::fs::write(&list, format!("127.0.0.1:{port}\n")).expect("a file");
    let (mut first, mut second) = (scene.client(), scene.client());
    scene.hears(&mut first, "active");
    scene.hears(&mut second, "active");
    assert_eq!(asked(), 3, "one look-up served both");
    // Five minutes later the next call starts another one, whose answer moves nobody.
    let running = scene.server.running_calls();
    scene.server.resolver.as_mut().expect("it has a name").reached(([127, 0, 0, 1], port).into());
    scene.server.refresh_addresses(scene.now + Duration::from_secs(301));
    scene.until("it is looked up again", |scene| scene.server.children.deadline().is_none());
    scene.settle();
    assert_eq!((asked(), scene.server.running_calls()), (4, running));
    for path in [script, list.with_extension("asked"), list] {
        std::fs::remove_file(path).expect("it is there");
    }
}

#[test]
fn a_time_limit_is_met_to_the_moment_and_not_before() {
    let mut scene = Scene::new(|_| ());
    let all = scene.server.slots.len();
    let start = scene.now;
    let _early = scene.visit();
    scene.settle();
    scene.now += Duration::from_secs(1);
    let _late = scene.visit();
    scene.settle();
    assert_eq!(scene.server.timeout(scene.now), Some(Duration::from_secs(4)));
    scene.now = start + Duration::from_secs(5) - TICK;
    scene.settle();
    assert_eq!(scene.server.free.len(), all - 2);
    scene.now += TICK;
    scene.settle();
    assert_eq!(scene.server.free.len(), all - 1, "one of them is gone");
    assert_eq!(scene.server.timeout(scene.now), Some(Duration::from_secs(1)), "the other's");
    scene.now += Duration::from_secs(1);
    scene.settle();
    assert_eq!(scene.server.free.len(), all);
    assert_eq!(scene.server.timeout(scene.now + Duration::from_secs(1)), None);
}

#[test]
fn the_visitor_that_has_waited_longest_makes_way() {
    let mut scene = Scene::new(|_| ());
    let all = scene.server.slots.len();
    let mut sockets = Vec::new();
    for _ in 0..VISITORS {
        sockets.push(scene.visit());
        scene.settle();
        scene.now += TICK;
    }
    assert_eq!(scene.server.free.len(), all - VISITORS, "calls have places beside them");
    let mut gone = |scene: &mut Scene| {
        let _next = TcpStream::connect(scene.address).expect("the kernel accepts");
        scene.settle();
        sockets.iter_mut().position(|socket| matches!(socket.read(&mut [0]), Ok(0)))
    };
    assert_eq!(gone(&mut scene), Some(0));
    let shown = scene.metrics();
    assert!(shown.contains("connections_dropped_total{reason=\"evicted\"} 1\n"), "{shown}");
}

#[test]
fn a_refused_caller_has_two_seconds_to_close() {
    let mut scene =
        Scene::new(|calls| calls.configuration.unready = Some("A key is missing.".to_owned()));
    let all = scene.server.slots.len();
    let mut client = scene.client();
    let told = scene.hears(&mut client, "ended");
    assert_eq!(
        (told["reason"].as_str(), told["message"].as_str()),
        (Some("not_configured"), Some("A key is missing."))
    );
    assert_eq!((scene.server.running_calls(), scene.server.free.len()), (0, all - 1));
    scene.now += Duration::from_secs(2) - TICK;
    scene.settle();
    assert_eq!(scene.server.free.len(), all - 1, "it may still close in order");
    scene.now += TICK;
    scene.settle();
    assert_eq!(scene.server.free.len(), all);
    // One that answers the close frame is freed at once.
    let mut client = scene.client();
    scene.hears(&mut client, "ended");
    client.close(None).expect("there is room");
    let _ = client.read();
    drop(client);
    scene.until("it is freed", |scene| scene.server.free.len() == all);
}

#[test]
fn beyond_the_most_calls_a_caller_is_refused() {
    let mut scene = Scene::new(|calls| calls.max_sessions_per_address = 5);
    let _calls = [scene.call(), scene.call()];
    let mut third = scene.client();
    assert_eq!(scene.hears(&mut third, "ended")["reason"], "full");
    let mut scene = Scene::new(|calls| calls.max_sessions_per_address = 1);
    let _call = scene.call();
    let mut second = scene.client();
    assert_eq!(scene.hears(&mut second, "ended")["reason"], "address_limit");
}

#[test]
fn a_drain_lets_calls_go_on_until_its_end() {
    let mut scene = Scene::new(|_| ());
    let start = scene.now;
    let mut client = scene.call();
    scene.server.begin_stop(scene.now);
    assert_eq!(scene.server.lifecycle, Lifecycle::Draining(start + DRAIN));
    let mut late = scene.visit();
    late.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", scene.address).as_bytes())
        .expect("there is room");
    scene.settle();
    let mut answer = [0; 1024];
    let count = late.read(&mut answer).expect("it was answered");
    assert!(answer[..count].ends_with(b"draining"), "{}", String::from_utf8_lossy(&answer));
    scene.now = start + DRAIN - TICK;
    // The service's side of a call that is silent for so long asks for signs of life.
    scene.server.watch_drain(scene.now);
    assert_eq!(scene.server.lifecycle, Lifecycle::Draining(start + DRAIN));
    assert!(!scene.server.is_stopped(scene.now));
    scene.now += TICK;
    scene.server.watch_drain(scene.now);
    assert_eq!(scene.server.lifecycle, Lifecycle::Closing(scene.now + Duration::from_secs(5)));
    assert_eq!(scene.hears(&mut client, "ended")["reason"], "stopping");
    let closing = scene.now + Duration::from_secs(5);
    scene.server.running = 1;
    assert!(!scene.server.is_stopped(closing - TICK));
    assert!(scene.server.is_stopped(closing), "a client that does not answer holds nobody up");
}

#[test]
fn a_stop_with_nothing_to_wait_for_is_one_at_once() {
    let mut scene = Scene::new(|_| ());
    scene.server.begin_stop(scene.now);
    assert!(matches!(scene.server.lifecycle, Lifecycle::Closing(_)));
    assert!(!scene.turn(), "the loop ends");
    // So is one without time to drain.
    let mut scene = Scene::new(|calls| calls.drain = Duration::ZERO);
    let mut client = scene.call();
    scene.server.begin_stop(scene.now);
    assert!(matches!(scene.server.lifecycle, Lifecycle::Closing(_)));
    assert!(!scene.server.is_stopped(scene.now), "the call is told first");
    assert_eq!(scene.hears(&mut client, "ended")["reason"], "stopping");
    // And a second signal.
    let mut scene = Scene::new(|_| ());
    let _call = scene.call();
    scene.server.begin_stop(scene.now);
    assert!(scene.turn());
    scene.server.begin_stop(scene.now);
    assert_eq!(scene.server.lifecycle, Lifecycle::Stopped);
    assert!(!scene.turn(), "the loop ends");
}

/// Its connection belongs to this process: the next one cannot answer it.
#[test]
fn who_came_through_a_passed_socket_is_served_before_the_end() {
    for passed in [true, false] {
        let mut scene = Scene::with(passed, None, |_| ());
        let mut visitor = scene.visit();
        scene.settle();
        scene.server.begin_stop(scene.now);
        assert_eq!(matches!(scene.server.lifecycle, Lifecycle::Draining(_)), passed);
        assert_eq!(scene.server.is_stopped(scene.now), !passed);
        if passed {
            let get = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", scene.address);
            visitor.write_all(get.as_bytes()).expect("there is room");
            let deadline = Instant::now() + Duration::from_secs(10);
            while scene.turn() {
                assert!(Instant::now() < deadline, "the loop goes on");
            }
            let mut answer = [0; 1024];
            assert!(visitor.read(&mut answer).expect("it was answered") > 0);
            // The next process takes whoever comes from now on.
            let _next = TcpStream::connect(scene.address).expect("the kernel accepts");
            let free = scene.server.free.len();
            scene.turn();
            assert_eq!(scene.server.free.len(), free);
        }
    }
}

#[test]
fn only_the_first_steps_of_the_end_admit_calls() {
    let now = Instant::now();
    for (lifecycle, passed, own) in [
        (Lifecycle::Serving, true, true),
        (Lifecycle::Draining(now), true, false),
        (Lifecycle::Closing(now), false, false),
        (Lifecycle::Stopped, false, false),
    ] {
        assert_eq!(lifecycle.admits_calls(true), passed, "{lifecycle:?}");
        assert_eq!(lifecycle.admits_calls(false), own, "{lifecycle:?}");
    }
}

#[test]
fn the_service_manager_is_told_how_things_stand() {
    let mut standing = Standing { calls: 3, draining: false, configured: true };
    assert_eq!(words(standing, 8, None), "3 of at most 8 calls");
    assert_eq!(words(standing, 8, Some("A key is missing.")), "A key is missing.");
    standing.draining = true;
    assert_eq!(words(standing, 8, None), "Draining, no new calls; 3 still running");
}

/// The limit is the day's; calls that are only closing do not count.
#[test]
fn the_days_minutes_end_all_calls() {
    let folder = std::env::temp_dir().join(format!("voicelived-minutes-{}", std::process::id()));
    let mut scene = Scene::new(|calls| {
        let limit = Duration::from_secs(20);
        let ledger = Ledger::open(&folder, limit, SystemTime::now(), Instant::now());
        calls.spending = Some(ledger.expect("a folder"));
    });
    let used = |scene: &Scene| {
        let spending = scene.server.calls.as_ref().and_then(|calls| calls.spending.as_ref());
        spending.map(|ledger| &ledger.spending).map_or(Duration::MAX, Spending::used)
    };
    let mut clients = [scene.call(), scene.call()];
    scene.settle();
    scene.now += Duration::from_secs(9);
    scene.settle();
    assert_eq!(used(&scene), Duration::from_secs(18), "two calls cost twice as much");
    scene.now += Duration::from_secs(1) - TICK;
    scene.settle();
    assert_eq!(scene.server.running_calls(), 2, "there is time left");
    assert_eq!(scene.server.timeout(scene.now), Some(TICK));
    scene.now += TICK;
    for client in &mut clients {
        assert_eq!(scene.hears(client, "ended")["reason"], "daily_limit");
    }
    let mut third = scene.client();
    assert_eq!(scene.hears(&mut third, "ended")["reason"], "daily_limit");
    let before = used(&scene);
    scene.now += Duration::from_millis(100);
    scene.settle();
    assert_eq!(used(&scene), before, "nothing runs any more");
    std::fs::remove_dir_all(folder).expect("it is there");
}
