//! The cases that are measured frame by frame, and their messages.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::frame;
use crate::unavoidable::{APPEND, Side};

/// 20 ms of PCM, and what the service usually sends at once.
pub(crate) const FRAME: usize = 960;
const REPLY: usize = 12_480;

/// All cases, by the name in the record: what is plain or TLS, and how much of a reply comes at once.
pub(crate) const CASES: [(&str, Shape); 4] = [
    ("plain", Shape { client_tls: false, service_tls: false, reply: FRAME }),
    ("tls", Shape { client_tls: false, service_tls: true, reply: FRAME }),
    ("https", Shape { client_tls: true, service_tls: true, reply: FRAME }),
    ("260ms", Shape { client_tls: false, service_tls: true, reply: REPLY }),
];

/// The case of this name.
pub(crate) fn shape(name: &str) -> Shape {
    CASES.iter().find(|case| case.0 == name).expect("a case of the list").1
}

/// The direction of this name.
pub(crate) fn direction(name: &str) -> Direction {
    match name {
        "up" => Direction::Up,
        "down" => Direction::Down,
        _ => panic!("up or down"),
    }
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
    pub(crate) client_tls: bool,
    pub(crate) service_tls: bool,
    /// Bytes of PCM that the service sends at once. The client sends [`FRAME`].
    pub(crate) reply: usize,
}

/// A message that goes in, and the payload that must come out.
pub(crate) struct Message {
    pub(crate) wire: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn of(shape: Shape, direction: Direction) -> Self {
        let bytes = if direction == Direction::Up { FRAME } else { shape.reply };
        let pcm: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
        let base64 = STANDARD.encode(&pcm);
        let mut wire = Vec::new();
        if direction == Direction::Up {
            frame::head(&mut wire, frame::BINARY, pcm.len(), Some(frame::MASK));
            let start = wire.len();
            wire.extend_from_slice(&pcm);
            frame::mask(&mut wire[start..], frame::MASK);
            return Self { wire, payload: [APPEND.0, base64.as_bytes(), APPEND.1].concat() };
        }
        let event = [DELTA.0, &base64, DELTA.1].concat();
        frame::head(&mut wire, frame::TEXT, event.len(), None);
        wire.extend_from_slice(event.as_bytes());
        Self { wire, payload: pcm }
    }
}

/// Reads one message from an end and sees that it is the right one.
pub(crate) fn check<S: Read + Write>(
    end: &mut Side<S>,
    message: &Message,
    wire: &mut [u8],
    plain: &mut Vec<u8>,
) {
    plain.clear();
    loop {
        if let Some(head) = frame::Head::parse(plain)
            && plain.len() >= head.bytes + head.payload
        {
            let payload = &mut plain[head.bytes..];
            frame::mask(payload, head.mask.unwrap_or_default());
            assert!(payload == message.payload, "what was relayed is not what was sent");
            return;
        }
        assert!(end.receive(wire, plain).expect("an open connection"), "it has closed");
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
