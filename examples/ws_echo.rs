//! Sends every message back, in either role: the WebSocket layer alone, for conformance suites.
//!
//! ```text
//! cargo run --example ws_echo server 127.0.0.1:9001          # for a fuzzing client
//! cargo run --example ws_echo client 127.0.0.1:9001 AGENT    # for a fuzzing server
//! ```
//!
//! `WsPeer`, `Transport`, `Dial` and the HTTP head are the daemon's, with the sizes it has for its
//! clients, and used as it uses them. `tests/judges/autobahn.py` runs both roles against Autobahn.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use voicelived::net::dial::{Dial, Progress, Target};
use voicelived::net::http::{self, ParsedHead, Upgrade};
use voicelived::net::inbox::Inbox;
use voicelived::net::transport::Transport;
use voicelived::net::ws::{Incoming, Message, Role, WsError, WsPeer};
use voicelived::session::CLIENT_SIZES;

const LISTENER: Token = Token(usize::MAX);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How long a peer that broke the protocol may stay, as in the daemon.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address] => serve(address.parse()?),
        ["client", address, agent] => run_cases(address.parse()?, agent),
        _ => Err("usage: ws_echo server ADDRESS | ws_echo client ADDRESS AGENT".into()),
    }
}

/// One connection and how far it is.
enum Connection {
    /// The head of its request has not come yet.
    Visiting(Transport<TcpStream>, Vec<u8>),
    /// Messages go back and forth.
    Talking(Box<Echo>),
}

/// What is left to do after a turn.
#[derive(PartialEq)]
enum Turn {
    /// Wait for an event.
    Wait,
    /// There is more without one.
    More,
    /// The connection is over.
    Over,
}

struct Echo {
    peer: WsPeer<TcpStream>,
    inbox: Inbox,
    /// The first message, for whoever asked a question; others only send back.
    heard: Option<String>,
    /// When a peer that was told to go is cut off.
    deadline: Option<Instant>,
}

impl Echo {
    fn new(peer: WsPeer<TcpStream>) -> Self {
        Self { peer, inbox: Inbox::new(), heard: None, deadline: None }
    }

    fn mark(&mut self, event: &mio::event::Event) {
        if event.is_readable() {
            self.peer.mark_readable(event.is_read_closed());
        }
        if event.is_writable() {
            self.peer.mark_writable();
        }
    }

    fn turn(&mut self) -> Turn {
        self.peer.transport_mut().begin_turn();
        for _ in 0..64 {
            // What is not taken is not read: no more waits than a message and its echo.
            if self.peer.flush().is_err() {
                return Turn::Over;
            }
            if self.peer.is_open() && !self.peer.has_room() {
                return Turn::Wait;
            }
            let sent = match self.peer.read(&mut self.inbox) {
                Ok(Some(Incoming::Text(text))) => {
                    self.heard.get_or_insert_with(|| text.to_string());
                    self.peer.send(Message::Text(text))
                }
                Ok(Some(Incoming::Binary(data))) => self.peer.send(Message::Binary(data)),
                Ok(Some(Incoming::Control)) => Ok(()),
                Ok(Some(Incoming::Close(_))) => {
                    self.deadline = Some(Instant::now() + CLOSE_TIMEOUT);
                    Ok(())
                }
                Ok(None) => break,
                Err(WsError::Violation { code, .. }) => {
                    self.peer.close(code, "");
                    self.deadline = Some(Instant::now() + CLOSE_TIMEOUT);
                    Ok(())
                }
                Err(_) => return Turn::Over,
            };
            if let Err(WsError::Full | WsError::Lost(_)) = sent {
                return Turn::Over;
            }
        }
        let broken = self.peer.flush().is_err();
        self.peer.end_output();
        match self.peer.has_more() {
            _ if broken || self.deadline.is_some_and(|at| Instant::now() >= at) => Turn::Over,
            true => Turn::More,
            false => Turn::Wait,
        }
    }
}

impl Connection {
    fn mark(&mut self, event: &mio::event::Event) {
        match self {
            Self::Visiting(transport, _) => transport.mark_readable(event.is_read_closed()),
            Self::Talking(echo) => echo.mark(event),
        }
    }

    fn turn(self) -> (Option<Self>, Turn) {
        match self {
            Self::Visiting(transport, head) => upgrade(transport, head),
            Self::Talking(mut echo) => match echo.turn() {
                Turn::Over => (None, Turn::Over),
                turn => (Some(Self::Talking(echo)), turn),
            },
        }
    }
}

