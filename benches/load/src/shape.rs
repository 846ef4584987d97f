//! The cases that are measured frame by frame, and their messages.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::frame;
use crate::unavoidable::APPEND;

/// 20 ms of PCM, and what the service usually sends at once.
pub(crate) const FRAME: usize = 960;
const REPLY: usize = 12_480;

/// All cases, by the name in the record.
pub(crate) const CASES: [(&str, Shape); 7] = [
    ("up-plain", Shape::new(Direction::Up, false, false, FRAME)),
    ("up-tls", Shape::new(Direction::Up, false, true, FRAME)),
    ("up-https", Shape::new(Direction::Up, true, true, FRAME)),
    ("down-plain", Shape::new(Direction::Down, false, false, FRAME)),
    ("down-tls", Shape::new(Direction::Down, false, true, FRAME)),
    ("down-https", Shape::new(Direction::Down, true, true, FRAME)),
    ("down-260ms", Shape::new(Direction::Down, false, true, REPLY)),
];

/// The case of this name.
pub(crate) fn shape(name: &str) -> Shape {
    CASES.iter().find(|case| case.0 == name).expect("a case that `cases` lists").1
}

const DELTA: (&str, &str) = (
    r#"{"type":"response.audio.delta","event_id":"event_BGn2AbCdEfGhIjKl","response_id":"resp_BGn1xZyXwVuTsRqP","item_id":"item_BGn1xLmNoPqRsTuV","output_index":0,"content_index":0,"delta":""#,
    r#""}"#,
);

/// Which way the audio goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the service.
    Up,
    /// From the service to the client.
    Down,
}

/// What is relayed, over what.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) direction: Direction,
    pub(crate) client_tls: bool,
    pub(crate) service_tls: bool,
    /// Bytes of PCM at once.
    pub(crate) pcm: usize,
}

/// The message that goes in, and the one that must come out. Masks are nobody's business here.
pub(crate) struct Messages {
    pub(crate) wire: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Shape {
    const fn new(direction: Direction, client_tls: bool, service_tls: bool, pcm: usize) -> Self {
        Self { direction, client_tls, service_tls, pcm }
    }

    pub(crate) fn messages(self) -> Messages {
        let pcm: Vec<u8> = (0..self.pcm).map(|at| (at * 31 % 251) as u8).collect();
        let base64 = STANDARD.encode(&pcm);
        let mut wire = Vec::new();
        if self.direction == Direction::Up {
            frame::head(&mut wire, frame::BINARY, pcm.len(), Some(frame::MASK));
            let start = wire.len();
            wire.extend_from_slice(&pcm);
            frame::mask(&mut wire[start..], frame::MASK);
            return Messages { wire, payload: [APPEND.0, base64.as_bytes(), APPEND.1].concat() };
        }
        let event = [DELTA.0, &base64, DELTA.1].concat();
        frame::head(&mut wire, frame::TEXT, event.len(), None);
        wire.extend_from_slice(event.as_bytes());
        Messages { wire, payload: pcm }
    }
}

/// Both ends of a connection on loopback.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let far = listener.accept().expect("a connection").0;
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("an open socket");
    }
    (near, far)
}

/// Lower quartile, median, upper quartile, in nanoseconds.
pub(crate) fn quartiles(mut times: Vec<Duration>) -> [u64; 3] {
    times.sort_unstable();
    [1, 2, 3].map(|quarter| {
        let time = times[(times.len() - 1) * quarter / 4];
        u64::try_from(time.as_nanos()).expect("less than five centuries")
    })
}
