//! The way to the service over sockets that do what a test says, by a clock that it moves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::net::dial::{Dial, DialError, Progress, Step, Target};
use crate::net::socket::Socket;
use crate::net::tls;
use crate::net::ws::Sizes;

const TICK: Duration = Duration::from_millis(1);
const SIZES: Sizes = Sizes { message: 1000, waiting: 1000 };
const REFUSED: &str = "HTTP/1.1 401 Denied\r\nContent-Length: 6\r\n\r\n";

type Script<T> = VecDeque<Result<T, ErrorKind>>;

/// What the next sockets do, each step once. After its steps a socket blocks.
#[derive(Default)]
struct Plan {
    connects: Script<()>,
    connected: Script<bool>,
    reads: Script<&'static str>,
    writes: Script<usize>,
    sent: Vec<u8>,
    tried: Vec<u16>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

fn step<T>(script: impl FnOnce(&mut Plan) -> &mut Script<T>) -> io::Result<T> {
    let next = PLAN.with_borrow_mut(|plan| script(plan).pop_front());
    next.unwrap_or(Err(ErrorKind::WouldBlock)).map_err(io::Error::from)
}

#[derive(Debug)]
struct Scripted;

impl Socket for Scripted {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        PLAN.with_borrow_mut(|plan| plan.tried.push(address.port()));
        step(|plan| &mut plan.connects).map(|()| Self)
    }

    fn is_connected(&self) -> io::Result<bool> {
        step(|plan| &mut plan.connected)
    }

    fn hurry(&self) {}

    fn end_output(&self) {}
}

impl Read for Scripted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let text = step(|plan| &mut plan.reads)?;
        buf[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

impl Write for Scripted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = step(|plan| &mut plan.writes)?.min(buf.len());
        PLAN.with_borrow_mut(|plan| plan.sent.extend_from_slice(&buf[..count]));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An attempt at these ports, one after the other.
fn dial(
    plan: Plan,
    ports: &[u16],
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
) -> (Dial<Scripted>, Instant) {
    PLAN.set(plan);
    let target = Target {
        host: "service.example".to_owned(),
        port: 1,
        request_target: "/".to_owned(),
        host_field: "service.example".to_owned(),
        credential: "api-key: k".to_owned(),
        tls,
        proxy: None,
    };
    let address = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    let addresses = ports.iter().map(address).collect();
    let now = Instant::now();
    (Dial::new(Rc::new(target), addresses, String::new(), SIZES, now), now)
}

/// A plan whose first socket is connected at once.
fn connected(reads: Script<&'static str>, writes: Script<usize>) -> Plan {
    Plan {
        connects: [Ok(())].into(),
        connected: [Ok(true)].into(),
        reads,
        writes,
        ..Plan::default()
    }
}

/// How an attempt ends that is connected and then does this.
fn end(reads: Script<&'static str>, writes: Script<usize>) -> DialError {
    let (mut dial, now) = dial(connected(reads, writes), &[1], None);
    assert!(matches!(dial.advance(now), Progress::NewSocket));
    loop {
        match dial.advance(now) {
            Progress::Pending => dial.mark(true, true, false),
            Progress::Failed(error) => return error,
            other => panic!("{other:?}"),
        }
    }
}

fn told(error: DialError) -> String {
    match error {
        DialError::Refused(refusal, body) => format!("{} {body}", refusal.status),
        DialError::Broken(error) => format!("broken: {:?}", error.kind()),
        other => format!("{other:?}"),
    }
}

/// A service that refuses may close before it has read the request. What it said is then there to
/// read, although writing fails.
#[test]
fn an_answer_before_a_reset_is_heard() {
    let all = || [Ok(usize::MAX)].into();
    for reset in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted] {
        let refused = end([Ok(REFUSED), Ok("denied")].into(), [Ok(10), Err(reset)].into());
        assert_eq!(told(refused), "401 denied");
        // The rest of its text is lost.
        let refused = end([Ok(REFUSED), Ok("den"), Err(reset)].into(), all());
        assert_eq!(told(refused), "401 den");
        let nothing = end([Err(reset)].into(), all());
        assert_eq!(told(nothing), format!("broken: {reset:?}"));
        let nothing = end([].into(), [Err(reset)].into());
        assert_eq!(told(nothing), "broken: UnexpectedEof");
    }
    let other = ErrorKind::PermissionDenied;
    let broken = end([Ok(REFUSED), Ok("denied")].into(), [Ok(10), Err(other)].into());
    assert_eq!(told(broken), "broken: PermissionDenied");
    let broken = end([Ok(REFUSED), Err(other)].into(), all());
    assert_eq!(told(broken), "broken: PermissionDenied");
}