/// Reads the head and answers it; who asks for no WebSocket is left.
fn upgrade(mut transport: Transport<TcpStream>, mut head: Vec<u8>) -> (Option<Connection>, Turn) {
    transport.begin_turn();
    let mut chunk = [0; 4096];
    loop {
        match transport.read(&mut chunk) {
            Ok(count @ 1..) => head.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return (Some(Connection::Visiting(transport, head)), Turn::Wait);
            }
            _ => return (None, Turn::Over),
        }
        let (request, length) = match http::parse(&head) {
            ParsedHead::Partial => continue,
            ParsedHead::Complete(request, length) => (request, length),
            ParsedHead::Bad(_) => return (None, Turn::Over),
        };
        let Some(Upgrade::Valid { key, protocol }) = request.upgrade else {
            return (None, Turn::Over);
        };
        let mut answer = Vec::new();
        http::answer_upgrade(&mut answer, &key, protocol.as_deref());
        // A new socket takes so little at once.
        if transport.write_all(&answer).is_err() {
            return (None, Turn::Over);
        }
        let peer = WsPeer::new(transport, Role::Server, CLIENT_SIZES, &head[length..]);
        return (Some(Connection::Talking(Box::new(Echo::new(peer)))), Turn::More);
    }
}

fn serve(address: SocketAddr) -> Outcome<()> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(64));
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on ws://{}", listener.local_addr()?);
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let (mut next, mut more) = (0, false);
    loop {
        let wait = if more { Duration::ZERO } else { CLOSE_TIMEOUT };
        poll.poll(&mut events, Some(wait))?;
        for event in &events {
            if let Some(connection) = connections.get_mut(&event.token()) {
                connection.mark(event);
            }
        }
        more = false;
        for token in connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = connections.remove(&token) else { continue };
            let (left, turn) = connection.turn();
            more |= turn == Turn::More;
            connections.extend(left.map(|connection| (token, connection)));
        }
        while let Ok((mut socket, _)) = listener.accept() {
            next += 1;
            socket.set_nodelay(true)?;
            poll.registry().register(&mut socket, Token(next), BOTH)?;
            let visiting = Connection::Visiting(Transport::plain(socket), Vec::new());
            connections.insert(Token(next), visiting);
            more = true;
        }
    }
}

/// Asks the fuzzing server for its cases, goes through them, and has the reports written.
fn run_cases(address: SocketAddr, agent: &str) -> Outcome<()> {
    let count = visit(address, "/getCaseCount".to_owned())?.ok_or("no count of cases")?;
    for case in 1..=count.parse::<u32>()? {
        visit(address, format!("/runCase?case={case}&agent={agent}"))?;
    }
    visit(address, format!("/updateReports?agent={agent}"))?;
    Ok(())
}

/// One connection from dialling to its end; the first text that came.
fn visit(address: SocketAddr, request_target: String) -> Outcome<Option<String>> {
    let target = Target {
        host: address.ip().to_string(),
        port: address.port(),
        request_target,
        host_field: address.to_string(),
        credential: String::new(),
        tls: None,
        proxy: None,
    };
    let mut dial =
        Dial::new(Rc::new(target), vec![address], String::new(), CLIENT_SIZES, Instant::now());
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    let peer = loop {
        match dial.advance(Instant::now()) {
            Progress::Open(peer) => break peer,
            Progress::Failed(error) => return Err(format!("{error:?}").into()),
            Progress::NewSocket => {
                let socket = dial.socket().ok_or("no socket")?;
                poll.registry().register(socket, Token(0), BOTH)?;
            }
            Progress::Pending => {}
        }
        poll.poll(&mut events, Some(dial.deadline().saturating_duration_since(Instant::now())))?;
        for event in &events {
            dial.mark(event.is_readable(), event.is_writable(), event.is_read_closed());
        }
    };
    let mut echo = Echo::new(peer);
    loop {
        let wait = match echo.turn() {
            Turn::Over => return Ok(echo.heard),
            Turn::More => Duration::ZERO,
            Turn::Wait => CLOSE_TIMEOUT,
        };
        poll.poll(&mut events, Some(wait))?;
        events.iter().for_each(|event| echo.mark(event));
    }
}
