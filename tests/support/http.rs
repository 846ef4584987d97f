//! Plain HTTP by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::daemon::PATIENCE;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }
}

/// A socket to the daemon that waits no longer than a test may.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the daemon accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.set_nodelay(true).expect("a socket");
    socket
}

/// Sends these bytes and reads all answers until the daemon closes.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    let mut socket = connect(address);
    socket.write_all(bytes).expect("the daemon reads");
    read_answers(&mut socket)
}

/// A request with `Host` and these field lines, answered by the last answer of its connection.
pub(crate) fn ask(address: SocketAddr, line: &str, fields: &str) -> Answer {
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n");
    let mut answers = exchange(address, head.as_bytes());
    assert_eq!(answers.len(), 1, "{line}: {answers:?}");
    answers.remove(0)
}

/// All answers until the daemon closes; a reset instead of an end fails.
pub(crate) fn read_answers(socket: &mut TcpStream) -> Vec<Answer> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the daemon does not close"),
        Err(error) => panic!("the connection broke: {error}"),
    }
    let mut rest = bytes.as_slice();
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&rest[..end]).expect("ASCII").to_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.field("Content-Length").parse().unwrap_or(0);
        rest = &rest[end..];
        // The answer to HEAD tells a length and has no body; it is the last one here.
        let (body, more) = rest.split_at(rest.len().min(length));
        answer.body = body.to_vec();
        rest = more;
        answers.push(answer);
    }
    answers
}
