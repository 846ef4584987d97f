//! The floor: the work no relay can avoid, and nothing else. For each frame and direction one
//! receive, unmask or base64, mask, one TLS record sealed or opened, one send. There is no poll, no
//! parser and no state: the calls are served in turn with blocking sockets, which only works under
//! the load's saturating mode. It is no relay that anyone could use.

#[path = "../frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
mod setup;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use setup::Setup;

const APPEND_HEAD: &[u8] = br#"{"type":"input_audio_buffer.append","audio":""#;
const APPEND_TAIL: &[u8] = br#""}"#;

/// Bytes of PCM in a frame, and of its base64.
const FRAME: usize = 960;
const CHARS: usize = 1_280;

/// A caller's message on the wire: head of 8 bytes with the mask, and a frame.
const MESSAGE: usize = 8 + FRAME;

struct Call {
    client: TcpStream,
    service: TcpStream,
    tls: ClientConnection,
}

/// Reused by all calls.
struct Buffers {
    wire: Box<[u8]>,
    message: Vec<u8>,
    sealed: Vec<u8>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let setup = Setup::from_env()?;
    let count: usize = std::env::var("BENCH_CALLS")?.parse()?;
    let listener = TcpListener::bind(setup.listen)?;
    // The load's own look whether anyone listens.
    drop(listener.accept()?);
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        calls.push(begin(listener.accept()?.0, &setup)?);
    }
    let (message, sealed) = (Vec::with_capacity(4_096), Vec::with_capacity(4_096));
    let mut buffers = Buffers { wire: vec![0; 16 * 1_024].into(), message, sealed };
    loop {
        for call in &mut calls {
            if !forth(call, &mut buffers)? {
                return Ok(());
            }
        }
        for call in &mut calls {
            back(call, &mut buffers)?;
        }
    }
}

/// Client to service; false at the end.
fn forth(call: &mut Call, buffers: &mut Buffers) -> io::Result<bool> {
    let Buffers { wire, message, sealed } = buffers;
    let mut got = 0;
    while got < MESSAGE {
        match call.client.read(&mut wire[got..])? {
            0 => return Ok(false),
            count => got += count,
        }
        if wire[0] & 0x0f != frame::BINARY {
            return Ok(false);
        }
    }
    let (head, pcm) = wire[..MESSAGE].split_at_mut(8);
    frame::mask(pcm, [head[4], head[5], head[6], head[7]]);
    message.clear();
    let length = APPEND_HEAD.len() + CHARS + APPEND_TAIL.len();
    frame::head(message, frame::TEXT, length, Some(frame::MASK));
    let start = message.len();
    message.extend_from_slice(APPEND_HEAD);
    let text = message.len();
    message.resize(text + CHARS, 0);
    STANDARD.encode_slice(pcm, &mut message[text..]).map_err(io::Error::other)?;
    message.extend_from_slice(APPEND_TAIL);
    frame::mask(&mut message[start..], frame::MASK);
    call.tls.writer().write_all(message)?;
    sealed.clear();
    call.tls.write_tls(sealed)?;
    call.service.write_all(sealed)?;
    Ok(true)
}

/// Service to client. The stand-in's delta ends with the base64 and two more bytes.
fn back(call: &mut Call, buffers: &mut Buffers) -> io::Result<()> {
    let Buffers { wire, message, sealed } = buffers;
    sealed.clear();
    let plain = loop {
        let count = call.service.read(wire)?;
        call.tls.read_tls(&mut &wire[..count])?;
        let state = call.tls.process_new_packets().map_err(io::Error::other)?;
        let plain = state.plaintext_bytes_to_read();
        if plain > 0 || count == 0 {
            break plain;
        }
    };
    sealed.resize(plain, 0);
    call.tls.reader().read_exact(sealed)?;
    let Some(end) = plain.checked_sub(APPEND_TAIL.len()).filter(|end| *end >= CHARS) else {
        return Err(io::Error::other("no whole delta"));
    };
    message.clear();
    frame::head(message, frame::BINARY, FRAME, None);
    let start = message.len();
    message.resize(start + FRAME, 0);
    let text = &sealed[end - CHARS..end];
    STANDARD.decode_slice_unchecked(text, &mut message[start..]).map_err(io::Error::other)?;
    call.client.write_all(message)
}

/// Both upgrades and the session, as simply as can be.
fn begin(client: TcpStream, setup: &Setup) -> Result<Call, Box<dyn std::error::Error>> {
    let mut client = client;
    client.set_nodelay(true)?;
    let head = read_head(&mut client)?;
    let service = TcpStream::connect(&setup.service)?;
    service.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1")?;
    let tls = ClientConnection::new(Arc::clone(&setup.tls), name)?;
    let mut stream = StreamOwned::new(tls, service);
    let extra = format!("api-key: {}\r\n", setup.key);
    stream.write_all(frame::request(&setup.service, &setup.target, &extra).as_bytes())?;
    read_head(&mut stream)?;
    read_message(&mut stream)?; // session.created
    let mut update = setup::session_update().into_bytes();
    let mut message = Vec::new();
    frame::head(&mut message, frame::TEXT, update.len(), Some(frame::MASK));
    frame::mask(&mut update, frame::MASK);
    message.extend_from_slice(&update);
    stream.write_all(&message)?;
    read_message(&mut stream)?; // session.updated
    client.write_all(frame::upgrade(&head).ok_or("no upgrade")?.as_bytes())?;
    let StreamOwned { conn, sock } = stream;
    Ok(Call { client, service: sock, tls: conn })
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while frame::head_end(&head).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_message(stream: &mut impl Read) -> io::Result<()> {
    let mut data = Vec::new();
    loop {
        if let Some(head) = frame::Head::parse(&data) {
            let mut payload = vec![0; head.payload];
            return stream.read_exact(&mut payload);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        data.push(byte[0]);
    }
}