#[test]
fn a_request_leaves_in_pieces_as_the_kernel_takes_it() {
    let pieces = [Ok(1), Err(ErrorKind::WouldBlock), Ok(20), Ok(usize::MAX)];
    let (mut dial, now) = dial(connected([].into(), pieces.into()), &[1], None);
    assert!(matches!(dial.advance(now), Progress::NewSocket));
    for _ in 0..4 {
        assert!(matches!(dial.advance(now), Progress::Pending));
        dial.mark(true, true, false);
    }
    let sent = PLAN.take().sent;
    let sent = String::from_utf8(sent).expect("ASCII");
    assert!(sent.starts_with("GET / HTTP/1.1\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
    assert!(sent.contains("\r\napi-key: k\r\n"), "{sent}");
}

#[test]
fn an_address_that_refuses_is_followed_at_once_and_one_that_is_silent_in_a_moment() {
    let (moment, pending) = (Duration::from_millis(250), || Ok(false));
    let plan = Plan {
        connects: [Ok(()), Err(ErrorKind::NetworkUnreachable), Ok(()), Ok(())].into(),
        // The first; then the first and the third; the third is refused, and the fourth begins.
        connected: [pending(), pending(), Err(ErrorKind::ConnectionRefused)].into(),
        ..Plan::default()
    };
    let (mut dial, now) = dial(plan, &[1, 2, 3, 4], None);
    assert!(matches!(dial.advance(now), Progress::NewSocket));
    assert_eq!((dial.deadline(), dial.step()), (now + moment, Step::Connect));
    assert!(matches!(dial.advance(now + moment - TICK), Progress::Pending));
    assert!(matches!(dial.advance(now + moment), Progress::NewSocket), "the second never begins");
    PLAN.with_borrow_mut(|plan| {
        plan.connected = [pending(), Err(ErrorKind::ConnectionRefused)].into()
    });
    assert!(matches!(dial.advance(now + moment + TICK), Progress::NewSocket));
    let told: Vec<_> =
        std::iter::from_fn(|| dial.take_setback()).map(|it| it.to_string()).collect();
    let expected =
        ["127.0.0.1:2 cannot be reached", "127.0.0.1:1 did not finish", "127.0.0.1:3 cannot"];
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().zip(expected).all(|(told, it)| told.starts_with(it)), "{told:?}");
    assert_eq!(dial.address().map(|address| address.port()), Some(1));
    assert_eq!(dial.deadline(), now + Duration::from_secs(3));
    let refused = || Err(ErrorKind::ConnectionRefused);
    PLAN.with_borrow_mut(|plan| plan.connected = [refused(), refused()].into());
    let failed = dial.advance(now + moment + TICK);
    let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
    assert!(
        matches!(&failed, Progress::Failed(DialError::Connect(error)) if refused(error)),
        "{failed:?}"
    );
    assert_eq!((PLAN.take().tried, dial.step()), (vec![1, 2, 3, 4], Step::Over));
}

#[test]
fn an_address_that_refuses_is_told_though_no_other_one_is_under_way() {
    let plan = Plan {
        connects: [Ok(()), Ok(())].into(),
        connected: [Err(ErrorKind::ConnectionRefused), Ok(false)].into(),
        ..Plan::default()
    };
    let (mut dial, now) = dial(plan, &[1, 2], None);
    for _ in 0..2 {
        assert!(matches!(dial.advance(now), Progress::NewSocket));
    }
    let told = dial.take_setback().expect("the first has refused").to_string();
    assert!(told.starts_with("127.0.0.1:1 cannot be reached"), "{told}");
}

#[test]
fn what_takes_too_long_is_named() {
    let config = tls::client_config(&[]).expect("a configuration");
    for (tls, step, name) in [
        (None, Step::Upgrade, "the WebSocket upgrade"),
        (Some(config), Step::Tls, "the TLS handshake"),
    ] {
        let (mut dial, now) = dial(connected([].into(), [Ok(usize::MAX)].into()), &[1], tls);
        assert!(matches!(dial.advance(now), Progress::NewSocket));
        assert!(matches!(dial.advance(now), Progress::Pending));
        assert_eq!((dial.deadline(), dial.step()), (now + Duration::from_secs(10), step));
        assert!(matches!(dial.advance(dial.deadline() - TICK), Progress::Pending));
        let late = dial.advance(dial.deadline());
        assert!(
            matches!(late, Progress::Failed(DialError::Timeout(what)) if what == name),
            "{late:?}"
        );
    }
}

/// The status is known then. Only its text may still come, and is worth a second.
#[test]
fn the_text_of_a_refusal_is_waited_for_a_second() {
    let plan = connected([Ok(REFUSED), Ok("de")].into(), [Ok(usize::MAX)].into());
    let (mut dial, now) = dial(plan, &[1], None);
    assert!(matches!(dial.advance(now), Progress::NewSocket));
    assert!(matches!(dial.advance(now), Progress::Pending));
    assert_eq!(dial.deadline(), now + Duration::from_secs(1));
    dial.mark(true, false, false);
    assert!(matches!(dial.advance(now + Duration::from_secs(1) - TICK), Progress::Pending));
    assert_eq!(dial.deadline(), now + Duration::from_secs(1), "it is not put off");
    match dial.advance(now + Duration::from_secs(1)) {
        Progress::Failed(error) => assert_eq!(told(error), "401 de"),
        other => panic!("{other:?}"),
    }
}
